"""Holes that inpainting is trained on: strokes of a brush, the shapes of objects, boxes.

MAE-FAR (arXiv 2208.01837) trains on free-form strokes (two fifths), the outlines of COCO's objects (two fifths) and
both at once (one fifth), from files. Here strokes are drawn, in ranges that are ours, and outlines are those of the
batch's own objects, each taken from another sample and put somewhere else.
"""

import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...manifests.errors import UsageError

Shape = NDArray[np.uint8]

_STROKES, _CORNERS = (1, 4), (4, 12)  # least and largest number, of a hole and of a stroke
_WIDTH, _STEP = (0.04, 0.16), (0.08, 0.3)  # of a stroke, and from one corner to the next, as shares of a side
_BOX = (0.15, 0.6)  # of a side


def brush(side: int, rng: np.random.Generator) -> Shape:
    """Broad strokes that turn at random, (side, side), 0 or 1."""
    canvas = np.zeros((side, side), np.uint8)
    for _ in range(int(rng.integers(_STROKES[0], _STROKES[1] + 1))):
        turns = rng.uniform(-0.75, 0.75, int(rng.integers(*_CORNERS))) * math.pi
        angles = rng.uniform(0, 2 * math.pi) + np.cumsum(turns)
        steps = rng.uniform(*_STEP, len(angles)) * side
        line = rng.uniform(0, side, 2) + np.cumsum(steps[:, None] * np.stack([np.cos(angles), np.sin(angles)], 1), 0)
        corners = np.clip(line, 0, side - 1).astype(np.int32)
        cv2.polylines(canvas, [corners], False, 1, max(1, round(rng.uniform(*_WIDTH) * side)))
    return canvas


def box(side: int, rng: np.random.Generator) -> Shape:
    """One upright box, (side, side), 0 or 1."""
    canvas = np.zeros((side, side), np.uint8)
    height, width = (max(1, round(rng.uniform(*_BOX) * side)) for _ in range(2))
    top, left = (int(rng.integers(0, side - extent + 1)) for extent in (height, width))
    canvas[top : top + height, left : left + width] = 1
    return canvas


_DRAWN: dict[str, Callable[[int, np.random.Generator], Shape]] = {"brush": brush, "box": box, "both": brush}
_OF_OBJECTS = ("object", "both")

KINDS = {
    "brush": "strokes",
    "object": "the shape of another sample's object, somewhere else",
    "both": "strokes and such a shape",
    "box": "a box",
    "given": "the object's mask, where it is",
    "none": "nothing",
}
"""Names of kinds of holes, and what they are."""


def check_kinds(weights: Mapping[str, float]) -> None:
    """Refuse weights that :func:`draw` cannot draw by.

    Raises:
        UsageError: an unknown kind, a weight below 0, or none above.
    """
    if unknown := sorted(weights.keys() - KINDS.keys()):
        raise UsageError(f"masks: expected kinds out of {', '.join(KINDS)}, got {', '.join(unknown)}")
    sound = all(math.isfinite(weight) and weight >= 0 for weight in weights.values())
    if not sound or not sum(weights.values()):
        raise UsageError(f"masks: expected weights of 0 and more, one above 0, got {dict(weights)}")


def draw(mask: Tensor, weights: Mapping[str, float], generator: torch.Generator) -> Tensor:
    """Holes for a batch, (N, 1, side, side), 0 or 1, where the masks are and in their dtype.

    Args:
        mask: of the objects, (N, 1, side, side).
        weights: kind to relative frequency, of :data:`KINDS`.
        generator: of the CPU; draws each sample's kind, shape and place.
    """
    names = sorted(weights)
    chances = torch.tensor([weights[name] for name in names], dtype=torch.float64)
    kinds = torch.multinomial(chances, len(mask), replacement=True, generator=generator).tolist()
    seeds = torch.randint(2**62, (len(mask),), generator=generator).tolist()
    holes = [
        _one(names[kind], mask, index, np.random.default_rng(seed))
        for index, (kind, seed) in enumerate(zip(kinds, seeds, strict=True))
    ]
    return torch.stack(holes)


def _one(kind: str, mask: Tensor, index: int, rng: np.random.Generator) -> Tensor:
    if kind == "given":
        return mask[index]
    side, hole = mask.shape[-1], torch.zeros_like(mask[index])
    if kind in _DRAWN:
        hole = torch.from_numpy(_DRAWN[kind](side, rng)).to(mask)[None]
    if kind in _OF_OBJECTS:
        places = tuple(int(place) for place in rng.integers(0, side, 2))
        hole = torch.maximum(hole, torch.roll(mask[(index + 1) % len(mask)], places, (1, 2)))
    return hole
