"""Intervals cover, tests hold their level, and the estimators are what they claim to be."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.metrics.distributions import fid, kid
from layerkit.toolkit.metrics.uncertainty import (
    bootstrap_kid,
    bootstrap_kid_difference,
    bootstrap_mean,
    holm,
    jackknife,
    jackknife_fid,
    jackknife_fid_difference,
    kid_replicates,
    paired_difference,
    win_rate,
)


def test_bootstrap_of_a_mean_is_near_the_normal_interval():
    values = np.random.default_rng(0).gamma(3, size=400)
    interval = bootstrap_mean(values)
    half = 1.96 * values.std() / 20
    assert interval.value == pytest.approx(values.mean())
    assert (interval.low, interval.high) == pytest.approx((values.mean() - half, values.mean() + half), abs=half / 8)
    assert bootstrap_mean(values) == interval, "seeded"
    assert bootstrap_mean(values, seed=1) != interval


def test_nans_are_left_out():
    values = np.array([1.0, 2, math.nan, 4])
    assert bootstrap_mean(values) == bootstrap_mean(values[[0, 1, 3]])
    assert all(math.isnan(part) for part in bootstrap_mean([math.nan]))


def test_paired_difference_agrees_with_scipys_permutation_test():
    random = np.random.default_rng(1)
    first = random.normal(size=60)
    second = first + random.normal(0.15, 0.5, size=60)
    found = paired_difference(first, second, higher_is_better=True, replicates=5000)
    theirs = stats.permutation_test(
        (first, second),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        n_resamples=5000,
        rng=0,
    )
    assert found.p == pytest.approx(theirs.pvalue, abs=0.02)
    assert found.value == pytest.approx(np.mean(first - second))
    assert found.low < found.value < found.high
    assert found.wins == np.mean(first > second)
    assert found.n == 60


def test_pairing_finds_what_spread_over_samples_hides():
    random = np.random.default_rng(2)
    first = random.normal(25, 5, size=100)
    second = first + 0.2 + random.normal(0, 0.3, size=100)
    found = paired_difference(first, second, higher_is_better=True)
    assert found.p < 0.001
    assert found.high < 0
    assert stats.ttest_ind(first, second).pvalue > 0.5


def test_no_difference_has_p_of_one():
    same = np.arange(10.0)
    found = paired_difference(same, same, higher_is_better=False)
    assert (found.value, found.p, found.wins) == (0, 1, 0.5)


def test_p_values_hold_their_level():
    random = np.random.default_rng(3)
    p = [
        paired_difference(*random.normal(size=(2, 25)), higher_is_better=True, replicates=200, seed=trial).p
        for trial in range(300)
    ]
    assert np.mean(np.array(p) <= 0.1) == pytest.approx(0.1, abs=0.05)


def test_nothing_shared_has_no_difference():
    found = paired_difference([math.nan, 1], [1, math.nan], higher_is_better=True)
    assert found.n == 0
    assert math.isnan(found.p)


def test_win_rate_knows_the_direction_and_halves_ties():
    assert win_rate([1, 2, 3, math.nan], [0, 2, 4, 1], higher_is_better=True) == 0.5
    assert win_rate([1, 2], [0, 0], higher_is_better=True) == 1
    assert win_rate([1, 2], [0, 0], higher_is_better=False) == 0
    assert math.isnan(win_rate([math.nan], [1], higher_is_better=True))


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, math.nan, 0.9])[0] == 1
    assert math.isnan(holm([0.5, math.nan])[1])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_lowers(p):
    corrected = holm(p)
    assert all(new >= old for new, old in zip(corrected, p, strict=True))
    assert max(corrected) <= 1
    assert corrected[int(np.argmin(p))] == pytest.approx(min(1, min(p) * len(p)))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()


def test_jackknife_of_a_mean_is_its_standard_error():
    values = np.random.default_rng(0).normal(size=80)
    interval = jackknife(lambda kept: float(values[kept].mean()), 80, groups=80)
    assert interval.high - interval.value == pytest.approx(1.96 * values.std(ddof=1) / 80**0.5)
    grouped = jackknife(lambda kept: float(values[kept].mean()), 80, groups=20)
    assert grouped.high - grouped.value == pytest.approx(interval.high - interval.value, rel=0.5)


def clouds(n, d, seed=0):
    random = np.random.default_rng(seed)
    target = random.normal(size=(n, d)) * np.linspace(2, 0.2, d)
    return target + random.normal(0, 0.5, size=(n, d)), target


def test_fid_intervals_hold_their_value_and_pairing_narrows_the_difference():
    preds, target = clouds(60, 90)
    better = 0.8 * target + 0.2 * preds
    one, two = jackknife_fid(preds, target, groups=20), jackknife_fid(better, target, groups=20)
    assert one.value == fid(preds, target)
    assert one.low < one.value < one.high
    difference = jackknife_fid_difference(preds, better, target, groups=20)
    assert difference.value == pytest.approx(one.value - two.value)
    assert difference.low > 0


def test_the_spread_of_fid_is_about_right():
    """The spread over fresh draws; the bootstrap with replacement does not even hold its own value."""
    draws = [fid(*clouds(60, 90, seed)) for seed in range(40)]
    halves = [jackknife_fid(*clouds(60, 90, seed), groups=60) for seed in range(3)]
    errors = [(half.high - half.value) / 1.96 for half in halves]
    assert 0.6 * np.std(draws) < np.mean(errors) < 2 * np.std(draws)


def test_kid_replicates_are_centred_on_kid():
    preds, target = clouds(50, 20)
    replicates = kid_replicates(preds, target, replicates=4000)
    error = replicates.std() / len(replicates) ** 0.5
    assert replicates.mean() == pytest.approx(kid(preds, target), abs=5 * error)


def test_kid_replicates_by_their_definition():
    """Resampled rows, without the kernel of a sample and its own copy, and each own pair once."""
    preds, target = clouds(12, 5)
    drawn = np.random.default_rng(0).multinomial(12, np.full(12, 1 / 12), 3)
    for row, value in zip(drawn, kid_replicates(preds, target, replicates=3), strict=True):
        index = np.repeat(np.arange(12), row)
        apart = index[:, None] != index

        def mean(first, second, index=index, apart=apart):
            return ((first[index] @ second[index].T / 5 + 1) ** 3)[apart].mean()

        own = ((np.sum(preds * target, axis=1) / 5 + 1) ** 3)[index].mean()
        cross = mean(preds, target) * 11 / 12 + own / 12
        assert value == pytest.approx(mean(preds, preds) + mean(target, target) - 2 * cross, rel=1e-9)


def test_kid_intervals_cover_fresh_draws():
    intervals = [bootstrap_kid(*clouds(60, 8, seed), replicates=300) for seed in range(60)]
    truth = np.mean([kid(*clouds(60, 8, seed)) for seed in range(1000, 1400)])
    covered = np.mean([interval.low <= truth <= interval.high for interval in intervals])
    assert covered > 0.8
    assert intervals[0].value == pytest.approx(kid(*clouds(60, 8, 0)))


def test_kid_difference_is_paired():
    preds, target = clouds(60, 20)
    better = 0.8 * target + 0.2 * preds
    difference = bootstrap_kid_difference(preds, better, target)
    assert difference.value == pytest.approx(kid(preds, target) - kid(better, target))
    assert difference.low < difference.value < difference.high
    same = bootstrap_kid_difference(preds, preds, target)
    assert same == (0, 0, 0)


def test_what_is_refused_is_said():
    with pytest.raises(UsageError, match="got 2 and 1"):
        paired_difference([1, 2], [1], higher_is_better=True)
    with pytest.raises(UsageError, match="got 1 and 50"):
        jackknife(lambda kept: 0.0, 1)
    preds, target = clouds(6, 3)
    with pytest.raises(UsageError, match="in the same order, got 5 and 6"):
        jackknife_fid(preds[:5], target)
    with pytest.raises(UsageError, match="in the same order, got 5 and 6"):
        bootstrap_kid(preds[:5], target)


def test_frames_of_a_scene_are_drawn_together():
    random = np.random.default_rng(0)
    scenes = np.repeat(random.normal(size=40), 25) + random.normal(scale=0.01, size=1000)
    groups = [f"scene {k // 25}" for k in range(1000)]
    alone, together = bootstrap_mean(scenes), bootstrap_mean(scenes, groups=groups)
    of_scenes = bootstrap_mean(scenes.reshape(40, 25).mean(axis=1))
    assert together.value == pytest.approx(alone.value)
    assert (together.high - together.low) == pytest.approx(of_scenes.high - of_scenes.low, rel=0.15)
    assert (together.high - together.low) > 4 * (alone.high - alone.low)
    shifted = paired_difference(scenes, np.zeros(1000), higher_is_better=True, groups=groups)
    assert shifted.p > 10 * paired_difference(scenes, np.zeros(1000), higher_is_better=True).p
    with pytest.raises(UsageError):
        bootstrap_mean(scenes, groups=groups[:-1])
