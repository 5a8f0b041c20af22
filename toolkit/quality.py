"""Cheap measures of a picture that filters judge by."""

import cv2
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]


def sharpness(image: U8, size: int = 512) -> float:
    """Variance of the Laplacian of the grey picture at ``size`` px on its longer side (Pech-Pacheco et al. 2000).

    Low is blurred; the fixed size makes pictures comparable.
    """
    grey = image if image.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(image), cv2.COLOR_RGB2GRAY)
    scale = size / max(grey.shape)
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return float(cv2.Laplacian(grey, cv2.CV_32F).var())


def distance_to(image: U8, reference: U8) -> float:
    """Mean absolute difference of two 8-bit pictures of one size, in levels."""
    return float(cv2.norm(image, reference, cv2.NORM_L1) / image.size)
