"""Metrics that compare two 8-bit pictures pixel by pixel: MSE, RMSE, PSNR and SSIM, over the picture or in a region.

An empty region has no value: NaN, which a meter counts. Errors are those of ``checks``.
"""

import math
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import UsageError
from .checks import U8, Bool, require_mask, require_pair

PSNR_CAP = 100.0
"""dB at which :class:`~.meters.MeanMeter` caps PSNR, so that one identical pair does not make a mean infinite."""

Real = NDArray[np.floating[Any]]
Window = Literal["gaussian", "uniform"]


class _Window(NamedTuple):
    kernel: Real
    covariance: float  # factor on the variances: n/(n - 1) for the sample covariance
    dtype: type[np.floating[Any]]  # 32 bits hold the sum of seven sevenths too coarsely


# "gaussian": Wang et al. 2004. "uniform": scikit-image's default, which ASUKA's script uses.
_WINDOWS: dict[str, _Window] = {
    "gaussian": _Window(np.asarray(cv2.getGaussianKernel(11, 1.5), np.float64), 1.0, np.float32),
    "uniform": _Window(np.full((7, 1), 1 / 7), 49 / 48, np.float64),
}
_STRIP = 64
_LUMA = np.array([0.2989, 0.587, 0.114])  # torchvision's digits
_C1, _C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def mse(preds: U8, target: U8, mask: Bool | None = None) -> float:
    """Mean squared error in squared levels over the pixels of ``mask`` and all channels; NaN for an empty mask."""
    squares, pixels = _squared_error(preds, target, mask)
    return squares / (3 * pixels) if pixels else math.nan


def rmse(preds: U8, target: U8, mask: Bool | None = None) -> float:
    """Root of :func:`mse`, in levels 0..255: DESOBAv2's RMSE, and with the shadow mask its shadow RMSE."""
    return math.sqrt(mse(preds, target, mask))


def psnr(preds: U8, target: U8, mask: Bool | None = None) -> float:
    """Peak signal-to-noise ratio in dB, normalised by the area of ``mask``; inf where equal, NaN for an empty mask.

    With the shadow mask it is DESOBAv2's LPSNR. A test set's value is the mean over pictures, never of pooled errors.
    """
    return _decibel(mse(preds, target, mask))


def psnr_all_pixels(preds: U8, target: U8, mask: Bool | None = None) -> float:
    """PSNR in dB of both pictures set to zero outside ``mask``, over **all** pixels; NaN for an empty mask.

    Higher than :func:`psnr` by 10 log10(1/area): only this form fits the PSNRm that LayerDecomp prints for DESOBAv2.
    """
    squares, pixels = _squared_error(preds, target, mask)
    return _decibel(squares / target.size) if pixels else math.nan


def ssim(preds: U8, target: U8, mask: Bool | None = None, window: Window = "gaussian", *, grey: bool = False) -> float:
    """Structural similarity (Wang et al. 2004), mean over colour channels and pixels whose window lies in the picture.

    ``gaussian`` is 11×11 with sigma 1.5, ``uniform`` is 7×7 with the sample covariance. With a mask it is the mean of
    the same map over the mask: windows at its border see pixels outside it. ``grey`` looks at the unrounded luma of
    Rec. 601, as ASUKA's script does, rather than at the channels.

    Raises:
        UsageError: also where the picture is smaller than the window.
    """
    scores = ssim_map(preds, target, window, grey=grey)
    if mask is None:
        return float(scores.mean(dtype=np.float64))
    require_mask(mask, target)
    border = len(_window(window).kernel) // 2
    inside = scores[mask[border:-border, border:-border]]
    return float(inside.mean(dtype=np.float64)) if inside.size else math.nan


def ssim_map(preds: U8, target: U8, window: Window = "gaussian", *, grey: bool = False) -> Real:
    """SSIM of every window that lies in the picture, (H - w + 1, W - w + 1, 3) for a window of w pixels.

    With ``grey`` it is (H - w + 1, W - w + 1).
    """
    require_pair(preds, target)
    border = len(_window(window).kernel) - 1
    height = len(target) - border
    if min(target.shape[:2]) <= border:
        raise UsageError(f"expected pictures of at least {border + 1} px for this SSIM, got {target.shape[:2]}")
    # In strips that stay in the processor's cache it takes half the time.
    strips = [slice(top, min(top + _STRIP, height) + border) for top in range(0, height, _STRIP)]
    first, second = (preds @ _LUMA, target @ _LUMA) if grey else (preds, target)
    return np.concatenate([_similarity(first[rows], second[rows], _WINDOWS[window]) for rows in strips])


def _similarity(preds: NDArray[Any], target: NDArray[Any], window: _Window) -> Real:
    """SSIM by the sum s and the difference d of both pictures: 4 x y = s² - d² and 2 (x² + y²) = s² + d².

    So four filtered maps do for the usual five, and equal pictures give exactly 1.
    """
    first, second = preds.astype(window.dtype), target.astype(window.dtype)
    # The sum is centred so that 32 bits hold its square; only its mean needs the offset back.
    sum_mean, sum_variance = _moments(first + second - 256, window.kernel)
    mean, variance = _moments(first - second, window.kernel)
    sum_mean, mean = np.square(sum_mean + 256), np.square(mean)
    luminance = (sum_mean - mean + 2 * _C1) / (sum_mean + mean + 2 * _C1)
    sum_variance, variance = window.covariance * sum_variance, window.covariance * variance
    scores: Real = luminance * (sum_variance - variance + 2 * _C2) / (sum_variance + variance + 2 * _C2)
    return scores


def _window(name: str) -> _Window:
    if name not in _WINDOWS:
        raise UsageError(f"expected an SSIM window ({', '.join(_WINDOWS)}), got {name!r}")
    return _WINDOWS[name]


def _moments(picture: Real, kernel: Real) -> tuple[Real, Real]:
    """Mean and variance under the window."""
    mean = _valid(picture, kernel)
    return mean, _valid(np.square(picture), kernel) - np.square(mean)


def _valid(picture: Real, kernel: Real) -> Real:
    """The picture filtered, without the border that no whole window reaches."""
    border = len(kernel) // 2
    filtered = cv2.sepFilter2D(picture, -1, kernel, kernel)[border:-border, border:-border]
    return np.asarray(filtered, picture.dtype)


def _squared_error(preds: U8, target: U8, mask: Bool | None) -> tuple[float, int]:
    """Sum of squared differences, exact, and the number of pixels it runs over."""
    require_pair(preds, target)
    if mask is None:
        return cv2.norm(preds, target, cv2.NORM_L2SQR), target.shape[0] * target.shape[1]
    require_mask(mask, target)
    chosen = np.ascontiguousarray(mask).view(np.uint8)
    return cv2.norm(preds, target, cv2.NORM_L2SQR, chosen), cv2.countNonZero(chosen)


def _decibel(error: float) -> float:
    return 10 * math.log10(255**2 / error) if error else math.inf
