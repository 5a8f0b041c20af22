"""The perceptual hash against its definition in scipy, and near-duplicates against brute force."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dctn

from layerkit.toolkit.images import decode, encode_jpeg, read
from layerkit.toolkit.similarity import near_duplicates, perceptual_hash


def hamming(a: int, b: int) -> int:
    return (a ^ b).bit_count()


def by_definition(grey: np.ndarray) -> int:
    low = dctn(grey.astype(np.float64), norm="ortho")[:8, :8].ravel()
    bits = low > np.median(low[1:])
    return int("".join("1" if bit else "0" for bit in bits), 2)


def scene(seed: int, size: int = 200) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)


def first_kept_by_brute_force(hashes: list[int], distance: int) -> dict[int, int]:
    kept: list[int] = []
    duplicates: dict[int, int] = {}
    for k, value in enumerate(hashes):
        near = [j for j in kept if hamming(hashes[j], value) <= distance]
        if near:
            duplicates[k] = near[0]
        else:
            kept.append(k)
    return duplicates


@pytest.mark.parametrize("seed", range(20))
def test_the_hash_is_the_sign_of_the_low_frequencies_about_their_median(seed: int) -> None:
    grey = cv2.cvtColor(scene(seed, 32), cv2.COLOR_RGB2GRAY)  # 32 px: no resize
    assert hamming(perceptual_hash(grey), by_definition(grey)) <= 1  # float32 may turn a frequency at the median
    assert 0 <= perceptual_hash(grey) < 2**64


def test_copies_stay_close_and_other_pictures_far() -> None:
    scenes = [scene(seed) for seed in range(30)]
    hashes = [perceptual_hash(picture) for picture in scenes]
    for picture, own in zip(scenes, hashes, strict=True):
        assert hamming(own, perceptual_hash(decode(encode_jpeg(picture, 60)))) <= 4
        assert hamming(own, perceptual_hash(cv2.resize(picture, (150, 150), interpolation=cv2.INTER_AREA))) <= 4
        assert hamming(own, perceptual_hash(np.clip(picture * 0.8 + 20, 0, 255).astype(np.uint8))) <= 6
    distances = [hamming(a, b) for k, a in enumerate(hashes) for b in hashes[:k]]
    assert min(distances) > 10


def test_real_photographs_keep_their_hash_when_they_are_shrunk_and_compressed(shared_data: Path) -> None:
    photos = [read(path) for path in sorted((shared_data / "kodak").rglob("*.png"))]
    hashes = [perceptual_hash(photo) for photo in photos]
    assert len(photos) > 2
    for photo, own in zip(photos, hashes, strict=True):
        half = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        assert hamming(own, perceptual_hash(decode(encode_jpeg(half, 70)))) <= 4
    assert min(hamming(a, b) for k, a in enumerate(hashes) for b in hashes[:k]) > 10


def test_hidden_colour_does_not_reach_the_hash() -> None:
    layer = np.dstack([scene(0), np.zeros((200, 200), np.uint8)])
    layer[50:150, 50:150, 3] = 255
    other = layer.copy()
    other[layer[..., 3] == 0, :3] = 255 - other[layer[..., 3] == 0, :3]
    assert perceptual_hash(layer) == perceptual_hash(other)


@given(
    st.lists(st.integers(0, 2**64 - 1), max_size=25),
    st.lists(st.tuples(st.integers(0, 24), st.sets(st.integers(0, 63), max_size=9)), max_size=25),
    st.integers(0, 12),
)
def test_near_duplicates_are_those_of_brute_force(
    values: list[int], planted: list[tuple[int, set[int]]], distance: int
) -> None:
    for source, bits in planted:
        if values:
            values.append(values[source % len(values)] ^ sum(1 << bit for bit in bits))
    found = near_duplicates(np.array(values, np.uint64), distance)
    assert found == first_kept_by_brute_force(values, distance)


def test_near_duplicates_in_a_large_set() -> None:
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 3000, dtype=np.uint64)
    for k in range(0, 3000, 10):
        flips = rng.choice(64, rng.integers(0, 8), replace=False)
        hashes[k] = hashes[(k * 7 + 3) % 3000] ^ np.bitwise_or.reduce(np.uint64(1) << flips.astype(np.uint64))
    assert near_duplicates(hashes, 4) == first_kept_by_brute_force(hashes.tolist(), 4)
