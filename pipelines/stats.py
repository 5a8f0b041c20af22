"""``stats``: what a build's scores say, and what other limits would have kept, without a rebuild.

Every candidate's scores are in the manifests, kept or refused, so other limits can be applied to them. What a source
offered and preparation refused is judged anew as well: it tells how the pools would grow.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import UsageError
from ..manifests.record import NOT_MEASURED
from .filters import LESS_IS_BETTER, SCORES, Limits, Range, judge_all
from .funnel import told
from .ledger import BuildFolder
from .plan import plan
from .recipe import Mix, Recipe
from .run_file import read_run, recipe_of

_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, slots=True, kw_only=True)
class Yield:
    """What limits keep of the candidates of one mix.

    Attributes:
        mix: name of the mix.
        candidates: drawn for the build, kept or refused.
        kept: of them, in the build.
        passing: of them, within the limits asked about.
        expected: triplets that the recipe would give with those limits and its number of attempts a place.
        dropped: reason to number of candidates that the limits refuse.
        sources: pictures and objects that preparation refused and that these limits would let in.
    """

    mix: str
    candidates: int
    kept: int
    passing: int
    expected: int
    dropped: Mapping[str, int]
    sources: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Stats:
    """The yields of all mixes, and the spread of each measured score over all candidates.

    Attributes:
        yields: one a mix.
        scores: filter to its 5, 25, 50, 75 and 95 % quantiles.
    """

    yields: tuple[Yield, ...]
    scores: Mapping[str, tuple[float, ...]]

    def describe(self) -> str:
        """The yields in words."""
        lines = []
        for mix in self.yields:
            lines.append(
                f"{mix.mix}: {mix.candidates} candidates, {mix.kept} kept; {mix.passing} are within these limits, "
                f"which would give {mix.expected} triplets; {mix.sources} refused pictures or objects would come in"
            )
            lines += [f"  dropped {told(mix.dropped)}"] if mix.dropped else []
        return "\n".join(lines)

    def quantiles(self) -> list[dict[str, str]]:
        """The spread of the scores as rows of a table."""
        heads = [f"{100 * share:.0f} %" for share in _QUANTILES]
        return [
            {"score of all candidates": name, **{head: f"{value:g}" for head, value in zip(heads, values, strict=True)}}
            for name, values in self.scores.items()
        ]


def parse_limit(text: str) -> tuple[str, str, str]:
    """``haze=0.2``, ``area=0.1..0.5``, ``area=..0.5`` as name, lowest and highest, empty where the limit stays.

    One number is the limit that the filter is there for: the highest where less is better, else the lowest.

    Raises:
        UsageError: no such filter, or no number.
    """
    name, equals, value = text.partition("=")
    if name not in SCORES or not equals:
        raise UsageError(f"--what-if: expected FILTER=LOW..HIGH with one of {', '.join(SCORES)}, got {text!r}")
    low, dots, high = value.partition("..")
    if not dots and name in LESS_IS_BETTER:
        low, high = "", low
    if not (low or high):
        raise UsageError(f"--what-if: expected {name}=LOW, {name}=..HIGH or {name}=LOW..HIGH, got {text!r}")
    for number in filter(None, (low, high)):
        try:
            float(number)
        except ValueError as error:
            raise UsageError(f"--what-if: expected a number for {name}, got {number!r} in {text!r}") from error
    return name, low, high


def stats(root: Path, changes: Mapping[str, tuple[str, str]]) -> Stats:
    """What a finished build's own limits keep, or others.

    Args:
        root: the build.
        changes: filter to lowest and highest value, empty where a mix's own stays.

    Raises:
        UsageError: the folder holds no finished build.
    """
    folder = BuildFolder(root)
    recipe = recipe_of(read_run(folder), folder)
    tables = [_read(folder, name) for name in ("samples.parquet", "rejects.parquet")]
    yields = tuple(_yield(recipe, mix, _changed(mix.filters, changes), *tables) for mix in recipe.mix)
    return Stats(yields=yields, scores=_spread([_scores(table) for table in tables]))


def _changed(limits: Limits, changes: Mapping[str, tuple[str, str]]) -> Limits:
    ranges: dict[str, Any] = {}
    for name, (low, high) in changes.items():
        own: Range = getattr(limits, name)
        least = float(low) if low else min(own[0], float(high))
        ranges[name] = (least, float(high) if high else max(own[1], least))
    return replace(limits, **ranges)


def _read(folder: BuildFolder, name: str) -> Any:
    import pyarrow.parquet as pq

    path = folder.manifests / name
    if not path.is_file():
        raise UsageError(f"expected a finished build, got {folder.root}, which lacks manifests/{name}; build it first")
    names = set(pq.read_schema(path).names) & {"mix", "stage", "reason", "scores"}
    return pq.read_table(path, columns=sorted(names))


def _yield(recipe: Recipe, mix: Mix, limits: Limits, samples: Any, rejects: Any) -> Yield:
    import pyarrow.compute as pc

    samples, rejects = (table.filter(pc.field("mix") == mix.name) for table in (samples, rejects))
    refused, sources = (rejects.filter(pc.field("stage") == stage) for stage in ("sample", "source"))
    outcomes = [*_reasons(samples, limits), *_reasons(refused, limits)]
    passing = outcomes.count("")
    share = passing / len(outcomes) if outcomes else 0.0
    places = sum(shard.count for shard in plan(recipe) if shard.mix == mix.name)
    return Yield(
        mix=mix.name,
        candidates=len(outcomes),
        kept=len(samples),
        passing=passing,
        expected=round(places * (1 - (1 - share) ** recipe.attempts)),
        dropped=dict(sorted(Counter(filter(None, outcomes)).items())),
        sources=_reasons(sources, limits).count(""),
    )


def _reasons(table: Any, limits: Limits) -> list[str]:
    """Why the limits refuse each row; empty where they do not. What was refused for no score stays refused."""
    first = judge_all(_scores(table), limits)
    told = table.column("reason").to_pylist() if "reason" in table.column_names else [""] * len(table)
    return [
        (SCORES[k] if k >= 0 else "") if was in SCORES or not was else was for k, was in zip(first, told, strict=True)
    ]


def _scores(table: Any) -> NDArray[np.float64]:
    """(N, number of filters)."""
    columns = table.column("scores").combine_chunks().flatten() if len(table) else []
    return np.stack([column.to_numpy(zero_copy_only=False) for column in columns], 1) if columns else _NO_SCORES


_NO_SCORES = np.zeros((0, len(SCORES)))


def _spread(scores: list[NDArray[np.float64]]) -> dict[str, tuple[float, ...]]:
    together = np.concatenate(scores)
    measured = {name: values[values != NOT_MEASURED] for name, values in zip(SCORES, together.T, strict=True)}
    return {
        name: tuple(round(float(value), 6) for value in np.nanquantile(values, _QUANTILES))
        for name, values in measured.items()
        if len(values)
    }
