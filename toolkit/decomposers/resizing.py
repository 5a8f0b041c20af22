"""From a case's size to the one that a model works at, and back; ``compose.resize_rgba`` does so for cut-outs."""

import cv2
import numpy as np

from ..decomposition import U8, Bool


def resized(picture: U8, size: tuple[int, int]) -> U8:
    """Resize an 8-bit (H, W, 3) picture to ``size`` = (height, width): averaged down, interpolated up."""
    if size == picture.shape[:2]:
        return picture
    shrinks = size[0] * size[1] < picture.shape[0] * picture.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    return np.asarray(cv2.resize(picture, size[::-1], interpolation=method), np.uint8)


def resized_mask(mask: Bool, size: tuple[int, int]) -> U8:
    """Resize a bool (H, W) mask to ``size`` = (height, width) by the nearest pixel: 0 or 1, 8-bit."""
    return np.asarray(cv2.resize(mask.astype(np.uint8), size[::-1], interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)
