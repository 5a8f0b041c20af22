"""Readers of Places365 and of folders for outpainting: layouts, classes, masks of one's own."""

from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.sources.scenes import outpainting, places


def touched(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


@pytest.mark.parametrize(
    ("name", "id_", "category"),
    [
        ("places365_standard/val/a/abbey.jpg", "a/abbey", "a"),
        ("val/airfield/1.jpg", "airfield/1", "airfield"),
        ("val_256/Places365_val_00000001.jpg", "Places365_val_00000001", ""),
        ("places/val_large/Places365_val_00000001.jpg", "Places365_val_00000001", ""),
    ],
)
def test_every_layout_of_places(tmp_path: Path, name: str, id_: str, category: str):
    touched(tmp_path / name)
    (pair,) = places(tmp_path)
    assert (pair.id, pair.category, pair.truth, pair.licence) == (id_, category, "hidden", "places2-terms")
    (mask,) = pair.masks["drawn"]
    assert (mask.format, mask.seed, pair.drop) == ("free-form", id_, "")


def test_masks_beside_the_pictures_are_given_where_there_is_one(tmp_path: Path):
    touched(*(tmp_path / f"val/abbey/{name}.jpg" for name in "ab"), tmp_path / "masks/abbey/b.png")
    lacking, whole = places(tmp_path)
    assert whole.masks["given"][0].file.path == tmp_path / "masks/abbey/b.png"
    assert (set(lacking.masks), lacking.drop) == ({"drawn"}, "")


def test_no_places(tmp_path: Path):
    touched(tmp_path / "train/abbey/a.jpg")
    with pytest.raises(UsageError, match="expected Places365 in val, val_256, val_large"):
        list(places(tmp_path))


def test_pictures_to_be_outpainted_may_lie_anywhere(tmp_path: Path):
    touched(tmp_path / "a.jpg", tmp_path / "x/y/b.PNG", tmp_path / "x/notes.txt", tmp_path / ".hidden/c.jpg")
    found = list(outpainting(tmp_path))
    assert [pair.id for pair in found] == ["a.jpg", "x/y/b.PNG"]
    assert {pair.masks["outside"][0].format for pair in found} == {"outside-crop"}
