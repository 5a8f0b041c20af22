"""Fill the pools: index every source, prepare its entries, drop near-duplicates and leaks, write the outcome."""

import json
import os
import uuid
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from ..manifests import sources
from ..manifests.entry import Entry, Use
from ..manifests.errors import UsageError
from ..toolkit import similarity
from . import launch
from .filters import Drop
from .leaks import Known, known_pictures
from .ledger import TMP, BuildFolder, sync
from .options import BuildOptions, Progress, Report
from .pool_file import column, copy_rows, open_table, read_row, write_rows
from .prepare import Preparation, Prepared
from .recipe import Mix, Recipe
from .rows import pool_path, pool_uses
from .splits import write_splits

# Entries that a worker prepares at a time: taking a photograph apart takes seconds, measuring a background a moment.
_CHUNK: dict[Use, int] = {"foreground": 4, "background": 16, "cut": 1, "layers": 4, "generate": 1}


def fill_pools(folder: BuildFolder, recipe: Recipe, options: BuildOptions, report: Report) -> None:
    """Prepare what every mix draws from, where that was not done yet, and part it into splits.

    Raises:
        UsageError: a source cannot be read, or nothing of it is usable.
        MissingWeights: a stage of the recipe needs a model that is not on this machine.
    """
    for _, _, source in pool_uses(recipe):
        sources.root_of(source, options.roots)  # before hours of preparing another
    known = known_pictures(folder, recipe, options, report)
    for mix, use, source in pool_uses(recipe):
        path = pool_path(folder, mix, use)
        if not path.exists():
            rows = _prepared(recipe, mix, use, source, options, report)
            with _drafts(folder, path) as (draft, whole, rejects):
                refused = Refused(rejects, options.roots.get(source))
                write_rows(draft, refused.without(rows))
                _copy_wanted(draft, whole, known, mix.filters.near_duplicate, refused)
                if refused.number == refused.seen:
                    raise UsageError(f"mix {mix.name!r}: {use} from {source!r}: {refused.summary()}")
    write_splits(folder, recipe)


def _prepared(
    recipe: Recipe, mix: Mix, use: Use, source: str, options: BuildOptions, report: Report
) -> Iterator[Prepared]:
    """The prepared rows of a source in the order of its index, whoever prepared them."""
    job = Preparation(recipe=recipe, mix=mix, use=use, cache=options.cache, weights=options.weights)
    entries = _usable(sources.entries(source, options.roots), use, recipe)
    early: dict[int, list[Prepared]] = {}
    following = done = 0
    for number, rows in launch.run(
        options.launcher,
        partial(_numbered, job),
        enumerate(chunks(entries, _CHUNK[use])),
        options.workers,
        gpu=mix.cut.is_neural or source in ("layerdiffuse:generate", "prompts"),
    ):
        early[number] = rows
        done += len(rows)
        report(Progress(stage=f"prepare {mix.name} {use}", done=done, total=0, kept=done))
        while following in early:
            yield from early.pop(following)
            following += 1


def chunks(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    """The entries in lists of ``size``."""
    iterator = iter(entries)
    while chunk := list(islice(iterator, size)):
        yield chunk


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


@dataclass(slots=True)
class Refused:
    """Writes refused rows as they come, paths told from the source's root, and counts.

    Attributes:
        file: open for writing.
        root: of the source, or None.
        seen: rows in all.
        number: of refused ones.
    """

    file: BinaryIO
    root: Path | None
    seen: int = 0
    number: int = 0
    _reasons: Counter[str] = field(default_factory=Counter)
    _first: str = ""

    def without(self, rows: Iterable[Prepared]) -> Iterator[Prepared]:
        """Pass on the rows that were not refused, write the others."""
        for row in rows:
            self.seen += 1
            if row.drop is None:
                yield row
            else:
                self.add(row, row.drop)

    def add(self, row: Prepared, drop: Drop) -> None:
        """Write a row as refused for ``drop``."""
        drop = replace(drop, detail=self._told(drop.detail))
        self.number += 1
        self._reasons[drop.reason] += 1
        self._first = self._first or drop.detail
        table = asdict(replace(row, path=self._told(row.path), drop=drop))
        self.file.write(json.dumps(table).encode() + b"\n")

    def _told(self, text: str) -> str:
        """``text`` without the folder that the source lies in here: elsewhere it is another."""
        return text.replace(f"{self.root}{os.sep}", "") if self.root else text

    def summary(self) -> str:
        """Why nothing was left."""
        return f"nothing is usable of {self.seen} candidates ({dict(self._reasons)}); {self._first}"


@contextmanager
def _drafts(folder: BuildFolder, path: Path) -> Iterator[tuple[Path, Path, BinaryIO]]:
    """Paths for a draft and for the whole pool, and an open file for the rejects.

    Rejects and pool are renamed into place at the end, the pool last: it is the proof that both are whole.
    """
    draft = folder.state / TMP / f"{path.stem}.{uuid.uuid4().hex}.arrow"
    rejects = draft.with_suffix(".jsonl")
    whole = draft.with_suffix(".whole")
    try:
        with rejects.open("wb") as file:
            yield draft, whole, file
        for written, final in ((rejects, path.with_suffix(".rejects.jsonl")), (whole, path)):
            sync(written)
            os.replace(written, final)
            sync(path.parent)
    except UsageError:  # nothing is usable: the reasons stay
        os.replace(rejects, path.with_suffix(".rejects.jsonl"))
        raise
    finally:
        for leftover in (draft, rejects, whole):
            leftover.unlink(missing_ok=True)


def _copy_wanted(draft: Path, whole: Path, known: Known, distance: int, refused: Refused) -> None:
    """Write the draft's rows without leaks and near-duplicates, which are refused."""
    table = open_table(draft)
    drops = known.drops(table, distance)
    drops |= _near_duplicates(table, np.array([k for k in range(len(table)) if k not in drops], int), distance)
    for k, drop in sorted(drops.items()):
        refused.add(read_row(table, k), drop)
    copy_rows(table, np.array([k not in drops for k in range(len(table))], bool), whole)


def _near_duplicates(table: Any, rows: NDArray[np.intp], distance: int) -> dict[int, Drop]:
    """Those of the rows that look like an earlier kept one."""
    if distance < 0:
        return {}
    hashes = column(table, "phash")
    drops = {}
    for later, earlier in similarity.near_duplicates(hashes[rows], distance).items():
        a, b = rows[later], rows[earlier]
        apart = int(np.bitwise_count(hashes[a] ^ hashes[b]))
        drops[int(a)] = Drop("near_duplicate", apart, distance, f"looks like {table['id'][int(b)].as_py()}")
    return drops
