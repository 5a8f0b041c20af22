"""Filters: order, borders, and what is not a number."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerkit.manifests.errors import UsageError
from layerkit.manifests.record import NOT_MEASURED
from layerkit.pipelines.filters import SCORES, Drop, Limits, all_scores, judge, judge_all

SOUND = {
    "side": 500,
    "border": 0,
    "outside": 0,
    "area": 0.2,
    "fragments": 1,
    "haze": 0.1,
    "completeness": 0.9,
    "salient": 0.2,
    "sharpness": 100,
    "saliency_iou": 0.5,
    "saliency_contrast": 0.6,
    "residual": 0.5,
    "texture": 1,
    "mask_quality": 0.8,
    "inpaint_quality": 0.8,
    "composite": 3,
    "recomposition": 0.5,
}


def test_a_sound_sample_is_kept():
    assert set(SOUND) == set(SCORES)
    assert judge(SOUND, Limits()) is None


@pytest.mark.parametrize("name", SCORES)
def test_each_filter_drops_by_its_own_name(name: str):
    low, high = getattr(Limits(), name)
    for value, limit in ((low - 1.5, low), (high + 1.5, high)):
        if math.isfinite(value) and value != NOT_MEASURED:
            assert judge({**SOUND, name: value}, Limits()) == Drop(name, value, limit)


@pytest.mark.parametrize("name", SCORES)
def test_the_limits_themselves_are_kept(name: str):
    for limit in getattr(Limits(), name):
        assert judge({**SOUND, name: limit}, Limits()) is None


@pytest.mark.parametrize("name", SCORES)
def test_what_is_not_a_number_breaks_every_limit(name: str):
    drop = judge({**SOUND, name: math.nan}, Limits())
    assert drop is not None
    assert drop.reason == name
    assert math.isnan(drop.value)


def test_what_was_not_measured_is_not_judged():
    assert judge({}, Limits()) is None
    assert judge(dict.fromkeys(SCORES, NOT_MEASURED), Limits()) is None


@given(st.sets(st.sampled_from(SCORES), min_size=1))
def test_the_first_broken_limit_in_the_order_of_the_fields_is_the_reason(broken: set[str]):
    drop = judge({**SOUND, **dict.fromkeys(broken, math.nan)}, Limits())
    assert drop is not None
    assert drop.reason == next(name for name in SCORES if name in broken)


def test_all_scores_have_every_name_in_one_order():
    scores = all_scores({"haze": 1 / 3, "side": 7, "surplus": 1})
    assert list(scores) == list(SCORES)
    assert (scores["haze"], scores["side"], scores["border"]) == (0.333333, 7.0, NOT_MEASURED)
    assert all(type(score) is float for score in scores.values())


@pytest.mark.parametrize("wrong", [(1, 0), (math.nan, 1), (0, math.nan)])
def test_limits_that_keep_nothing_are_refused(wrong: tuple[float, float]):
    with pytest.raises(UsageError, match=r"^haze: expected \[lowest, highest\]"):
        Limits(haze=wrong)


VALUES = st.one_of(st.just(NOT_MEASURED), st.just(math.nan), st.floats(-2, 600))


@given(st.lists(st.fixed_dictionaries(dict.fromkeys(SCORES, VALUES)), max_size=8))
def test_many_are_judged_as_one(rows: list[dict[str, float]]):
    matrix = np.array([[row[name] for name in SCORES] for row in rows]).reshape(-1, len(SCORES))
    expected = [judge(row, Limits()) for row in rows]
    assert [SCORES[k] if k >= 0 else None for k in judge_all(matrix, Limits())] == [
        drop.reason if drop else None for drop in expected
    ]
