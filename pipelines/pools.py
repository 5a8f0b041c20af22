"""Pools: what a mix draws from. Prepared once for a build, kept in Arrow files that are mapped, not loaded."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.entry import Use
from ..manifests.errors import BadImage, RunError
from ..toolkit import compose, images
from ..toolkit.saliency import SaliencyModel
from .assets import upright
from .cache import Cache
from .pool_file import group_bounds, open_table, read_row
from .prepare import Prepared
from .splits import SPLITS, read_splits

U8 = NDArray[np.uint8]

_ROWS = 4096  # rows that a worker keeps
_MEMORY = 96 << 20  # bytes of decoded pixels that a worker keeps


class Pool:
    """The rows of one use of one mix, read from the mapped file one at a time; a group's rows are adjacent.

    Args:
        path: of the pool.
        split: whose rows are drawn; None draws from all.
    """

    def __init__(self, path: Path, split: str | None = None) -> None:
        self._table = open_table(path)
        self._rows: dict[int, Prepared] = {}
        bounds = group_bounds(self._table)
        starts, ends = bounds[:-1], bounds[1:]
        mine = slice(None) if split is None else read_splits(path)[starts] == SPLITS.index(split)
        self._starts, self._ends = starts[mine], ends[mine]

    def __len__(self) -> int:
        return int((self._ends - self._starts).sum())

    def draw(self, rng: np.random.Generator) -> int:
        """Index of a row: a photograph first, then one of its objects, so that one with many does not rule."""
        group = int(rng.integers(len(self._starts)))
        return int(rng.integers(self._starts[group], self._ends[group]))

    def __getitem__(self, index: int) -> Prepared:
        if index not in self._rows:
            if len(self._rows) >= _ROWS:
                self._rows.clear()
            self._rows[index] = read_row(self._table, index)
        return self._rows[index]


@dataclass(frozen=True, slots=True, eq=False)
class Stock:
    """What a route draws from: the pools of its mix by use, their pixels, and the saliency model that judges."""

    pools: Mapping[Use, "Pool"]
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
