"""The leak check: a benchmark's pictures do not get into a build, as they are or nearly so."""

import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from skimage import data

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.leaks import hash_files
from layerkit.toolkit.images import encode_jpeg, encode_png

RECIPE = """
[[mix]]
name = "paste"
share = 1
route = "paste"
foregrounds = "embedded"
backgrounds = "photos"
"""


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("astronaut", "coffee", "rocket"):
        (folder / f"{name}.png").write_bytes(encode_png(getattr(data, name)()))
    return folder


@pytest.fixture
def benchmark(tmp_path: Path, photos: Path) -> Path:
    """An exact copy of one photograph, another one smaller and as JPEG, a file that is no picture, a broken one."""
    folder = tmp_path / "benchmark"
    (folder / "GT").mkdir(parents=True)
    (folder / "GT" / "copy.png").write_bytes((photos / "astronaut.png").read_bytes())
    small = cv2.resize(data.coffee(), (300, 200), interpolation=cv2.INTER_AREA)
    (folder / "GT" / "small.jpg").write_bytes(encode_jpeg(small, 80))
    (folder / "notes.txt").write_text("nothing")
    (folder / "broken.png").write_bytes(b"\x89PNG")
    (folder / "black.png").write_bytes(encode_png(np.zeros((64, 64, 3), np.uint8)))
    return folder


def build(build_demo: Callable, tmp_path: Path, photos: Path, excludes: dict[str, Path], **overrides: object) -> object:
    (tmp_path / "r.toml").write_text(RECIPE)
    given = {"recipe": str(tmp_path / "r.toml"), "roots": {"photos": photos}, "excludes": excludes, **overrides}
    return build_demo(tmp_path / "out", exclude=tuple(excludes), **given)


def test_exact_and_near_copies_are_refused_and_named(
    build_demo: Callable, tmp_path: Path, photos: Path, benchmark: Path
):
    funnel = build(build_demo, tmp_path, photos, {"rord": benchmark})
    assert funnel.sources_dropped["leak"] == 3  # the embedded photograph of the cup as well
    assert funnel.sources_kept["paste backgrounds"] == 1
    lines = (tmp_path / "out" / ".layerkit" / "pools" / "paste-background.rejects.jsonl").read_text().splitlines()
    told = {row["id"]: row["drop"]["detail"] for row in map(json.loads, lines)}
    assert told == {
        "astronaut.png": "is rord:GT/copy.png",
        "coffee.png": "looks like rord:GT/small.jpg",
    }
    card = (tmp_path / "out" / "README.md").read_text()
    assert "| rord | 5 | 1 | 2 |" in card
    lock = (tmp_path / "out" / "manifests" / "recipe.lock.toml").read_text()
    assert '[[excluded]]\nname = "rord"\nfiles = 5' in lock


def test_without_near_duplicates_only_exact_copies_leak(
    build_demo: Callable, tmp_path: Path, photos: Path, benchmark: Path
):
    (tmp_path / "out").mkdir()
    (tmp_path / "r.toml").write_text(RECIPE + "filters = { near_duplicate = -1 }\n")
    funnel = build_demo(
        tmp_path / "out",
        recipe=str(tmp_path / "r.toml"),
        roots={"photos": photos},
        excludes={"rord": benchmark},
        exclude=("rord",),
    )
    assert funnel.sources_dropped["leak"] == 1


def test_a_foreground_leaks_by_the_photograph_that_it_was_cut_from(build_demo: Callable, tmp_path: Path, photos: Path):
    benchmark = tmp_path / "coffee"
    benchmark.mkdir()
    cropped = data.coffee()[4:-4, 4:-4]
    (benchmark / "a.png").write_bytes(encode_png(cropped))
    build(build_demo, tmp_path, photos, {"mine": benchmark})
    lines = (tmp_path / "out" / ".layerkit" / "pools" / "paste-foreground.rejects.jsonl").read_text().splitlines()
    leaked = [row["id"] for row in map(json.loads, lines) if row["drop"]["reason"] == "leak"]
    assert leaked == ["coffee/cup"]


def test_a_benchmark_that_nobody_located(build_demo: Callable, tmp_path: Path, photos: Path):
    (tmp_path / "r.toml").write_text('exclude = ["rord"]\n' + RECIPE)
    with pytest.raises(UsageError, match=r"excludes 'rord'.*add --exclude rord=DIR"):
        build_demo(tmp_path / "out", recipe=str(tmp_path / "r.toml"), roots={"photos": photos})


def test_a_benchmark_without_files(build_demo: Callable, tmp_path: Path, photos: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="expected a folder with files"):
        build(build_demo, tmp_path, photos, {"rord": tmp_path / "empty"})


def test_files_are_hashed_whatever_they_are(benchmark: Path):
    paths = sorted(path for path in benchmark.rglob("*") if path.is_file())
    rows = {row.file: row for row in hash_files((benchmark, paths))}
    assert rows["GT/copy.png"].phash != 0
    assert [rows[name].phash for name in ("notes.txt", "broken.png", "black.png")] == [0, 0, 0]
    assert len({row.sha256 for row in rows.values()}) == 5
