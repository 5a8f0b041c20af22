"""Thin state for metrics that run over many samples: values to average, features to gather. Both merge over shards."""

import math
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import UsageError


class Mean(NamedTuple):
    """A mean with what stands behind it: NaNs are left out of ``n``; ``n_capped`` values counted as the cap."""

    value: float
    n: int
    n_nan: int
    n_capped: int


class MeanMeter:
    """Gathers one value a sample. The mean does not depend on order, batches or shards, bit for bit.

    Args:
        cap: values above it count as ``cap``, as infinite PSNR does (``pixels.PSNR_CAP``).
    """

    def __init__(self, cap: float = math.inf) -> None:
        self.cap = cap
        self.values: list[float] = []

    def update(self, *values: float) -> None:
        """Add values, one a sample."""
        self.values.extend(values)

    def merge(self, other: Self) -> None:
        """Add another shard's values."""
        self.values.extend(other.values)

    def compute(self) -> Mean:
        """The mean of what is no NaN; NaN where nothing is left."""
        known = [value for value in self.values if not math.isnan(value)]
        value = math.fsum(min(value, self.cap) for value in known) / len(known) if known else math.nan
        return Mean(value, len(known), len(self.values) - len(known), sum(value > self.cap for value in known))


class FeatureMeter:
    """Gathers feature vectors by sample key, so that shards may come in any order and pairs stay pairs."""

    def __init__(self) -> None:
        self.rows: dict[str, NDArray[Any]] = {}

    def update(self, keys: list[str], features: NDArray[Any]) -> None:
        """Add an (n, d) table whose row i belongs to sample ``keys[i]``.

        Raises:
            UsageError: other numbers of keys and rows, or a key that was given before.
        """
        if features.ndim != 2 or not len(set(keys)) == len(keys) == len(features):
            raise UsageError(
                f"expected a row of features for each key, got shape {features.shape} for {len(set(keys))} keys"
            )
        self._add(dict(zip(keys, features, strict=True)))

    def merge(self, other: Self) -> None:
        """Add another shard's rows."""
        self._add(other.rows)

    def compute(self) -> NDArray[Any]:
        """The (n, d) table in the order of the sorted keys."""
        return np.array([self.rows[key] for key in sorted(self.rows)])

    def _add(self, rows: dict[str, NDArray[Any]]) -> None:
        if twice := rows.keys() & self.rows.keys():
            raise UsageError(f"expected every sample once, got {min(twice)!r} again")
        self.rows |= rows
