"""Near-duplicates: a perceptual hash, and exact search within a Hamming distance.

The hash is the DCT hash of Zauner (Implementation and Benchmarking of Perceptual Image Hash Functions, 2010): the signs
of the 8 x 8 lowest frequencies of a 32 x 32 grey thumbnail about their median.
"""

from collections.abc import Iterator
from itertools import combinations, pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

BITS = 64

Indices = NDArray[np.int64]

_NONE = np.iinfo(np.int64).max
# What sorting one entry costs, in comparisons of two hashes; measured.
_SORT = 50
# Where there are more, and two an entry, it is quicker to halve the entries than to find them all; measured.
_MOST_PAIRS = 100_000


def perceptual_hash(picture: NDArray[np.uint8]) -> int:
    """64-bit DCT hash of an 8-bit (H, W), (H, W, 3) or (H, W, 4) picture; RGBA is hashed over mid grey."""
    if picture.ndim == 3 and picture.shape[-1] == 4:
        alpha = picture[..., 3:].astype(np.float32) / 255
        picture = np.rint(picture[..., :3] * alpha + 128 * (1 - alpha)).astype(np.uint8)
    grey = picture if picture.ndim == 2 else cv2.cvtColor(np.ascontiguousarray(picture), cv2.COLOR_RGB2GRAY)
    small = cv2.resize(grey, (32, 32), interpolation=cv2.INTER_AREA).astype(np.float32)
    low = cv2.dct(small)[:8, :8].ravel()
    bits = low > np.median(low[1:])  # the first is the mean brightness
    return int(np.packbits(bits).view(">u8")[0])


def near_duplicates(hashes: NDArray[np.uint64], distance: int) -> dict[int, int]:
    """Every entry that lies within ``distance`` bits of an *earlier* kept entry, and the first such entry.

    Entries are taken in order, so the first of a group is kept. Exact: equal to comparing every entry with every kept
    one. Memory is about 200 bytes an entry, however close together they lie.

    Args:
        hashes: (N,) uint64.
        distance: largest Hamming distance that counts as a duplicate, in bits.

    Returns:
        {index of the duplicate: index of the entry kept in its place}, by ascending index.
    """
    distinct, first, inverse = np.unique(hashes, return_index=True, return_inverse=True)
    order = np.argsort(first)
    keeper = np.empty_like(first)
    keeper[order] = first[order][_keepers(distinct[order], distance)]
    kept = keeper[inverse]
    later = np.flatnonzero(kept != np.arange(len(hashes)))
    return dict(zip(later.tolist(), kept[later].tolist(), strict=True))


def matches(hashes: NDArray[np.uint64], others: NDArray[np.uint64], distance: int) -> dict[int, int]:
    """Each entry of ``hashes`` that has an entry of ``others`` within ``distance`` bits, and the nearest such entry.

    Exact, like ``near_duplicates``; the first of several equally near entries is taken.

    Args:
        hashes: (N,) uint64, the entries that are looked up.
        others: (M,) uint64, for instance the pictures of a benchmark.
        distance: largest Hamming distance that counts as a match, in bits.

    Returns:
        {index in ``hashes``: index in ``others``}, by ascending index.
    """
    best = np.full(len(hashes), _NONE)
    for rows, found, apart in _near(hashes, others, distance):
        best[rows] = np.minimum(best[rows], apart.astype(np.int64) * len(others) + found)
    matched = np.flatnonzero(best != _NONE)
    return dict(zip(matched.tolist(), (best[matched] % len(others)).tolist(), strict=True))


def clusters(hashes: NDArray[np.uint64], distance: int) -> Indices:
    """A label for each entry, equal for what is within ``distance`` bits, directly or through others.

    Exact; hashes without detail (see :func:`has_detail`) are alike to nothing. Memory stays bounded as above.

    Args:
        hashes: (N,) uint64.
        distance: in bits; below 0 every entry has a label of its own.

    Returns:
        (N,) labels.
    """
    detailed = np.flatnonzero(_has_detail(hashes)) if distance >= 0 else np.empty(0, np.int64)
    values, inverse = np.unique(hashes[detailed], return_inverse=True)
    joined = np.arange(len(values))
    one, two = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for rows, found, _ in _near(values, values, distance) if len(values) else ():
        one.append(rows)
        two.append(found)
        if sum(map(len, one)) > _MOST_PAIRS:
            joined = _joined(joined, np.concatenate(one), np.concatenate(two))
            one, two = one[:1], two[:1]
    labels = np.arange(len(hashes)) + len(values)
    labels[detailed] = _joined(joined, np.concatenate(one), np.concatenate(two))[inverse]
    return labels


