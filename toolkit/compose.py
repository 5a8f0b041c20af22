"""Layers and compositing: straight and premultiplied colour, ``over``, the triplet equation and its inverse.

Colour is *straight* (not premultiplied) unless a name says otherwise. Float arrays are HWC in 0..1; 8-bit arrays are
HWC ``uint8``. The operator is Porter and Duff's *over* (Compositing Digital Images, SIGGRAPH 1984).

The triplet, with object colour F, object alpha a, shadow attenuation s and background B::

    A = 1 - (1 - a)(1 - s)        alpha of the foreground: the object with its shadow
    C = a F / A                   its colour; the shadow itself is black
    image = A C + (1 - A) B = a F + (1 - a)(1 - s) B
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating[Any]]
U8 = NDArray[np.uint8]

# Above this attenuation the object alpha (A - s)/(1 - s) can no longer be read back from 8 bits.
MAX_SHADOW = 0.85

# Rows composed at a time: the uint16 work space of a 1024 px row block then stays in the second-level cache.
_ROWS = 64


def premultiply(rgba: Float) -> Float:
    """Straight (H, W, 4) in 0..1 to premultiplied."""
    return np.concatenate([rgba[..., :3] * rgba[..., 3:], rgba[..., 3:]], axis=-1)


def unpremultiply(rgba: Float) -> Float:
    """Premultiplied (H, W, 4) in 0..1 to straight; colour is zero where alpha is zero."""
    alpha = rgba[..., 3:]
    colour = np.divide(rgba[..., :3], alpha, out=np.zeros_like(rgba[..., :3]), where=alpha > 0)
    return np.concatenate([np.clip(colour, 0, 1), alpha], axis=-1)


def over(top: Float, bottom: Float) -> Float:
    """Porter-Duff *over* of a straight (H, W, 4) on a straight (H, W, 4) or an opaque (H, W, 3); as ``bottom`` is."""
    alpha = top[..., 3:]
    if bottom.shape[-1] == 3:
        return alpha * top[..., :3] + (1 - alpha) * bottom
    under = (1 - alpha) * bottom[..., 3:]
    total = alpha + under
    mixed = alpha * top[..., :3] + under * bottom[..., :3]
    colour = np.divide(mixed, total, out=np.zeros_like(mixed), where=total > 0)
    return np.concatenate([colour, total], axis=-1)


def over_u8(top: U8, bottom: U8) -> U8:
    """8-bit *over* of a straight (H, W, 4) on an opaque (H, W, 3): the float64 value rounded to nearest, bit for bit.

    With x = A F + (255 - A) B, ``(x + 128 + (x + 128 >> 8)) >> 8`` equals ``round(x / 255)`` for every x up to 65025
    (Blinn, Three Wrongs Make a Right, 1995), so 16 bits suffice. Only the box of visible pixels is computed.
    """
    _require_shape(top, 4, "top")
    _require_shape(bottom, 3, "bottom")
    out = bottom.copy()
    rows, columns = visible_box(top)
    for row in range(rows.start, rows.stop, _ROWS):
        block = slice(row, min(row + _ROWS, rows.stop)), columns
        out[block] = _over_block(top[block], bottom[block])
    return out


def visible_box(rgba: U8) -> tuple[slice, slice]:
    """Rows and columns of the smallest box that holds every pixel of an (H, W, 4) with alpha above 0."""
    left, top, width, height = cv2.boundingRect(cv2.extractChannel(rgba, 3))
    return slice(top, top + height), slice(left, left + width)


def _over_block(top: U8, bottom: U8) -> U8:
    alpha = top[..., 3:].astype(np.uint16)
    x = top[..., :3] * alpha
    x += bottom * (255 - alpha)
    x += 128
    x += x >> 8
    x >>= 8
    return x.astype(np.uint8)


def over_rgba_u8(top: U8, bottom: U8) -> U8:
    """8-bit *over* of two straight (H, W, 4) layers, rounded to nearest; colour is zero where the result is clear."""
    _require_shape(top, 4, "top")
    _require_shape(bottom, 4, "bottom")
    out = bottom.copy()
    box = visible_box(top)
    if bottom[box][..., 3].any():
        out[box] = to_u8(over(top[box].astype(np.float32) / 255, bottom[box].astype(np.float32) / 255))
    else:
        out[box] = top[box]
    return out


def foreground_from(colour: Float, alpha: Float, shadow: Float) -> Float:
    """Fold a shadow into the object: straight RGBA of the object *with* its shadow.

    Args:
        colour: object colour F, (H, W, 3), 0..1.
        alpha: object alpha a, (H, W), 0..1.
        shadow: attenuation s, (H, W), 0..:data:`MAX_SHADOW`; 0 is no shadow.

    Returns:
        (H, W, 4): alpha A = 1 - (1 - a)(1 - s), colour a F / A, zero where A is zero.
    """
    total = 1 - (1 - alpha) * (1 - shadow)
    share = np.divide(alpha, total, out=np.zeros_like(total), where=total > 0)
    return np.concatenate([colour * share[..., None], total[..., None]], axis=-1)


def object_from(foreground: Float, shadow: Float) -> tuple[Float, Float]:
    """Undo :func:`foreground_from`: object colour (H, W, 3) and object alpha (H, W) of a foreground and its shadow."""
    total = foreground[..., 3]
    alpha = np.clip((total - shadow) / (1 - shadow), 0, 1)
    share = np.divide(total, alpha, out=np.zeros_like(total), where=alpha > 0)
    return np.clip(foreground[..., :3] * share[..., None], 0, 1), alpha


def fold_shadow_u8(colour: U8, alpha: U8, shadow: U8) -> U8:
    """8-bit :func:`foreground_from`: (H, W, 3), (H, W), (H, W) to a straight (H, W, 4), rounded to nearest."""
    a = alpha.astype(np.float32)
    total = 255 - (255 - a) * (255 - shadow.astype(np.float32)) / 255
    out = np.empty((*alpha.shape, 4), np.uint8)
    out[..., 3] = np.rint(total)
    # The colour is divided by the alpha that is *written*: otherwise a thin shadow under a soft edge is off by a level.
    share = np.divide(a, out[..., 3], out=np.zeros_like(a), where=out[..., 3] > 0)
    out[..., :3] = np.rint(np.minimum(colour * share[..., None], 255))
    return out


def triplet_image(
    colour: Float, alpha: Float, shadow: Float, background: Float, occluder: Float | None = None
) -> Float:
    """The triplet equation, over(O, a F + (1 - a)(1 - s) B), in floats 0..1: the reference of the 8-bit path."""
    image = alpha[..., None] * colour + ((1 - alpha) * (1 - shadow))[..., None] * background
    return image if occluder is None else over(occluder, image)


def recompose(foreground: U8, background: U8, occluder: U8 | None = None) -> U8:
    """The written layers back to a picture: over(O, over(foreground, background)), 8-bit, exact integer arithmetic."""
    image = over_u8(foreground, background)
    return image if occluder is None or not occluder[..., 3].any() else over_u8(occluder, image)


def recomposition_error(foreground: U8, background: U8, occluder: U8 | None, image: U8) -> int:
    """Largest difference, in 8-bit levels, between the recomposed layers and ``image``."""
    return int(cv2.norm(recompose(foreground, background, occluder), image, cv2.NORM_INF))


def unblend(image: Float, alpha: Float, background: Float) -> Float:
    """Colour F = (I - (1 - a) B) / a of what lies over a known background, clipped to 0..1; zero where a is zero."""
    a = alpha[..., None]
    colour = np.divide(image - (1 - a) * background, a, out=np.zeros_like(image), where=a > 0)
    return np.clip(colour, 0, 1)


def pad_colour(rgba: U8) -> U8:
    """Fill the colour under alpha 0 from the visible colour around it; alpha and visible colour stay as they are.

    Push-pull over a premultiplied pyramid, as in LayerDiffuse's ``pad_rgb``: each level fills what the finer one lacks.
    A picture without any visible pixel stays as it is.
    """
    _require_shape(rgba, 4, "rgba")
    if not rgba[..., 3].any():
        return rgba.copy()
    weight = (rgba[..., 3] > 0).astype(np.float32)
    filled = _push_pull(rgba[..., :3] * weight[..., None], weight)
    out = rgba.copy()
    hidden = rgba[..., 3] == 0
    out[hidden, :3] = np.rint(np.clip(filled[hidden], 0, 255))
    return out


def _push_pull(colour: Float, weight: Float) -> Float:
    """Colour (premultiplied by weight) where weight is 1, and a smooth continuation elsewhere; float32 (H, W, 3)."""
    known = np.divide(colour, weight[..., None], out=np.zeros_like(colour), where=weight[..., None] > 0)
    height, width = weight.shape
    if weight.min() >= 1 or max(height, width) == 1:
        return known
    half = (max(1, (width + 1) // 2), max(1, (height + 1) // 2))
    coarse_weight = cv2.resize(weight, half, interpolation=cv2.INTER_AREA).reshape(half[::-1])
    coarse = cv2.resize(colour, half, interpolation=cv2.INTER_AREA).reshape(*half[::-1], 3)
    saturated = np.minimum(coarse_weight * 4, 1)  # one known pixel in four is enough to trust the average
    scale = np.divide(saturated, coarse_weight, out=np.zeros_like(coarse_weight), where=coarse_weight > 0)
    below = _push_pull(coarse * scale[..., None], saturated)
    smooth = cv2.resize(below, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width, 3)
    share = np.minimum(weight, 1)[..., None]
    filled: Float = known * share + smooth * (1 - share)
    return filled


def resize_rgba(rgba: U8, size: tuple[int, int]) -> U8:
    """Alpha-safe resize of a straight 8-bit (H, W, 4) to ``size`` = (height, width).

    Premultiplied in float, so hidden colour never bleeds into the edge; area averaging where it shrinks, cubic where it
    grows. Colour is zero where alpha is zero.
    """
    _require_shape(rgba, 4, "rgba")
    work = rgba.astype(np.float32)
    work[..., :3] *= work[..., 3:] / 255
    work = resize(work, size)
    out = np.empty((*size, 4), np.uint8)
    out[..., 3] = np.rint(np.clip(work[..., 3], 0, 255))
    # Divided by the alpha before it is clipped and rounded: the cubic's overshoot and the step then cancel.
    scale = np.divide(255, work[..., 3], out=np.zeros(size, np.float32), where=out[..., 3] > 0)
    out[..., :3] = np.rint(np.clip(work[..., :3] * scale[..., None], 0, 255))
    return out


def resize(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize an (H, W) or (H, W, C) array to ``size`` = (height, width): area averaging to shrink, cubic to grow.

    Where one side shrinks and the other grows, the one is averaged before the other is interpolated.
    """
    lesser = min(picture.shape[0], size[0]), min(picture.shape[1], size[1])
    if picture.shape[:2] != lesser:
        picture = cv2.resize(picture, lesser[::-1], interpolation=cv2.INTER_AREA)
    return picture if lesser == size else cv2.resize(picture, size[::-1], interpolation=cv2.INTER_CUBIC)


def to_u8(picture: Float) -> U8:
    """Float 0..1 to 8-bit, rounded to nearest and clipped."""
    return np.rint(np.clip(picture, 0, 1) * 255).astype(np.uint8)


def _require_shape(picture: NDArray[Any], channels: int, name: str) -> None:
    if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[-1] != channels:
        raise ValueError(
            f"{name} must be uint8 of shape (H, W, {channels}), got {picture.dtype} of shape {picture.shape}; "
            "convert it with to_u8 or drop the surplus channels"
        )
