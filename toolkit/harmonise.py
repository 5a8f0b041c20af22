"""Fits the colours of a foreground to a background: the statistics transfer of Reinhard et al. (2001).

Reinhard et al. (Color Transfer between Images, IEEE CG&A 2001, eqs. 10-11) match mean and standard deviation of each
channel in lαβ. CIE Lab (D65) takes its place here. The sRGB curve is exact, by a table of its 256 levels.
"""

import cv2
import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import UsageError

U8 = NDArray[np.uint8]
Float = NDArray[np.float32]

# Beyond it a flat object turns noisy, or a textured one flat.
_LEAST_RATIO, _GREATEST_RATIO = 0.5, 2.0


def _linear_levels() -> Float:
    """Linear light of the 256 levels (IEC 61966-2-1)."""
    level = np.arange(256) / 255
    return np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4).astype(np.float32)


_LINEAR = _linear_levels()


def transfer_colour(colour: U8, alpha: U8, background: U8, strength: float) -> U8:
    """Move the foreground's colour statistics towards the background's: mean and standard deviation in CIE Lab.

    The foreground's are weighted by alpha. With ``strength`` t a Lab channel becomes::

        m_f + t (m_b - m_f) + (1 - t + t r) (x - m_f),    r = s_b / s_f within 0.5..2

    Args:
        colour: (H, W, 3), 8-bit straight colour of the foreground.
        alpha: (H, W), 8-bit.
        background: (h, w, 3), 8-bit: the whole background or the part around the foreground.
        strength: 0 (nothing changes) to 1 (the background's statistics, as far as the gamut and the range of r allow).

    Returns:
        (H, W, 3), 8-bit; where alpha is 0 it is ``colour``.

    Raises:
        UsageError: the strength is not in 0..1.

    """
    if not 0 <= strength <= 1:
        raise UsageError(f"expected a strength in 0..1, got {strength}")
    if strength == 0 or not alpha.any():
        return colour.copy()
    lab = _lab(colour)
    mean, deviation = _statistics(lab, alpha)
    goal, goal_deviation = (found.ravel() for found in cv2.meanStdDev(_lab(background)))
    ratio = np.clip(goal_deviation / np.maximum(deviation, 1e-3), _LEAST_RATIO, _GREATEST_RATIO)
    gain = 1 - strength + strength * ratio
    offset = mean + strength * (goal - mean) - gain * mean
    moved = cv2.transform(lab, np.hstack([np.diag(gain), offset[:, None]]))
    levels = cv2.convertScaleAbs(cv2.cvtColor(moved, cv2.COLOR_LAB2RGB), alpha=255)
    return np.asarray(cv2.copyTo(levels, alpha, colour.copy()), np.uint8)


def _lab(colour: U8) -> Float:
    return np.asarray(cv2.cvtColor(cv2.LUT(colour, _LINEAR), cv2.COLOR_LRGB2LAB), np.float32)


def _statistics(lab: Float, alpha: U8) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Mean and standard deviation of each channel, weighted by alpha."""
    weight, pixels = alpha.astype(np.float32).ravel(), lab.reshape(-1, 3)
    total = float(weight.sum(dtype=np.float64))
    mean = (weight @ pixels).astype(np.float64) / total
    square = (weight @ (pixels * pixels)).astype(np.float64) / total
    return mean, np.sqrt(np.maximum(square - mean**2, 0))
