"""The data of training: shards of builds as a stream of samples, and the batches of any stream.

What a stream is stands in ``sample``; those that make their samples on load in ``composed``.
"""

import itertools
import json
import logging
import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import BadImage, ShardError, UsageError
from ...manifests.exclusions import EXCLUDE, excluded_from
from ...toolkit.images import decode_member
from ...toolkit.layers import CHANNELS
from ...toolkit.shards import parse_header
from ..draw import generator
from ..launch_local import one_thread
from .sample import LAYERS, Batch, Sample, Stream, View, collate, identity_of, turn

U8 = NDArray[np.uint8]
Places = NDArray[np.int64]
Fetched = tuple[Batch, list[ShardError]]

_RECORD = "json"  # the member that holds a sample's record, with its caption
_BLOCK = 512  # bytes of a tar
_OFTEN = 4096  # bytes of a member; a clear one of 1024 px has less
_AHEAD = 2  # batches that are kept ready, for each worker

_log = logging.getLogger(__name__)


class ShardData:
    """The samples of one split of finished builds, shuffled anew for every epoch.

    The headers of the tars are read once, so that any sample is one seek away: the order is a permutation of the whole
    epoch, better mixed than by any buffer, and needs no memory of what was read before.

    Args:
        folders: of builds.
        split: ``train``, ``val`` or ``test``.
        view: see :class:`~.sample.View`.
        seed: of the order and of every crop.
        shuffle: False reads in the order of the files, for validation.
        choose: which keys are read, of those that their build's own list does not exclude.
        skip_broken: leave broken shards out, with a line in the log, rather than raise.

    Raises:
        UsageError: no shards, none of the split, no sample left, or samples smaller than the view.
        ShardError: a shard is broken.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        split: str,
        view: View,
        seed: int = 0,
        *,
        shuffle: bool = True,
        choose: Callable[[str], bool] = lambda key: True,
        skip_broken: bool = False,
    ) -> None:
        self._view, self._seed, self._shuffle = view, seed, shuffle
        left_out = [(path, excluded) for folder in folders for path, excluded in _shards(folder, split)]
        self._shards = [path for path, _ in left_out]
        found: list[tuple[int, str, Places]] = []
        for number, (path, excluded) in enumerate(left_out):
            try:
                held = index(path, (*view.layers, _RECORD))
                found += [(number, key, places) for key, places in held if key not in excluded and choose(key)]
            except ShardError as error:
                if not skip_broken:
                    raise
                _log.warning("left out a shard: %s", error)
        if not found:
            named = ", ".join(map(str, folders))
            raise UsageError(f"no {split} sample of {named} is left; see --exclude, their {EXCLUDE}, and the log")
        shards, keys, places = zip(*found, strict=True)
        self._keys = list(keys)
        self._shard, self._places = np.array(shards), np.stack(places)
        self._check_size(skip_broken)

    def _check_size(self, skip_broken: bool) -> None:
        for index in range(len(self)):
            try:
                side = min(self._read(index)[0]["mask"].shape)
            except ShardError:
                if not skip_broken:
                    raise
                continue
            if side < self.size:
                raise UsageError(
                    f"{self._shards[self._shard[index]]}: expected samples of at least {self.size} px, got {side}; "
                    f"train at {side} px or build with --size {self.size}"
                )
            return

    @property
    def size(self) -> int:
        """Side of the samples, px."""
        return self._view.size

    @cached_property
    def identity(self) -> str:
        """See :class:`~.sample.Stream`."""
        return identity_of("shards", self._seed, self._view, self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __getitem__(self, number: int) -> Sample:
        """See :class:`~.sample.Stream`."""
        epoch, index = turn(number, len(self), self._seed, self._shuffle)
        key = self._keys[index]
        rng = generator(str(self._seed), "view", epoch, key)
        layers, caption = self._read(index)
        return self._view(layers, key, rng, caption=caption)

    def _read(self, index: int) -> tuple[dict[str, U8], str]:
        """The layers and the caption of a sample."""
        path, key = self._shards[self._shard[index]], self._keys[index]
        *places, (start, size, _) = self._places[index].tolist()  # the last one is the record's
        try:
            with path.open("rb", buffering=0) as file:
                layers = {
                    name: _decoded(name, os.pread(file.fileno(), length, offset), "jpg" if is_jpeg else "png")
                    for name, (offset, length, is_jpeg) in zip(self._view.layers, places, strict=True)
                }
                record = os.pread(file.fileno(), size, start)
        except (OSError, BadImage) as error:
            raise ShardError(f"{path}: {key}: {error}; verify the build, or leave the key out by --exclude") from error
        _check_shapes(layers, f"{path}: {key}")
        return layers, _caption(record, f"{path}: {key}")


def _caption(record: bytes, where: str) -> str:
    try:
        return str(json.loads(record)["caption"])
    except (ValueError, KeyError, TypeError) as error:
        raise ShardError(f"{where}.{_RECORD}: expected a record with a caption ({error}); verify the build") from error


def _decoded(name: str, data: bytes, kind: str) -> U8:
    return _often(data) if name == "occluder" and len(data) < _OFTEN else decode_member(data, kind)


@lru_cache(maxsize=32)
def _often(data: bytes) -> U8:
    """The occluder of most samples is one and the same: clear."""
    picture: U8 = decode_member(data, "png")
    picture.flags.writeable = False
    return picture


def _check_shapes(layers: Mapping[str, U8], where: str) -> None:
    size = layers["image"].shape[:2]
    for name, layer in layers.items():
        expected = size if CHANNELS[name] == 1 else (*size, CHANNELS[name])
        if layer.shape != expected:
            raise ShardError(f"{where}.{name}: expected shape {expected}, got {layer.shape}; verify the build")


def _shards(folder: Path, split: str) -> list[tuple[Path, frozenset[str]]]:
    """The tars of a split, each with the keys that its build's own list excludes."""
    excluded = excluded_from(folder)
    return [(path, excluded) for path in _tars(folder, split)]


