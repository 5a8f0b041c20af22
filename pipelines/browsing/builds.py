"""A build as an exhibit: its triplets out of the tars, layer by layer, with everything that its records say."""

import hashlib
import json
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from ...manifests.errors import ShardError, UsageError
from ...manifests.record import NOT_MEASURED
from ...manifests.sources.tars import Span, members
from ...toolkit.shards import decode_layers, decode_record
from ...toolkit.similarity import perceptual_hash
from .. import tables
from ..filters import SCORES
from ..ledger import BuildFolder
from ..recipe import Recipe
from ..rows import commits, pool_uses, rows_of
from ..run_file import read_run, recipe_of
from .exhibit import Exhibit, Shown
from .media import Media
from .tags import BROKEN, said_in
from .triplets import PANELS, RECORDED, datasets_of, panels_of, values_of
from .views import build_views
from .where import matching

DIGITS = 12
"""Of a hash that names an edition."""

SHAPE = 1
"""Counts up when what is shown of equal data changes."""

_PROVENANCE = ("licence", "sources", "foreground_from", "background_from", "authors", "urls", "models", "choices")
_SAMPLE = ("key", "split", "mix", "route", "caption", "objects", "recomposition_error", "composite_error", "alike")
_READ = 500  # rows that are taken out together

In = TypeVar("In")
Out = TypeVar("Out")
Row = dict[str, Any]


def exhibit(build: Path, name: str, *, limit: int, where: str) -> Exhibit:
    """The samples of a build, finished or not, as they lie in its tars.

    Args:
        build: its folder.
        name: of the data set.
        limit: samples to show, evenly from all that ``where`` is true of.
        where: see :func:`~.where.matching`; names are those of the record and of its scores, and ``sources``.

    Raises:
        UsageError: no build, no sample in it yet, or none that is asked for.
    """
    folder = BuildFolder(build.resolve())
    recipe = recipe_of(read_run(folder), folder)
    keys = _chosen(folder, recipe, where, limit)
    sources = sorted({source for _, _, source in pool_uses(recipe)})
    return Exhibit(
        name=name,
        kind="build",
        folder=folder.root,
        origin=origin_of(folder.root),
        identity=_identity(folder, recipe, limit, where),
        total=len(keys),
        samples=partial(_samples, folder, recipe, name, keys),
        panels=PANELS,
        groups={"sample": _SAMPLE, "filter scores": SCORES, "provenance": _PROVENANCE},
        said=said_in(folder.root),
        views=build_views(recipe.mix, sources),
        alike=max((mix.filters.near_duplicate for mix in recipe.mix), default=-1),
    )


def origin_of(build: Path) -> str:
    """What the keys of a build are keys of: the fingerprint of its recipe.

    Raises:
        UsageError: no build.
    """
    return str(read_run(BuildFolder(build))["fingerprint"])


def _identity(folder: BuildFolder, recipe: Recipe, limit: int, where: str) -> str:
    """Of what is in the tars, and what is asked of it."""
    shards = [(commit.tar, commit.sha256) for commit in commits(folder, recipe)]
    told = json.dumps([SHAPE, recipe.fingerprint, shards, limit, where])
    return hashlib.sha256(told.encode()).hexdigest()


def _manifest(folder: BuildFolder, recipe: Recipe, columns: Sequence[str] | None = None) -> Iterator[Any]:
    """The rows of the kept samples as tables, all columns or these: of the manifest, or of the shards done so far."""
    import pyarrow as pa

    path = folder.manifests / "samples.parquet"
    if path.is_file():
        yield from tables.pieces(path, columns)
        return
    for commit in commits(folder, recipe):
        kept = [tables.sample_columns(row, commit.tar) for row in rows_of(folder, commit) if row["kept"]]
        yield pa.Table.from_pylist(kept, tables.samples_schema())


def flat(table: Any) -> Any:
    """The columns that ``--where`` may name: the record's, every score, null where it was not measured, and sources."""
    import pyarrow as pa
    import pyarrow.compute as pc

    columns = {name: table[name] for name in RECORDED}
    for name in SCORES:
        values = pc.struct_field(table["scores"], name)
        columns[name] = pc.if_else(pc.equal(values, NOT_MEASURED), None, values)
    sources = [",".join(datasets_of({"layers": layers})) for layers in table["layers"].to_pylist()]
    return pa.table({**columns, "sources": sources})


