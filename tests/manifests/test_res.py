"""Reader of ReS: tasks in both directions, and in one where something of the subject is hidden."""

from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.sources.res import pairs


def laid(root: Path, *scenes: int) -> Path:
    root.mkdir(exist_ok=True)
    for scene in scenes:
        for name in ("1.jpg", "2.jpg", "1_mask.png", "2_mask.png"):
            (root / f"p{scene}_{name}").write_bytes(b"")
    return root


def test_two_tasks_a_scene_in_the_order_of_numbers(tmp_path: Path):
    found = list(pairs(laid(tmp_path / "ReS", 10, 2).parent))
    assert [pair.id for pair in found] == ["p2_1-to-2", "p2_2-to-1", "p10_1-to-2", "p10_2-to-1"]
    assert [pair.scene for pair in found] == ["p2", "p2", "p10", "p10"]
    back = found[1]
    assert (back.image.path.name, back.background.path.name) == ("p2_2.jpg", "p2_1.jpg")
    names = {role: files[0].file.path.name for role, files in back.masks.items()}
    assert names == {"tight": "p2_2_mask.png", "target": "p2_1_mask.png", "whole": "p2_2_mask.png"}
    assert (back.kind, back.truth) == ("moved", "repositioned")
    assert {pair.kind for pair in pairs(tmp_path, "scaled")} == {"scaled"}


@pytest.mark.parametrize(("hidden", "source"), [((2,), 2), ((1,), 1), ((1, 2), 1)])
def test_a_view_with_a_hidden_part_is_only_begun_from(tmp_path: Path, hidden: tuple[int, ...], source: int):
    laid(tmp_path, 1)
    for view in hidden:
        (tmp_path / f"p1_{view}_amodal.png").write_bytes(b"")
    (pair,) = pairs(tmp_path)
    assert pair.id == f"p1_{source}-to-{3 - source}"
    assert pair.masks["whole"][0].file.path.name == f"p1_{source}_amodal.png"


@pytest.mark.parametrize(
    ("gone", "reasons"),
    [
        ("p1_1.jpg", ("missing_image", "missing_view")),
        ("p1_2_mask.png", ("missing_target", "missing_mask")),
    ],
)
def test_what_is_missing_is_a_drop(tmp_path: Path, gone: str, reasons: tuple[str, str]):
    (laid(tmp_path, 1) / gone).unlink()
    found = list(pairs(tmp_path))
    assert tuple(pair.drop.partition(":")[0] for pair in found) == reasons
    assert all(str(tmp_path / gone) in pair.drop for pair in found)


def test_no_views(tmp_path: Path):
    (tmp_path / "p1.jpg").write_bytes(b"")
    with pytest.raises(UsageError, match=r"expected ReS, p1_1\.jpg"):
        pairs(tmp_path)
