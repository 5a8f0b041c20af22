"""The worst and the best samples of models on a suite, as rows of small pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import BadImage
from ...toolkit.compose import over_u8
from ...toolkit.images import encode_jpeg, read
from ...toolkit.suites.cases import Case, Dropped, cases
from ..measures import Measure
from ..options import BenchOptions
from ..results import values_of
from ..run import Outcome
from ..store import Store
from .view import Column, is_main

U8 = NDArray[np.uint8]

SIDE = 184
"""Longer side of a small picture, px."""

_QUALITY = 78
_SQUARE = 8
_BRIGHTEST = 64  # levels of difference that are shown brightest


class Panel(NamedTuple):
    """One small picture: what it shows, its width and height, and its JPEG."""

    caption: str
    size: tuple[int, int]
    jpeg: bytes


class Strip(NamedTuple):
    """A sample of a model: its id, whether it is among the worst or the best, its value, and its pictures."""

    id: str
    rank: str
    column: Column
    value: float
    panels: Sequence[Panel]


class _Wanted(NamedTuple):
    id: str
    rank: str
    column: Column
    value: float


def strips(outcomes: Sequence[Outcome], options: BenchOptions, *, count: int = 3) -> dict[str, list[Strip]]:
    """The ``count`` worst and best samples of each model, worst first, by the main measure of the suite.

    Where the main measure has no value for single images, the first that has one is taken. The cases are read again,
    once for all models; predictions come from the report's folder.

    Args:
        outcomes: of one suite.
        options: of the run.
        count: of each kind; few samples are worst rather than best.

    Raises:
        UsageError: the suite's data cannot be read any more.
    """
    wanted = {outcome.model: _extremes(outcome, count) for outcome in outcomes if outcome.rows}
    found = _found({one.id for some in wanted.values() for one in some}, outcomes, options)
    return {
        outcome.model: [
            Strip(*one, panels=_panels(found[one.id], _store(outcome, options)))
            for one in wanted.get(outcome.model, [])
            if one.id in found
        ]
        for outcome in outcomes
    }


def _store(outcome: Outcome, options: BenchOptions) -> Store:
    return Store(options.out, outcome.suite.protocol, outcome.model, "", "")


def _extremes(outcome: Outcome, count: int) -> list[_Wanted]:
    measure = ranking(outcome)
    if measure is None:
        return []
    values = values_of(measure, outcome.rows)
    known = [(value, row.id) for value, row in zip(values, outcome.rows, strict=True) if not np.isnan(value)]
    ranked = sorted(known, key=lambda one: one[0], reverse=not measure.row.higher_is_better)
    worst, best = ranked[:count], ranked[count:][-count:]
    column = Column(measure.metric, measure.told_variant, measure.region)
    return [
        _Wanted(id_, rank, column, value) for rank, some in (("worst", worst), ("best", best)) for value, id_ in some
    ]


def ranking(outcome: Outcome) -> Measure | None:
    """The measure by which single images of an outcome are ranked."""
    singles = [measure for measure in outcome.measures if measure.row.kind == "per-image"]
    named = (one for one in singles if is_main(Column(one.metric, one.told_variant, one.region), outcome.suite.main))
    return next(named, singles[0] if singles else None)


def _found(ids: set[str], outcomes: Sequence[Outcome], options: BenchOptions) -> dict[str, Case]:
    found: dict[str, Case] = {}
    if not ids:
        return found
    for case in cases(outcomes[0].suite, options.roots, limit=options.limit, only=ids):
        if not isinstance(case, Dropped):
            found[case.id] = case
            if len(found) == len(ids):
                break
    return found


def _panels(case: Case, store: Store) -> list[Panel]:
    background = _prediction(store.picture(case.id, "background"), alpha=False)
    foreground = _prediction(store.picture(case.id, "foreground"), alpha=True)
    if case.prompt is not None and background is not None and foreground is not None:
        return _drawn_panels(case, background, foreground)
    shown = {
        "image": case.image,
        "mask": _overlay(case.image, case.mask),
        "true foreground": _on_squares(case.foreground),
        "predicted foreground": _on_squares(foreground),
        "predicted background": background,
        "true background": case.background,
        f"difference, white: {_BRIGHTEST} levels": _heat(background, case.background),
    }
    return [_panel(caption, picture) for caption, picture in shown.items() if picture is not None]


def _drawn_panels(case: Case, background: U8, foreground: U8) -> list[Panel]:
    """What a generator drew of a text, and what it is compared with."""
    shown = {
        "drawn, put together": over_u8(foreground, background),
        "drawn foreground": _on_squares(foreground),
        "drawn background": background,
        "compared with": case.image,
        "its foreground": _on_squares(case.foreground),
        "its background": case.background,
    }
    return [_panel(caption, picture) for caption, picture in shown.items() if picture is not None]


def _prediction(path: Path, *, alpha: bool) -> U8 | None:
    """A stored layer; None where the model has none, or it was removed since."""
    try:
        return read(path, alpha=alpha)
    except (OSError, BadImage):
        return None


def _overlay(image: U8, mask: NDArray[np.bool_]) -> U8:
    """The picture, grey outside the mask, and the mask's border in red."""
    grey = np.repeat(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)[..., None] // 2, 3, axis=2)
    shown = np.where(mask[..., None], image, grey).astype(np.uint8)
    thick = max(1, round(max(mask.shape) / SIDE))
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(np.ascontiguousarray(shown), outlines, -1, (255, 40, 40), thick), np.uint8)


def _on_squares(foreground: U8 | None) -> U8 | None:
    """Straight RGBA over squares of two greys."""
    if foreground is None:
        return None
    side = max(1, round(_SQUARE * max(foreground.shape) / SIDE))
    y, x = np.indices(foreground.shape[:2]) // side
    grey = np.where((x + y) % 2, 235, 190).astype(np.uint8)
    return over_u8(foreground, np.repeat(grey[..., None], 3, axis=2))


def _heat(first: U8 | None, second: U8 | None) -> U8 | None:
    """Mean absolute difference of colours, from black over violet and orange to white."""
    if first is None or second is None or first.shape != second.shape:
        return None
    difference = cv2.absdiff(first, second).mean(axis=2) * (255 / _BRIGHTEST)
    levels = np.minimum(np.rint(difference), 255).astype(np.uint8)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(levels, cv2.COLORMAP_INFERNO), cv2.COLOR_BGR2RGB), np.uint8)


def _panel(caption: str, picture: U8) -> Panel:
    height, width = picture.shape[:2]
    scale = min(1.0, SIDE / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)
    return Panel(caption, size, encode_jpeg(small, _QUALITY))
