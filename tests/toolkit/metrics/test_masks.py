"""Intersections over union and balanced error rates against scikit-learn, torchmetrics and closed forms."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, jaccard_score

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.metrics.masks import ber, hard_iou, miss_rate, soft_iou


@pytest.fixture
def mattes():
    return np.random.default_rng(0).integers(0, 256, (2, 30, 40), dtype=np.uint8)


def test_hard_iou_is_the_jaccard_index_at_one_half(mattes):
    first, second = mattes
    assert hard_iou(first, second) == pytest.approx(jaccard_score((second >= 127.5).ravel(), (first >= 127.5).ravel()))


def test_soft_iou_of_a_matte_with_itself_is_one(mattes):
    first, second = mattes
    assert soft_iou(first, first) == 1
    assert soft_iou(first, second) == np.minimum(*mattes).sum() / np.maximum(*mattes).sum()
    assert soft_iou(np.full((4, 4), 100, np.uint8), np.full((4, 4), 200, np.uint8)) == 0.5


def test_hard_mattes_have_one_iou(mattes):
    first, second = ((matte > 100).astype(np.uint8) * 255 for matte in mattes)
    assert soft_iou(first, second) == hard_iou(first, second)


def test_nothing_against_nothing_has_no_value():
    empty, full = np.zeros((5, 6), np.uint8), np.full((5, 6), 255, np.uint8)
    assert math.isnan(soft_iou(empty, empty))
    assert math.isnan(hard_iou(empty, empty))
    assert soft_iou(full, empty) == hard_iou(empty, full) == 0
    assert math.isnan(ber(full > 0, empty > 0))
    assert math.isnan(ber(empty > 0, full > 0))
    assert math.isnan(miss_rate(full > 0, empty > 0))


def test_ber_is_one_minus_balanced_accuracy(mattes):
    first, second = mattes[0] > 90, mattes[1] > 160
    assert ber(first, second) == pytest.approx(1 - balanced_accuracy_score(second.ravel(), first.ravel()))
    assert miss_rate(first, second) == pytest.approx(np.mean(~first[second]))


@given(st.integers(0, 2**32 - 1))
def test_symmetry_and_order(seed):
    first, second = np.random.default_rng(seed).integers(0, 256, (2, 8, 9), dtype=np.uint8)
    for metric in (soft_iou, hard_iou):
        value = metric(first, second)
        assert value == metric(second, first)
        assert 0 <= value <= 1
        order = np.random.default_rng(seed).permutation(first.size)
        assert value == metric(*(matte.ravel()[order].reshape(8, 9) for matte in (first, second)))


def test_what_is_refused_is_said(mattes):
    with pytest.raises(UsageError, match=r"preds: expected a matte, uint8 of shape \(H, W\) in 0..255, got float64"):
        soft_iou(mattes[0] / 255, mattes[1])
    with pytest.raises(UsageError, match="of one size"):
        hard_iou(mattes[0], mattes[1][1:])
    with pytest.raises(UsageError, match="preds: expected bool"):
        ber(mattes[0], mattes[1] > 0)
