"""The scenes of the suite ``demo``: objects of the embedded photographs on others, with the shadows of one light.

Objects are cut out along hand-drawn or traced outlines, or by Otsu's threshold: no model, no network. What a composite
shows is known exactly by construction; whether an object's rim still holds some of the ground that it came from does
not matter. The same seed gives the same bytes with the same OpenCV.
"""

from collections.abc import Iterator, Sequence
from functools import cache, reduce
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...manifests.entry import Seed
from ...manifests.sources import embedded
from .. import compose, images, shadow
from ..cutout import object_mask
from ..layers import Layers, joint_alpha, visible_mask
from ..matte import Box, bounding_box

U8 = NDArray[np.uint8]

_LARGEST = 320  # px: no object is drawn larger, so none is kept larger
_ENLARGE = 1.6


class Scene(NamedTuple):
    """One composite: its id, the photograph that the object comes from, and all layers."""

    id: str
    category: str
    layers: Layers


class _Cutout(NamedTuple):
    name: str
    category: str
    stance: shadow.Stance
    exact: NDArray[np.uint16]  # premultiplied, cropped to the object


class _Plate(NamedTuple):
    name: str
    ground: float
    picture: U8


class _Drawn(NamedTuple):
    """An object on the canvas: alpha (S, S), shadow (S, S), and both with its colour as a straight (S, S, 4)."""

    alpha: U8
    shadow: U8
    layer: U8


def scenes(seed: int, count: int, size: int) -> Iterator[Scene]:
    """Yield ``count`` scenes of ``size`` px; a scene depends on ``seed`` and its own number alone."""
    cutouts, plates = _stock()
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        plate = plates[number % len(plates)]
        chosen = _choose(cutouts, 1 + number % 3, rng)
        target = int(rng.integers(len(chosen)))
        layers, kept = _compose(chosen, target, plate, size, rng)
        yield Scene(f"{number:03d}-{kept.name}-{plate.name}", kept.category, layers)


def _choose(cutouts: Sequence[_Cutout], number: int, rng: np.random.Generator) -> list[_Cutout]:
    """Objects of different photographs, for most cut-outs are coins."""
    kinds = sorted({one.category for one in cutouts})
    drawn = [kinds[k] for k in rng.permutation(len(kinds))[:number]]
    of_kind = [[one for one in cutouts if one.category == kind] for kind in drawn]
    return [some[int(rng.integers(len(some)))] for some in of_kind]


@cache
def _stock() -> tuple[tuple[_Cutout, ...], tuple[_Plate, ...]]:
    """All objects and all backgrounds, decoded once a process."""
    cutouts: list[_Cutout] = []
    plates: list[_Plate] = []
    for entry in embedded.index(Path()):
        picture = images.read(entry.path)
        if "background" in entry.uses:
            plates.append(_Plate(entry.id, entry.ground, picture))
        traced = [seed for seed in entry.seeds if seed.outlines or seed.method == "threshold"]
        cutouts += [_Cutout(seed.id, entry.id, seed.stance, _cut(picture, seed)) for seed in traced]
    return tuple(cutouts), tuple(plates)


def _cut(picture: U8, seed: Seed) -> NDArray[np.uint16]:
    left, top, width, height = seed.box
    method = "outline" if seed.outlines else seed.method
    place = Box(top, left, top + height, left + width)
    mask = object_mask(picture, place, method=method, outlines=seed.outlines, holes=seed.holes)
    box = bounding_box(mask) or place
    rgba = np.dstack([picture, mask.astype(np.uint8) * 255])[box.slices]
    scale = min(1.0, _LARGEST / max(rgba.shape[:2]))
    small = compose.resize_rgba(rgba, (round(rgba.shape[0] * scale), round(rgba.shape[1] * scale)))
    return compose.premultiply_exact(small)


def _compose(
    chosen: Sequence[_Cutout], target: int, plate: _Plate, size: int, rng: np.random.Generator
) -> tuple[Layers, _Cutout]:
    """The layers of a scene, and which cut-out is its foreground. Who stands lower is nearer, and may hide others."""
    background, ground = _crop(plate, size, rng)
    light = shadow.draw_light(rng, shadow.ShadowOptions())
    placed = [(one, *_on_canvas(one.exact, (slot, len(chosen)), ground, size, rng)) for slot, one in enumerate(chosen)]
    placed.sort(key=lambda item: item[-1])
    drawn: list[_Drawn] = []
    for one, colour, alpha, _ in placed:
        drawn.append(_draw(colour, alpha, one.stance, light, drawn))
    return _layers(drawn, target, background), placed[target][0]


def _crop(plate: _Plate, size: int, rng: np.random.Generator) -> tuple[U8, float]:
    """A random square of a photograph at ``size``, and where its ground begins, px from above."""
    height, width = plate.picture.shape[:2]
    side = int(rng.integers(max(size, min(height, width) * 2 // 3), min(height, width) + 1))
    top, left = int(rng.integers(height - side + 1)), int(rng.integers(width - side + 1))
    picture = compose.resize(plate.picture[top : top + side, left : left + side], (size, size))
    return picture, float(np.clip((plate.ground * height - top) / side, 0, 0.9)) * size


def _on_canvas(
    exact: NDArray[np.uint16], slot: tuple[int, int], ground: float, size: int, rng: np.random.Generator
) -> tuple[U8, U8, int]:
    """Colour and alpha of an object in the ``slot[0]``-th of ``slot[1]`` columns, and the row of its foot."""
    longest = max(exact.shape[:2])
    scale = min(rng.uniform(0.3, 0.55) * size / longest, _ENLARGE)
    height, width = round(exact.shape[0] * scale), round(exact.shape[1] * scale)
    centre = (slot[0] + rng.uniform(0.3, 0.7)) * size / slot[1]
    left = int(np.clip(centre - width / 2, 0, size - width))
    foot = round(rng.uniform(min(max(ground, height), 0.95 * size), 0.97 * size))
    part = compose.resize_premultiplied(exact, (height, width))
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[foot - height : foot, left : left + width] = part
    return rgba[..., :3], np.ascontiguousarray(rgba[..., 3]), foot


def _draw(
    colour: U8, alpha: U8, stance: shadow.Stance, light: shadow.Light | None, farther: Sequence[_Drawn]
) -> _Drawn:
    """Ground that an object farther back hides takes no shadow."""
    shade = np.zeros_like(alpha)
    if light is not None:
        clear = 255 - joint_alpha([one.alpha for one in farther], alpha.shape)
        shade = np.rint(shadow.cast_shadow(alpha, light, stance=stance) * clear).astype(np.uint8)
    return _Drawn(alpha, shade, compose.fold_shadow_u8(colour, alpha, shade))


def _layers(drawn: Sequence[_Drawn], target: int, background: U8) -> Layers:
    background = reduce(lambda below, one: compose.over_u8(one.layer, below), drawn[:target], background)
    kept, front = drawn[target], drawn[target + 1 :]
    occluder = reduce(lambda below, one: compose.over_rgba_u8(one.layer, below), front, np.zeros_like(kept.layer))
    return Layers(
        image=compose.recompose(kept.layer, background, occluder),
        foreground=kept.layer,
        background=background,
        mask=visible_mask(kept.alpha, joint_alpha([one.alpha for one in front], kept.alpha.shape)),
        shadow=kept.shadow,
        occluder=occluder,
    )
