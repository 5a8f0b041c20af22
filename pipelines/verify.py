"""``verify``: every fault of a build folder, each named, none hiding another.

Shards are looked at one by one in :mod:`.inspection`, so they are spread over processes; what concerns the whole folder
(stray files, keys that stand twice, the manifests) is looked at here.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from ..manifests.errors import RunError, ShardError
from ..manifests.exclusions import EXCLUDE, excluded_from
from ..toolkit.shards import read_samples
from . import launch
from .draw import generator
from .inspection import Fault, Found, Inspection, Look, key_hashes
from .ledger import COMMITS, ROWS, BuildFolder
from .plan import Shard, plan
from .run_file import read_run, recipe_of
from .table_faults import table_faults


def verify(
    root: Path | BuildFolder,
    *,
    sample: int | None = None,
    workers: int = 1,
    report: Callable[[int, int], None] | None = None,
) -> list[Fault]:
    """Check a build folder against its plan, its commits and the contract of a triplet.

    Args:
        root: the build folder, or one in an object store.
        sample: decode that many samples, drawn by the recipe's fingerprint, and hash only the shards they lie in; None
            decodes and hashes everything.
        workers: processes.
        report: called with the number of shards done and of all.

    Returns:
        Every fault, in the order of the shards; none for a sound build. Samples that the build's ``exclude.txt`` names
        are passed over; that it names no others is checked.

    Raises:
        UsageError: the folder holds no build, or one of another version of layerkit.
    """
    folder: BuildFolder = BuildFolder(root.resolve()) if isinstance(root, Path) else root
    folder.refresh()
    run = read_run(folder)
    recipe = recipe_of(run, folder)
    shards = list(plan(recipe))
    excluded = excluded_from(folder.root)
    inspection = Inspection(folder=folder, fingerprint=run["fingerprint"], recipe=recipe, excluded=excluded)
    found: list[Found] = []
    for one in launch.run("local", inspection, _looks(folder, shards, run["fingerprint"], sample), workers):
        found.append(one)
        if report:
            report(len(found), len(shards))
    found.sort(key=lambda one: one.shard.index)
    tars = folder.tars()
    commits = (folder.read_commit(shard.index, run["fingerprint"], tars) for shard in shards)
    return [
        *_run_faults(run),
        *_stray_files(folder, shards),
        *(fault for one in found for fault in one.faults),
        *_repeated_keys(folder, found),
        *_strangers(excluded, found, complete=sample is None),
        *table_faults(folder, [commit for commit in commits if commit]),
    ]


def _run_faults(run: dict[str, Any]) -> Iterator[Fault]:
    fingerprint = hashlib.sha256(json.dumps(run["recipe"], sort_keys=True).encode()).hexdigest()
    if fingerprint != run["fingerprint"]:
        what = f"expected the fingerprint of its recipe, {fingerprint[:12]}…, got {run['fingerprint'][:12]}…"
        yield Fault(".layerkit/run.json", "", what)


def _looks(folder: BuildFolder, shards: list[Shard], fingerprint: str, sample: int | None) -> Iterator[Look]:
    """Each shard with what to decode of it."""
    if sample is None:
        yield from (Look(shard=shard, positions=None) for shard in shards)
        return
    tars = folder.tars()
    commits = (folder.read_commit(shard.index, fingerprint, tars) for shard in shards)
    ends = np.cumsum([commit.kept if commit else 0 for commit in commits])
    total = int(ends[-1])
    drawn = np.sort(generator(fingerprint, "verify", sample).choice(total, min(sample, total), replace=False))
    for shard, end, last in zip(shards, ends, [0, *ends], strict=False):
        yield Look(shard=shard, positions=frozenset(int(k - last) for k in drawn[(drawn >= last) & (drawn < end)]))


def _stray_files(folder: BuildFolder, shards: list[Shard]) -> Iterator[Fault]:
    for name in sorted(folder.tars().keys() - {shard.tar for shard in shards}):
        yield Fault(f"data/{name}", "", "belongs to no shard of the plan; move it away")
    expected = {
        folder.state / COMMITS: {folder.commit_path(shard.index).name for shard in shards},
        folder.state / ROWS: {folder.rows_path(shard.index).name for shard in shards},
    }
    for place, names in expected.items():
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.name not in names:
                what = "belongs to no shard of the plan; move it away"
                yield Fault(path.relative_to(folder.root).as_posix(), "", what)


def _repeated_keys(folder: BuildFolder, found: list[Found]) -> Iterator[Fault]:
    """Keys that stand twice; their hashes are compared first, so that memory holds 8 bytes a sample."""
    hashes, counts = np.unique(
        np.concatenate([np.zeros(0, np.uint64), *(one.keys for one in found)]), return_counts=True
    )
    repeated = hashes[counts > 1]
    first: dict[str, str] = {}
    for one in found:
        if np.isin(one.keys, repeated).any():
            for key in _keys(folder, one.shard):
                if key in first:
                    yield Fault(f"data/{one.shard.tar}", key, f"the key stands in data/{first[key]} too")
                first.setdefault(key, one.shard.tar)


def _strangers(excluded: frozenset[str], found: list[Found], *, complete: bool) -> Iterator[Fault]:
    """Excluded keys that no sample has, once all samples were looked at: a list of another build, or a slip."""
    if complete and excluded:
        known = np.concatenate([one.keys for one in found])
        for key in sorted(excluded):
            if not np.isin(key_hashes([key]), known).any():
                yield Fault(EXCLUDE, key, "names no sample of this build; take the line out")


def _keys(folder: BuildFolder, shard: Shard) -> Iterator[str]:
    try:
        with folder.tar(shard.tar) as path:
            yield from (key for key, _ in read_samples(path))
    except (OSError, ShardError, RunError):
        return  # named already
