"""``build-triplets``: claim the folder, fill the pools, build the shards that are missing, finish."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

from ..manifests import sources
from ..manifests.entry import Entry, Use
from ..manifests.errors import UsageError
from . import launch
from .cache import default_folder
from .finish import finish
from .ledger import POOLS, BuildFolder, Commit, write_atomically
from .plan import Part, Shard, plan
from .pools import chunks, without_near_duplicates, write_pool
from .prepare import Prepared, Preparation
from .recipe import Mix, Recipe, differences
from .shard import ShardJob

_LIBRARIES = ("numpy", "opencv-python-headless", "simplejpeg", "isal", "pillow")


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildOptions:
    """How a build is run; nothing here changes a byte of it.

    Attributes:
        out: the build folder.
        roots: source name to folder.
        workers: processes.
        launcher: ``local`` or ``ray``.
        part: the slice of the plan to build.
        overwrite: delete an earlier build in ``out`` first.
        cache: folder of the cache; the default is the user's.
        weights: folder with pre-trained weights, beside the hub cache.
    """

    out: Path
    roots: dict[str, Path] = field(default_factory=dict)
    workers: int = 1
    launcher: str = "local"
    part: Part = field(default_factory=Part)
    overwrite: bool = False
    cache: Path = field(default_factory=default_folder)
    weights: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What happened, for a progress bar: ``stage`` is ``prepare`` or ``build``; ``total`` is 0 where it is not known."""

    stage: str
    done: int
    total: int
    kept: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Funnel:
    """What became of every candidate, sources and samples apart.

    Attributes:
        wanted: triplets that the recipe asks for (of this part).
        kept: triplets in finished shards.
        candidates: drawn for them.
        dropped: reason to number, of samples.
        sources_kept: mix and use to usable pictures and objects.
        sources_dropped: reason to number, of pictures and objects.
        bytes: of all tars.
        shards: finished.
        shards_missing: of the whole plan.
        built: triplets that this run added.
        seconds: that this run took to build them.
    """

    wanted: int = 0
    kept: int = 0
    candidates: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    sources_kept: dict[str, int] = field(default_factory=dict)
    sources_dropped: dict[str, int] = field(default_factory=dict)
    bytes: int = 0
    shards: int = 0
    shards_missing: int = 0
    built: int = 0
    seconds: float = 0.0


def build(recipe: Recipe, options: BuildOptions, report: Callable[[Progress], None]) -> Funnel:
    """Build what is missing of a recipe.

    Args:
        recipe: what to build.
        options: where and how.
        report: called as work is done.

    Returns:
        The funnel of the whole folder; ``shards_missing`` is above 0 while other parts are at work.

    Raises:
        UsageError: the folder holds something else, or a source cannot be read.
        RunError: the disk is full, a worker died, or another build works here.
    """
    folder = open_folder(recipe, options)
    with folder.lock(str(options.part), whole=options.part.of == 1):
        _claim(folder, recipe)
        fill_pools(folder, recipe, options, report)
        shards = [shard for shard in plan(recipe) if options.part.holds(shard)]
        began = time.perf_counter()
        built = sum(commit.kept for commit in build_shards(folder, recipe, options, shards, report))
        seconds = time.perf_counter() - began if built else 0.0
        funnel = replace(funnel_of(folder, recipe), built=built, seconds=seconds)
        if funnel.shards_missing == 0:
            finish(folder, recipe, asdict(funnel))
    return funnel


def open_folder(recipe: Recipe, options: BuildOptions) -> BuildFolder:
    """The build folder, made if need be.

    Raises:
        UsageError: ``out`` is a file, or a folder with something else in it.
    """
    folder = BuildFolder(options.out)
    holds_build = (folder.state / "run.json").exists()
    if options.out.is_dir() and any(options.out.iterdir()) and not holds_build and not folder.state.is_dir():
        raise UsageError(f"--out: expected an empty folder or an earlier build, got {options.out}, which holds other files")
    if options.overwrite and folder.state.is_dir():
        _delete_build(folder)
    folder.create()
    return folder


def _delete_build(folder: BuildFolder) -> None:
    """Delete what a build makes, and nothing else."""
    with folder.lock("overwrite", whole=True):
        for name in ("README.md", "croissant.json", "index.json"):
            (folder.root / name).unlink(missing_ok=True)
        for path in (folder.data, folder.manifests, folder.root / "card", folder.state):
            shutil.rmtree(path, ignore_errors=True)


