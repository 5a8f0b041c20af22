"""Meters: order, batches and shards change nothing; what is left out is counted."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.metrics.meters import FeatureMeter, MeanMeter

VALUES = st.lists(st.floats(-1e6, 1e6) | st.just(math.inf) | st.just(math.nan), max_size=20)


@given(VALUES, st.randoms(use_true_random=False), st.integers(0, 20))
def test_order_batches_and_shards_change_no_bit(values, random, cut):
    whole = MeanMeter(cap=100)
    whole.update(*values)
    shuffled = random.sample(values, len(values))
    one, two = MeanMeter(cap=100), MeanMeter(cap=100)
    for value in shuffled[:cut]:
        one.update(value)
    two.update(*shuffled[cut:])
    one.merge(two)
    np.testing.assert_equal(one.compute(), whole.compute())


def test_infinities_are_capped_and_nans_left_out():
    meter = MeanMeter(cap=100)
    meter.update(40, math.inf, math.nan, 101)
    assert meter.compute() == (80, 3, 1, 2)


def test_nothing_has_no_mean():
    assert math.isnan(MeanMeter().compute().value)
    assert MeanMeter().compute()[1:] == (0, 0, 0)


def test_features_come_back_by_key_from_any_shards():
    table = np.arange(12.0).reshape(6, 2)
    keys = list("fbadce")
    whole = FeatureMeter()
    whole.update(keys, table)
    one, two = FeatureMeter(), FeatureMeter()
    two.update(keys[:2], table[:2])
    one.update(keys[2:], table[2:])
    one.merge(two)
    assert (one.compute() == whole.compute()).all()
    assert (whole.compute()[0] == table[2]).all()
    one.merge(FeatureMeter())
    assert len(one.compute()) == 6


def test_a_sample_given_twice_or_without_a_row_is_refused():
    meter = FeatureMeter()
    meter.update(["a"], np.ones((1, 2)))
    with pytest.raises(UsageError, match="every sample once, got 'a' again"):
        meter.update(["a"], np.ones((1, 2)))
    with pytest.raises(UsageError, match=r"got shape \(1, 2\) for 2 keys"):
        meter.update(["b", "c"], np.ones((1, 2)))
    with pytest.raises(UsageError, match=r"got shape \(2, 2\) for 1 keys"):
        meter.update(["b", "b"], np.ones((2, 2)))
