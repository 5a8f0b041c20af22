"""Feature vectors by content: what is known is not looked at again."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from layerkit.benchmarks.features_cache import FeatureCache


class Extractor:
    """Means of the channels; counts how it is used."""

    def __init__(self) -> None:
        self.loads, self.pictures = 0, 0

    def load(self) -> "Extractor":
        self.loads += 1
        return self

    def __call__(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        self.pictures += len(pictures)
        return np.array([picture.mean(axis=(0, 1)) for picture in pictures], np.float32)


def picture(seed: int, *size: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (*(size or (8, 6)), 3), dtype=np.uint8)


def test_a_picture_is_looked_at_once(tmp_path: Path):
    extractor = Extractor()
    cache = FeatureCache(tmp_path, "r 1", extractor.load)
    names = cache.put([picture(0), picture(1), picture(0)])
    assert (names[0], extractor.pictures) == (names[2], 2)
    np.testing.assert_array_equal(cache.get(names[1]), picture(1).mean(axis=(0, 1)).astype(np.float32))
    again = FeatureCache(tmp_path, "r 1", extractor.load)
    assert again.put([picture(1), picture(0)]) == [names[1], names[0]]
    assert (extractor.loads, extractor.pictures) == (1, 2)
    again.put([picture(0), picture(2)])
    assert (extractor.loads, extractor.pictures) == (2, 3)


def test_other_weights_and_other_shapes_are_other_vectors(tmp_path: Path):
    extractor = Extractor()
    flat, tall = picture(0, 4, 8), picture(0, 4, 8).reshape(8, 4, 3)
    cache = FeatureCache(tmp_path, "r 1", extractor.load)
    assert len(set(cache.put([flat, tall]))) == 2
    other = FeatureCache(tmp_path, "r 2", extractor.load)
    assert other.put([flat])[0] == cache.put([flat])[0]
    assert extractor.pictures == 3


def test_a_view_is_the_picture_that_it_shows(tmp_path: Path):
    whole = picture(0, 10, 10)
    cache = FeatureCache(tmp_path, "r 1", Extractor().load)
    assert cache.put([whole[2:7, ::2]]) == cache.put([np.ascontiguousarray(whole[2:7, ::2])])


def test_an_emptied_cache_says_so(tmp_path: Path):
    cache = FeatureCache(tmp_path, "r 1", Extractor().load)
    (name,) = cache.put([picture(0)])
    assert cache.has(name)
    (path,) = tmp_path.rglob("*.npy")
    path.write_bytes(b"half")
    assert cache.get(name) is None
    path.unlink()
    assert (cache.has(name), cache.get(name)) == (False, None)
    assert cache.put([picture(0)]) == [name]
    assert cache.has(name)
