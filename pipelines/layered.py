"""Routes ``cut``, ``layers`` and ``generate``: one layer is taken out of a picture in layers.

It was taken apart, came in layers, or was drawn in layers of a text. The layers below belong to the background, those
above to the occluder. The image is the recomposition of the layers; its distance to the photograph, or to the picture
that the generator itself drew, is a score and a gate. No shadow is cast: what shadow there is lies in the picture; but
where a picture brings the shadow of each layer apart (a rendered scene), it is folded into the layer.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.record import Origin
from ..toolkit import compose, matte, quality
from ..toolkit.layers import Layers, joint_alpha, visible_mask
from ..toolkit.saliency import SaliencyModel, agreement
from .candidate import Candidate, models_of, name_of, origin_of
from .filters import Drop
from .pools import Stock
from .prepare import Prepared
from .recipe import Mix, Placement, Recipe

U8 = NDArray[np.uint8]
Crop = tuple[int, int, int]


def take_out(recipe: Recipe, mix: Mix, stock: Stock, rng: np.random.Generator) -> Candidate | Drop:
    """Draw one candidate: a picture in layers, one of its layers, and a square that holds it.

    Returns:
        The candidate, or a drop ``placement`` where no square holds enough of the object.
    """
    (pool,) = stock.pools.values()
    row = pool[pool.draw(rng)]
    parts = stock.pixels.of(row)
    stack = [parts[name] for name in sorted(parts) if name.startswith("layer-")]
    shades = [parts.get(f"shadow-{k:02d}", np.zeros(one.shape[:2], np.uint8)) for k, one in enumerate(stack)]
    alpha = stack[row.layer][..., 3]
    crop = _draw_crop(alpha, mix.placement, rng)
    if crop is None:
        return Drop("placement", 0, mix.placement.inside, f"no square of {row.id} holds enough of its object")
    mirror = bool(rng.random() < mix.placement.mirror)
    photo, plate = (_square(parts[name], crop, mirror, recipe.size) for name in ("image", "background"))
    solids, shades = ([_square(one, crop, mirror, recipe.size) for one in part] for part in (stack, shades))
    layers, background = _assemble(solids, shades, row.layer, plate, recipe)
    error = _composite_error(layers)
    return Candidate(
        layers=layers,
        background=background,
        composite_error=error,
        name=name_of(row),
        caption=row.caption,
        objects=len(stack),
        origins=_origins(row, len(stack)),
        models=models_of({"foreground": row, "background": row}),
        scores={
            **row.scores,
            **_scores(layers, photo, alpha, crop, stock.saliency),
            "recomposition": error,
        },
        choices={"crop": dict(zip(("top", "left", "side"), crop, strict=True)), "mirror": mirror, "layer": row.layer},
    )


def _assemble(
    solids: Sequence[U8], shades: Sequence[U8], target: int, plate: U8, recipe: Recipe
) -> tuple[Layers, bytes]:
    """Layers as written, and the background's bytes, of layers without their shadows, and these."""
    shades = [_beside(shade, solid[..., 3]) for shade, solid in zip(shades, solids, strict=True)]
    stack = [_shaded(solid, shade) for solid, shade in zip(solids, shades, strict=True)]
    plate = reduce(lambda below, layer: compose.over_u8(layer, below), stack[:target], plate)
    background, plate = recipe.members.encode_background(plate)
    foreground, front = stack[target], stack[target + 1 :]
    occluder = reduce(lambda below, layer: compose.over_rgba_u8(layer, below), front, np.zeros_like(foreground))
    shape = foreground.shape[:2]
    layers = Layers(
        image=compose.recompose(foreground, plate, occluder),
        foreground=foreground,
        background=plate,
        mask=visible_mask(
            solids[target][..., 3], joint_alpha([solid[..., 3] for solid in solids[target + 1 :]], shape)
        ),
        shadow=shades[target],
        occluder=occluder,
    )
    return layers, background


def _beside(shade: U8, alpha: U8) -> U8:
    """The shadow within its bounds after a resize: none where the object is opaque."""
    return np.where(alpha == 255, 0, np.minimum(shade, round(compose.MAX_SHADOW * 255))).astype(np.uint8)


def _shaded(solid: U8, shade: U8) -> U8:
    """A layer with its shadow; the layer itself, bit for bit, where there is none."""
    return compose.fold_shadow_u8(solid[..., :3], solid[..., 3], shade) if shade.any() else solid


def _origins(row: Prepared, count: int) -> tuple[Origin, ...]:
    """Foreground and background first, then the other layers from back to front."""
    others = [
        origin_of(row, "behind" if k < row.layer else "occluder", id=f"{row.group}/{k}")
        for k in range(count)
        if k != row.layer
    ]
    return (origin_of(row, "foreground"), origin_of(row, "background", id=row.group), *others)


def _draw_crop(alpha: U8, placement: Placement, rng: np.random.Generator) -> Crop | None:
    """Top, left and side of a square that holds at least ``inside`` of the object, or None after ``tries``."""
    height, width = alpha.shape
    most = min(height, width)
    box = matte.bounding_box(alpha)
    if box is None:
        return None
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
    return float(alpha.sum(dtype=np.int64))


def _square(picture: U8, crop: Crop, mirror: bool, size: int) -> U8:
    """The crop at the build's size, mirrored or not; colour is zero where alpha is."""
    top, left, side = crop
    part = picture[top : top + side, left : left + side]
    resized = (compose.resize_rgba if part.ndim == 3 and part.shape[-1] == 4 else compose.resize)(part, (size, size))
    return np.ascontiguousarray(resized[:, ::-1] if mirror else resized)


def _composite_error(layers: Layers) -> float:
    """Largest distance, in levels, of the written image to the same composite in float."""
    exact: NDArray[np.floating[Any]] = layers.background.astype(np.float32) / 255
    for layer in (layers.foreground, layers.occluder):
        exact = compose.over(layer.astype(np.float32) / 255, exact)
    return float(np.abs(exact * 255 - layers.image).max())


def _scores(layers: Layers, photo: U8, alpha: U8, crop: Crop, model: SaliencyModel) -> dict[str, float]:
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
