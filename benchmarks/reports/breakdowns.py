"""Scores by groups of cases: by the share of the picture under the mask, and by category."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ...toolkit.metrics import METRICS
from .view import Column, SuiteView, column_of


class Breakdown(NamedTuple):
    """Means of one measure: for each group of cases the number of cases, and the value of each model."""

    groups: Sequence[str]
    n: Mapping[str, int]
    values: Mapping[tuple[str, str], float | None]


def broken_down(view: SuiteView, kind: str) -> list[Column]:
    """The measures that are told by ``area`` or ``category``: the main one, or the first that was taken.

    By category the distances of sets are as well, where categories are large enough.
    """
    columns = [column for group in view.groups.values() for column in group]
    had = {column_of(row) for row in view.breakdowns if row["group"].startswith(f"{kind} ")}
    first = view.main or next((column for column in columns if column in had), None)
    return [one for one in columns if one in had and (one == first or METRICS[one.metric].kind == "distribution")]


def breakdown(view: SuiteView, kind: str, column: Column | None = None) -> Breakdown:
    """A measure, else the main one, by ``area`` or ``category``; without groups where it was not taken."""
    wanted = column or view.main
    rows = [row for row in view.breakdowns if row["group"].startswith(f"{kind} ") and column_of(row) == wanted]
    names = [row["group"].removeprefix(f"{kind} ") for row in rows]
    return Breakdown(
        list(dict.fromkeys(names)),
        {name: max(row["n"] for row, other in zip(rows, names, strict=True) if other == name) for name in names},
        {(row["model"], name): row["value"] for row, name in zip(rows, names, strict=True)},
    )
