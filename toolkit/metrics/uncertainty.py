"""What a test set of this size can say: intervals and paired tests of means, of FID and of KID.

Resampling FID with replacement is wrong (repeated samples shrink the rank of its covariance), so it is jackknifed; for
KID the pairs of repeated samples are left out instead. Everything is seeded and runs over samples in the order given.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import UsageError
from .checks import Float, require_features, require_paired
from .distributions import Table, cubic_kernel, fid

LEVEL = 0.95
_CHUNK = 256


class Interval(NamedTuple):
    """A value between the ends of its 95 % confidence interval."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """What a paired test of two models found: ``value`` is the mean of first - second over ``n`` shared samples.

    ``p`` is two-sided; ``wins`` is the share of samples on which the first model is better, ties counting half.
    """

    value: float
    low: float
    high: float
    p: float
    wins: float
    n: int


def bootstrap_mean(
    values: Sequence[float] | Float, *, groups: Sequence[str] = (), replicates: int = 2000, seed: int = 0
) -> Interval:
    """Percentile bootstrap of the mean of per-sample values; NaNs are left out, and without values all is NaN.

    Args:
        values: one a sample.
        groups: the scene of each sample, where samples of one scene are not independent: scenes are then drawn whole
            (the cluster bootstrap); empty takes every sample for itself.
        replicates: number of resamples.
        seed: of the resampling.

    Raises:
        UsageError: not as many groups as values.
    """
    known, scenes = _known(values, groups)
    if not known.size:
        return Interval(math.nan, math.nan, math.nan)
    return _percentiles(float(known.mean()), _resampled_means(_totals(known, scenes), replicates, seed))


def paired_difference(
    first: Sequence[float] | Float,
    second: Sequence[float] | Float,
    *,
    higher_is_better: bool,
    groups: Sequence[str] = (),
    replicates: int = 2000,
    seed: int = 0,
) -> Difference:
    """Compare two models on the same samples: bootstrap interval and sign-flip test of the mean difference.

    Samples where either value is NaN are left out. Cap infinite values first, as the mean of the metric does. The
    p-value counts the observed signs as one of the flips, so it is never 0. ``groups`` as in :func:`bootstrap_mean`: a
    scene is drawn and flips as one.

    Raises:
        UsageError: the two do not hold the same number of samples.
    """
    require_paired(first, second)
    difference, scenes = _known(np.asarray(first, np.float64) - np.asarray(second, np.float64), groups)
    n = difference.size
    if not n:
        return Difference(math.nan, math.nan, math.nan, math.nan, math.nan, 0)
    totals = _totals(difference, scenes)
    value, low, high = _percentiles(float(difference.mean()), _resampled_means(totals, replicates, seed))
    wins = win_rate(difference, np.zeros(n), higher_is_better=higher_is_better)
    return Difference(value, low, high, _sign_flip_p(totals[0], replicates, seed), wins, n)


def win_rate(first: Sequence[float] | Float, second: Sequence[float] | Float, *, higher_is_better: bool) -> float:
    """Share of samples on which ``first`` is better than ``second``, ties counting half; NaNs are left out."""
    require_paired(first, second)
    left, right = np.asarray(first, np.float64), np.asarray(second, np.float64)
    known = ~(np.isnan(left) | np.isnan(right))
    sign = (left[known] > right[known]).astype(np.float64) - (left[known] < right[known])
    return float((1 + (1 if higher_is_better else -1) * sign.mean()) / 2) if known.any() else math.nan


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction of p-values of several tests, in the order given; NaNs stay and do not count."""
    p = np.asarray(p_values, np.float64)
    corrected = np.full(p.shape, np.nan)
    order = [index for index in np.argsort(p) if not math.isnan(p[index])]
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, float(p[index]) * (len(order) - rank)))
        corrected[index] = highest
    return [float(value) for value in corrected]


def jackknife(statistic: Callable[[NDArray[np.intp]], float], n: int, *, groups: int = 50, seed: int = 0) -> Interval:
    """Delete-a-group jackknife (Kott 2001): normal interval about ``statistic`` of samples 0..n-1.

    Args:
        statistic: gets the sorted indices of the samples that are left.
        n: number of samples, 2 or more.
        groups: deleted one after another; with n or more every sample is a group, the plain delete-1 jackknife.
        seed: of the random split into groups.
    """
    if n < 2 or groups < 2:
        raise UsageError(f"expected 2 or more samples and groups to jackknife, got {n} and {groups}")
    shuffled = np.random.default_rng(seed).permutation(n)
    everything = np.arange(n)
    parts = np.array_split(shuffled, min(groups, n))
    left_out = np.array([statistic(np.setdiff1d(everything, part)) for part in parts])
    error = math.sqrt((len(parts) - 1) * float(np.mean((left_out - left_out.mean()) ** 2)))
    value = statistic(everything)
    return Interval(value, value - 1.96 * error, value + 1.96 * error)


def jackknife_fid(preds: Table, target: Table, *, groups: int = 50, seed: int = 0) -> Interval:
    """FID with a jackknife interval: a sample is left out of both sets at once, so the sets must be paired."""
    first, second = require_features(preds, target)
    require_paired(first, second)
    return jackknife(lambda kept: fid(first[kept], second[kept]), len(first), groups=groups, seed=seed)


