"""ASUKA's edge gradient against its definition and closed forms."""

import math

import cv2
import numpy as np
import pytest

from layerkit.toolkit.metrics.seams import edge_gradient


def reference(preds, target, mask):
    """The published script, channel by channel."""
    soft = mask[..., None].astype(float)
    result = preds * soft + target * (1 - soft)
    edges = cv2.Canny(mask.astype(np.uint8) * 255, 100, 200)
    means = []
    for channel in range(3):
        change = [
            cv2.Sobel(picture[..., channel].astype(float), cv2.CV_64F, *order, ksize=3)
            for picture in (result, target)
            for order in ((1, 0), (0, 1))
        ]
        means.append(np.sqrt((change[0] - change[2]) ** 2 + (change[1] - change[3]) ** 2)[edges > 0].mean())
    return np.mean(means)


def test_agrees_with_the_published_definition(photo, noisy, disc):
    assert edge_gradient(noisy, photo, disc) == pytest.approx(reference(noisy, photo, disc), rel=1e-12)


def test_a_perfect_fill_has_no_seam_whatever_lies_outside(photo, disc):
    outside = np.where(disc[..., None], photo, 0).astype(np.uint8)
    assert edge_gradient(outside, photo, disc) == 0


def test_a_step_on_a_straight_border_has_a_closed_form():
    target = np.full((40, 40, 3), 100, np.uint8)
    mask = np.zeros((40, 40), bool)
    mask[:, 20:] = True
    assert edge_gradient(target + 10, target, mask) == pytest.approx(40)  # a Sobel weight of 4 times the step


@pytest.mark.parametrize("fill", [False, True])
def test_a_mask_without_an_edge_has_no_value(photo, noisy, fill):
    assert math.isnan(edge_gradient(noisy, photo, np.full(photo.shape[:2], fill)))
