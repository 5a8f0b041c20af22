"""Filters: each a named score with a lowest and a highest value; a sample beyond one is dropped with the reason."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import UsageError
from ..manifests.record import NOT_MEASURED

Range = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Drop:
    """Why a candidate was refused.

    Attributes:
        reason: snake_case; the filter's name, or what was wrong with the input.
        value: what was measured; -1 where nothing was.
        limit: the limit that it broke.
        detail: more in words, or empty.
    """

    reason: str
    value: float = NOT_MEASURED
    limit: float = NOT_MEASURED
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Lowest and highest value that each filter keeps. Scores are stored for kept and rejected alike.

    Attributes:
        side: shorter side of a photograph, longer side of an object, px: smaller ones would have to be enlarged.
        border: share of its picture's border that an object covers: a truncated object is not a whole foreground.
        outside: share of the object that lies beside the triplet's canvas.
        area: visible object's share of the picture.
        fragments: 8-connected components of the visible object of 100 px and more.
        haze: share of the object that is half transparent away from its edge.
        completeness: share of the object's outline that nothing in front of it and no edge of the picture cuts off.
        salient: share of a background that its saliency map holds for salient (above 0.5): few remain with 0.05.
        sharpness: variance of the Laplacian; low is blurred.
        saliency_iou: IoU of the picture's salient mask with the object mask.
        saliency_contrast: mean saliency inside the object over inside plus outside; 0.5 is indifferent.
        residual: the same for the inpainted hole of the background: high means something was painted there (``cut``).
        texture: gradient energy of the hole over that of its surroundings: low is smeared, high is garbage (``cut``).
        mask_quality: verdict of the judge of masks, 1 is good: whole, without background, not too small.
        inpaint_quality: verdict of the judge of filled holes, 1 is good: no object or artefact there (``cut``).
        composite: mean distance of the image to the photograph it came from, levels (``cut``).
        recomposition: largest distance of the written layers, composed, to the float composite, levels.
        near_duplicate: perceptual hashes this many bits apart or fewer count as one picture, in the build and in the
            benchmarks that it excludes; -1 keeps all but exact copies of the latter.
    """

    side: Range = (32.0, math.inf)
    border: Range = (0.0, 0.01)
    outside: Range = (0.0, 0.15)
    area: Range = (0.003, 0.75)
    fragments: Range = (1.0, 8.0)
    haze: Range = (0.0, 0.4)
    completeness: Range = (0.0, 1.0)
    salient: Range = (0.0, 1.0)
    sharpness: Range = (10.0, math.inf)
    saliency_iou: Range = (0.0, 1.0)
    saliency_contrast: Range = (0.3, 1.0)
    residual: Range = (0.0, 0.8)
    texture: Range = (0.1, 4.0)
    mask_quality: Range = (0.0, 1.0)
    inpaint_quality: Range = (0.0, 1.0)
    composite: Range = (0.0, 24.0)
    recomposition: Range = (0.0, 2.0)
    near_duplicate: int = 4

    def __post_init__(self) -> None:
        for name in SCORES:
            low, high = getattr(self, name)
            if not low <= high:
                raise UsageError(f"{name}: expected [lowest, highest], got [{low}, {high}]")


SCORES = tuple(field.name for field in fields(Limits) if field.name != "near_duplicate")
"""Names of the scores, in the order in which they are judged."""


LESS_IS_BETTER = frozenset(
    {"border", "outside", "fragments", "haze", "salient", "residual", "composite", "recomposition"}
)
"""The filters whose highest value matters; of the others it is the lowest."""


def judge(scores: Mapping[str, float], limits: Limits) -> Drop | None:
    """The first limit that a measured score breaks, or None."""
    for name in SCORES:
        value = scores.get(name, NOT_MEASURED)
        low, high = getattr(limits, name)
        if value == NOT_MEASURED:
            continue
        if not low <= value <= high:  # not a number breaks every limit
            return Drop(name, value, low if value < low else high)
    return None


def judge_all(scores: NDArray[np.float64], limits: Limits) -> NDArray[np.intp]:
    """:func:`judge` of many at once.

    Args:
        scores: (N, number of :data:`SCORES`), in their order.
        limits: to apply.

    Returns:
        For each row the index of the first filter that it breaks, or -1.
    """
    low, high = np.array([getattr(limits, name) for name in SCORES]).T
    broken = (scores != NOT_MEASURED) & ~((low <= scores) & (scores <= high))
    return np.where(broken.any(axis=1), broken.argmax(axis=1), -1)


def all_scores(scores: Mapping[str, float]) -> dict[str, float]:
    """``scores`` with every filter's name, in one order, rounded to six digits so that they print alike everywhere."""
    return {name: round(float(scores.get(name, NOT_MEASURED)), 6) for name in SCORES}


def limits_table(limits: Limits) -> dict[str, object]:
    """The limits as a plain table, for reports."""
    return asdict(limits)
