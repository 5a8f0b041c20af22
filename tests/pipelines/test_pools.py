"""Pools: near-duplicates are dropped by name, rows survive the file, pixels the bound of memory."""

from pathlib import Path

import numpy as np
import pytest

from layerkit.manifests.errors import RunError
from layerkit.pipelines.cache import Cache
from layerkit.pipelines.fill import chunks
from layerkit.pipelines.filters import all_scores
from layerkit.pipelines.pool_file import copy_rows, open_table, write_rows
from layerkit.pipelines.pools import Pixels, Pool
from layerkit.pipelines.prepare import Prepared
from layerkit.toolkit.images import encode_png


def row(name: str, **values: object) -> Prepared:
    text = {"source": "photos", "path": f"/{name}", "licence": "mit", "author": "", "url": "", "caption": ""}
    return Prepared(**{"use": "background", "id": name, "group": name, "sha256": name * 8, **text, **values})


def test_chunks():
    assert [len(chunk) for chunk in chunks([row("a")] * 10, 4)] == [4, 4, 2]
    assert list(chunks([], 4)) == []


def test_rows_survive_the_file(tmp_path: Path):
    rows = [
        row(
            "ä/ö",
            phash=2**64 - 1,
            height=3,
            width=5,
            ground=0.25,
            scores=all_scores({"haze": 0.1}),
            models={"m": "n@1"},
        ),
        row("b", bundle="f" * 64, stance="lying"),
    ]
    write_rows(tmp_path / "pool.arrow", rows)
    pool = Pool(tmp_path / "pool.arrow")
    assert [pool[k] for k in range(len(pool))] == rows


@pytest.mark.parametrize("number", [0, 1, 5000])
def test_rows_are_copied_by_a_mask(tmp_path: Path, number: int):
    write_rows(tmp_path / "pool.arrow", (row(f"r{k}") for k in range(number)))
    table = open_table(tmp_path / "pool.arrow")
    copy_rows(table, np.arange(number) % 3 == 0, tmp_path / "copy.arrow")
    assert open_table(tmp_path / "copy.arrow").column("id").to_pylist() == [f"r{k}" for k in range(0, number, 3)]


def test_a_pool_draws_from_its_split_alone(tmp_path: Path):
    path = tmp_path / "pool.arrow"
    write_rows(path, [row(f"{group}/{k}", group=group) for group in "abcd" for k in range(3)])
    np.save(path.with_suffix(".splits.npy"), np.repeat(np.array([0, 1, 0, 2], np.uint8), 3))
    rng = np.random.default_rng(0)
    for split, groups in (("train", {"a", "c"}), ("val", {"b"}), ("test", {"d"})):
        pool = Pool(path, split)
        assert {pool[pool.draw(rng)].group for _ in range(60)} == groups
        assert len(pool) == 3 * len(groups)


def test_equal_rows_give_equal_bytes(tmp_path: Path):
    for name in ("one", "two"):
        write_rows(tmp_path / name, [row("a", scores={"haze": 0.1}), row("b")])
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16, 4), dtype=np.uint8)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "cache")
    for seed in range(3):
        cache.put(str(seed) * 64, {"foreground.png": encode_png(picture(seed)), "json": b"{}"})
    return cache


def test_pixels_come_back_within_the_bound_of_memory(cache: Cache):
    pixels = Pixels(cache, memory=1)
    for seed in (0, 1, 2, 0, 0):
        drawn = pixels.of(row("a", use="foreground", bundle=str(seed) * 64))
        np.testing.assert_array_equal(drawn["foreground"], picture(seed))
    assert len(pixels._kept) == 1


def test_pixels_are_kept_where_memory_allows(cache: Cache):
    pixels = Pixels(cache)
    drawn = [pixels.of(row("a", use="foreground", bundle=str(seed) * 64)) for seed in (0, 1, 0)]
    assert drawn[0] is drawn[2]


def test_a_lost_bundle_is_an_error_that_says_what_to_do(cache: Cache):
    cache.path("1" * 64).unlink()
    with pytest.raises(RunError, match=r"the cache lost what was prepared of /a .*\.layerkit/pools"):
        Pixels(cache).of(row("a", use="foreground", bundle="1" * 64))


@pytest.mark.parametrize("content", [None, b"another"])
def test_a_source_that_changed_is_an_error(cache: Cache, tmp_path: Path, content: bytes | None):
    path = tmp_path / "photo.png"
    if content:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"photo\.png.*put it back or start anew with --overwrite"):
        Pixels(cache).of(row("a", path=str(path)))
