"""Distances of two sets of feature vectors: Fréchet distance, kernel distance, and how well an SVM tells them apart.

``preds`` is (n, d), ``target`` (m, d), one row a picture, of one network and one resize (``features``). All arithmetic
is float64. Errors are those of :func:`~.checks.require_features`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import UsageError
from .checks import Float, require_features, require_paired

Table = NDArray[Any]


def fid(preds: Table, target: Table) -> float:
    """Fréchet distance of the Gaussians fitted to both sets, covariances by n - 1 (Heusel et al. 2017).

    tr (S₁S₂)^½ is the sum of the singular values of X Yᵀ, X and Y centred and divided by √(n - 1): exact for singular
    covariances too, and quick where a set is smaller than d. Else see :func:`frechet_distance`. No matrix square root
    of a product is ever taken.
    """
    first, second = require_features(preds, target)
    if min(len(first), len(second)) >= first.shape[1]:
        return frechet_distance(*_gaussian(first), *_gaussian(second))
    x, y = _factor(first), _factor(second)
    shift = first.mean(axis=0) - second.mean(axis=0)
    return float(shift @ shift + np.sum(x * x) + np.sum(y * y) - 2 * np.linalg.svd(x @ y.T, compute_uv=False).sum())


def frechet_distance(mean: Float, covariance: Float, other_mean: Float, other_covariance: Float) -> float:
    """||m - n||² + tr S + tr T - 2 tr (S T)^½ for means (d,) and positive semi-definite covariances (d, d).

    With S = AᵀA from its eigenvectors, S T has the eigenvalues of the symmetric A T Aᵀ: no complex numbers arise.
    """
    shift = mean - other_mean
    values, vectors = np.linalg.eigh(covariance)
    half = np.sqrt(np.maximum(values, 0))[:, None] * vectors.T
    inner = np.linalg.eigvalsh(half @ other_covariance @ half.T)
    root = np.sqrt(np.maximum(inner, 0)).sum()
    return float(shift @ shift + np.trace(covariance) + np.trace(other_covariance) - 2 * root)


def low_n(n: int, dimensions: int) -> bool:
    """Whether n samples are too few for a Fréchet distance: fewer than dimensions, so that covariances are singular.

    The value is then mostly bias, which shrinks with n: compare it at equal n alone, and look at KID.
    """
    return n < dimensions


def kid(preds: Table, target: Table) -> float:
    """Kernel distance: the unbiased U-statistic of MMD² over all samples, k = (x·y/d + 1)³ (Bińkowski et al. 2018).

    Deterministic. Below zero is legal, and usual where preds are restorations of the very pictures of ``target``.
    """
    first, second = require_features(preds, target)
    return (
        _off_diagonal_mean(cubic_kernel(first, first))
        + _off_diagonal_mean(cubic_kernel(second, second))
        - 2 * float(cubic_kernel(first, second).mean())
    )


def cubic_kernel(preds: Float, target: Float) -> Float:
    """KID's kernel (x·y/d + 1)³ of every pair, (n, m)."""
    kernel: Float = preds @ target.T / preds.shape[1] + 1
    np.power(kernel, 3, out=kernel)
    return kernel


def kid_subsets(preds: Table, target: Table, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> float:
    """The mean of :func:`kid` over random subsets of min(size, n, m) samples: clean-fid's KID, its draws after a seed.

    Where the size reaches n every subset is the whole set. The spread over subsets is no standard error.
    """
    first, second = require_features(preds, target)
    size = min(size, len(first), len(second))
    own, other, cross = cubic_kernel(first, first), cubic_kernel(second, second), cubic_kernel(first, second)
    random = np.random.RandomState(seed)  # the generator behind np.random.seed, which clean-fid's callers use
    total = 0.0
    for _ in range(subsets):
        theirs, ours = (random.choice(len(table), size, replace=False) for table in (second, first))
        total += _off_diagonal_mean(own[np.ix_(ours, ours)]) + _off_diagonal_mean(other[np.ix_(theirs, theirs)])
        total -= 2 * cross[np.ix_(ours, theirs)].mean()
    return float(total / subsets)


class Ids(NamedTuple):
    """U-IDS in 0..0.5 and P-IDS in 0..1, both higher is better."""

    unpaired: float
    paired: float


def ids(preds: Table, target: Table, *, folds: int = 0, components: int | None = None) -> Ids:
    """Inception discriminative scores (Zhao et al., Co-Mod, 2021): how badly a linear SVM tells preds from target.

    U-IDS is its error, P-IDS the share of pairs whose prediction looks more real than the target, strictly: a
    prediction equal to its target scores 0.

    Args:
        preds: features (n, d).
        target: features (n, d), row i of the same sample as in ``preds``.
        folds: 0 fits and scores on the same samples, as published, which is near 0 for n < d whatever the pictures;
            2 or more cross-validates, both members of a pair in one fold.
        components: reduce both by a common PCA first. ASUKA's script reduces to as many as the picture has pixels a
            side (512, 1024).

    Raises:
        UsageError: also where the sets are not paired, or folds or components do not fit their size.
    """
    fake, real = require_features(preds, target)
    require_paired(fake, real)
    if folds == 1 or not 0 <= folds <= len(real):
        raise UsageError(f"expected 0 folds, or 2 up to the number of samples ({len(real)}), got {folds}")
    if components is not None:
        fake, real = _reduced(fake, real, components)
    everything = np.arange(len(real))
    parts = [everything[part::folds] for part in range(folds)] or [everything]
    scores = np.empty((2, len(real)))
    for part in parts:
        fitted = np.setdiff1d(everything, part) if folds else everything
        scores[:, part] = _realness(fake[fitted], real[fitted], fake[part], real[part])
    wrong = np.mean(scores[0] > 0) + np.mean(scores[1] <= 0)
    return Ids(float(wrong / 2), float(np.mean(scores[0] > scores[1])))


def u_ids(preds: Table, target: Table, *, folds: int = 0, components: int | None = None) -> float:
    """The unpaired half of :func:`ids`, which gives both from one fit."""
    return ids(preds, target, folds=folds, components=components).unpaired


def p_ids(preds: Table, target: Table, *, folds: int = 0, components: int | None = None) -> float:
    """The paired half of :func:`ids`, which gives both from one fit."""
    return ids(preds, target, folds=folds, components=components).paired


def _realness(fake: Float, real: Float, *scored: Float) -> list[Float]:
    from sklearn.svm import LinearSVC

    machine = LinearSVC(dual=False).fit(np.concatenate([real, fake]), np.repeat([1, 0], len(real)))
    return [machine.decision_function(table) for table in scored]


def _reduced(fake: Float, real: Float, components: int) -> tuple[Float, Float]:
    from sklearn.decomposition import PCA

    both = np.concatenate([real, fake])
    if not 1 <= components <= min(both.shape):
        raise UsageError(f"expected 1 to {min(both.shape)} components for features {both.shape}, got {components}")
    reduced = PCA(components, random_state=0).fit_transform(both)
    return reduced[len(real) :], reduced[: len(real)]


def _gaussian(table: Float) -> tuple[Float, Float]:
    return table.mean(axis=0), np.atleast_2d(np.cov(table, rowvar=False))


def _factor(table: Float) -> Float:
    """X with XᵀX the covariance."""
    centred: Float = (table - table.mean(axis=0)) / np.sqrt(len(table) - 1)
    return centred


def _off_diagonal_mean(kernel: Float) -> float:
    n = len(kernel)
    return float((kernel.sum() - np.trace(kernel)) / (n * (n - 1)))
