"""RORem's reader: triplets, files that are missing, and paths that would leave the root."""

import json
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from layerkit.manifests.entry import Seed
from layerkit.manifests.errors import UsageError
from layerkit.manifests.sources import entries, rorem
from layerkit.manifests.sources.rorem import index
from layerkit.pipelines.assets import read_mask

ROW = {"source": "source/x.png", "mask": "mask/x.png", "GT": "GT/x.png"}


def written(root: Path, rows: Any, files: tuple[str, ...] = tuple(ROW.values())) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / "meta.json").write_text(json.dumps(rows), encoding="utf-8")
    return root


def test_a_row_is_a_photograph_with_a_mask_over_a_clean_plate(tmp_path: Path) -> None:
    (entry,) = entries("rorem", {"rorem": written(tmp_path, [{**ROW, "score": 1}])})
    assert (entry.id, entry.kind, entry.uses, entry.drop) == ("source/x.png", "photo", ("cut",), "")
    assert (entry.path, entry.base) == (tmp_path / "source/x.png", tmp_path / "GT/x.png")
    assert entry.seeds == (Seed(mask=tmp_path / "mask/x.png", method="mask"),)
    assert entry.licence == "cc-by-nc-sa-4.0"


def test_two_masks_of_one_photograph_have_two_ids(tmp_path: Path) -> None:
    written(tmp_path, [ROW, {**ROW, "mask": "mask/y.png"}, ROW], (*ROW.values(), "mask/y.png"))
    assert [entry.id for entry in index(tmp_path)] == ["source/x.png", "source/x.png#1", "source/x.png#2"]


def test_archives_in_sub_folders_are_read_in_order(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        written(tmp_path / name, [ROW])
    assert [entry.id for entry in index(tmp_path)] == ["a/source/x.png", "b/source/x.png"]


@pytest.mark.parametrize(
    "path", ["../x.png", "source/../../x.png", "/etc/passwd", "..\\x.png", "C:\\x.png", "\\\\host\\x.png", "source/.."]
)
@pytest.mark.parametrize("key", list(ROW))
def test_no_path_leaves_the_root(tmp_path: Path, key: str, path: str) -> None:
    (entry,) = index(written(tmp_path, [{**ROW, key: path}]))
    assert entry.drop.startswith("path_outside_root: expected a path below ")
    assert repr(path) in entry.drop
    assert (entry.id, entry.path, entry.base, entry.seeds) == ("meta.json#0", tmp_path / "meta.json", None, ())


@given(st.text(st.sampled_from("a.:/\\\n"), max_size=7))
def test_what_leaves_a_folder_is_what_windows_and_posix_say(path: str) -> None:
    parsed = PureWindowsPath(path)
    leaves = bool(parsed.anchor) or ".." in parsed.parts
    assert rorem._leaves(path) == leaves or (":" in path and not leaves)  # of drives we refuse odd ones, too


@pytest.mark.parametrize(
    ("key", "reason"), [("source", "missing_image"), ("mask", "missing_mask"), ("GT", "missing_base_image")]
)
@pytest.mark.parametrize("path", ["gone.png", "a" * 5000, "nul\0.png", ""])
def test_a_missing_file_is_a_reason(tmp_path: Path, key: str, reason: str, path: str) -> None:
    (entry,) = index(written(tmp_path, [{**ROW, key: path}]))
    assert entry.drop.startswith(f"{reason}: expected {path[:200]} in ")


@pytest.mark.parametrize(
    ("score", "drop"), [(0, "rejected_by_source: its score is 0"), (1, ""), (0.4, ""), (None, ""), ("good", "")]
)
def test_a_removal_that_the_authors_rejected_is_a_reason(tmp_path: Path, score: Any, drop: str) -> None:
    (entry,) = index(written(tmp_path, [{**ROW, "score": score}]))
    assert (entry.id, entry.drop) == ("source/x.png", drop)


@pytest.mark.parametrize("row", [None, 3, "x", [], {}, {"source": "source/x.png"}, {**ROW, "mask": 1}])
def test_a_row_that_is_no_triplet_is_a_reason(tmp_path: Path, row: Any) -> None:
    first, second = index(written(tmp_path, [row, ROW]))
    assert first.drop.startswith("bad_row: expected an object with the texts source, mask, GT, got ")
    assert first.id == "meta.json#0"
    assert second.drop == ""


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'[\n{"source": 1},\n]', r"meta\.json:3: expected JSON: "),
        (b'[\n{"source": ', r"meta\.json:2: expected JSON: "),
        (b"", r"meta\.json:1: expected JSON: "),
        (b"{}", r"meta\.json:1: expected a list of objects, got dict"),
        (b'["\n\xff"]', r"meta\.json:2: expected UTF-8"),
        (b"[" * 100_000, r"meta\.json:1: expected a list of objects, got one nested too deeply"),
    ],
)
def test_what_is_no_list_is_refused_with_file_and_line(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "meta.json").write_bytes(data)
    with pytest.raises(UsageError, match=what):
        list(index(tmp_path))


def test_a_root_without_the_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"expected meta\.json in this folder"):
        list(index(tmp_path))


def test_white_is_the_object_in_real_masks_and_after_jpeg(shared_data: Path, tmp_path: Path) -> None:
    for path in sorted((shared_data / "rorem").rglob("mask_*.png")):
        grey = Image.open(path).convert("L")
        levels = np.asarray(grey)
        mask = read_mask(path)
        assert mask.mean() < 0.5  # of black for the object, this would be the rest of the scene
        assert mask[levels > 250].all()
        assert not mask[levels < 5].any()
        grey.save(tmp_path / "mask.jpg", quality=90)
        assert np.mean(read_mask(tmp_path / "mask.jpg") != mask) < 0.002


def test_grey_above_the_middle_is_the_object(tmp_path: Path) -> None:
    Image.fromarray(np.array([[0, 1, 127, 128, 254, 255]], np.uint8)).save(tmp_path / "mask.png")
    assert read_mask(tmp_path / "mask.png").tolist() == [[False, False, False, True, True, True]]


def test_real_pairs_make_entries(shared_data: Path, tmp_path: Path) -> None:
    pictures = sorted(path for path in (shared_data / "rorem").rglob("*") if path.suffix in {".png", ".jpg"})
    (tmp_path / "all").symlink_to(shared_data / "rorem")
    names = [(Path("all") / path.relative_to(shared_data / "rorem")).as_posix() for path in pictures]
    written(tmp_path, [{"source": name, "mask": name, "GT": name} for name in names], ())
    assert [entry.path.resolve() for entry in index(tmp_path)] == [path.resolve() for path in pictures]
