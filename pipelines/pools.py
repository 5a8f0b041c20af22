"""Pools: what a mix draws from. Prepared once for a build, kept in Arrow files that are mapped, not loaded."""

import hashlib
import json
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.entry import Entry
from ..manifests.errors import BadImage, RunError
from ..toolkit import compose, images, similarity
from ..toolkit.saliency import SaliencyModel
from .assets import upright
from .cache import Cache
from .filters import Drop
from .ledger import write_atomically
from .prepare import Prepared

U8 = NDArray[np.uint8]

_ROWS = 4096  # rows that a worker keeps
_MEMORY = 96 << 20  # bytes of decoded pixels that a worker keeps


def chunks(entries: Iterable[Entry], size: int) -> Iterator[list[Entry]]:
    """The entries in lists of ``size``."""
    iterator = iter(entries)
    while chunk := list(islice(iterator, size)):
        yield chunk


def without_near_duplicates(rows: list[Prepared], distance: int) -> list[Prepared]:
    """The rows, those that look like an earlier kept one dropped as ``near_duplicate``."""
    kept = [k for k, row in enumerate(rows) if row.drop is None]
    if distance < 0 or len(kept) < 2:
        return rows
    hashes = np.array([rows[k].phash for k in kept], np.uint64)
    out = list(rows)
    for later, earlier in similarity.near_duplicates(hashes, distance).items():
        apart = int(np.bitwise_count(hashes[later] ^ hashes[earlier]))
        drop = Drop("near_duplicate", apart, distance, f"looks like {rows[kept[earlier]].id}")
        out[kept[later]] = _replace_drop(rows[kept[later]], drop)
    return out


def _replace_drop(row: Prepared, drop: Drop) -> Prepared:
    return Prepared(**{field.name: getattr(row, field.name) for field in fields(row)} | {"drop": drop})


def write_pool(path: Path, rows: Iterable[Prepared]) -> int:
    """Write the kept rows as an Arrow file, whole or not at all; return their number."""
    import pyarrow as pa

    kept = [_to_columns(row) for row in rows if row.drop is None]
    table = pa.Table.from_pylist(kept, schema=_arrow_schema())
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=4096)
    write_atomically(path, sink.getvalue().to_pybytes())
    return len(kept)


def _arrow_schema() -> Any:
    import pyarrow as pa

    kinds: dict[Any, Any] = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    columns = {f.name: kinds.get(f.type, pa.string()) for f in fields(Prepared) if f.name != "drop"}
    return pa.schema(columns | {"phash": pa.uint64()})


def _to_columns(row: Prepared) -> dict[str, Any]:
    table = {f.name: getattr(row, f.name) for f in fields(row) if f.name != "drop"}
    return table | {"scores": json.dumps(dict(row.scores)), "models": json.dumps(dict(row.models))}


class Pool:
    """The rows of one use of one mix, read from the mapped file one at a time; a group's rows are adjacent."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa

        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        self._rows: dict[int, Prepared] = {}
        groups = self._table.column("group").to_numpy(zero_copy_only=False)
        self._starts = np.flatnonzero(np.r_[True, groups[1:] != groups[:-1], True])

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def draw(self, rng: np.random.Generator) -> int:
        """Index of a row: a photograph first, then one of its objects, so that one with many does not rule."""
        group = int(rng.integers(len(self._starts) - 1))
        return int(rng.integers(self._starts[group], self._starts[group + 1]))

    def __getitem__(self, index: int) -> Prepared:
        if index not in self._rows:
            if len(self._rows) >= _ROWS:
                self._rows.clear()
            self._rows[index] = self._read(index)
        return self._rows[index]

    def _read(self, index: int) -> Prepared:
        row = self._table.slice(index, 1).to_pylist()[0]
        return Prepared(**row | {"scores": json.loads(row["scores"]), "models": json.loads(row["models"])})


@dataclass(frozen=True, slots=True, eq=False)
class Stock:
    """What a route draws from: the pools of its mix by use, their pixels, and the saliency model that judges."""

    pools: dict[str, "Pool"]
    pixels: "Pixels"
    saliency: SaliencyModel


class Pixels:
    """Decoded pixels of rows, the latest used kept within a bound of memory."""

    def __init__(self, cache: Cache, memory: int = _MEMORY) -> None:
        self._cache = cache
        self._memory = memory
        self._used = 0
        self._kept: OrderedDict[str, dict[str, NDArray[Any]]] = OrderedDict()

    def of(self, row: Prepared) -> dict[str, NDArray[Any]]:
        """Name to 8-bit pixels: ``foreground``; ``background``; or ``image``, ``foreground`` and ``background``.

        Beside a foreground stands ``premultiplied``, see :func:`~layerkit.toolkit.compose.premultiply_exact`.

        Raises:
            RunError: the file changed or vanished since the pool was made, or the cache was emptied.
        """
        key = row.bundle or row.sha256
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        pixels = self._load_bundle(row) if row.bundle else {"background": self._load_file(row)}
        self._keep(key, pixels)
        return pixels

    def _keep(self, key: str, pixels: dict[str, NDArray[Any]]) -> None:
        self._kept[key] = pixels
        self._used += _bytes_of(pixels)
        while self._used > self._memory and len(self._kept) > 1:
            self._used -= _bytes_of(self._kept.popitem(last=False)[1])

    def _load_bundle(self, row: Prepared) -> dict[str, NDArray[Any]]:
        bundle = self._cache.get(row.bundle)
        if bundle is None:
            raise RunError(
                f"the cache lost what was prepared of {row.path} (bundle {row.bundle[:12]}); "
                "delete the build's .layerkit/pools folder and run the same command again"
            )
        pixels = {
            name[:-4]: images.decode_member(data, "png") for name, data in bundle.items() if name.endswith(".png")
        }
        if row.use == "foreground":  # resized for every triplet, premultiplied once
            pixels["premultiplied"] = compose.premultiply_exact(pixels["foreground"])
        return pixels

    def _load_file(self, row: Prepared) -> U8:
        try:
            data = images.read_bytes(Path(row.path), row.span)
        except BadImage as error:
            raise RunError(f"{error.detail}; put it back or start anew with --overwrite") from error
        if hashlib.sha256(data).hexdigest() != row.sha256:
            raise RunError(f"{row.path} changed since this build was begun; put it back or start anew with --overwrite")
        return upright(images.decode(data), row.rotation)


def _bytes_of(pixels: dict[str, NDArray[Any]]) -> int:
    return sum(picture.nbytes for picture in pixels.values())