def _chosen(folder: BuildFolder, recipe: Recipe, where: str, limit: int) -> list[str]:
    """The keys of the samples to show, in the order of the build."""
    every = _manifest(folder, recipe, None if where.strip() else ["key"])
    asked = (matching(flat(table), where) if where.strip() else table for table in every)
    found = [key for table in asked for key in table["key"].to_pylist()]
    if not found:
        what = f"--where: {where!r} is true of no sample of {folder}" if where else f"{folder} holds no sample yet"
        raise UsageError(f"expected samples to show, but {what}")
    return evenly(found, limit)


def _rows(folder: BuildFolder, recipe: Recipe, keys: Sequence[str]) -> Iterator[Row]:
    """The rows of these samples, in the order of the build."""
    import pyarrow as pa
    import pyarrow.compute as pc

    wanted = pa.array(keys, pa.string())
    for table in _manifest(folder, recipe):
        for batch in table.filter(pc.is_in(table["key"], value_set=wanted)).to_batches(_READ):
            yield from batch.to_pylist()


def evenly(items: Sequence[In], limit: int) -> list[In]:
    """``limit`` items, or all of fewer, at even distances."""
    count = min(limit, len(items))
    return [items[(2 * k + 1) * len(items) // (2 * count)] for k in range(count)]


def _samples(folder: BuildFolder, recipe: Recipe, name: str, keys: Sequence[str]) -> Iterator[Shown]:
    media, used = Media(name), set[str]()
    sound = {commit.tar: commit.sha256[:DIGITS] for commit in commits(folder, recipe)}
    tasks = _tasks(folder, sound, _rows(folder, recipe, keys))
    for task, shown in in_threads(lambda task: (task, _shown(media, task)), tasks):
        used.add(task.edition)
        yield shown
    media.sweep(used)


class _Task(NamedTuple):
    """A row, its tar, member to span, what is wrong with the tar, if it is, and what edition of it this is."""

    row: Row
    tar: Path
    spans: Mapping[str, Span]
    fault: str
    edition: str


def _tasks(folder: BuildFolder, sound: Mapping[str, str], rows: Iterable[Row]) -> Iterator[_Task]:
    """What to read of which tar, whose samples are adjacent; a tar is listed by its headers, once."""
    for tar, group in groupby(rows, key=lambda row: str(row["shard"])):
        path, rows = folder.data / tar, list(group)
        edition = sound.get(tar) or _edition_of_damaged(path)
        listed, fault = members(path)
        spans: dict[str, dict[str, Span]] = {row["key"]: {} for row in rows}
        for member, span in listed:
            key, _, kind = member.partition(".")
            if key in spans:
                spans[key][kind] = span
        yield from (_Task(row, path, spans[row["key"]], fault, edition) for row in rows)


def _edition_of_damaged(tar: Path) -> str:
    """The edition of a tar that is not what its commit says: whatever lies there now."""
    held = tar.stat() if tar.is_file() else None
    return f"damaged-{held.st_size}-{held.st_mtime_ns}" if held else "missing"


def in_threads(work: Callable[[In], Out], items: Iterable[In]) -> Iterator[Out]:
    """``map`` by threads, in order; no more is read ahead than keeps them busy."""
    count = os.cpu_count() or 1
    with ThreadPoolExecutor(count) as pool:
        ahead: deque[Future[Out]] = deque()
        for item in items:
            ahead.append(pool.submit(work, item))
            if len(ahead) > 2 * count:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()


def _shown(media: Media, task: _Task) -> Shown:
    """A sample with its pictures; one that cannot be read shows why."""
    row, path, spans, fault, edition = task
    key, values = row["key"], values_of(row)
    folder = media.folder(edition)
    try:
        if not spans:
            raise ShardError(f"{path}: {fault or 'lacks the sample'}")
        sample = _read(path, spans)
        decode_record(sample, f"{path}: {key}")
        layers = decode_layers(sample, f"{path}: {key}")
    except (ShardError, OSError) as error:
        return Shown(
            key=key,
            panels={"image": folder.card(key, str(error))},
            values={**values, "fault": str(error)},
            tags=(BROKEN,),
        )
    encoded = {member.partition(".")[0]: (member.partition(".")[2], data) for member, data in sample.items()}
    panels = panels_of(folder, key, layers, encoded)
    values["recomposition_error"] = layers.recomposition_error()  # of what lies there, whatever the record says
    return Shown(key=key, panels=panels, values=values, phash=perceptual_hash(layers.image))


def _read(path: Path, spans: Mapping[str, Span]) -> dict[str, bytes]:
    with path.open("rb", buffering=0) as file:
        return {name: os.pread(file.fileno(), length, offset) for name, (offset, length) in spans.items()}
