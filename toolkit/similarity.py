"""Near-duplicates: a perceptual hash, and exact search within a Hamming distance.

The hash is the DCT hash of Zauner (Implementation and Benchmarking of Perceptual Image Hash Functions, 2010): the signs
of the 8 x 8 lowest frequencies of a 32 x 32 grey thumbnail about their median.
"""

from itertools import pairwise
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

BITS = 64


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
    """Every entry that lies within ``distance`` bits of an *earlier* kept entry, and that entry.

    Entries are taken in order, so the first of a group is kept. Candidates come from the pigeonhole principle: two
    hashes that differ in at most d bits agree in one of d + 1 bands.

    Args:
        hashes: (N,) uint64.
        distance: largest Hamming distance that counts as a duplicate.

    Returns:
        {index of the duplicate: index of the entry kept in its place}.
    """
    pairs = sorted(_close_pairs(hashes, distance))
    duplicates: dict[int, int] = {}
    for later, earlier in pairs:
        if earlier not in duplicates and later not in duplicates:
            duplicates[later] = earlier
    return duplicates


def _close_pairs(hashes: NDArray[np.uint64], distance: int) -> set[tuple[int, int]]:
    pairs: set[tuple[int, int]] = set()
    edges = np.linspace(0, BITS, distance + 2).astype(int)
    for low, high in pairwise(edges):
        band = (hashes >> np.uint64(low)) & np.uint64((1 << int(high - low)) - 1)
        order = np.argsort(band, kind="stable")
        starts = np.flatnonzero(np.r_[True, np.diff(band[order]) != 0, True])
        for start, end in pairwise(starts):
            if end - start > 1:
                pairs |= _pairs_in(order[start:end], hashes, distance)
    return pairs


def _pairs_in(bucket: NDArray[Any], hashes: NDArray[np.uint64], distance: int) -> set[tuple[int, int]]:
    values = hashes[bucket]
    pairs = set()
    for k in range(len(bucket) - 1):
        near = np.flatnonzero(np.bitwise_count(values[k + 1 :] ^ values[k]) <= distance)
        pairs |= {(int(bucket[k + 1 + j]), int(bucket[k])) for j in near}
    return pairs
