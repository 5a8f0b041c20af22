"""A subject moved within its picture, the steps that need no network: cut out, scaled, set down, lit again.

The order is SEELE's (arXiv 2401.16861, sec. 3): the subject is removed, completed, set at its place, harmonised, and
casts a shadow. Pictures are 8-bit (H, W, 3), layers straight RGBA (H, W, 4), masks bool (H, W).
"""

import math
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import UsageError
from .compose import MAX_SHADOW, resize, to_u8, unblend
from .edit import Edit, edited
from .harmonise import transfer_colour
from .matte import Box, bounding_box, mask_of
from .shadow import Light, Stance, cast_shadow

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Float = NDArray[np.float32]
Point = tuple[float, float]

AMBIENT = Light(azimuth=90, elevation=65, size=0.6, strength=0.45, contact=0.6)
"""The light where none is known: from everywhere above, so that there is little more than a dark place at the foot."""

SCALES = (0.2, 5.0)
"""Least and largest factor that is taken from a depth or a horizon; beyond it they are not to be trusted."""

_AZIMUTHS, _ELEVATIONS = range(0, 360, 15), range(15, 80, 12)
_SMALL = 96  # px of the longer side of what is around subject and shadow, at which lights are tried
_SUN, _CONTACT = 0.05, 0.2  # of a light that is found by its shadow
_WINDOW = 0.01  # half side of the window that a depth is read in, as a share of the picture's longer side


def foot_of(mask: Mask) -> Point:
    """Where a subject stands, (x, y) px: the middle of its box's lower edge.

    Raises:
        UsageError: the mask is empty.
    """
    box = bounding_box(mask)
    if box is None:
        raise UsageError("expected a subject in the mask, got an empty one")
    return (box.left + box.right) / 2, float(box.bottom)


# ---- how much larger it is where it goes


def scale_by_horizon(source: Point, target: Point, horizon: float) -> float:
    """How the height of what stands on level ground changes with its foot, for a camera that is held level.

    A foot that lies y px below the horizon is at a distance in proportion to 1 / y, so heights go as y.

    Args:
        source: the foot (x, y), px.
        target: where the foot goes.
        horizon: its row, px.

    Raises:
        UsageError: one of them does not lie below the horizon, or the factor lies beyond :data:`SCALES`.
    """
    before, after = source[1] - horizon, target[1] - horizon
    if min(before, after) <= 0:
        raise UsageError(
            f"--horizon: expected a row above both feet, {source[1]:.0f} and {target[1]:.0f} px, got {horizon:.0f} px; "
            "correct it, or give --scale"
        )
    return _trusted(after / before, "--horizon")


def scale_by_depth(depth: Float, source: Point, target: Point) -> float:
    """The ratio of inverse depths at the two feet.

    A depth network gives inverse depth up to a scale and an offset. The scale cancels; the offset is taken to be zero,
    which holds where the farthest point of the picture is far away.

    Args:
        depth: (H, W), 0..1, 1 = nearest, of the picture without the subject.
        source: the foot (x, y), px.
        target: where the foot goes.

    Raises:
        UsageError: the factor lies beyond :data:`SCALES`.
    """
    before, after = (_depth_at(depth, point) for point in (source, target))
    return _trusted(after / max(before, 1e-6), "--depth")


def _depth_at(depth: Float, point: Point) -> float:
    reach = max(1, round(max(depth.shape) * _WINDOW))
    row = int(np.clip(round(point[1]) - 1, 0, depth.shape[0] - 1))
    column = int(np.clip(round(point[0]), 0, depth.shape[1] - 1))
    return float(np.median(depth[max(0, row - reach) : row + 1, max(0, column - reach) : column + reach + 1]))


def _trusted(factor: float, option: str) -> float:
    low, high = SCALES
    if not low <= factor <= high:
        raise UsageError(f"{option}: expected a factor in {low:g}..{high:g} between the two places, got {factor:.3g}")
    return factor


# ---- at its place


class Placed(NamedTuple):
    """A subject at its place.

    Attributes:
        layer: what the picture shows of it, straight RGBA (H, W, 4).
        whole: its alpha (h, w), also beyond the picture, up to half a side of it.
        picture: where the picture lies in ``whole``.
    """

    layer: U8
    whole: U8
    picture: Box

    def shadow(self, light: Light, stance: Stance) -> U8:
        """The shadow of the whole subject on the picture, 8-bit attenuation (H, W)."""
        cast = cast_shadow(self.whole, light, stance=stance)[self.picture.slices]
        return np.rint(cast * 255).astype(np.uint8)


