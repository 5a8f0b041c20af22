"""FID and KID against clean-fid, torchmetrics and closed forms; the discriminative scores against their definition."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ortho_group

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.metrics.distributions import (
    cubic_kernel,
    fid,
    frechet_distance,
    ids,
    kid,
    kid_subsets,
    low_n,
    p_ids,
    u_ids,
)


def tables(n, m, d, seed=0):
    """Two correlated clouds, apart in mean and in covariance."""
    random = np.random.default_rng(seed)
    mix = random.normal(size=(d, d)) / d**0.5
    return random.normal(size=(n, d)) @ mix + 0.2, random.normal(size=(m, d)) @ mix * 1.3


@pytest.mark.parametrize(
    ("n", "m", "d"), [(150, 120, 40), (30, 25, 60), (20, 90, 60), (90, 20, 60), (2, 3, 8), (61, 60, 60)]
)
def test_fid_is_clean_fids_also_for_singular_covariances(n, m, d):
    from cleanfid.fid import fid_from_feats

    preds, target = tables(n, m, d)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # clean-fid's matrix square root
        theirs = fid_from_feats(preds, target)
    assert fid(preds, target) == pytest.approx(theirs, rel=1e-6)


@pytest.mark.parametrize(("n", "m", "d"), [(150, 120, 40), (30, 25, 60), (20, 90, 60)])
def test_both_ways_to_fid_agree(n, m, d):
    preds, target = tables(n, m, d)
    moments = [part for table in (preds, target) for part in (table.mean(axis=0), np.cov(table, rowvar=False))]
    assert frechet_distance(*moments) == pytest.approx(fid(preds, target), rel=1e-6)


def test_gaussians_of_known_distance():
    random = np.random.default_rng(0)
    basis = ortho_group.rvs(12, random_state=1)
    one, two = random.uniform(0, 3, (2, 12))
    one[:3], two[2:5] = 0, 0
    shift = random.normal(size=12)
    covariances = [basis.T @ np.diag(values) @ basis for values in (one, two)]
    expected = shift @ shift + np.sum((np.sqrt(one) - np.sqrt(two)) ** 2)
    distance = frechet_distance(shift, covariances[0], np.zeros(12), covariances[1])
    assert distance == pytest.approx(expected, rel=1e-6)


def test_shifted_and_scaled_sets_have_closed_forms():
    table, _ = tables(50, 2, 70)
    shift = np.linspace(-1, 1, 70)
    assert fid(table + shift, table) == pytest.approx(shift @ shift, rel=1e-6)
    total = np.trace(np.cov(table, rowvar=False))
    mean = table.mean(axis=0)
    assert fid(2 * table, table) == pytest.approx(mean @ mean + total, rel=1e-6)
    assert fid(table, table) == pytest.approx(0, abs=1e-9 * total)


def test_fid_is_torchmetrics_with_its_own_features():
    import torch
    from torchmetrics.image.fid import FrechetInceptionDistance

    preds, target = (torch.from_numpy(table).reshape(-1, 3, 2, 4) for table in tables(80, 70, 24))
    meter = FrechetInceptionDistance(feature=torch.nn.Flatten(), input_img_size=(3, 2, 4))
    meter.update(preds, real=False)
    meter.update(target, real=True)
    assert fid(preds.flatten(1).numpy(), target.flatten(1).numpy()) == pytest.approx(float(meter.compute()), rel=1e-5)


def plain_kid(preds, target):
    """The U-statistic by its double sum."""
    d = preds.shape[1]
    kernel = lambda a, b: (a @ b / d + 1) ** 3  # noqa: E731
    own = np.mean([kernel(a, b) for i, a in enumerate(preds) for j, b in enumerate(preds) if i != j])
    other = np.mean([kernel(a, b) for i, a in enumerate(target) for j, b in enumerate(target) if i != j])
    return own + other - 2 * np.mean([kernel(a, b) for a in preds for b in target])


def test_kid_is_its_definition():
    preds, target = tables(14, 11, 7)
    assert kid(preds, target) == pytest.approx(plain_kid(preds, target), rel=1e-10)
    assert cubic_kernel(preds, target)[3, 4] == pytest.approx((preds[3] @ target[4] / 7 + 1) ** 3)


def test_kid_of_a_set_with_itself_is_negative():
    table, _ = tables(40, 2, 30)
    assert kid(table, table) < 0


def test_kid_subsets_is_clean_fids_after_a_seed():
    from cleanfid.fid import kernel_distance

    preds, target = tables(60, 50, 20)
    np.random.seed(7)
    theirs = kernel_distance(preds, target, num_subsets=12, max_subset_size=25)
    assert kid_subsets(preds, target, subsets=12, size=25, seed=7) == pytest.approx(theirs, rel=1e-10)


def test_subsets_of_everything_are_the_exact_value():
    preds, target = tables(30, 30, 20)
    assert kid_subsets(preds, target, subsets=3) == pytest.approx(kid(preds, target), rel=1e-10)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 12), st.integers(2, 12), st.integers(1, 9))
def test_order_does_not_matter(seed, n, m, d):
    preds, target = tables(n, m, d, seed)
    random = np.random.default_rng(seed)
    for metric in (fid, kid):
        value = metric(preds, target)
        scale = max(1, abs(value))
        # A few samples have a singular covariance, whose roots feel the order of sums to 1e-8.
        assert metric(random.permutation(preds), random.permutation(target)) == pytest.approx(value, abs=1e-7 * scale)
        assert metric(target, preds) == pytest.approx(value, abs=1e-7 * scale)
        axes = random.permutation(d)
        assert metric(preds[:, axes], target[:, axes]) == pytest.approx(value, abs=1e-7 * scale)


def test_ids_are_the_published_definition():
    from sklearn.svm import LinearSVC

    fake, real = tables(60, 60, 5)
    machine = LinearSVC(dual=False).fit(np.concatenate([real, fake]), [1] * 60 + [0] * 60)
    unpaired = 1 - machine.score(np.concatenate([real, fake]), [1] * 60 + [0] * 60)
    paired = np.mean(machine.decision_function(fake) > machine.decision_function(real))
    assert ids(fake, real) == pytest.approx((unpaired, paired))
    assert (u_ids(fake, real), p_ids(fake, real)) == ids(fake, real)


def test_in_sample_scores_vanish_for_few_samples_and_cross_validated_ones_do_not():
    random = np.random.default_rng(0)
    fake, real = random.normal(size=(2, 60, 200))
    assert ids(fake, real) == (0, 0)
    held_out = ids(fake, real, folds=5)
    assert held_out.unpaired == pytest.approx(0.5, abs=0.15)
    assert held_out.paired == pytest.approx(0.5, abs=0.2)


def test_predictions_equal_to_their_targets_are_no_better_than_them():
    real = np.random.default_rng(0).normal(size=(40, 6))
    assert ids(real, real) == (0.5, 0)


def test_components_reduce_first():
    fake, real = tables(50, 50, 80)
    assert ids(fake, real).unpaired == 0
    assert ids(fake, real, components=3).unpaired > 0


def test_few_samples_are_flagged():
    assert low_n(2047, 2048)
    assert not low_n(2048, 2048)


@pytest.mark.parametrize("metric", [fid, kid, kid_subsets, ids])
def test_what_is_refused_is_said(metric):
    preds, target = tables(5, 5, 4)
    with pytest.raises(UsageError, match=r"preds: expected finite features of shape \(2 or more, d\), got .*\(1, 4\)"):
        metric(preds[:1], target)
    with pytest.raises(UsageError, match="target: expected finite features"):
        metric(preds, np.full_like(target, np.nan))
    with pytest.raises(UsageError, match="one network on both sides, got 4 and 3 dimensions"):
        metric(preds, target[:, :3])


def test_ids_refuse_what_cannot_be_paired_or_split():
    preds, target = tables(6, 5, 4)
    with pytest.raises(UsageError, match="as many samples on both sides, in the same order, got 6 and 5"):
        ids(preds, target)
    with pytest.raises(UsageError, match=r"0 folds, or 2 up to the number of samples \(5\), got 1"):
        ids(preds[:5], target, folds=1)
    with pytest.raises(UsageError, match=r"1 to 4 components .* got 9"):
        ids(preds[:5], target, components=9)
