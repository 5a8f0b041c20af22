"""Holes that are drawn: strokes of a brush and boxes for inpainting, and all but the middle for outpainting.

Free-form masks are what inpainting is trained and scored with (Yu et al., ICCV 2019); the numbers here are ours.
"""

import hashlib
import math

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]

SHARE = (0.1, 0.5)
"""Least and largest share of the picture at which no further stroke is drawn."""

CROP = 0.5
"""Share of both sides of the picture that outpainting is given."""

_BOXES = 0.2  # share of what is drawn
_SIDES = (0.1, 0.4)  # of a box, as shares of the picture's
_WIDTH, _STEP = (0.03, 0.1), (0.05, 0.25)  # of a brush and of a turn of it, as shares of the mean side
_TURNS = (4, 12)
_MOST = 64


def free_form(shape: tuple[int, int], seed: str) -> Mask:
    """Strokes and boxes until a share of the picture, drawn evenly out of :data:`SHARE`, is covered.

    Args:
        shape: (H, W) of the picture.
        seed: text whose hash everything is drawn from; the same gives the same mask at one size.

    Returns:
        bool (H, W), True in the hole.
    """
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(seed.encode()).digest()[:16], "big"))
    canvas = np.zeros(shape, np.uint8)
    wanted = rng.uniform(*SHARE)
    for _ in range(_MOST):
        (_box if rng.random() < _BOXES else _stroke)(canvas, rng)
        if canvas.mean() >= wanted:
            break
    return canvas > 0


def outside_crop(shape: tuple[int, int]) -> Mask:
    """All but the middle :data:`CROP` of both sides, bool (H, W)."""
    hole = np.ones(shape, bool)
    height, width = (max(1, round(side * CROP)) for side in shape)
    top, left = (shape[0] - height) // 2, (shape[1] - width) // 2
    hole[top : top + height, left : left + width] = False
    return hole


def _box(canvas: NDArray[np.uint8], rng: np.random.Generator) -> None:
    height, width = (max(1, round(side * rng.uniform(*_SIDES))) for side in canvas.shape)
    top, left = rng.integers(canvas.shape[0] - height + 1), rng.integers(canvas.shape[1] - width + 1)
    canvas[top : top + height, left : left + width] = 1


def _stroke(canvas: NDArray[np.uint8], rng: np.random.Generator) -> None:
    """A bent line with round joints, from anywhere."""
    side = math.sqrt(canvas.size)
    width = max(1, round(side * rng.uniform(*_WIDTH)))
    at = rng.uniform(0, 1, 2) * canvas.shape[::-1]
    heading = rng.uniform(0, 2 * math.pi)
    for _ in range(rng.integers(_TURNS[0], _TURNS[1] + 1)):
        heading += rng.uniform(-math.pi / 2, math.pi / 2)
        step = side * rng.uniform(*_STEP) * np.array([math.cos(heading), math.sin(heading)])
        to = np.clip(at + step, 0, np.array(canvas.shape[::-1]) - 1)
        begin, end = ((round(float(x)), round(float(y))) for x, y in (at, to))
        cv2.line(canvas, begin, end, 1, width)
        cv2.circle(canvas, end, width // 2, 1, cv2.FILLED)
        at = to
