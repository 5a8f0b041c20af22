"""Readers of RemovalBench and AIM-500: folders whose files share their stems."""

import json
from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.sources.same_stems import aim, removalbench


def laid(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_removalbench(tmp_path: Path):
    laid(tmp_path / "RemovalBench", *(f"{folder}/{k}.png" for folder in ("images", "masks", "gt") for k in (1, 2, 3)))
    laid(tmp_path / "RemovalBench", "images/._1.png", "masks/._1.png", "gt/._1.png")
    (tmp_path / "RemovalBench/masks/2.png").unlink()
    (tmp_path / "RemovalBench/gt/3.png").unlink()
    first, second, third = removalbench(tmp_path)
    assert (first.id, first.truth, first.drop, first.background.path.parent.name) == ("1", "background", "", "gt")
    assert [one.drop.partition(":")[0] for one in (second, third)] == ["missing_mask", "missing_plate"]
    with pytest.raises(UsageError, match="expected images/, masks/, gt/"):
        list(removalbench(tmp_path / "RemovalBench/gt"))


def test_aim_has_alphas_trimaps_and_categories(tmp_path: Path):
    top = tmp_path / "validation"
    laid(top, *(f"original/o_{k}.jpg" for k in (1, 2, 3)), *(f"mask/o_{k}.png" for k in (1, 2)), "trimap/o_1.png")
    (tmp_path / "aim_category_type.json").write_text(json.dumps({"o_1": {"type": "SO", "category": "animal"}}))
    whole, *lacking = aim(tmp_path)
    assert (whole.id, whole.category, whole.truth, whole.background) == ("o_1", "animal", "alpha", None)
    assert whole.foreground.path == top / "mask/o_1.png"
    assert set(whole.masks) == {"tight", "loose"}
    assert [one.drop.partition(":")[0] for one in lacking] == ["missing_trimap", "missing_alpha"]


@pytest.mark.parametrize("table", ["{", "[]", '{"o_1": 3}', '{"o_1": {}}'])
def test_a_broken_table_of_categories_is_named(tmp_path: Path, table: str):
    laid(tmp_path, "original/o_1.jpg", "mask/o_1.png", "trimap/o_1.png")
    (tmp_path / "aim_category_type.json").write_text(table)
    with pytest.raises(UsageError, match="expected an object with a category"):
        list(aim(tmp_path))
