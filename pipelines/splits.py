"""Splits by identity: no photograph, cut-out or near-duplicate of one is in two of train, val and test.

Things are one identity when they come from one entry of a source or one file, or when they or the photographs that
they come from look alike, over all pools of a build. An identity's split follows from a hash of its name, so it is the
same whatever the seed, the recipe or the other pictures; only where a pool would be left without one of the splits is
one of its identities moved there. A pool of too few leaves the places of that split empty.
"""

import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..toolkit import similarity
from .ledger import BuildFolder, write_atomically
from .pool_file import column, open_table, texts
from .recipe import Recipe
from .rows import pool_path, pool_uses

_TRAIN = 0

SPLITS = ("train", "val", "test")
"""In the order of the codes that :func:`read_splits` gives."""


def write_splits(folder: BuildFolder, recipe: Recipe) -> None:
    """Write the split of every row beside its pool, where that was not done yet."""
    paths = [pool_path(folder, mix, use) for mix, use, _ in pool_uses(recipe)]
    if all(_file(path).exists() for path in paths):
        return
    tables = [open_table(path) for path in paths]
    shares = recipe.splits.shares()
    distance = max(mix.filters.near_duplicate for mix in recipe.mix)
    identities = identify(tables, distance) if len(shares) > 1 else [np.zeros(len(table), int) for table in tables]
    hashes = [_entry_hashes(table) for table in tables]
    for path, codes in zip(paths, assign(identities, hashes, shares), strict=True):
        buffer = io.BytesIO()
        np.save(buffer, codes)
        write_atomically(_file(path), buffer.getvalue())


def read_splits(pool: Path) -> NDArray[np.uint8]:
    """The code of each row's split, an index of :data:`SPLITS`."""
    codes: NDArray[np.uint8] = np.load(_file(pool), allow_pickle=False)
    return codes


def _file(pool: Path) -> Path:
    return pool.with_suffix(".splits.npy")


def identify(tables: Sequence[Any], distance: int) -> list[NDArray[np.intp]]:
    """The identity of every row of every table: an integer, equal for what must not be parted.

    Args:
        tables: of pools.
        distance: Hamming distance up to which perceptual hashes count as one picture; below 0 they say nothing.
    """
    number = sum(map(len, tables))
    looks = np.concatenate([column(table, name) for name in ("phash", "photo_phash") for table in tables])
    alike = similarity.clusters(looks, distance)
    tokens = (
        np.concatenate([_entry_hashes(table) for table in tables]),
        np.concatenate([_text_hashes(texts(table, "sha256")) for table in tables]),
        alike[:number],
        alike[number:],
    )
    components = _components(number, tokens)
    return np.split(components, np.cumsum([len(table) for table in tables])[:-1])


def _components(number: int, tokens: Sequence[NDArray[Any]]) -> NDArray[np.intp]:
    """A component of every row: rows that share a token, directly or through others, are one.

    Args:
        number: of rows.
        tokens: a token for every row, of four kinds; the last two are of one kind.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    entries, files, looks = (
        np.unique(values, return_inverse=True)[1] for values in (*tokens[:2], np.concatenate(tokens[2:]))
    )
    after_entries = number + int(entries.max(initial=0)) + 1
    after_files = after_entries + int(files.max(initial=0)) + 1
    ends = np.concatenate([number + entries, after_entries + files, after_files + looks])
    size = after_files + int(looks.max(initial=0)) + 1
    rows = np.tile(np.arange(number), 4)
    graph = coo_array((np.ones(len(rows), bool), (rows, ends)), shape=(size, size))
    labels: NDArray[np.intp] = connected_components(graph, directed=False)[1]
    return labels[:number]


def assign(
    identities: Sequence[NDArray[np.intp]],
    hashes: Sequence[NDArray[np.uint64]],
    shares: Mapping[str, float],
) -> list[NDArray[np.uint8]]:
    """The split code of every row of every pool.

    Args:
        identities: of the rows of each pool.
        hashes: 64-bit hashes of the rows' names; an identity's is its smallest.
        shares: split to share.
    """
    least = np.full(max((int(ids.max(initial=0)) for ids in identities), default=0) + 1, 2**64 - 1, np.uint64)
    for ids, values in zip(identities, hashes, strict=True):
        np.minimum.at(least, ids, values)
    place = least / 2.0**64
    test, val = shares.get("test", 0.0), shares.get("val", 0.0)
    codes = np.select([place < test, place < test + val], [2, 1], 0).astype(np.uint8)
    moved: set[int] = set()
    for ids in identities:
        _fill_splits(np.unique(ids), codes, least, [SPLITS.index(split) for split in shares], moved)
    return [codes[ids] for ids in identities]


def _fill_splits(
    pool: NDArray[np.intp], codes: NDArray[np.uint8], hashes: NDArray[np.uint64], wanted: Sequence[int], moved: set[int]
) -> None:
    """Move an identity of a pool to each split that it lacks: the first by hash of its largest split.

    To hold out something, it must have two; to train on something, one is enough.
    """
    for code in wanted:
        largest = np.bincount(codes[pool]).argmax()
        movable = [int(one) for one in pool[codes[pool] == largest] if one not in moved]
        spare = len(movable) > (code != _TRAIN)
        if not (codes[pool] == code).any() and spare:
            chosen = min(movable, key=lambda one: hashes[one])
            codes[chosen] = code
            moved.add(chosen)


def _entry_hashes(table: Any) -> NDArray[np.uint64]:
    names = (f"{source}\0{group}" for source, group in zip(texts(table, "source"), texts(table, "group"), strict=True))
    return _text_hashes(names)


def _text_hashes(texts: Iterable[str]) -> NDArray[np.uint64]:
    digests = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.fromiter((int.from_bytes(digest, "big") for digest in digests), np.uint64)
