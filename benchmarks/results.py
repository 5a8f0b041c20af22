"""From the scores of cases to the rows of a report: values with intervals, by measure, and broken down."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..toolkit.metrics.distributions import low_n
from ..toolkit.metrics.meters import MeanMeter
from ..toolkit.metrics.pixels import PSNR_CAP
from ..toolkit.metrics.uncertainty import Interval, bootstrap_kid, bootstrap_mean, jackknife_fid
from .measures import Measure
from .run import Outcome
from .store import Row

AREAS = ((0.0, 0.05), (0.05, 0.15), (0.15, 0.3), (0.3, 1.01))
"""Buckets of the share of the picture that the mask covers."""

_CAPPED = ("psnr", "recomposition-psnr")

_LEAST = 8  # samples that an interval of a distance is told for; of fewer, some resamples have no distance

LEAST_OF_A_CATEGORY = 200
"""Cases of a category that distances of sets are told for: of fewer they are hardly more than bias."""


def results_of(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """A row for each measure that was taken."""
    for measure in outcome.measures:
        yield {
            "suite": outcome.suite.name,
            "protocol": outcome.suite.protocol,
            "model": outcome.model,
            "metric": measure.metric,
            "variant": measure.told_variant,
            "region": measure.region,
            **(_of_images if measure.row.kind == "per-image" else _of_sets)(measure, outcome),
            "higher_is_better": measure.row.higher_is_better,
        }


def breakdowns_of(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """Means of the per-image measures by category and by the area of the mask, distances of sets by category."""
    areas = {
        f"area {low:.0%} to {min(high, 1):.0%}": [r for r in outcome.rows if low <= r.area < high]
        for low, high in AREAS
    }
    categories = {
        f"category {name}": [row for row in outcome.rows if row.category == name]
        for name in sorted({row.category for row in outcome.rows} - {""})
    }
    for measure in outcome.measures:
        is_mean = measure.row.kind == "per-image"
        for name, rows in (areas | categories if is_mean else categories).items():
            value, n = _mean_of(measure, rows) if is_mean else _distance_of(measure, outcome, rows)
            if rows and (is_mean or not math.isnan(value)):
                yield {
                    "suite": outcome.suite.name,
                    "model": outcome.model,
                    "metric": measure.metric,
                    "variant": measure.told_variant,
                    "region": measure.region,
                    "group": name,
                    "value": number(value),
                    "n": n,
                }


def _mean_of(measure: Measure, rows: Sequence[Row]) -> tuple[float, int]:
    mean = _mean(measure, rows)
    return mean.value, mean.n


def _distance_of(measure: Measure, outcome: Outcome, rows: Sequence[Row]) -> tuple[float, int]:
    """A distance of the sets of some cases; NaN where they are too few."""
    if len(rows) < LEAST_OF_A_CATEGORY:
        return math.nan, len(rows)
    preds, target = tables_of(measure, outcome, rows)
    return _value(measure, preds, target), len(preds)


def values_of(measure: Measure, rows: Sequence[Row]) -> list[float]:
    """The values of a measure, infinite PSNR capped."""
    cap = PSNR_CAP if measure.metric in _CAPPED else math.inf
    return [min(row.values.get(str(measure), math.nan), cap) for row in rows]


def _mean(measure: Measure, rows: Sequence[Row]) -> Any:
    meter = MeanMeter(PSNR_CAP if measure.metric in _CAPPED else math.inf)
    meter.update(*(row.values.get(str(measure), math.nan) for row in rows))
    return meter.compute()


def _of_images(measure: Measure, outcome: Outcome) -> dict[str, Any]:
    mean = _mean(measure, outcome.rows)
    scenes = [row.scene or row.id for row in outcome.rows]  # frames of one scene are not independent
    interval = bootstrap_mean(values_of(measure, outcome.rows), groups=scenes)
    return {
        "value": number(mean.value),
        "ci95": [number(interval.low), number(interval.high)],
        "n": mean.n,
        "n_nan": mean.n_nan,
        "n_capped": mean.n_capped,
        "low_n": False,
    }


def _of_sets(measure: Measure, outcome: Outcome) -> dict[str, Any]:
    preds, target = tables_of(measure, outcome)
    interval = _interval(measure, preds, target)
    return {
        "value": number(interval.value),
        "ci95": [number(interval.low), number(interval.high)],
        "n": len(preds),
        "n_nan": len(outcome.rows) - len(preds),
        "n_capped": 0,
        "low_n": low_n(len(preds), preds.shape[1]) if len(preds) else True,
    }


def tables_of(measure: Measure, outcome: Outcome, rows: Sequence[Row] | None = None) -> tuple[Any, Any]:
    """The (n, d) feature vectors of predictions and truths of the cases that have both; ``rows`` are some of them."""
    cache = outcome.features[str(measure)]
    pairs = [
        vectors
        for row in (outcome.rows if rows is None else rows)
        if str(measure) in row.vectors
        and all((vectors := [cache.get(name) for name in row.vectors[str(measure)]])[k] is not None for k in (0, 1))
    ]
    preds, target = (np.array([pair[k] for pair in pairs]) for k in (0, 1))
    return preds, target


def _interval(measure: Measure, preds: Any, target: Any) -> Interval:
    if len(preds) < 2:
        return Interval(math.nan, math.nan, math.nan)
    is_enough = len(preds) >= _LEAST
    if is_enough and measure.metric in ("fid", "jitter-fid"):
        return jackknife_fid(preds, target)
    if is_enough and measure.metric == "kid" and measure.variant != "subsets":
        return bootstrap_kid(preds, target)
    return Interval(_value(measure, preds, target), math.nan, math.nan)


def _value(measure: Measure, preds: Any, target: Any) -> float:
    """A distance of two sets; NaN where they are fewer than its folds, or its principal components, ask for."""
    options = measure.definition.options
    least = max(2, options.get("folds", 0), -(-options.get("components", 0) // 2))  # both sets share the components
    return float(measure.definition.load()(preds, target)) if len(preds) >= least else math.nan


def number(value: float) -> float | None:
    """For JSON, which knows no NaN."""
    return round(float(value), 6) if math.isfinite(value) else None
