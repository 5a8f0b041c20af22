"""From a case's size to the one that a model works at, and back."""

import cv2
import numpy as np

from ..decomposition import U8, Bool


def resized(picture: U8, size: tuple[int, int]) -> U8:
    """Resize an 8-bit (H, W, 3) picture to (width, height): averaged down, interpolated up."""
    if size == picture.shape[1::-1]:
        return picture
    return np.asarray(cv2.resize(picture, size, interpolation=_method(picture, size)), np.uint8)


def resized_mask(mask: Bool, size: tuple[int, int]) -> U8:
    """Resize a bool mask to (width, height) by the nearest pixel: 0 or 1, 8-bit."""
    return np.asarray(cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def resized_rgba(rgba: U8, size: tuple[int, int]) -> U8:
    """Resize straight (H, W, 4) to (width, height), premultiplied: what is clear lends no colour to what is seen."""
    if size == rgba.shape[1::-1]:
        return rgba
    alpha = rgba[..., 3:].astype(np.float32) / 255
    layers = cv2.resize(np.dstack([rgba[..., :3] * alpha, alpha]), size, interpolation=_method(rgba, size))
    colour = layers[..., :3] / np.maximum(layers[..., 3:], 1e-6)
    straight: U8 = np.rint(np.clip(np.dstack([colour, layers[..., 3] * 255]), 0, 255)).astype(np.uint8)
    straight[straight[..., 3] == 0] = 0
    return straight


def _method(picture: U8, size: tuple[int, int]) -> int:
    shrinks = size[0] * size[1] < picture.shape[0] * picture.shape[1]
    return cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
