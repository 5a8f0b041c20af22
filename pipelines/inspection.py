"""Looks at one shard of a build and names everything that is wrong with it; see ``verify`` for the whole folder."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests import schema
from ..manifests.errors import ShardError, UsageError
from ..manifests.licences import strictest
from ..manifests.record import Record
from ..toolkit.invariants import broken_promises
from ..toolkit.layers import CHANNELS, Layers
from ..toolkit.shards import Members, decode_layers, decode_record, read_samples
from .ledger import BuildFolder, Commit
from .plan import Shard
from .recipe import Recipe

_KEY = re.compile(r"[a-z0-9_-]+")
_REBUILD = "run the same build command again"
_REMAKE = f"delete it and {_REBUILD}"
_MOST_OBJECTS = 8  # in an image, where the record does not tell

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        file: path below the build folder.
        key: of the sample, or empty.
        what: what was expected and what is there.
    """

    file: str
    key: str
    what: str

    def __str__(self) -> str:
        return ": ".join(part for part in (self.file, self.key, self.what) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """How closely to look at one shard.

    Attributes:
        shard: which.
        positions: of the samples to decode; None is all of them, an empty set looks at sizes and rows alone.
    """

    shard: Shard
    positions: frozenset[int] | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Found:
    """What was found in one shard: its faults, and the 64-bit hash of each key."""

    shard: Shard
    faults: list[Fault]
    keys: NDArray[np.uint64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inspection:
    """Looks at one shard; picklable. What is excluded is in its tar, and nobody reads it: its faults are none."""

    folder: BuildFolder
    fingerprint: str
    recipe: Recipe
    excluded: frozenset[str] = frozenset()

    def __call__(self, look: Look) -> Found:
        """Everything that is wrong with one shard and its samples."""
        keys: list[str] = []
        faults = list(self._faults(look, keys))
        return Found(shard=look.shard, faults=faults, keys=key_hashes(keys))

    def _faults(self, look: Look, keys: list[str]) -> Iterator[Fault]:
        """The faults of a shard; ``keys`` is filled with those of its samples."""
        folder, shard = self.folder, look.shard
        commit = _read_commit(folder, shard, self.fingerprint)
        if isinstance(commit, Fault):
            yield commit
            return
        read = _read_rows(folder, commit)
        rows = None if isinstance(read, Fault) else read
        if isinstance(read, Fault):
            yield read
        if commit.tar and (misfit := _size_fault(folder, commit)):
            yield Fault(f"data/{commit.tar}", "", misfit)
        elif commit.tar and (look.positions is None or look.positions):
            yield from self._tar_faults(look, commit, rows, keys)
        else:
            keys += [row["key"] for row in rows or []]

    def _tar_faults(self, look: Look, commit: Commit, rows: list[Row] | None, keys: list[str]) -> Iterator[Fault]:
        with self.folder.tar(commit.tar) as path:
            yield from self._file_faults(path, look, commit, rows, keys)

    def _file_faults(
        self, path: Path, look: Look, commit: Commit, rows: list[Row] | None, keys: list[str]
    ) -> Iterator[Fault]:
        file = f"data/{commit.tar}"
        with path.open("rb") as tar:
            sha256 = hashlib.file_digest(tar, "sha256").hexdigest()
        if sha256 != commit.sha256:
            yield Fault(file, "", f"expected the sha256 {commit.sha256[:12]}…, got {sha256[:12]}…; {_REMAKE}")
        try:
            for key, what in self._sample_faults(path, look, rows, keys):
                yield Fault(file, key, what)
        except ShardError as error:
            yield Fault(file, "", str(error).removeprefix(f"{path}: "))
            return
        expected = [row["key"] for row in rows or []]
        if rows is not None and keys != expected:
            yield Fault(file, "", _key_difference(expected, keys))

    def _sample_faults(
        self, path: Path, look: Look, rows: list[Row] | None, keys: list[str]
    ) -> Iterator[tuple[str, str]]:
        """Key and fault of the samples."""
        row_of = {row["key"]: row for row in rows or []}
        for position, (key, sample) in enumerate(read_samples(path)):
            keys.append(key)
            if not _KEY.fullmatch(key):
                yield key, f"expected a key of {_KEY.pattern}"
            if look.positions is None or position in look.positions:
                if key in self.excluded:
                    continue
                yield from ((key, what) for what in sample_faults(key, sample, look.shard, self.recipe.members))
                if key in row_of and "json" in sample:
                    yield from ((key, what) for what in _row_faults(sample["json"], row_of[key]))


def sample_faults(key: str, sample: dict[str, bytes], shard: Shard, members: Members) -> Iterator[str]:
    """What is wrong with one encoded sample of a shard: its members, its record, its layers."""
    names = [*(f"{layer}.{getattr(members, layer, 'png')}" for layer in CHANNELS), "json"]
    if list(sample) != names:
        yield f"expected the members {', '.join(names)}, got {', '.join(sample)}"
        return
    record = layers = None
    try:
        record = decode_record(sample, "record")
    except ShardError as error:
        yield str(error)
    try:
        layers = decode_layers(sample, "layers")
    except ShardError as error:
        yield str(error)
    if record:
        yield from _record_faults(record, key, shard)
    if layers:
        yield from broken_promises(layers, record.objects if record else _MOST_OBJECTS)
    if record and layers:
        yield from _agreement_faults(record, layers)


def _record_faults(record: Record, key: str, shard: Shard) -> Iterator[str]:
    expected, got = (key, shard.split, shard.mix), (record.key, record.split, record.mix)
    if got != expected:
        yield f"record: expected key, split and mix {expected}, got {got}"
    licence = strictest(origin.licence for origin in record.layers)
    if record.licence != licence:
        yield f"record: expected the licence {licence}, the strictest of its layers, got {record.licence}"


def _agreement_faults(record: Record, layers: Layers) -> Iterator[str]:
    if (record.height, record.width) != layers.size:
        height, width = layers.size
        yield f"record: expected the layers' size, {width} x {height}, got {record.width} x {record.height}"
    error = layers.recomposition_error()
    if error > record.recomposition_bound:
        yield f"the layers recompose with an error of {error} levels; the bound is {record.recomposition_bound}"
    elif error != record.recomposition_error:
        yield f"record: expected the recomposition_error of the layers, {error}, got {record.recomposition_error}"


def _row_faults(data: bytes, row: Row) -> Iterator[str]:
    try:
        table = json.loads(data)
    except ValueError:
        return  # named with the record
    if isinstance(table, dict) and table != row:
        names = sorted(name for name in table.keys() | row.keys() if table.get(name) != row.get(name))
        yield f"record: differs from its row in .layerkit/rows in {', '.join(names)}"


def _read_commit(folder: BuildFolder, shard: Shard, fingerprint: str) -> Commit | Fault:
    """The commit, if it belongs to this shard of this recipe."""
    path = folder.commit_path(shard.index)
    file = path.relative_to(folder.root).as_posix()
    try:
        commit = schema.parse(Commit, json.loads(path.read_bytes()), "commit")
    except FileNotFoundError:
        if folder.tar_size(shard.tar) is not None:
            return Fault(f"data/{shard.tar}", "", f"has no commit: an interrupted build left it; {_REBUILD}")
        return Fault(file, "", f"is missing: the shard {shard.tar} was not built; {_REBUILD}")
    except (OSError, ValueError, UsageError) as error:
        return Fault(file, "", f"expected a commit: {error}; {_REBUILD}")
    expected = (fingerprint, shard.index, shard.mix, shard.split, shard.tar if commit.kept else "")
    got = (commit.fingerprint, commit.shard, commit.mix, commit.split, commit.tar)
    return commit if got == expected else Fault(file, "", f"expected a commit of {expected}, got {got}; {_REBUILD}")


def _read_rows(folder: BuildFolder, commit: Commit) -> list[Row] | Fault:
    """The rows of the kept samples, if the rows agree with the commit's counts."""
    path = folder.rows_path(commit.shard)
    file = path.relative_to(folder.root).as_posix()
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        dropped = Counter(row["drop"]["reason"] for row in rows if not row["kept"])
        kept = [{"key": row["key"], **row} for row in rows if row.pop("kept")]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        return Fault(file, "", f"expected one JSON row a candidate: {error!r}; {_REMAKE}")
    expected, got = (commit.candidates, commit.kept, dict(commit.dropped)), (len(rows), len(kept), dict(dropped))
    return kept if got == expected else Fault(file, "", f"expected candidates, kept, dropped {expected}, got {got}")


def _size_fault(folder: BuildFolder, commit: Commit) -> str | None:
    size = folder.tar_size(commit.tar)
    if size is None:
        return f"is missing, its commit says {commit.kept} samples; {_REBUILD}"
    return None if size == commit.bytes else f"expected {commit.bytes} bytes, got {size}; {_REBUILD}"


def _key_difference(expected: Sequence[str], got: Sequence[str]) -> str:
    pairs = zip_longest(expected, got, fillvalue="the end")
    position, (row, sample) = next((k, pair) for k, pair in enumerate(pairs) if pair[0] != pair[1])
    return f"expected the {len(expected)} samples of its rows, got {len(got)}; sample {position}: {row}, got {sample}"


def key_hashes(keys: Iterable[str]) -> NDArray[np.uint64]:
    """64-bit hashes of keys: what a whole build's keys are compared by."""
    digests = (hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    return np.fromiter((int.from_bytes(digest, "big") for digest in digests), np.uint64)
