"""What a triplet's written layers promise each other, beside their recomposition; see ``compose`` for the equation.

The object alpha a = (A - s)/(1 - s) is known from 8 bits only within an interval, so a promise counts as broken only
where no alpha in that interval keeps it.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compose import MAX_SHADOW
from .layers import Layers

U8 = NDArray[np.uint8]

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
    yield from _shadow_faults(layers.foreground[..., 3], layers.shadow)
    yield from _mask_faults(layers, objects)


def object_alpha_bounds(alpha: U8, shadow: U8) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Least and greatest object alpha that gives the written (H, W) A and s, each (H, W) float32 in 0..255.

    A was rounded to a level, which (1 - s) in the denominator magnifies.
    """
    total, shade = alpha.astype(np.float32), shadow.astype(np.float32)
    scale = 255 / np.maximum(255 - shade, 1)
    least, greatest = (total - 0.5 - shade) * scale, (total + 0.5 - shade) * scale
    return np.clip(least - _EPSILON, 0, 255), np.clip(greatest + _EPSILON, 0, 255)


def _coloured_clear_pixels(rgba: U8) -> int:
    return int(np.count_nonzero((rgba[..., 3] == 0) & rgba[..., :3].any(axis=-1)))


def _shadow_faults(alpha: U8, shadow: U8) -> Iterator[str]:
    if shadow.max(initial=0) > _LARGEST_SHADOW:
        yield f"shadow: expected at most {_LARGEST_SHADOW}, got {shadow.max()}"
        return  # the object alpha cannot be read back under such a shadow
    if count := np.count_nonzero(shadow > alpha):
        yield f"shadow: expected at most the foreground's alpha, got more in {count} pixels"
    least, _ = object_alpha_bounds(alpha, shadow)
    if count := np.count_nonzero((shadow > 0) & (least > 254)):
        yield f"shadow: expected none on the opaque object, got some in {count} pixels"


def _mask_faults(layers: Layers, objects: int) -> Iterator[str]:
    mask = layers.mask
    if count := np.count_nonzero((mask != 0) & (mask != 255)):
        yield f"mask: expected 0 or 255, got other values in {count} pixels"
    must, may = visible_bounds(layers, objects)
    if count := np.count_nonzero(must & (mask == 0)):
        yield f"mask: expected the whole visible object, got 0 in {count} of its pixels"
    if count := np.count_nonzero((mask > 0) & ~may):
        yield f"mask: expected the object alone, got {count} pixels beside it"


def visible_bounds(layers: Layers, objects: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Where the mask must be set, and where it may be: a (1 - A_O) > 0.5 within a (1 - a_O) > 0.5 within a > 0.5.

    The occluder's object alpha a_O is not stored apart from its shadow, only their sum A_O, which is no smaller. Each
    object in front rounded it by half a level when its shadow was folded in and by half a level when it was laid over.

    Returns:
        Two (H, W) bool arrays, the first within the second.
    """
    least, greatest = object_alpha_bounds(layers.foreground[..., 3], layers.shadow)
    hidden = layers.occluder[..., 3].astype(np.float32) + max(0, objects - 1)
    must = np.ceil(least) * np.clip(255 - hidden, 0, 255) / 255 > 127.5 + _EPSILON
    return must, np.floor(greatest) > 127
