"""``compare``: is one model better than another, or is it chance? Paired tests on the samples of both."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np

from ..manifests.errors import UsageError
from ..manifests.report_files import REPORT
from ..toolkit.metrics.uncertainty import holm, paired_difference
from .compare_sets import LeftOut, measure_of, set_difference
from .networks import Networks
from .reports.samples import read_samples
from .reports.view import Column, column_of, is_main
from .results import number
from .store import Store

# With 2,000 replicates no p-value of 30 measures could be small after Holm's correction.
_REPLICATES = 10_000
_LEVEL = 0.05

HEADS = ("Measure", "First - second", "95 % interval", "p (Holm)", "Wins of first", "n", "Better")

Better = Literal["first", "second", "undecided"]
Values = Mapping[Column, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One measure of two models; ``difference`` is first - second.

    Attributes:
        suite: its name.
        protocol: that both were scored by.
        metric, variant, region: the measure.
        higher_is_better: its direction.
        first, second: means over the shared samples; None for distances of sets.
        difference: with the ends of its 95 % interval, None where there is none.
        ci95: see ``difference``.
        p: of a two-sided sign-flip test; None for distances of sets, which have an interval alone.
        p_holm: corrected for all measures of the suite.
        win_rate: share of samples on which the first model is better, ties counting half.
        n: shared samples with a value of both.
        is_main: whether models are ranked by it.
        better: which model is beyond chance: corrected p below 0.05, or without p an interval that excludes 0.
        samples: of the main measure first - second of every sample, in the order of their ids.
    """

    suite: str
    protocol: str
    metric: str
    variant: str
    region: str
    higher_is_better: bool
    first: float | None
    second: float | None
    difference: float | None
    ci95: tuple[float | None, float | None]
    p: float | None
    p_holm: float | None
    win_rate: float | None
    n: int
    is_main: bool
    better: Better = "undecided"
    samples: tuple[float, ...] = field(default=(), repr=False)

    @property
    def column(self) -> Column:
        """Its names and units."""
        return Column(self.metric, self.variant, self.region)

    def judged(self, p_holm: float | None) -> "Finding":
        """The same with its corrected p-value, and with who is better."""
        low, high = self.ci95
        is_clear = p_holm < _LEVEL if p_holm is not None else low is not None and high is not None and low * high > 0
        better: Better = "undecided"
        if is_clear and self.difference:
            better = "first" if (self.difference > 0) == self.higher_is_better else "second"
        return replace(self, p_holm=p_holm, better=better)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Two models, ``first`` and ``second`` as they were asked for: the tests, and what was left out and why."""

    first: str
    second: str
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]

    def describe(self) -> str:
        """The comparison as tables of plain text."""
        lines = [f"first   {self.first}", f"second  {self.second}"]
        for suite in dict.fromkeys(one.suite for one in self.findings):
            rows = [HEADS, *(told(one) for one in self.findings if one.suite == suite)]
            widths = [max(len(row[k]) for row in rows) for k in range(len(HEADS))]
            lines += ["", suite, *(_aligned(row, widths) for row in rows)]
        return "\n".join([*lines, *(["", *self.notes] if self.notes else [])])


class _Model(NamedTuple):
    """One model of one report."""

    asked: str
    folder: Path
    name: str
    suites: Mapping[str, Mapping[str, Any]]
    values: Mapping[str, Values]
    scenes: Mapping[str, Mapping[str, str]]


def compare(
    first: str | Path, second: str | Path, *, cache: Path | None = None, weights: Path | None = None
) -> Comparison:
    """Test two models against each other on the samples that both have.

    Distances of sets are compared where the feature vectors still lie in the cache; else a note says that they are not.

    Args:
        first: the folder of a report of one model, or ``FOLDER:MODEL``.
        second: the same; both may be of one report.
        cache: of feature vectors, as ``bench`` was given it.
        weights: as ``bench`` was given it: they are part of what a vector is known by.

    Raises:
        UsageError: no report, no such model, no suite in common, or a suite of two protocols; says what differs.
    """
    one, two = _open(first), _open(second)
    shared = [name for name in one.suites if name in two.suites]
    if not shared:
        raise UsageError(
            f"expected reports of a common suite, got {', '.join(one.suites)} in {one.folder} and "
            f"{', '.join(two.suites)} in {two.folder}"
        )
    findings: list[Finding] = []
    notes = [f"suite {name}: only one of the two was scored on it" for name in sorted({*one.suites} ^ {*two.suites})]
    for name in shared:
        _require_same_protocol(one, two, name)
        findings += _image_findings(one, two, name, notes)
        findings += _set_findings(one, two, name, notes, Networks(weights), cache)
    return Comparison(first=one.asked, second=two.asked, findings=tuple(findings), notes=tuple(notes))


def _open(asked: str | Path) -> _Model:
    folder, name = _split(str(asked))
    try:
        table = json.loads((folder / REPORT).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"expected the folder of a report, or FOLDER:MODEL, got {asked}: {error}") from error
    models = list(dict.fromkeys(row["model"] for row in table["results"]))
    if name not in models and (name or len(models) != 1):
        raise UsageError(f"{asked}: expected FOLDER:MODEL with one of {', '.join(models)}, got {name or 'no model'}")
    name = name or models[0]
    scored = {row["suite"] for row in table["results"] if row["model"] == name}
    suites = {suite["name"]: suite for suite in table["suites"] if suite["name"] in scored}
    values: dict[str, dict[Column, dict[str, float]]] = {suite: {} for suite in suites}
    scenes: dict[str, dict[str, str]] = {suite: {} for suite in suites}
    for row in read_samples(folder):
        if row["model"] == name:
            values[row["suite"]].setdefault(column_of(row), {})[row["id"]] = row["value"]
            scenes[row["suite"]][row["id"]] = row["scene"] or row["id"]
    return _Model(str(asked), folder, name, suites, values, scenes)


def _split(asked: str) -> tuple[Path, str]:
    """``FOLDER:MODEL`` taken apart; both may hold colons, and the longest folder that is one counts."""
    parts = asked.split(":")
    for k in range(len(parts), 0, -1):
        folder = Path(":".join(parts[:k]))
        if folder.is_dir():
            return folder, ":".join(parts[k:])
    raise UsageError(f"expected the folder of a report, or FOLDER:MODEL, got {asked}: no such folder")


def _require_same_protocol(one: _Model, two: _Model, suite: str) -> None:
    first, second = one.suites[suite], two.suites[suite]
    if first["protocol"] == second["protocol"]:
        return
    keys = [
        key for key in {**first, **second} if first.get(key) != second.get(key) and key not in ("protocol", "folder")
    ]
    differs = "; ".join(f"{key}: {first.get(key)} and {second.get(key)}" for key in keys)
    raise UsageError(
        f"suite {suite}: expected one protocol, got {first['protocol']} and {second['protocol']}; {differs}; "
        "score both models by the same version"
    )


def _image_findings(one: _Model, two: _Model, suite: str, notes: list[str]) -> list[Finding]:
    first, second = one.values[suite], two.values[suite]
    _note_uncommon(first, second, suite, notes)
    findings = [
        _finding(column, first[column], second[column], one.suites[suite], one.scenes[suite])
        for column in first
        if column in second and first[column].keys() & second[column].keys()
    ]
    corrected = holm([math.nan if one.p is None else one.p for one in findings])
    return [one.judged(number(p)) for one, p in zip(findings, corrected, strict=True)]


def _note_uncommon(first: Values, second: Values, suite: str, notes: list[str]) -> None:
    if alone := [
        f"{one.metric}:{one.variant}@{one.region}" for one in {**first, **second} if (one in first) != (one in second)
    ]:
        notes.append(f"suite {suite}: only one of the two has {', '.join(alone)}")
    ids = [{id_ for values in of.values() for id_ in values} for of in (first, second)]
    if ids[0] != ids[1]:
        told = f"{len(ids[0] & ids[1])} samples of {len(ids[0])} and {len(ids[1])}"
        notes.append(f"suite {suite}: compared on the {told} that both have")


def _finding(
    column: Column,
    first: Mapping[str, float],
    second: Mapping[str, float],
    suite: Mapping[str, Any],
    scenes: Mapping[str, str],
) -> Finding:
    ids = sorted(id_ for id_ in first.keys() & second.keys() if not math.isnan(first[id_] + second[id_]))
    pairs = np.array([(first[id_], second[id_]) for id_ in ids]).reshape(-1, 2)
    found = paired_difference(
        pairs[:, 0],
        pairs[:, 1],
        higher_is_better=column.higher_is_better,
        groups=[scenes[id_] for id_ in ids],  # frames of one scene are not independent
        replicates=_REPLICATES,
    )
    means = pairs.mean(axis=0) if ids else (math.nan, math.nan)
    return Finding(
        **_named(column, suite),
        first=number(means[0]),
        second=number(means[1]),
        difference=number(found.value),
        ci95=(number(found.low), number(found.high)),
        p=number(found.p),
        p_holm=None,
        win_rate=number(found.wins),
        n=found.n,
        samples=tuple(pairs[:, 0] - pairs[:, 1]) if is_main(column, suite["main"]) else (),
    )


def _named(column: Column, suite: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **asdict(column),
        "suite": suite["name"],
        "protocol": suite["protocol"],
        "higher_is_better": column.higher_is_better,
        "is_main": is_main(column, suite["main"]),
    }


def _set_findings(
    one: _Model, two: _Model, suite: str, notes: list[str], networks: Networks, cache: Path | None
) -> Iterator[Finding]:
    stores = [Store(model.folder, model.suites[suite]["protocol"], model.name, "", "") for model in (one, two)]
    rows = [{row.id: row for row in store.scored()[0]} for store in stores]
    ids = sorted(rows[0].keys() & rows[1].keys())
    wanted = {name for of in rows for row in of.values() for name in row.vectors}
    for name in sorted(wanted):
        measure = measure_of(name)
        try:
            interval, n = set_difference(measure, [(rows[0][id_], rows[1][id_]) for id_ in ids], networks, cache)
        except LeftOut as why:
            notes.append(f"suite {suite}: {name} is not compared: {why}")
            continue
        yield Finding(
            **_named(Column(measure.metric, measure.told_variant, measure.region), one.suites[suite]),
            first=None,
            second=None,
            difference=number(interval.value),
            ci95=(number(interval.low), number(interval.high)),
            p=None,
            p_holm=None,
            win_rate=None,
            n=n,
        ).judged(None)


def told(one: Finding) -> tuple[str, str, str, str, str, str, str]:
    """A test as texts: measure, difference, interval, corrected p, win rate, n, who is better."""
    column, (low, high) = one.column, one.ci95
    return (
        column.full_title,
        column.text(one.difference),
        "—" if low is None or high is None else f"[{column.text(low)}, {column.text(high)}]",
        "—" if one.p_holm is None else f"{one.p_holm:.4f}",
        "—" if one.win_rate is None else f"{one.win_rate:.0%}",
        str(one.n),
        one.better,
    )


def _aligned(row: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip()