def set_down(subject: U8, shift: tuple[int, int], scale: float) -> Placed:
    """Move and scale a subject about its foot.

    Args:
        subject: straight RGBA (H, W, 4), on the picture's canvas.
        shift: to the right and down, px, within the picture's sides.
        scale: of its width and height.
    """
    height, width = subject.shape[:2]
    top, left, bottom, right = _beyond(subject, shift, scale)
    wider = cv2.copyMakeBorder(subject, top, bottom, left, right, cv2.BORDER_CONSTANT)
    move = shift[0] / wider.shape[1], shift[1] / wider.shape[0]
    whole = edited(np.asarray(wider, np.uint8), Edit(move=move, scale=scale, about="foot"))
    picture = Box(top, left, top + height, left + width)
    return Placed(np.ascontiguousarray(whole[picture.slices]), np.ascontiguousarray(whole[..., 3]), picture)


def _beyond(subject: U8, shift: tuple[int, int], scale: float) -> tuple[int, int, int, int]:
    """How far a subject will reach over the top, left, bottom and right of the picture, at most half its sides, px."""
    box = bounding_box(subject[..., 3])
    if box is None:
        return 0, 0, 0, 0
    height, width = subject.shape[:2]
    x, foot = (box.left + box.right) / 2 + shift[0], box.bottom + shift[1]
    down, across = math.ceil(box.height * scale), math.ceil(box.width * scale / 2)
    top, bottom = (min(max(0, math.ceil(one)), height // 2) for one in (down - foot, foot - height))
    left, right = (min(max(0, math.ceil(one)), width // 2) for one in (across - x, x + across - width))
    return top, left, bottom, right


# ---- colours and shadow


def harmonised(placed: U8, background: U8, strength: float) -> U8:
    """A placed subject with its colours moved towards those around it, by :func:`~.harmonise.transfer_colour`."""
    box = bounding_box(placed[..., 3])
    if box is None:
        return placed.copy()
    around = box.grown(max(box.height, box.width) // 2, placed.shape[:2])
    colour = transfer_colour(
        np.ascontiguousarray(placed[..., :3]), np.ascontiguousarray(placed[..., 3]), background[around.slices], strength
    )
    return np.dstack([colour, placed[..., 3]])


def recoloured(placed: U8, background: U8, picture: U8) -> U8:
    """A placed subject with the colours that a picture of it over the background shows, where it is visible."""
    alpha = placed[..., 3].astype(np.float32) / 255
    colour = unblend(picture.astype(np.float32) / 255, alpha, background.astype(np.float32) / 255)
    return np.dstack([to_u8(colour), placed[..., 3]])


def light_of(
    alpha: U8, shadow: Mask, image: U8, background: U8, stances: Sequence[Stance] = ("standing", "lying")
) -> tuple[Light, Stance]:
    """The light whose shadow of a subject lies nearest to the one that a mask shows.

    Azimuth, elevation and stance are tried on a grid and compared by their intersection over union with the mask; the
    strength is the loss of brightness that a quarter of the mask exceeds, for much of a shadow is penumbra.

    Args:
        alpha: of the subject where it stood, 8-bit (H, W).
        shadow: where its shadow lay.
        image: the picture, with both.
        background: without either.
        stances: that are tried.
    """
    strength = _loss(shadow & (alpha == 0), image, background)
    box = bounding_box(shadow | (alpha > 127)) or Box(0, 0, *shadow.shape)
    part = box.grown(max(box.height, box.width) // 4, shadow.shape)  # with room for shadows that fall elsewhere
    share = _SMALL / max(part.height, part.width)
    size = max(1, round(part.height * share)), max(1, round(part.width * share))
    small = resize(np.ascontiguousarray(alpha[part.slices]), size)
    wanted = mask_of(resize(shadow[part.slices].astype(np.uint8) * 255, size)) & (small < 128)
    tried = [
        (Light(azimuth=azimuth, elevation=elevation, size=_SUN, strength=strength, contact=_CONTACT), stance)
        for stance, azimuth, elevation in product(stances, _AZIMUTHS, _ELEVATIONS)
    ]
    return max(tried, key=lambda one: _overlap(cast_shadow(small, one[0], stance=one[1]) > strength / 2, wanted))


def _loss(where: Mask, image: U8, background: U8) -> float:
    """The share of the light that is missing there, 0.05..0.85."""
    grey, clean = (cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY).astype(np.float32) for picture in (image, background))
    if not where.any():
        return AMBIENT.strength
    return float(np.clip(1 - np.percentile(grey[where] / np.maximum(clean[where], 1), 25), 0.05, MAX_SHADOW))


def _overlap(cast: Mask, wanted: Mask) -> float:
    return float((cast & wanted).sum() / max(1, (cast | wanted).sum()))
