"""What a triplet's written layers promise each other, beside their recomposition; see ``compose`` for the equation.

The object alpha a = (A - s)/(1 - s) is known from 8 bits only within an interval, so a promise counts as broken only
where no alpha in that interval keeps it.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .compose import MAX_SHADOW
from .layers import Layers

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Float = NDArray[np.float32]

_LARGEST_SHADOW = round(MAX_SHADOW * 255)
_EPSILON = 1e-3  # of float32 arithmetic, levels


def broken_promises(layers: Layers, objects: int) -> Iterator[str]:
    """Say what is wrong with a triplet; nothing where all is well.

    Args:
        layers: the decoded members.
        objects: number of objects in the image: what lies in front was composed of at most ``objects - 1``.
    """
    for name in ("foreground", "occluder"):
        if count := _coloured_clear_pixels(getattr(layers, name)):
            yield f"{name}: expected colour 0 where alpha is 0, got another in {count} pixels"
    alpha, shadow = layers.foreground[..., 3], layers.shadow
    bounds = object_alpha_bounds(alpha, shadow)
    yield from _shadow_faults(alpha, shadow, bounds[0])
    yield from _mask_faults(layers.mask, *visible_bounds(*bounds, layers.occluder[..., 3], objects))


def object_alpha_bounds(alpha: U8, shadow: U8) -> tuple[Float, Float]:
    """Least and greatest object alpha that gives the written (H, W) A and s, each (H, W) float32 in 0..255.

    A was rounded to a level, which (1 - s) in the denominator magnifies.
    """
    total, shade = alpha.astype(np.float32), shadow.astype(np.float32)
    scale = 255 / np.maximum(255 - shade, 1)
    least, greatest = (total - 0.5 - shade) * scale, (total + 0.5 - shade) * scale
    return np.clip(least - _EPSILON, 0, 255), np.clip(greatest + _EPSILON, 0, 255)


def _coloured_clear_pixels(rgba: U8) -> int:
    whole = np.ascontiguousarray(rgba).view(np.uint32)[..., 0]  # four bytes a pixel, compared at once
    return int(np.count_nonzero((rgba[..., 3] == 0) & (whole != 0)))


def _shadow_faults(alpha: U8, shadow: U8, least: Float) -> Iterator[str]:
    if shadow.max(initial=0) > _LARGEST_SHADOW:
        yield f"shadow: expected at most {_LARGEST_SHADOW}, got {shadow.max()}"
    if count := np.count_nonzero(shadow > alpha):
        yield f"shadow: expected at most the foreground's alpha, got more in {count} pixels"
    if count := np.count_nonzero((shadow > 0) & (least > 254)):
        yield f"shadow: expected none on the opaque object, got some in {count} pixels"


def visible_bounds(least: Float, greatest: Float, hidden: U8, objects: int) -> tuple[Mask, Mask]:
    """Where the mask must be set, and where it may be: a (1 - A_O) > 0.5 within a (1 - a_O) > 0.5 within a > 0.5.

    The occluder's object alpha a_O is not stored apart from its shadow, only their sum A_O, which is no smaller.

    Args:
        least: object alpha at least, (H, W), 0..255.
        greatest: object alpha at most, (H, W), 0..255.
        hidden: alpha A_O of the occluder, 8-bit (H, W). Each of its objects rounded it by half a level when its shadow
            was folded in, and by half a level when it was laid over the others.
        objects: number of objects in the image, one of them the foreground.

    Returns:
        Two (H, W) bool arrays, the first within the second.
    """
    clear = np.clip(255 - (hidden.astype(np.float32) + max(0, objects - 1)), 0, 255)
    return np.ceil(least) * clear / 255 > 127.5 + _EPSILON, np.floor(greatest) > 127


def _mask_faults(mask: U8, must: Mask, may: Mask) -> Iterator[str]:
    if count := np.count_nonzero((mask != 0) & (mask != 255)):
        yield f"mask: expected 0 or 255, got other values in {count} pixels"
    if count := np.count_nonzero(must & (mask == 0)):
        yield f"mask: expected the whole visible object, got 0 in {count} of its pixels"
    if count := np.count_nonzero((mask > 0) & ~may):
        yield f"mask: expected the object alone, got {count} pixels beside it"
