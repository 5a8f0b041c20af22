"""Statistics of a build, gathered row by row in memory that does not grow with it."""

import json
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from ..manifests.licences import LICENCES
from ..manifests.record import NOT_MEASURED
from .filters import SCORES
from .ledger import Commit
from .rows import Row

ATTRIBUTIONS = 200
"""Distinct pairs of data set and author that are kept apart; the rest is counted as one."""


def _steps(low: float, high: float, number: int) -> tuple[float, ...]:
    return tuple(round(low + (high - low) * k / number, 6) for k in range(number + 1))


_SHARE = _steps(0, 1, 40)

EDGES: dict[str, tuple[float, ...]] = dict.fromkeys(SCORES, _SHARE) | {
    "side": tuple(2 ** (k / 2) for k in range(8, 25)),
    "haze": _steps(0, 0.5, 50),
    "fragments": _steps(0.5, 16.5, 16),
    "sharpness": tuple(10 ** (k / 4) for k in range(21)),
    "texture": _steps(0, 5, 40),
    "composite": _steps(0, 40, 40),
    "recomposition": _steps(0, 4, 40),
}
"""Edges of the histogram of each score: fixed, so that builds can be compared and one pass is enough."""


class Histogram:
    """Counts between fixed edges; the first is of values below all edges, the last of values from the last edge on."""

    def __init__(self, edges: Sequence[float]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)

    def add(self, value: float) -> None:
        """Count a value."""
        self.counts[bisect_right(self.edges, value)] += 1


class Summary:
    """What the dataset card tells of a build; feed it every shard, then take :meth:`table`."""

    def __init__(self) -> None:
        self._mixes: dict[str, Counter[str]] = defaultdict(Counter)
        self._dropped: dict[str, Counter[str]] = defaultdict(Counter)
        self._sources: dict[str, Counter[str]] = defaultdict(Counter)
        self._splits: dict[str, Counter[str]] = defaultdict(Counter)
        self._tars: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
        self._leaks: dict[str, Counter[str]] = defaultdict(Counter)
        self._licences: dict[str, Counter[str]] = defaultdict(Counter)
        self._models: dict[str, Counter[str]] = defaultdict(Counter)
        self._authors: dict[tuple[str, str, str], dict[str, Any]] = {}
        self._unlisted = 0
        self._scores = {name: (Histogram(edges), Histogram(edges)) for name, edges in EDGES.items()}
        self._shadows = Histogram(_SHARE)
        self._without_shadow = 0

    def add_shard(self, commit: Commit, kept: list[Row], refused: list[Row]) -> None:
        """Count a shard, its kept samples, and the candidates that it refused."""
        self._mixes[commit.mix].update(
            shards=int(bool(commit.tar)), bytes=commit.bytes, kept=commit.kept, candidates=commit.candidates
        )
        self._dropped[commit.mix].update(commit.dropped)
        if commit.tar:
            self._tars[LICENCES[commit.licence].kind][commit.split].append(f"data/{commit.tar}")
        self._splits[commit.split].update(shards=int(bool(commit.tar)), kept=commit.kept)
        for row in kept:
            self._add_kept(row)
        for row in refused:
            self._add_scores(row["scores"], 1)

    def add_source_rejects(self, refused: list[Row]) -> None:
        """Count what preparation refused of a source."""
        for row in refused:
            self._sources[f"{row['mix']} {row['use']}"][row["reason"]] += 1
            if row["reason"] == "leak":
                how, _, file = row["detail"].rpartition(" ")  # "is …" or "looks like …"
                self._leaks[file.partition(":")[0]]["exact" if how == "is" else "near"] += 1

    def _add_kept(self, row: Row) -> None:
        self._licences["sample"][row["licence"]] += 1
        for origin in row["layers"]:
            self._licences[origin["layer"]][origin["licence"]] += 1
            self._credit(origin)
        for role, model in row["models"].items():
            self._models[role][model] += 1
        self._add_scores(row["scores"], 0)
        self._add_shadow(json.loads(row["choices"]))

    def _add_scores(self, scores: Mapping[str, float], which: int) -> None:
        for name, value in scores.items():
            if value != NOT_MEASURED and value == value:  # not a number lies in no bin
                self._scores[name][which].add(value)

    def _add_shadow(self, choices: Mapping[str, Any]) -> None:
        light = choices.get("light")
        if light:
            self._shadows.add(light["strength"])
        elif light is not None:
            self._without_shadow += 1

    def _credit(self, origin: Mapping[str, str]) -> None:
        key = origin["dataset"], origin["author"], origin["licence"]
        if key not in self._authors:
            if len(self._authors) == ATTRIBUTIONS:
                self._unlisted += 1
                return
            names = ("dataset", "author", "licence", "url")
            self._authors[key] = {**{name: origin[name] for name in names}, "layers": 0}
        self._authors[key]["layers"] += 1

    def table(self) -> dict[str, Any]:
        """The statistics as plain JSON types, in an order that depends on nothing but the build."""
        return {
            "mixes": {mix: {**counts, "dropped": _sorted(self._dropped[mix])} for mix, counts in self._mixes.items()},
            "splits": dict(self._splits),
            "tars": {kind: dict(tars) for kind, tars in self._tars.items()},
            "leaks": {name: _sorted(counts) for name, counts in sorted(self._leaks.items())},
            "sources": {pool: _sorted(reasons) for pool, reasons in self._sources.items()},
            "licences": {layer: _sorted(counts) for layer, counts in sorted(self._licences.items())},
            "models": {role: _sorted(counts) for role, counts in self._models.items()},
            "attributions": [*self._authors.values()],
            "layers_of_further_authors": self._unlisted,
            "scores": {
                name: {"edges": list(EDGES[name]), "kept": kept.counts, "rejected": rejected.counts}
                for name, (kept, rejected) in self._scores.items()
            },
            "shadow_strength": {
                "edges": list(_SHARE),
                "kept": self._shadows.counts,
                "without": self._without_shadow,
            },
        }


def _sorted(counts: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(counts.items()))