def _claim(folder: BuildFolder, recipe: Recipe) -> None:
    """Make the folder this recipe's, or refuse.

    Raises:
        UsageError: it is another recipe's, or was begun with other versions of the codecs; what differs is named.
    """
    mine: dict[str, Any] = {
        "fingerprint": recipe.fingerprint,
        "layerkit": version("layerkit"),
        "libraries": {name: version(name) for name in _LIBRARIES},
        "recipe": recipe.table(),
    }
    held = folder.claim(mine)
    keys = ("libraries", "recipe")
    found = [text for key in keys for text in differences(mine[key], held.get(key, {}), f"{key}.")]
    if found:
        raise UsageError(
            f"--out: {folder.root} holds another build: {'; '.join(found[:6])}; take another folder, "
            "the same settings, or --overwrite"
        )


def fill_pools(
    folder: BuildFolder, recipe: Recipe, options: BuildOptions, report: Callable[[Progress], None]
) -> None:
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
                _write_outcome(path, rows, f"{mix.name}: {use} from {source!r}")


def _prepared(
    recipe: Recipe, mix: Mix, use: Use, source: str, options: BuildOptions, report: Callable[[Progress], None]
) -> Iterator[Prepared]:
    """The prepared rows of a source in the order of its index, whoever prepared them."""
    job = Preparation(recipe=recipe, mix=mix, use=use, cache=options.cache, weights=options.weights)
    entries = _usable(sources.entries(source, options.roots), use, recipe)
    results: dict[int, list[Prepared]] = {}
    for number, rows in launch.run(options.launcher, partial(_numbered, job), enumerate(chunks(entries)), options.workers):
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
    write_atomically(path.with_suffix(".rejects.jsonl"), b"".join(json.dumps(asdict(r)).encode() + b"\n" for r in rejects))
    if len(rejects) == len(rows):
        reasons = Counter(row.drop.reason for row in rejects if row.drop)
        first = next((row.drop.detail for row in rejects if row.drop and row.drop.detail), "")
        raise UsageError(f"{what}: nothing is usable of {len(rows)} candidates ({dict(reasons)}); {first}")
    write_pool(path, rows)


def build_shards(
    folder: BuildFolder, recipe: Recipe, options: BuildOptions, shards: list[Shard], report: Callable[[Progress], None]
) -> Iterator[Commit]:
    """Build the shards that are not done; yield their commits as they come."""
    fingerprint = recipe.fingerprint
    done = folder.sweep({shard.index: shard.tar for shard in shards}, fingerprint)
    job = ShardJob(recipe=recipe, fingerprint=fingerprint, root=folder.root.resolve(), cache=options.cache)
    total = sum(shard.count for shard in shards)
    slots = kept = sum(shard.count for shard in shards if shard.index in done)
    report(Progress(stage="build", done=slots, total=total, kept=kept))
    sizes = {shard.index: shard.count for shard in shards}
    missing = (shard for shard in shards if shard.index not in done)
    for commit in launch.run(options.launcher, job, missing, options.workers):
        slots, kept = slots + sizes[commit.shard], kept + commit.kept
        report(Progress(stage="build", done=slots, total=total, kept=kept))
        yield commit


def funnel_of(folder: BuildFolder, recipe: Recipe) -> Funnel:
    """Reduce the commits and the pools' rejects to the funnel; always from what is on the disk."""
    dropped: Counter[str] = Counter()
    kept = candidates = size = shards = missing = 0
    for shard in plan(recipe):
        commit = folder.read_commit(shard.index, recipe.fingerprint)
        if commit is None:
            missing += 1
            continue
        dropped.update(commit.dropped)
        kept, candidates, size, shards = kept + commit.kept, candidates + commit.candidates, size + commit.bytes, shards + 1
    sources_kept, sources_dropped = _source_counts(folder, recipe)
    return Funnel(
        wanted=recipe.count,
        kept=kept,
        candidates=candidates,
        dropped=dict(sorted(dropped.items())),
        sources_kept=sources_kept,
        sources_dropped=sources_dropped,
        bytes=size,
        shards=shards,
        shards_missing=missing,
    )


def _source_counts(folder: BuildFolder, recipe: Recipe) -> tuple[dict[str, int], dict[str, int]]:
    from .pools import Pool

    kept: dict[str, int] = {}
    dropped: Counter[str] = Counter()
    for mix in recipe.mix:
        for use in mix.pools:
            path = folder.state / POOLS / f"{mix.name}-{use}.arrow"
            if path.exists():
                kept[f"{mix.name} {use}"] = len(Pool(path))
                rejects = path.with_suffix(".rejects.jsonl").read_text().splitlines()
                dropped.update(json.loads(line)["drop"]["reason"] for line in rejects)
    return kept, dict(sorted(dropped.items()))
