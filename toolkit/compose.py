"""Layers and compositing: straight and premultiplied colour, ``over``, the triplet equation and its inverse.

Colour is *straight* (not premultiplied) unless a name says otherwise. Float arrays are HWC in 0..1; 8-bit arrays are
HWC ``uint8``. The operator is Porter and Duff's *over* (Compositing Digital Images, SIGGRAPH 1984).

The triplet, with object colour F, object alpha a, shadow attenuation s and background B::

    A = 1 - (1 - a)(1 - s)        alpha of the foreground: the object with its shadow
    C = a F / A                   its colour; the shadow itself is black
    image = A C + (1 - A) B = a F + (1 - a)(1 - s) B
"""

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.floating[Any]]
U8 = NDArray[np.uint8]

# Above this attenuation the object alpha (A - s)/(1 - s) can no longer be read back from 8 bits.
MAX_SHADOW = 0.85


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

    x = A F + (255 - A) B fits 16 bits, and x / 255 is never half way between two levels (255 is odd), so rounding it in
    any precision gives the same level. Only the box of visible pixels is computed.
    """
    _require_shape(top, 4, "top")
    _require_shape(bottom, 3, "bottom")
    out = bottom.copy()
    box = visible_box(top)
    if out[box].size:
        out[box] = _over_block(top[box], bottom[box])
    return out


def visible_box(rgba: U8) -> tuple[slice, slice]:
    """Rows and columns of the smallest box that holds every pixel of an (H, W, 4) with alpha above 0."""
    left, top, width, height = cv2.boundingRect(cv2.extractChannel(rgba, 3))
    return slice(top, top + height), slice(left, left + width)


def _over_block(top: U8, bottom: U8) -> U8:
    alpha = cv2.cvtColor(cv2.extractChannel(top, 3), cv2.COLOR_GRAY2RGB)
    x = cv2.multiply(cv2.cvtColor(top, cv2.COLOR_RGBA2RGB), alpha, dtype=cv2.CV_16U)
    x = cv2.add(x, cv2.multiply(np.ascontiguousarray(bottom), cv2.bitwise_not(alpha), dtype=cv2.CV_16U))
    return np.asarray(cv2.convertScaleAbs(x, alpha=1 / 255), np.uint8)


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
    total = np.rint(255 - (255 - a) * (255 - shadow.astype(np.float32)) / 255)
    return _straight(colour, np.divide(a, total, out=np.zeros_like(a), where=total > 0), total.astype(np.uint8))


def _straight(colour: NDArray[Any], scale: NDArray[np.float32], alpha: U8) -> U8:
    """RGBA of ``colour`` (H, W, 3) times ``scale`` (H, W), rounded and clipped to 8 bits, and ``alpha`` (H, W)."""
    rgb = cv2.multiply(np.ascontiguousarray(colour), cv2.merge([scale] * 3), dtype=cv2.CV_8U)
    return np.asarray(cv2.merge([*cv2.split(rgb), alpha]), np.uint8)


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

    Premultiplied, so hidden colour never bleeds into the edge; see :func:`resize` for the filter. Colour is zero where
    alpha is zero.
    """
    _require_shape(rgba, 4, "rgba")
    return resize_premultiplied(premultiply_exact(rgba), size)


def premultiply_exact(rgba: U8) -> NDArray[np.uint16]:
    """Straight 8-bit (H, W, 4) to premultiplied in units of 1/255 level: C A and 255 A, exact in 16 bits."""
    work = rgba.astype(np.uint16)
    work[..., :3] *= work[..., 3:]
    work[..., 3] *= 255
    return work


def resize_premultiplied(exact: NDArray[np.uint16], size: tuple[int, int]) -> U8:
    """:func:`resize_rgba` of what :func:`premultiply_exact` gave: straight 8-bit (H, W, 4)."""
    grows = size[0] > exact.shape[0] or size[1] > exact.shape[1]
    # Cubic overshoots, which 16 bits would clip for the colour before it is divided by the alpha.
    work = resize(exact.astype(np.float32) if grows else exact, size)
    depth = cv2.extractChannel(work, 3)
    alpha = np.rint(np.clip(depth / np.float32(255), 0, 255)).astype(np.uint8)
    # Divided by the alpha before it is rounded: the step then cancels.
    scale = np.divide(255, depth, out=np.zeros(size, np.float32), where=alpha > 0)
    return _straight(work[..., :3], scale, alpha)


def turn(exact: NDArray[np.uint16], degrees: float) -> NDArray[np.uint16]:
    """What :func:`premultiply_exact` gave, turned counter-clockwise and cropped to what is visible."""
    height, width = exact.shape[:2]
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), degrees, 1.0)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    size = math.ceil(height * sine + width * cosine), math.ceil(height * cosine + width * sine)
    matrix[:, 2] += (size[0] - width) / 2, (size[1] - height) / 2
    turned = cv2.warpAffine(exact, matrix, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
    left, top, across, down = cv2.boundingRect((turned[..., 3] > 127).astype(np.uint8))
    return np.ascontiguousarray(turned[top : top + down, left : left + across])


def resize(picture: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """Resize an (H, W) or (H, W, C) array to ``size`` = (height, width) without aliasing.

    To shrink: area averaging by whole factors while a side is at least twice as long as it shall be, then bilinear,
    which is nearer to Lanczos at these last factors than area averaging, and five times as fast
    (``benchmarks/RESULTS.md``). To grow: cubic. Where one side shrinks and the other grows, the one shrinks first.
    """
    lesser = min(picture.shape[0], size[0]), min(picture.shape[1], size[1])
    factors = picture.shape[0] // lesser[0], picture.shape[1] // lesser[1]
    if max(factors) > 1:
        whole = max(lesser[0], picture.shape[0] // factors[0]), max(lesser[1], picture.shape[1] // factors[1])
        picture = cv2.resize(picture, whole[::-1], interpolation=cv2.INTER_AREA)
    if picture.shape[:2] != lesser:
        picture = cv2.resize(picture, lesser[::-1], interpolation=cv2.INTER_LINEAR)
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
