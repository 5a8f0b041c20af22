"""DESOBAv2's reader: lists with and without endings, six folders, and what is missing."""

from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.sources.desobav2 import pairs

FOLDERS = (
    "shadow_imgs",
    "shadowfree_imgs",
    "object_masks",
    "shadow_masks",
    "background_object_masks",
    "background_shadow_masks",
)


def written(root: Path, listed: str, *stems: str) -> Path:
    for folder in FOLDERS:
        (root / folder).mkdir(parents=True)
        for stem in stems:
            (root / folder / f"{stem}.jpg").touch()
    (root / "test.txt").write_text(listed)
    return root


def test_a_pair_keeps_its_object_and_has_masks_of_object_and_shadow(tmp_path: Path):
    root = written(tmp_path / "desobav2", "a\n\nb.jpg\nc.png\na\n", "a", "b", "c")
    found = list(pairs(tmp_path))
    assert [pair.id for pair in found] == ["a", "b", "c"]
    first = found[0]
    assert (first.truth, first.drop, first.scene) == ("shadow-free", "", "a")
    assert (first.image.path, first.background.path) == (root / "shadow_imgs/a.jpg", root / "shadowfree_imgs/a.jpg")
    assert [mask.file.path.parent.name for mask in first.masks["tight"]] == ["object_masks"]
    assert [mask.file.path.parent.name for mask in first.masks["loose"]] == ["object_masks", "shadow_masks"]
    assert {"object", "shadow", "background-object", "background-shadow"} <= set(first.masks)
    assert all(mask.white_is_object and mask.threshold == 127 for masks in first.masks.values() for mask in masks)


@pytest.mark.parametrize(
    ("folder", "reason"),
    [*zip(FOLDERS, ["missing_image", "missing_shadow_free", "missing_mask", "missing_mask", "", ""], strict=True)],
)
def test_a_missing_file_is_a_drop_where_it_is_needed(tmp_path: Path, folder: str, reason: str):
    written(tmp_path, "a\n", "a")
    (tmp_path / folder / "a.jpg").unlink()
    (pair,) = pairs(tmp_path)
    assert pair.drop.partition(":")[0] == reason
    assert not reason or str(tmp_path / folder / "a.jpg") in pair.drop


@pytest.mark.parametrize("name", ["../a", "/etc/passwd", "..", "x/../../a.jpg", "C:a"])
def test_a_name_that_leaves_the_folder_is_a_drop(tmp_path: Path, name: str):
    written(tmp_path, f"{name}\na\n", "a")
    bad, good = pairs(tmp_path)
    assert bad.drop.startswith("path_outside_root: ")
    assert good.drop == ""


def test_no_list_and_a_list_that_is_no_text_are_errors(tmp_path: Path):
    with pytest.raises(UsageError, match=r"test\.txt"):
        pairs(tmp_path)
    (tmp_path / "test.txt").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UsageError, match="UTF-8"):
        pairs(tmp_path)
