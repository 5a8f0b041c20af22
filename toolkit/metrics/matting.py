"""The four errors of alpha mattes (Rhemann et al., CVPR 2009) in mmagic's definition: SAD, MSE, gradient, connectivity.

Mattes are 8-bit (H, W). A trimap (0, 128 = unknown, 255) forces the prediction where it is known and says over which
pixels MSE, gradient and connectivity run; without one every pixel is unknown, which a report must say. MSE is NaN where
nothing is unknown. Tables in the literature often print MSE × 1000.
"""

import itertools
import math

import cv2
import numpy as np

from .checks import U8, Bool, Float, require_mattes

_UNKNOWN = 128
_UNITS = 1000
_SIGMA = 1.4
_STEP = 0.1
_LEAST_DISCONNECTION = 0.15


def sad(preds: U8, target: U8, trimap: U8 | None = None) -> float:
    """Σ |a - b| / 1000 over all pixels, alphas in 0..1."""
    alpha, truth, _ = _opened(preds, target, trimap)
    return float(np.abs(alpha - truth).sum() / _UNITS)


def matting_mse(preds: U8, target: U8, trimap: U8 | None = None) -> float:
    """Σ (a - b)² over all pixels by the number of unknown ones, alphas in 0..1."""
    alpha, truth, unknown = _opened(preds, target, trimap)
    pixels = np.count_nonzero(unknown)
    return float(np.square(alpha - truth).sum() / pixels) if pixels else math.nan


def gradient_error(preds: U8, target: U8, trimap: U8 | None = None) -> float:
    """Σ (|∇a| - |∇b|)² / 1000 over unknown pixels, by Gaussian derivatives of sigma 1.4.

    Both mattes are stretched to 0..1 by their own extremes first, as mmagic does.
    """
    alpha, truth, unknown = _opened(preds, target, trimap)
    difference = _gradient(_stretched(alpha)) - _gradient(_stretched(truth))
    return float(np.square(difference)[unknown].sum() / _UNITS)


def connectivity_error(preds: U8, target: U8, trimap: U8 | None = None) -> float:
    """Σ |φ(a) - φ(b)| / 1000 over unknown pixels.

    φ = 1 - d·[d ≥ 0.15], d = a - l, where l is the largest threshold (steps of 0.1) at which the pixel still belongs to
    the largest 4-connected component that both mattes share.
    """
    alpha, truth, unknown = _opened(preds, target, trimap)
    level = _connected_level(alpha, truth)
    difference = _disconnection(alpha - level) - _disconnection(truth - level)
    return float(np.abs(difference)[unknown].sum() / _UNITS)


def _opened(preds: U8, target: U8, trimap: U8 | None) -> tuple[Float, Float, Bool]:
    """Prediction (forced where known) and target in 0..1, and the unknown pixels."""
    require_mattes(preds, target)
    if trimap is None:
        return preds / 255, target / 255, np.ones(target.shape, np.bool_)
    require_mattes(trimap, target)
    known = (trimap == 0) | (trimap == 255)
    return np.where(known, trimap, preds) / 255, target / 255, trimap == _UNKNOWN


def _stretched(alpha: Float) -> Float:
    low, high = alpha.min(), alpha.max()
    return (alpha - low) / (high - low) if high > low else np.zeros_like(alpha)


def _gradient(alpha: Float) -> Float:
    """Magnitude of the Gaussian gradient; the two-dimensional kernel has norm 1."""
    radius = math.ceil(_SIGMA * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * _SIGMA * 1e-2)))
    x = np.arange(-radius, radius + 1)
    bell = np.exp(-(x**2) / (2 * _SIGMA**2))
    slope = -x * bell
    bell, slope = bell / np.linalg.norm(bell), slope / np.linalg.norm(slope)
    across = cv2.sepFilter2D(alpha, -1, slope, bell, borderType=cv2.BORDER_REPLICATE)
    down = cv2.sepFilter2D(alpha, -1, bell, slope, borderType=cv2.BORDER_REPLICATE)
    return np.hypot(across, down)


def _connected_level(alpha: Float, truth: Float) -> Float:
    level = np.ones_like(alpha)
    undecided = np.ones(alpha.shape, np.bool_)
    steps = np.arange(0, 1 + _STEP, _STEP)
    for below, threshold in itertools.pairwise(steps):
        lost = undecided & ~_largest_component((alpha >= threshold) & (truth >= threshold))
        level[lost] = below
        undecided &= ~lost
    return level


def _largest_component(mask: Bool) -> Bool:
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=4)
    # Label 0 is what is not in the mask, however large.
    return labels == 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA])) if count > 1 else np.zeros_like(mask)


def _disconnection(difference: Float) -> Float:
    return difference * (difference >= _LEAST_DISCONNECTION)