def _tars(folder: Path, split: str) -> list[Path]:
    found = sorted((folder / "data").glob("*.tar"))
    if not found:
        raise UsageError(f"expected a finished build with data/*.tar, got {folder}; build it, or correct --data")
    chosen = [path for path in found if path.name.startswith(f"{split}-")]
    if not chosen:
        splits = sorted({path.name.partition("-")[0] for path in found})
        raise UsageError(f"{folder}: expected shards of {split}, got {', '.join(splits)}; build with splits.{split}")
    return chosen


def index(path: Path, names: Sequence[str] = LAYERS) -> Iterator[tuple[str, Places]]:
    """Key and places of the samples of a shard, by its headers alone.

    Returns:
        Of each sample the key and, in the order of ``names``, (n, 3): the offset and length of the member, bytes, and
        whether it is a JPEG.

    Raises:
        ShardError: a bad header, a truncated file, or a sample without one of the members.
    """
    for key, members in itertools.groupby(_headers(path), lambda member: member[0].partition(".")[0]):
        found = {name.split(".")[1]: (offset, size, name.endswith(".jpg")) for name, offset, size in members}
        if not found.keys() >= {*names}:
            raise ShardError(f"{path}: {key}: expected the members {', '.join(names)}, got {', '.join(found)}")
        yield key, np.array([found[name] for name in names], np.int64)


def _headers(path: Path) -> Iterator[tuple[str, int, int]]:
    """Name, offset and size of every member."""
    position = 0
    with path.open("rb", buffering=0) as file:
        while True:
            header = os.pread(file.fileno(), _BLOCK, position)
            if header == bytes(_BLOCK):
                return
            if len(header) < _BLOCK:
                raise ShardError(f"{path}: the archive breaks off at byte {position}; the shard is truncated")
            name, size = parse_header(header, path, position)
            yield name, position + _BLOCK, size
            position += _BLOCK + size + -size % _BLOCK


class Batches:
    """Batches of a stream without end, read ahead by threads, that can be resumed at any of them.

    Batch t of rank r holds the samples from (t world + r) batch on: all ranks get as many batches, and what was used
    after t batches are the first t world batch samples, whatever the number of ranks or workers.

    Args:
        data: the stream.
        batch: samples of each batch.
        workers: threads that read ahead; 0 reads when asked. The codecs and OpenCV free the interpreter, and a batch
            need not be copied from one process to another, which costs a third of its time.
        rank: this process, of ``world`` that train together.
        world: see ``rank``.
        skip_broken: put another sample of the same batch in the place of a broken one, with a line in the log, rather
            than raise.

    Attributes:
        skipped: broken samples so far.
    """

    def __init__(
        self,
        data: Stream,
        batch: int,
        *,
        workers: int = 0,
        rank: int = 0,
        world: int = 1,
        skip_broken: bool = False,
    ) -> None:
        if batch < 1 or workers < 0 or not 0 <= rank < world:
            raise UsageError(f"expected batch >= 1 and workers >= 0, got {batch} and {workers} at rank {rank}/{world}")
        self._data, self._batch, self._workers = data, batch, workers
        self._rank, self._world, self._skip_broken = rank, world, skip_broken
        self._samples = 0
        self.skipped = 0

    def state(self) -> dict[str, int | str]:
        """Where the stream stands after the batch that was handed out last: plain values, equal on all ranks."""
        return {"samples": self._samples, "data": self._data.identity}

    def resume(self, state: Mapping[str, int | str]) -> None:
        """Go on behind a :meth:`state`, also with another number of ranks or workers; a new ``iter`` starts there.

        Raises:
            UsageError: the state is of other data, another seed or another view.
        """
        if state["data"] != self._data.identity:
            raise UsageError(
                "expected the data, seed, size and masks of the checkpoint, got others: "
                "resume with the same options, or start a new run"
            )
        self._samples = int(state["samples"])

    def __iter__(self) -> Iterator[Batch]:
        """Batches from where the stream stands on.

        Raises:
            ShardError: a sample is broken, or all of a batch are.
        """
        stride = self._batch * self._world
        firsts = itertools.count(self._samples + self._rank * self._batch, stride)
        fetched = _ahead(self._fetch, firsts, self._workers) if self._workers else map(self._fetch, firsts)
        for batch, faults in fetched:
            for fault in faults:
                self.skipped += 1
                _log.warning("skipped a sample (%d so far): %s", self.skipped, fault)
            self._samples += stride
            yield batch

    def _fetch(self, first: int) -> Fetched:
        """The batch that begins at sample ``first``, and what was broken in it."""
        samples: list[Sample] = []
        faults: list[ShardError] = []
        for number in range(first, first + self._batch):
            try:
                samples.append(self._data[number])
            except ShardError as fault:
                if not self._skip_broken:
                    raise
                faults.append(fault)
        if not samples:
            raise faults[0]
        return collate([samples[k % len(samples)] for k in range(self._batch)]), faults


def _ahead(fetch: Callable[[int], Fetched], firsts: Iterator[int], workers: int) -> Iterator[Fetched]:
    """``map(fetch, firsts)``, some batches ahead."""
    one_thread()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="training-data")
    try:
        pending = deque(pool.submit(fetch, first) for first in itertools.islice(firsts, _AHEAD * workers))
        while True:
            batch = pending.popleft().result()
            pending.append(pool.submit(fetch, next(firsts)))
            yield batch
    finally:
        pool.shutdown(cancel_futures=True)
