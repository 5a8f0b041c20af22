"""Splits by identity: what is one thing is in one split, whatever else there is."""

import json
from collections.abc import Callable
from itertools import combinations
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerkit.pipelines.pool_file import open_table, write_rows
from layerkit.pipelines.prepare import Prepared
from layerkit.pipelines.splits import assign, identify
from layerkit.toolkit.images import encode_png

BITS = 0xF0F0_F0F0_F0F0_F0F0
FAR = 0x00FF_00FF_00FF_00FF


def row(id_: str, **values: object) -> Prepared:
    text = {"source": "photos", "path": f"/{id_}", "licence": "mit", "author": "", "url": "", "caption": ""}
    return Prepared(**{"use": "background", "id": id_, "group": id_, "sha256": id_ * 8, **text, **values})


def identities(tmp_path: Path, *pools: list[Prepared], distance: int = 4) -> list[list[int]]:
    tables = []
    for k, rows in enumerate(pools):
        write_rows(tmp_path / f"{k}.arrow", rows)
        tables.append(open_table(tmp_path / f"{k}.arrow"))
    return [found.tolist() for found in identify(tables, distance)]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({}, {}, False),
        ({"group": "photo"}, {"group": "photo"}, True),
        ({"group": "photo"}, {"group": "photo", "source": "coco"}, False),
        ({"sha256": "ab"}, {"sha256": "ab", "source": "coco"}, True),
        ({"phash": BITS}, {"phash": BITS ^ 0b1111}, True),
        ({"phash": BITS}, {"phash": BITS ^ 0b11111}, False),
        ({"phash": BITS}, {"photo_phash": BITS}, True),
        ({"photo_phash": BITS}, {"photo_phash": BITS ^ 1, "source": "coco"}, True),
        ({"phash": 1 << 63}, {"phash": 1 << 63}, False),  # of one colour: the hash says nothing
    ],
)
def test_what_makes_two_rows_one_identity(tmp_path: Path, one: dict, other: dict, same: bool):
    first, second = identities(tmp_path, [row("a", **one)], [row("b", **other)])
    assert (first == second) == same


def test_identities_reach_through_others(tmp_path: Path):
    chain = [row("a", phash=BITS), row("b", phash=BITS ^ 0xF), row("c", phash=BITS ^ 0xFF, sha256="x")]
    pools = identities(tmp_path, chain, [row("d", sha256="x"), row("e", phash=FAR)])
    (a, b, c), (d, e) = pools
    assert a == b == c == d != e


def test_below_zero_looks_say_nothing(tmp_path: Path):
    (found,) = identities(tmp_path, [row("a", phash=BITS), row("b", phash=BITS)], distance=-1)
    assert found[0] != found[1]


@given(st.lists(st.integers(0, 400), min_size=3, max_size=300), st.integers(0, 2**32))
def test_each_split_of_a_pool_has_something_and_identities_stay_whole(ids: list[int], seed: int):
    ids = np.array(ids)
    hashes = np.random.default_rng(seed).integers(0, 2**64, 401, dtype=np.uint64)[ids]
    (codes,) = assign([ids], [hashes], {"train": 0.96, "val": 0.02, "test": 0.02})
    assert all(len(set(codes[ids == one])) == 1 for one in set(ids))
    if len(set(ids)) >= 3:
        assert set(codes) == {0, 1, 2}


def test_shares_are_kept_and_more_pictures_move_none():
    rng = np.random.default_rng(0)
    hashes = rng.integers(0, 2**64, 20_000, dtype=np.uint64)
    shares = {"train": 0.8, "val": 0.1, "test": 0.1}
    (all_,) = assign([np.arange(20_000)], [hashes], shares)
    (half,) = assign([np.arange(10_000)], [hashes[:10_000]], shares)
    assert np.bincount(all_) == pytest.approx([16_000, 2_000, 2_000], rel=0.1)
    np.testing.assert_array_equal(half, all_[:10_000])


def test_a_test_picture_stays_one_whatever_val_takes():
    hashes = np.random.default_rng(1).integers(0, 2**64, 5_000, dtype=np.uint64)
    codes = [assign([np.arange(5_000)], [hashes], {"train": 0.5, "val": val, "test": 0.1})[0] for val in (0.1, 0.3)]
    np.testing.assert_array_equal(codes[0] == 2, codes[1] == 2)


RECIPE = """
splits = { val = 0.25, test = 0.25 }
[[mix]]
name = "paste"
share = 1
route = "paste"
foregrounds = "rgba"
backgrounds = "photos"
"""


def noise(seed: int, channels: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    picture = np.kron(small, np.ones((16, 16, 1), np.uint8))
    if channels == 3:
        return picture
    alpha = np.zeros((96, 96), np.uint8)
    alpha[16:80, 16:80] = 255
    return np.dstack([picture, alpha])


def test_no_source_file_is_in_two_splits_of_a_build(build_demo: Callable, tmp_path: Path):
    for name, channels, number in (("photos", 3, 12), ("rgba", 4, 10)):
        (tmp_path / name).mkdir()
        for k in range(number):
            (tmp_path / name / f"{k:02d}.png").write_bytes(encode_png(noise(100 * channels + k, channels)))
    (tmp_path / "r.toml").write_text(RECIPE)
    roots = {name: tmp_path / name for name in ("photos", "rgba")}
    build_demo(tmp_path / "out", recipe=str(tmp_path / "r.toml"), count=24, roots=roots)
    rows = pq.read_table(tmp_path / "out" / "manifests" / "samples.parquet").to_pylist()
    files: dict[str, set[str]] = {}
    for one in rows:
        files.setdefault(one["split"], set()).update(layer["sha256"] for layer in one["layers"])
    assert set(files) == {"train", "val", "test"}
    assert all(not files[a] & files[b] for a, b in combinations(files, 2))
    stats = json.loads((tmp_path / "out" / "manifests" / "stats.json").read_text())
    assert {split: made["kept"] for split, made in stats["splits"].items()} == {"train": 12, "val": 6, "test": 6}
    card = (tmp_path / "out" / "README.md").read_text()
    assert "split: validation" in card
    assert "data/test-*.tar" in card


def test_a_pool_too_small_leaves_the_places_of_a_split_empty(build_demo: Callable, tmp_path: Path):
    for name, channels in (("photos", 3), ("rgba", 4)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "one.png").write_bytes(encode_png(noise(channels, channels)))
    (tmp_path / "r.toml").write_text(RECIPE)
    roots = {name: tmp_path / name for name in ("photos", "rgba")}
    funnel = build_demo(tmp_path / "out", recipe=str(tmp_path / "r.toml"), roots=roots)
    assert funnel.dropped["empty_split"] >= 6
    assert 0 < funnel.kept <= 6
