"""Sharpness and distance, against scipy and closed forms."""

import cv2
import numpy as np
import pytest
from scipy import ndimage

from layerkit.toolkit.quality import distance_to, sharpness


def test_sharpness_is_the_variance_of_scipys_laplacian() -> None:
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), dtype=np.uint8)
    expected = ndimage.laplace(grey.astype(np.float64), mode="mirror").var()  # mirror: OpenCV's border too
    assert sharpness(grey) == pytest.approx(expected, rel=1e-5)
    assert sharpness(np.dstack([grey] * 3)) == pytest.approx(expected, rel=1e-5)


def test_blur_lowers_sharpness_and_flat_is_zero() -> None:
    picture = np.random.default_rng(1).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    values = [sharpness(cv2.GaussianBlur(picture, (0, 0), sigma)) for sigma in (0.5, 1, 2, 4)]
    assert values == sorted(values, reverse=True)
    assert sharpness(np.full((50, 60, 3), 90, np.uint8)) == 0


def test_sharpness_compares_pictures_of_different_sizes() -> None:
    fine = cv2.GaussianBlur(np.random.default_rng(2).integers(0, 256, (1024, 1024), dtype=np.uint8), (0, 0), 6)
    coarse = cv2.resize(fine, (512, 512), interpolation=cv2.INTER_AREA)
    assert sharpness(fine) == pytest.approx(sharpness(coarse), rel=0.01)


def test_distance_is_the_mean_absolute_difference() -> None:
    rng = np.random.default_rng(3)
    a, b = (rng.integers(0, 256, (33, 21, 3), dtype=np.uint8) for _ in range(2))
    assert distance_to(a, b) == pytest.approx(np.abs(a.astype(float) - b).mean())
    assert distance_to(a, a) == 0