def jackknife_fid_difference(
    first: Table, second: Table, target: Table, *, groups: int = 50, seed: int = 0
) -> Interval:
    """FID of ``first`` minus FID of ``second`` against one target, each sample left out of all three at once."""
    one, real = require_features(first, target)
    two, _ = require_features(second, target)
    require_paired(one, real)
    require_paired(two, real)
    return jackknife(
        lambda kept: fid(one[kept], real[kept]) - fid(two[kept], real[kept]), len(real), groups=groups, seed=seed
    )


def bootstrap_kid(preds: Table, target: Table, *, replicates: int = 1000, seed: int = 0) -> Interval:
    """KID with its bootstrap interval; see :func:`kid_replicates`."""
    first, second = require_features(preds, target)
    values = kid_replicates(first, second, replicates=replicates, seed=seed)
    return _percentiles(float(_weighted_kid(first, second, np.ones((1, len(first))))[0]), values)


def bootstrap_kid_difference(
    first: Table, second: Table, target: Table, *, replicates: int = 1000, seed: int = 0
) -> Interval:
    """KID of ``first`` minus KID of ``second`` against one target, over the same resamples."""
    one, two = (kid_replicates(table, target, replicates=replicates, seed=seed) for table in (first, second))
    ones = np.ones((1, len(target)))
    values = [float(_weighted_kid(*require_features(table, target), ones)[0]) for table in (first, second)]
    return _percentiles(values[0] - values[1], one - two)


def kid_replicates(preds: Table, target: Table, *, replicates: int = 1000, seed: int = 0) -> Float:
    """(replicates,) values of KID under resampling of the pairs, without pairs of a sample and its own copy.

    One seed draws the same samples for every model of n pictures, so replicates of two models are paired.
    """
    first, second = require_features(preds, target)
    require_paired(first, second)
    weights = np.random.default_rng(seed).multinomial(len(first), np.full(len(first), 1 / len(first)), replicates)
    return _weighted_kid(first, second, weights.astype(np.float64))


def _weighted_kid(preds: Float, target: Float, weights: Float) -> Float:
    """KID for each row of sample weights; with ones it is the U-statistic exactly.

    A sample's prediction against its own target is a term of KID like 1/n others. Resampled, it would come twice as
    often as it should, so it is averaged apart.
    """
    n = len(preds)
    cross = cubic_kernel(preds, target)
    apart = weights @ np.diagonal(cross) / n
    values = _copies_left_out(cubic_kernel(preds, preds), weights) + _copies_left_out(
        cubic_kernel(target, target), weights
    )
    return values - 2 * (_copies_left_out(cross, weights) * (n - 1) / n + apart / n)


def _copies_left_out(kernel: Float, weights: Float) -> Float:
    """Weighted mean of the kernel over pairs of different samples."""
    both = np.einsum("ri,ri->r", weights @ kernel, weights) - np.square(weights) @ np.diagonal(kernel)
    mean: Float = both / (weights.sum(axis=1) ** 2 - np.square(weights).sum(axis=1))
    return mean


def _known(values: Sequence[float] | Float, groups: Sequence[str]) -> tuple[Float, NDArray[Any]]:
    """The values that are no NaN, and the group of each."""
    array = np.asarray(values, np.float64)
    of = np.asarray(groups) if len(groups) else np.arange(len(array))
    require_paired(array, of)
    return array[~np.isnan(array)], of[~np.isnan(array)]


def _totals(values: Float, groups: NDArray[Any]) -> tuple[Float, Float]:
    """Sum and number of the values of each group, groups in the order in which they come."""
    _, first, member = np.unique(groups, return_index=True, return_inverse=True)
    member = np.argsort(np.argsort(first))[member]
    return np.bincount(member, values).astype(np.float64), np.bincount(member).astype(np.float64)


def _resampled_means(totals: tuple[Float, Float], replicates: int, seed: int) -> Float:
    """(replicates,) means, drawn in chunks so that memory stays small."""
    random = np.random.default_rng(seed)
    sums, counts = totals
    chunks = [min(_CHUNK, replicates - start) for start in range(0, replicates, _CHUNK)]
    drawn = (random.integers(len(sums), size=(rows, len(sums))) for rows in chunks)
    return np.concatenate([sums[rows].sum(axis=1) / counts[rows].sum(axis=1) for rows in drawn])


def _sign_flip_p(difference: Float, replicates: int, seed: int) -> float:
    """``difference`` holds a sum a group: a group flips as one."""
    random = np.random.default_rng(seed)
    observed = abs(difference.sum()) * (1 - 1e-12)  # a flip that gives the same sum in another order counts
    extreme = 0
    for start in range(0, replicates, _CHUNK):
        signs = random.integers(2, size=(min(_CHUNK, replicates - start), len(difference))) * 2 - 1
        extreme += int(np.count_nonzero(np.abs(signs @ difference) >= observed))
    return (1 + extreme) / (1 + replicates)


def _percentiles(value: float, replicates: NDArray[Any]) -> Interval:
    low, high = np.quantile(replicates, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return Interval(value, float(low), float(high))
