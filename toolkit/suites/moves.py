"""Where a subject goes: from the masks of two views of it, and put there by the layers of any model."""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import BadImage
from ..compose import over_u8
from ..decomposition import Decomposition
from ..edit import MAX_SCALE, Edit, edited
from ..matte import bounding_box

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Move:
    """What is done to a subject.

    Attributes:
        dx, dy: how far its foot, the middle of the lower edge of the box of what can be seen of it, goes to the right
            and down, as shares of the picture's width and height.
        scale: factor of its width and height, about its foot.
    """

    dx: float
    dy: float
    scale: float = 1.0


def move_between(visible: Mask, whole: Mask, target: Mask, *, scaled: bool = False) -> Move:
    """The move that takes a subject to where another view has it.

    Args:
        visible: what can be seen of it, bool (H, W).
        whole: all of it, with what is hidden.
        target: all of it in the other view.
        scaled: False moves the centre of the largest piece to that of the other view, as the loader of ReS does. True
            moves foot to foot and scales by the root of the ratio of the areas, which is our reading.

    Raises:
        BadImage: ``empty_mask``; or ``far_move`` or ``wrong_scale``, which no edit can do.
    """
    if not (visible.any() and whole.any() and target.any()):
        raise BadImage("empty_mask", "expected the subject in its masks of both views, got no pixel of it in one")
    scale = math.sqrt(np.count_nonzero(target) / np.count_nonzero(whole)) if scaled else 1.0
    if scale > MAX_SCALE:
        raise BadImage("wrong_scale", f"expected a subject that grows at most {MAX_SCALE:g} times, got {scale:.1f}")
    point = _foot if scaled else _centre
    (x, y), (to_x, to_y) = point(whole), point(target)
    at_x, at_y = _foot(visible)
    height, width = visible.shape
    # The foot of what can be seen goes where the similarity that takes ``whole`` to ``target`` takes it.
    dx, dy = (to_x + scale * (at_x - x) - at_x) / width, (to_y + scale * (at_y - y) - at_y) / height
    if max(abs(dx), abs(dy)) > 1:
        raise BadImage("far_move", f"expected a move inside the picture, got {dx:.2f}, {dy:.2f} of its sides")
    return Move(dx, dy, scale)


def placed(made: Decomposition, image: U8, mask: Mask, move: Move) -> U8:
    """The subject at its new place, straight 8-bit (H, W, 4).

    Args:
        made: the layers; without a foreground the picture under the mask is cut out.
        image: the picture, 8-bit (H, W, 3).
        mask: what can be seen of the subject, bool (H, W).
        move: where it goes.
    """
    layer = made.foreground
    if layer is None:
        layer = np.dstack([image, mask.astype(np.uint8) * 255])
    return edited(layer, Edit(move=(move.dx, move.dy), scale=move.scale))


def moved(made: Decomposition, image: U8, mask: Mask, move: Move) -> U8:
    """The subject over the background that a model made, at its new place, 8-bit (H, W, 3); see :func:`placed`."""
    return over_u8(placed(made, image, mask, move), made.background)


def _foot(mask: Mask) -> Point:
    box = bounding_box(mask)
    assert box is not None  # the caller has looked
    return (box.left + box.right) / 2, float(box.bottom)


def _centre(mask: Mask) -> Point:
    """The mean of the pixels of the largest piece, whole as in the loader of ReS."""
    _, _, stats, centroids = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    x, y = centroids[largest]
    return float(int(x)), float(int(y))