def _joined(labels: Indices, one: Indices, two: Indices) -> Indices:
    """The labels with those of each pair of entries made one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(labels)
    graph = coo_array((np.ones(len(one), bool), (labels[one], labels[two])), shape=(count, count))
    components: Indices = connected_components(graph, directed=False)[1]
    return components[labels]


def has_detail(phash: int) -> bool:
    """Whether the hash tells anything: that of a picture of one colour has no bit set but the first, if any."""
    return phash.bit_count() > 1


def _has_detail(hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
    return np.bitwise_count(hashes) > 1


def _keepers(values: NDArray[np.uint64], distance: int) -> Indices:
    """For each of (N,) distinct values the first kept one within the distance: itself where it is kept.

    Where very many values lie close together, the first half is done alone; most of the second half is then close to
    what was kept of the first, and no pairs within it need be found.
    """
    pairs = _close_pairs(values, distance)
    if pairs is not None:
        return _greedy(len(values), *pairs)
    half = len(values) // 2
    keepers = np.arange(len(values))
    keepers[:half] = _keepers(values[:half], distance)
    kept = np.flatnonzero(keepers[:half] == np.arange(half))
    best = np.full(len(values) - half, _NONE)
    for rows, found, _ in _near(values[half:], values[kept], distance):
        best[rows] = np.minimum(best[rows], found)
    known = best != _NONE
    rest = half + np.flatnonzero(~known)
    keepers[half:][known] = kept[best[known]]
    keepers[rest] = rest[_keepers(values[rest], distance)]
    return keepers


def _greedy(count: int, later: Indices, earlier: Indices) -> Indices:
    """Take ``count`` entries in order; pairs come by ascending later, then earlier entry, also twice."""
    keepers = list(range(count))
    for one, before in zip(later.tolist(), earlier.tolist(), strict=True):
        if keepers[one] == one and keepers[before] == before:
            keepers[one] = before
    return np.array(keepers, np.int64)


def _close_pairs(values: NDArray[np.uint64], distance: int) -> tuple[Indices, Indices] | None:
    """All pairs (later, earlier) of distinct values within the distance, sorted; None where they are too many."""
    codes, found, count = [np.empty(0, np.int64)], 0, len(values)
    for mask in _masks(values, distance):
        order, reach = _buckets(values & mask)
        ordered = values[order]
        for k, end in enumerate(reach, start=1):
            at = np.flatnonzero(np.bitwise_count(ordered[k:end] ^ ordered[: end - k]) <= distance)
            if len(at):
                one, two = order[at], order[at + k]
                codes.append(np.maximum(one, two) * count + np.minimum(one, two))
                found += len(at)
            if found > _MOST_PAIRS + 2 * count:
                return None
    later, earlier = np.divmod(np.sort(np.concatenate(codes)), max(count, 1))
    return later, earlier


def _buckets(keys: NDArray[np.uint64]) -> tuple[Indices, list[int]]:
    """Order the keys so that equal ones adjoin, the most frequent first.

    Entries ``k`` places apart have equal keys only among the first ``reach[k - 1]``: the buckets larger than ``k``.
    """
    order = np.argsort(keys)
    ordered = keys[order]
    sizes = np.diff(np.r_[0, np.flatnonzero(ordered[1:] != ordered[:-1]) + 1, len(keys)])
    in_buckets_of = np.bincount(sizes, weights=sizes).astype(int)
    reach = len(keys) - np.cumsum(in_buckets_of)[1:-1]
    return order[np.argsort(np.repeat(-sizes, sizes), kind="stable")], reach.tolist()


def _near(
    values: NDArray[np.uint64], others: NDArray[np.uint64], distance: int
) -> Iterator[tuple[Indices, Indices, NDArray[np.uint8]]]:
    """Indices into ``values`` (each at most once a time), into ``others``, and their distances where small enough."""
    for mask in _masks(others, distance):
        order = np.argsort(others & mask)
        keys, ordered = (others & mask)[order], others[order]
        start, end = (np.searchsorted(keys, values & mask, side=side) for side in ("left", "right"))
        rows = np.flatnonzero(start < end)
        while len(rows):
            apart = np.bitwise_count(values[rows] ^ ordered[start[rows]])
            close = apart <= distance
            yield rows[close], order[start[rows[close]]], apart[close]
            start[rows] += 1
            rows = rows[start[rows] < end[rows]]


def _masks(values: NDArray[np.uint64], distance: int) -> list[np.uint64]:
    """Bit masks such that hashes within the distance agree under one of them: the set that promises the least work.

    Of d + a blocks of bits, hashes that differ in d bits agree in at least a (the pigeonhole principle). More agreeing
    blocks mean more masks to sort by and fewer entries that collide under each; none means to compare all with all.
    """
    sample = values[:: len(values) // 2048 + 1]
    return min((_agreeing(distance, a) for a in range(4)), key=lambda masks: _work(sample, len(values), masks))


def _agreeing(distance: int, blocks: int) -> list[np.uint64]:
    edges = np.linspace(0, BITS, distance + blocks + 1).astype(int)
    parts = [(1 << int(high)) - (1 << int(low)) for low, high in pairwise(edges)]
    return [np.uint64(sum(chosen)) for chosen in combinations(parts, blocks)]


def _work(sample: NDArray[np.uint64], count: int, masks: list[np.uint64]) -> float:
    """Comparisons an entry, a sort counted as its like; collisions as in the sample under 16 of the masks."""
    tried = masks[:: len(masks) // 16 + 1]
    sizes = [np.unique(sample & mask, return_counts=True)[1] for mask in tried]
    pairs = sum(float((size * (size - 1)).sum()) for size in sizes) / len(tried)
    return len(masks) * (_SORT + count * pairs / max(len(sample) * (len(sample) - 1), 1))
