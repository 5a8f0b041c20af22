"""Matting errors against a plain transcription of their definition, golden cases, and what has no influence."""

import math

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.metrics.matting import connectivity_error, gradient_error, matting_mse, sad

METRICS = (sad, matting_mse, gradient_error, connectivity_error)


@pytest.fixture
def mattes():
    """A soft disc, and a moved one with a hole and a detached blob."""
    canvas = np.zeros((2, 60, 70), np.uint8)
    cv2.circle(canvas[0], (35, 30), 18, 255, -1)
    cv2.circle(canvas[1], (38, 31), 18, 255, -1)
    cv2.circle(canvas[1], (40, 30), 4, 0, -1)
    cv2.circle(canvas[1], (6, 6), 4, 200, -1)
    return [cv2.GaussianBlur(matte, (0, 0), 2.5) for matte in canvas]


@pytest.fixture
def trimap(mattes):
    return np.where(mattes[0] == 255, 255, np.where(cv2.blur(mattes[0], (9, 9)) == 0, 0, 128)).astype(np.uint8)


def reference_gradient(alpha, sigma=1.4):
    radius = math.ceil(sigma * math.sqrt(-2 * math.log(math.sqrt(2 * math.pi) * sigma * 0.01)))
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    kernel = -x * np.exp(-(x**2 + y**2) / (2 * sigma**2))
    kernel = kernel / np.sqrt((kernel**2).sum())
    normed = (alpha - alpha.min()) / (alpha.max() - alpha.min())
    parts = [ndimage.correlate(normed, part, mode="nearest") for part in (kernel, kernel.T)]
    return np.sqrt(parts[0] ** 2 + parts[1] ** 2)


def reference_connectivity(alpha, truth, unknown):
    level = -np.ones_like(alpha)
    steps = np.arange(0, 1.1, 0.1)
    for index in range(1, len(steps)):
        labels, count = ndimage.label((alpha >= steps[index]) & (truth >= steps[index]))
        omega = np.zeros(alpha.shape, bool)
        if count:
            omega = labels == 1 + np.argmax(ndimage.sum_labels(np.ones_like(alpha), labels, range(1, count + 1)))
        level[(level == -1) & ~omega] = steps[index - 1]
    level[level == -1] = 1
    phi = [1 - (part - level) * ((part - level) >= 0.15) for part in (alpha, truth)]
    return np.abs(phi[0] - phi[1])[unknown].sum() / 1000


@pytest.mark.parametrize("with_trimap", [True, False])
def test_agrees_with_the_definition(mattes, trimap, with_trimap):
    truth, preds = mattes
    trimap = trimap if with_trimap else np.full_like(trimap, 128)
    given_trimap = (trimap,) if with_trimap else ()
    alpha, true = np.where(trimap == 128, preds, trimap) / 255, truth / 255
    unknown = trimap == 128
    assert sad(preds, truth, *given_trimap) == pytest.approx(np.abs(alpha - true).sum() / 1000)
    assert matting_mse(preds, truth, *given_trimap) == pytest.approx(((alpha - true) ** 2).sum() / unknown.sum())
    slopes = (reference_gradient(alpha) - reference_gradient(true)) ** 2
    assert gradient_error(preds, truth, *given_trimap) == pytest.approx(slopes[unknown].sum() / 1000, rel=1e-9)
    connected = reference_connectivity(alpha, true, unknown)
    assert connectivity_error(preds, truth, *given_trimap) == pytest.approx(connected, rel=1e-9)


def test_connectivity_golden_case_where_the_background_is_no_component():
    """Nothing in common: mmagic gives .256 here, code that counts label 0 as a component gives 0."""
    truth, preds = np.full((32, 32), 255, np.uint8), np.zeros((32, 32), np.uint8)
    trimap = np.zeros((32, 32), np.uint8)
    trimap[:16, :16], trimap[16:, 16:] = 128, 255
    assert connectivity_error(preds, truth, trimap) == pytest.approx(0.256)
    assert sad(preds, truth, trimap) == pytest.approx(0.768)
    assert matting_mse(preds, truth, trimap) == pytest.approx(3)


def test_equal_mattes_have_no_error(mattes):
    for metric in METRICS:
        assert metric(mattes[1], mattes[1]) == 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_predictions_where_the_trimap_knows_have_no_influence(seed):
    random = np.random.default_rng(seed)
    preds, truth, other = random.integers(0, 256, (3, 20, 24), dtype=np.uint8)
    trimap = random.choice(np.array([0, 128, 255], np.uint8), preds.shape)
    changed = np.where(trimap == 128, preds, other)
    for metric in METRICS:
        assert metric(changed, truth, trimap) == metric(preds, truth, trimap)


def test_nothing_unknown_has_no_mse(mattes):
    known = np.full_like(mattes[0], 255)
    assert math.isnan(matting_mse(*mattes, known))


def test_a_constant_matte_has_no_gradient(mattes):
    flat = np.full_like(mattes[0], 77)
    assert gradient_error(flat, np.full_like(flat, 200)) == 0
    assert gradient_error(flat, mattes[0]) > 0


def test_what_is_refused_is_said(mattes):
    with pytest.raises(UsageError, match="target: expected a matte, uint8"):
        sad(mattes[0], mattes[1].astype(np.float32))
    with pytest.raises(UsageError, match="of one size"):
        sad(mattes[0], mattes[1], mattes[0][1:])
