"""Route ``cut``: a photograph taken apart. The object is the foreground; what was behind it is inpainted.

The image is the recomposition of the layers; its distance to the photograph is a score and a gate.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ..toolkit import compose, matte, quality
from ..toolkit.layers import Layers, visible_mask
from ..toolkit.saliency import SaliencyModel, agreement
from .candidate import Candidate, models_of, name_of, origin_of
from .filters import Drop
from .pools import Stock
from .recipe import Mix, Placement, Recipe

U8 = NDArray[np.uint8]


def cut(recipe: Recipe, mix: Mix, stock: Stock, rng: np.random.Generator) -> Candidate | Drop:
    """Draw one candidate: a photograph, and a square of it that holds the object.

    Returns:
        The candidate, or a drop ``placement`` where no square holds enough of the object.
    """
    row = stock.pools["cut"][stock.pools["cut"].draw(rng)]
    parts = stock.pixels.of(row)
    crop = _draw_crop(parts["foreground"][..., 3], mix.placement, rng)
    if crop is None:
        return Drop("placement", 0, mix.placement.inside, f"no square of {row.id} holds enough of its object")
    mirror = bool(rng.random() < mix.placement.mirror)
    photo, foreground, plate = (
        _square(parts[k], crop, mirror, recipe.size) for k in ("image", "foreground", "background")
    )
    foreground[foreground[..., 3] == 0] = 0
    background, plate = recipe.members.encode_background(plate)
    clear = np.zeros(foreground.shape[:2], np.uint8)
    layers = Layers(
        image=compose.recompose(foreground, plate),
        foreground=foreground,
        background=plate,
        mask=visible_mask(foreground[..., 3], clear),
        shadow=clear,
        occluder=np.zeros_like(foreground),
    )
    error = _composite_error(layers)
    return Candidate(
        layers=layers,
        background=background,
        composite_error=error,
        name=name_of(row),
        caption=row.caption,
        objects=1,
        origins=(origin_of(row, "foreground"), origin_of(row, "background")),
        models=models_of({"foreground": row, "background": row}),
        scores=_scores(layers, photo, parts["foreground"][..., 3], crop, stock.saliency)
        | {"recomposition": error}
        | _kept(row.scores),
        choices={"crop": dict(zip(("top", "left", "side"), crop, strict=True)), "mirror": mirror},
    )


def _draw_crop(alpha: U8, placement: Placement, rng: np.random.Generator) -> tuple[int, int, int] | None:
    """Top, left and side of a square that holds at least ``inside`` of the object, or None after ``tries``."""
    height, width = alpha.shape
    most = min(height, width)
    box = matte.bounding_box(alpha)
    assert box is not None  # preparation drops photographs without an object
    least = min(most, int(1.1 * max(box.height, box.width)))
    area = _total(alpha)
    for _ in range(placement.tries):
        side = int(rng.integers(least, most + 1))
        top = _draw_edge(rng, box.top, box.bottom, side, height)
        left = _draw_edge(rng, box.left, box.right, side, width)
        if _total(alpha[top : top + side, left : left + side]) >= placement.inside * area:
            return top, left, side
    return None


def _draw_edge(rng: np.random.Generator, low: int, high: int, side: int, length: int) -> int:
    """The first row (or column) of a crop of ``side`` that holds low..high if it can."""
    first, last = max(0, min(high - side, low)), min(length - side, max(low, high - side))
    return int(rng.integers(min(first, last), max(first, last) + 1))


def _total(alpha: U8) -> float:
    """Sum of an 8-bit alpha."""
    return float(alpha.sum(dtype=np.int64))


def _square(picture: U8, crop: tuple[int, int, int], mirror: bool, size: int) -> U8:
    top, left, side = crop
    part = picture[top : top + side, left : left + side]
    resized = (compose.resize_rgba if part.shape[-1] == 4 else compose.resize)(part, (size, size))
    return np.ascontiguousarray(resized[:, ::-1] if mirror else resized)


def _composite_error(layers: Layers) -> float:
    exact = compose.over(layers.foreground.astype(np.float32) / 255, layers.background.astype(np.float32) / 255)
    return float(np.abs(exact * 255 - layers.image).max())


def _scores(layers: Layers, photo: U8, alpha: U8, crop: tuple[int, int, int], model: SaliencyModel) -> dict[str, float]:
    mask = layers.mask > 0
    iou, contrast = agreement(model(layers.image), mask)
    top, left, side = crop
    return {
        "outside": 1 - _total(alpha[top : top + side, left : left + side]) / _total(alpha),
        "area": np.count_nonzero(mask) / mask.size,
        "fragments": matte.fragments(mask),
        "saliency_iou": iou,
        "saliency_contrast": contrast,
        "composite": quality.distance_to(layers.image, photo),
    }


def _kept(scores: Mapping[str, float]) -> dict[str, float]:
    """The scores of the whole photograph that hold for every square of it."""
    return {name: scores[name] for name in ("side", "border", "haze", "sharpness", "residual", "texture")}
