"""Pools: near-duplicates are dropped by name, rows survive the file, pixels the bound of memory."""

from pathlib import Path

import numpy as np
import pytest

from layerkit.manifests.errors import RunError
from layerkit.pipelines.cache import Cache
from layerkit.pipelines.filters import Drop, all_scores
from layerkit.pipelines.pools import Pixels, Pool, chunks, without_near_duplicates, write_pool
from layerkit.pipelines.prepare import Prepared
from layerkit.toolkit.images import encode_png

BITS = 0xF0F0_F0F0_F0F0_F0F0


def row(name: str, **values: object) -> Prepared:
    text = {"source": "photos", "path": f"/{name}", "licence": "mit", "author": "", "url": "", "caption": ""}
    return Prepared(**{"use": "background", "id": name, "group": name, "sha256": name * 8, **text, **values})


def test_chunks():
    assert [len(chunk) for chunk in chunks([row("a")] * 10, 4)] == [4, 4, 2]
    assert list(chunks([], 4)) == []


def test_a_near_duplicate_is_dropped_with_distance_and_name():
    rows = [
        row("a", phash=BITS),
        row("b", phash=BITS ^ 0b111),
        row("c", phash=BITS ^ (2**40 - 1)),
        row("d", phash=BITS),
    ]
    out = without_near_duplicates(rows, 4)
    assert [one.drop for one in out] == [
        None,
        Drop("near_duplicate", 3, 4, "looks like a"),
        None,
        Drop("near_duplicate", 0, 4, "looks like a"),
    ]
    assert [one.id for one in out] == ["a", "b", "c", "d"]


@pytest.mark.parametrize(("distance", "dropped"), [(2, []), (3, ["b"]), (-1, [])])
def test_the_distance_is_the_last_that_counts(distance: int, dropped: list[str]):
    rows = [row("a", phash=BITS), row("b", phash=BITS ^ 0b111)]
    assert [one.id for one in without_near_duplicates(rows, distance) if one.drop] == dropped


def test_what_was_dropped_already_counts_for_nothing():
    rows = [row("a", phash=BITS, drop=Drop("haze", 1, 0.4)), row("b", phash=BITS), row("c", phash=BITS)]
    assert [one.drop.reason if one.drop else "" for one in without_near_duplicates(rows, 4)] == [
        "haze",
        "",
        "near_duplicate",
    ]


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
        row("dropped", drop=Drop("haze", 1, 0.4)),
        row("b", bundle="f" * 64, stance="lying"),
    ]
    assert write_pool(tmp_path / "pool.arrow", rows) == 2
    pool = Pool(tmp_path / "pool.arrow")
    assert [pool[k] for k in range(len(pool))] == [rows[0], rows[2]]


def test_equal_rows_give_equal_bytes(tmp_path: Path):
    for name in ("one", "two"):
        write_pool(tmp_path / name, [row("a", scores={"haze": 0.1}), row("b")])
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
