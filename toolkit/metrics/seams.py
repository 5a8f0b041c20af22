"""How visible the border of an inpainted hole is."""

import math

import cv2
import numpy as np

from .checks import U8, Bool
from .regions import pasted


def edge_gradient(preds: U8, target: U8, mask: Bool) -> float:
    """ASUKA's Grad: mean |∇preds - ∇target| in levels on the Canny edge of ``mask``, ``preds`` pasted into ``target``.

    Gradients are 3×3 Sobel, per colour channel. NaN where the mask has no edge: it is empty, or covers the picture.
    """
    difference = pasted(preds, target, mask).astype(np.float64) - target
    edge = cv2.Canny(mask.astype(np.uint8) * 255, 100, 200) > 0
    if not edge.any():
        return math.nan
    across, down = (cv2.Sobel(difference, cv2.CV_64F, *order, ksize=3) for order in ((1, 0), (0, 1)))
    return float(np.hypot(across, down)[edge].mean())
