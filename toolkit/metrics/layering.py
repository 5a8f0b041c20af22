"""Metrics of a foreground and a background together: do they give the picture back, and does the foreground move well.

Foregrounds are straight 8-bit (H, W, 4), backgrounds and images 8-bit (H, W, 3). Colour under alpha 0 never counts.
"""

import hashlib
import math
from typing import NamedTuple

import numpy as np

from ..compose import recompose, resize_rgba
from .checks import U8, Bool, require_pair, require_picture, require_same_size
from .masks import soft_iou
from .pixels import psnr

SHIFT = 0.3
SCALE = (0.5, 1.5)
"""LayerDecomp's ranges: shift as a share of the picture, to either side, and scale."""

GREY = (128, 128, 128)


class Jitter(NamedTuple):
    """A move of a foreground: shift as a share of width and height, and scale about the picture's centre."""

    right: float
    down: float
    scale: float


def recomposition_psnr(foreground: U8, background: U8, image: U8, mask: Bool | None = None) -> float:
    """PSNR in dB of over(foreground, background) against ``image``; see :func:`~.pixels.psnr`."""
    return psnr(_recomposed(foreground, background), image, mask)


def on_colour(foreground: U8, colour: tuple[int, int, int] = GREY) -> U8:
    """The foreground on a plain ground, for metrics of pictures; the colour is part of the protocol.

    LayerDiffuse and LayerFusion take grey. A reader that drops alpha instead shows whatever colour lies hidden.
    """
    ground = np.empty((*foreground.shape[:2], 3), np.uint8)
    ground[:] = colour
    return _recomposed(foreground, ground)


def draw_jitter(key: str, seed: int = 0) -> Jitter:
    """The move of one sample, drawn from its key and the seed alone: the same for every model, order and machine."""
    digest = hashlib.sha256(f"{seed}\0{key}".encode()).digest()
    right, down, scale = (int.from_bytes(digest[start : start + 8], "big") / 2**64 for start in (0, 8, 16))
    return Jitter(SHIFT * (2 * right - 1), SHIFT * (2 * down - 1), SCALE[0] + (SCALE[1] - SCALE[0]) * scale)


def jittered(foreground: U8, jitter: Jitter) -> U8:
    """``foreground`` scaled and shifted on its own canvas, what leaves it cut off; straight 8-bit (H, W, 4)."""
    require_picture(foreground, "foreground", 4)
    height, width = foreground.shape[:2]
    size = max(1, round(height * jitter.scale)), max(1, round(width * jitter.scale))
    scaled = resize_rgba(foreground, size)
    rows = _overlap(height, size[0], round((height - size[0]) / 2 + jitter.down * height))
    columns = _overlap(width, size[1], round((width - size[1]) / 2 + jitter.right * width))
    canvas = np.zeros_like(foreground)
    canvas[rows[0], columns[0]] = scaled[rows[1], columns[1]]
    return canvas


def jittered_recomposition(foreground: U8, background: U8, jitter: Jitter) -> U8:
    """LayerDecomp's test of a foreground without ground truth: the moved foreground on the background, for FID.

    Where true layers exist, the same move of theirs is the target of any picture metric.
    """
    return _recomposed(jittered(foreground, jitter), background)


def colour_error(preds: U8, target: U8) -> float:
    """Mean |F - G| in levels, weighted by min(a, b): the colour where both foregrounds show it.

    Errors of alpha are left to the matting metrics. NaN where the two share no visible pixel.
    """
    require_pair(preds, target, 4)
    weight = np.minimum(preds[..., 3], target[..., 3]).astype(np.float64)
    difference = np.abs(preds[..., :3].astype(np.int16) - target[..., :3]).sum(axis=-1)
    total = weight.sum()
    return float((difference * weight).sum() / (3 * total)) if total else math.nan


def premultiplied_error(preds: U8, target: U8) -> float:
    """Mean |a F - b G| in levels over the pixels where either is visible; NaN where none is."""
    require_pair(preds, target, 4)
    visible = (preds[..., 3] > 0) | (target[..., 3] > 0)
    first, second = (part[..., :3].astype(np.float64) * part[..., 3:] for part in (preds, target))
    return float(np.abs(first - second)[visible].mean() / 255) if visible.any() else math.nan


def layer_cost(preds: U8, target: U8) -> float:
    """LayerD's cost of one layer, (L1 + 1 - soft IoU)/2 in 0..1, lower is better.

    L1 is of colours in 0..1 where the **target's** alpha is above 0, not weighted by it; the prediction's colour under
    alpha 0 counts as black, where LayerD's code takes whatever the file holds. NaN for an empty target.
    """
    require_pair(preds, target, 4)
    visible = target[..., 3] > 0
    if not visible.any():
        return math.nan
    shown = np.where(preds[..., 3:] > 0, preds[..., :3], 0)
    difference = np.abs(shown[visible].astype(np.float64) - target[..., :3][visible]).mean() / 255
    return float(difference + 1 - soft_iou(preds[..., 3], target[..., 3])) / 2


def layer_distance(preds: tuple[U8, U8], target: tuple[U8, U8]) -> float:
    """LayerD's distance of two layers, (foreground, background) each: the mean of both :func:`layer_cost`, 0..1.

    With one foreground over one opaque background the time warping keeps the diagonal, as every other path holds both
    of its costs and one more, and there is nothing to merge.
    """
    foreground = layer_cost(preds[0], target[0])
    return (foreground + layer_cost(_opaque(preds[1]), _opaque(target[1]))) / 2


def _recomposed(foreground: U8, background: U8) -> U8:
    require_picture(foreground, "foreground", 4)
    require_picture(background, "background")
    require_same_size(foreground, background, "foreground", "background")
    return recompose(foreground, background)


def _opaque(background: U8) -> U8:
    require_picture(background, "background")
    return np.dstack([background, np.full(background.shape[:2], 255, np.uint8)])


def _overlap(canvas: int, size: int, start: int) -> tuple[slice, slice]:
    """Where ``size`` pixels that begin at ``start`` lie on the canvas, and which of them do."""
    low, high = max(0, start), max(0, min(canvas, start + size))
    low = min(low, high)
    return slice(low, high), slice(low - start, high - start)
