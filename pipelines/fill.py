"""Fill the pools: index every source, prepare its entries, drop near-duplicates, write the outcome."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from pathlib import Path

from ..manifests import sources
from ..manifests.entry import Entry, Use
from ..manifests.errors import UsageError
from . import launch
from .ledger import POOLS, BuildFolder, write_atomically
from .options import BuildOptions, Progress, Report
from .pools import chunks, without_near_duplicates, write_pool
from .prepare import Preparation, Prepared
from .recipe import Mix, Recipe

# Entries that a worker prepares at a time: taking a photograph apart takes seconds, measuring a background a moment.
_CHUNK: dict[Use, int] = {"foreground": 4, "background": 16, "cut": 1, "layers": 4}


def fill_pools(folder: BuildFolder, recipe: Recipe, options: BuildOptions, report: Report) -> None:
    """Prepare what every mix draws from, where that was not done yet.

    Raises:
        UsageError: a source cannot be read, or nothing of it is usable.
    """
    for mix in recipe.mix:
        for use, source in mix.pools.items():
            path = folder.state / POOLS / f"{mix.name}-{use}.arrow"
            if not path.exists():
                rows = list(_prepared(recipe, mix, use, source, options, report))  # type: ignore[arg-type]
                rows = without_near_duplicates(rows, mix.filters.near_duplicate)
                _write_outcome(path, rows, f"mix {mix.name!r}: {use} from {source!r}")


def _prepared(
    recipe: Recipe, mix: Mix, use: Use, source: str, options: BuildOptions, report: Report
) -> Iterator[Prepared]:
    """The prepared rows of a source in the order of its index, whoever prepared them."""
    job = Preparation(recipe=recipe, mix=mix, use=use, cache=options.cache, weights=options.weights)
    entries = _usable(sources.entries(source, options.roots), use, recipe)
    results: dict[int, list[Prepared]] = {}
    for number, rows in launch.run(
        options.launcher, partial(_numbered, job), enumerate(chunks(entries, _CHUNK[use])), options.workers
    ):
        results[number] = rows
        done = sum(map(len, results.values()))
        report(Progress(stage=f"prepare {mix.name} {use}", done=done, total=0, kept=done))
    return chain.from_iterable(results[number] for number in sorted(results))


def _numbered(job: Preparation, chunk: tuple[int, list[Entry]]) -> tuple[int, list[Prepared]]:
    return chunk[0], job(chunk[1])


def _usable(entries: Iterable[Entry], use: Use, recipe: Recipe) -> Iterator[Entry]:
    """The entries that may serve for ``use``, with what the recipe says of their source."""
    for entry in entries:
        if use in entry.uses:
            said = recipe.sources.get(entry.source)
            if said:
                entry = replace(entry, licence=said.licence or entry.licence, author=said.author or entry.author)
            yield entry


def _write_outcome(path: Path, rows: list[Prepared], what: str) -> None:
    """The rejects, then the pool, which is the proof that both are whole."""
    rejects = [row for row in rows if row.drop is not None]
    write_atomically(
        path.with_suffix(".rejects.jsonl"), b"".join(json.dumps(asdict(r)).encode() + b"\n" for r in rejects)
    )
    if len(rejects) == len(rows):
        reasons = Counter(row.drop.reason for row in rejects if row.drop)
        first = next((row.drop.detail for row in rejects if row.drop and row.drop.detail), "")
        raise UsageError(f"{what}: nothing is usable of {len(rows)} candidates ({dict(reasons)}); {first}")
    write_pool(path, rows)
