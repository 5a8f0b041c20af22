"""The perceptual hash against its definition in scipy, and near-duplicates against brute force."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.fft import dctn

from layerkit.toolkit import similarity
from layerkit.toolkit.images import decode, encode_jpeg, read
from layerkit.toolkit.similarity import matches, near_duplicates, perceptual_hash


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


def flipped(values: np.ndarray, bits: int, rng: np.random.Generator) -> np.ndarray:
    """The values with up to ``bits`` bits flipped each."""
    for _ in range(bits):
        values = values ^ (np.uint64(1) << rng.integers(0, 64, len(values)).astype(np.uint64))
    return values


def random_hashes(rng: np.random.Generator) -> np.ndarray:
    return rng.integers(0, 2**64, 1500, dtype=np.uint64)


def close_to_some(rng: np.random.Generator) -> np.ndarray:
    return flipped(rng.permutation(np.repeat(random_hashes(rng)[:150], 10)), 3, rng)


def close_to_one(rng: np.random.Generator) -> np.ndarray:
    return flipped(np.zeros(1500, np.uint64), 4, rng)


def of_few_bits(rng: np.random.Generator) -> np.ndarray:
    return rng.permutation(1500).astype(np.uint64) << np.uint64(30)


def all_equal(rng: np.random.Generator) -> np.ndarray:
    return np.full(1500, rng.integers(0, 2**64, dtype=np.uint64))


@pytest.mark.parametrize("most_pairs", [0, 100_000])
@pytest.mark.parametrize("distance", [0, 4, 8])
@pytest.mark.parametrize("hashes_of", [random_hashes, close_to_some, close_to_one, of_few_bits, all_equal])
def test_near_duplicates_of_clusters_are_those_of_brute_force(monkeypatch, hashes_of, distance, most_pairs) -> None:
    monkeypatch.setattr(similarity, "_MOST_PAIRS", most_pairs)  # 0: the clusters are halved
    hashes = hashes_of(np.random.default_rng(distance))
    assert near_duplicates(hashes, distance) == first_kept_by_brute_force(hashes.tolist(), distance)


@pytest.mark.parametrize(("count", "distance"), [(20_000, 0), (20_000, 4), (5_000, 12)])
def test_planted_duplicates_are_found_among_many(count: int, distance: int) -> None:
    rng = np.random.default_rng(1)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)  # 12 bits apart by chance: 1 pair in 3 million
    copies = flipped(hashes[:500], distance, rng)
    found = near_duplicates(np.r_[hashes, copies], distance)
    assert {count + k: k for k in range(500)}.items() <= found.items()
    assert len(found) < 520


@pytest.mark.parametrize("blocks", [0, 1, 2, 3])
@pytest.mark.parametrize("distance", [0, 1, 4, 8, 64])
def test_hashes_within_the_distance_agree_under_one_of_the_masks(distance: int, blocks: int) -> None:
    masks = np.array(similarity._agreeing(distance, blocks), np.uint64)
    differing = flipped(np.zeros(100, np.uint64), distance, np.random.default_rng(2))
    assert ((differing[:, None] & masks) == 0).any(axis=1).all()


@pytest.mark.parametrize("distance", [0, 4, 8, 64])
@pytest.mark.parametrize("hashes_of", [random_hashes, close_to_some, close_to_one])
def test_matches_are_the_nearest_by_brute_force(hashes_of, distance: int) -> None:
    rng = np.random.default_rng(3)
    others = hashes_of(rng)[:400]
    hashes = np.r_[flipped(others[::3], 5, rng), others[:20], random_hashes(rng)[:200]]
    apart = np.bitwise_count(hashes[:, None] ^ others).astype(int)
    near = {k: int(j) for k, j in enumerate(apart.argmin(axis=1)) if apart[k, j] <= distance}
    assert matches(hashes, others, distance) == near


def test_nothing_matches_nothing() -> None:
    none, one = np.empty(0, np.uint64), np.zeros(1, np.uint64)
    assert near_duplicates(none, 4) == near_duplicates(one, 4) == {}
    assert matches(none, one, 4) == matches(one, none, 4) == {}
    assert matches(one, one, 0) == {0: 0}


def brute_clusters(hashes: np.ndarray, distance: int) -> list[set[int]]:
    """Components by depth-first search over all pairs."""
    close = np.bitwise_count(hashes[:, None] ^ hashes[None]) <= distance
    left, found = set(range(len(hashes))), []
    while left:
        stack, reached = [min(left)], set()
        while stack:
            one = stack.pop()
            if one not in reached:
                reached.add(one)
                stack += np.flatnonzero(close[one]).tolist()
        found.append(reached)
        left -= reached
    return found


@pytest.mark.parametrize("distance", [0, 2, 4, 8])
@pytest.mark.parametrize("most_pairs", [4_000_000, 50])
def test_clusters_are_the_components_of_closeness(distance: int, most_pairs: int, monkeypatch: pytest.MonkeyPatch):
    from layerkit.toolkit import similarity

    monkeypatch.setattr(similarity, "_MOST_PAIRS", most_pairs)
    rng = np.random.default_rng(distance)
    hashes = rng.integers(0, 2**64, 40, dtype=np.uint64)
    for _ in range(12):  # chains of small steps
        steps = np.uint64(1) << rng.integers(0, 64, len(hashes[:40]), dtype=np.uint64)
        hashes = np.concatenate([hashes, hashes[-40:] ^ steps])
    labels = similarity.clusters(hashes, distance)
    assert sorted(map(sorted, brute_clusters(hashes, distance))) == sorted(
        np.flatnonzero(labels == one).tolist() for one in set(labels.tolist())
    )


def test_hashes_without_detail_are_alike_to_nothing():
    from layerkit.toolkit.similarity import clusters

    hashes = np.array([0, 0, 1 << 63, 1 << 63, 7, 7], np.uint64)
    assert len(set(clusters(hashes, 4).tolist())) == 5
    assert len(set(clusters(hashes[:0], 4).tolist())) == 0
    assert len(set(clusters(hashes, -1).tolist())) == 6
