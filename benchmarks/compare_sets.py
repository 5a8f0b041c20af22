"""The difference of two models in a distance of sets, from the feature vectors that their runs left in the cache."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..manifests.errors import MissingWeights
from ..toolkit.metrics.uncertainty import Interval, bootstrap_kid_difference, jackknife_fid_difference
from .measures import PASTED, Measure
from .networks import Networks
from .run import feature_cache
from .store import Row

_DIFFERENCES: dict[str, Callable[[Any, Any, Any], Interval]] = {
    "fid": jackknife_fid_difference,
    "jitter-fid": jackknife_fid_difference,
    "kid": bootstrap_kid_difference,
}


class LeftOut(Exception):
    """Why a distance of sets is not compared."""


def measure_of(text: str) -> Measure:
    """The measure that rows name ``metric:variant@region``."""
    rest, _, region = text.partition("@")
    metric, _, variant = rest.partition(":")
    return Measure(metric, variant.removesuffix(PASTED), region, variant.endswith(PASTED))


def set_difference(
    measure: Measure, pairs: Sequence[tuple[Row, Row]], networks: Networks, cache: Path | None
) -> tuple[Interval, int]:
    """The distance of the first model minus that of the second, and the number of samples behind it.

    Args:
        measure: a distance of sets.
        pairs: rows of the two models of the same cases.
        networks: that know the weights, and so the names of the vectors; none is loaded.
        cache: where the vectors lie.

    Raises:
        LeftOut: the measure has no such interval, the vectors are gone, or the models saw different pictures.
    """
    if measure.metric not in _DIFFERENCES or measure.variant == "subsets":
        raise LeftOut("no interval is known for it")
    if cache is None:
        raise LeftOut("no cache of feature vectors was given")
    try:
        known = feature_cache(measure, networks, cache)
    except MissingWeights as error:
        raise LeftOut(str(error)) from error
    key = str(measure)
    both = [(one.vectors[key], two.vectors[key]) for one, two in pairs if key in one.vectors and key in two.vectors]
    if any(one[1] != two[1] for one, two in both):
        raise LeftOut("the two were scored against different pictures")
    vectors = [(known.get(one[0]), known.get(two[0]), known.get(one[1])) for one, two in both]
    if len(vectors) < 2 or any(vector is None for row in vectors for vector in row):
        raise LeftOut("its feature vectors are not in the cache; run bench again")
    first, second, target = (np.array([row[k] for row in vectors]) for k in range(3))
    return _DIFFERENCES[measure.metric](first, second, target), len(vectors)
