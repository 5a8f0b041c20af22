"""Holes that teach an inpainting model a task, made of an object's mask: SEELE's (arXiv 2401.16861, section 3.2).

``shifted`` teaches to remove: a hole of an object's shape where the object is not, so that what belongs into it is what
the picture shows. ``partial`` teaches to complete: a part of the object. ``dilated`` grows a mask by a square.

The shapes are those of the data code that the authors published; where a draw is empty, theirs stands as it is, and the
rules for drawing again here are our own. All are pure functions of a bool mask (H, W) and a generator; the mask may be
empty or full.
"""

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import UsageError
from .matte import Box, bounding_box

Mask = NDArray[np.bool_]

TRIES = 16
"""Draws of a hole at most."""

LEAST = 0.1
"""Share of the object's area that a hole of :func:`shifted` is to cover, where one of the draws does."""

GROWN = 5
"""Side of the square by which :func:`partial` grows, px."""

CORNERS = (3, 9)
"""Of a :func:`polygon`, least and most."""


def dilated(mask: Mask, side: int = GROWN) -> Mask:
    """The mask and all pixels that a square around one of its own reaches.

    Args:
        mask: (H, W).
        side: of the square, px, odd; 1 changes nothing.

    Raises:
        UsageError: the side is even or below 1.
    """
    if side < 1 or side % 2 == 0:
        raise UsageError(f"expected an odd side of 1 px or more, got {side}")
    return cv2.dilate(mask.astype(np.uint8), np.ones((side, side), np.uint8)) > 0


def shifted(mask: Mask, rng: np.random.Generator) -> Mask:
    """The mask moved by up to half the picture's width and height, without what lies on the object itself.

    Both shifts are uniform over whole pixels; what leaves the picture is cut off. A hole of less than :data:`LEAST` of
    the object's area is drawn again, :data:`TRIES` times in all; then the largest of them stands, which is empty only
    where all are, as of an empty or a full mask.
    """
    best, enough = np.zeros_like(mask), LEAST * np.count_nonzero(mask)
    height, width = mask.shape
    for _ in range(TRIES):
        right, down = (int(rng.integers(-(side // 2), side // 2 + 1)) for side in (width, height))
        hole = _moved(mask, right, down) & ~mask
        if np.count_nonzero(hole) > np.count_nonzero(best):
            best = hole
        if np.count_nonzero(best) >= enough:
            break
    return best


def _moved(mask: Mask, right: int, down: int) -> Mask:
    """By at most half the picture, so that something of both slices is left."""
    height, width = mask.shape
    out = np.zeros_like(mask)
    out[max(0, down) : height + min(0, down), max(0, right) : width + min(0, right)] = mask[
        max(0, -down) : height - max(0, down), max(0, -right) : width - max(0, right)
    ]
    return out


def partial(mask: Mask, rng: np.random.Generator) -> Mask:
    """The part of the mask in a random disc, ellipse or polygon, grown by a square of :data:`GROWN` px.

    Each kind is as likely, and is drawn in the object's box: see :func:`disc`, :func:`ellipse` and :func:`polygon`.
    Where none of the object lies in it, it is drawn again, :data:`TRIES` times in all; then the whole object stands,
    grown. An empty mask stays empty.
    """
    box = bounding_box(mask)
    if box is None:
        return mask.copy()
    for _ in range(TRIES):
        part = mask & SHAPES[int(rng.integers(len(SHAPES)))](mask.shape, box, rng)
        if part.any():
            return dilated(part)
    return dilated(mask)


# ---- shapes in a box


def disc(shape: tuple[int, ...], box: Box, rng: np.random.Generator) -> Mask:
    """A disc around a pixel of the box, of a radius of a tenth to half of the box's longer side, at least 1 px."""
    row, column = _pixel(box, rng)
    longer = max(box.height, box.width)
    radius = _whole(longer // 10, longer // 2, rng)
    y, x = np.ogrid[: shape[0], : shape[1]]
    inside: Mask = (x - column) ** 2 + (y - row) ** 2 <= radius**2
    return inside


def ellipse(shape: tuple[int, ...], box: Box, rng: np.random.Generator) -> Mask:
    """An ellipse around a pixel of the box, turned by any angle; half axes a quarter to half of the box's sides."""
    row, column = _pixel(box, rng)
    along, across = (_whole(side // 4, side // 2, rng) for side in (box.width, box.height))
    angle = np.deg2rad(rng.uniform(0, 360))
    y, x = np.ogrid[: shape[0], : shape[1]]
    u = np.cos(angle) * (x - column) + np.sin(angle) * (y - row)
    v = np.cos(angle) * (y - row) - np.sin(angle) * (x - column)
    inside: Mask = (u / along) ** 2 + (v / across) ** 2 <= 1
    return inside


def polygon(shape: tuple[int, ...], box: Box, rng: np.random.Generator) -> Mask:
    """A polygon of :data:`CORNERS` corners, pixels of the box, whose sides may cross; with its outline."""
    corners = [_pixel(box, rng)[::-1] for _ in range(int(rng.integers(CORNERS[0], CORNERS[1] + 1)))]
    canvas = np.zeros(shape, np.uint8)
    return cv2.fillPoly(canvas, [np.array(corners, np.int32)], 1) > 0


Shape = Callable[[tuple[int, ...], Box, np.random.Generator], Mask]
SHAPES: tuple[Shape, ...] = (disc, ellipse, polygon)
"""What :func:`partial` draws from."""


def _pixel(box: Box, rng: np.random.Generator) -> tuple[int, int]:
    """Row and column."""
    return int(rng.integers(box.top, box.bottom)), int(rng.integers(box.left, box.right))


def _whole(least: int, most: int, rng: np.random.Generator) -> int:
    """A length in px, 1 at least."""
    return int(rng.integers(max(1, least), max(1, most) + 1))
