"""Reader of MISATO: the two folders, the names of their masks, categories by number."""

from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.sources.misato import pairs


def laid(root: Path, split: str, *names: str, masks: tuple[str, ...]) -> Path:
    for folder, found in (("image", names), ("mask", masks)):
        (root / split / folder).mkdir(parents=True, exist_ok=True)
        for name in found:
            (root / split / folder / name).write_bytes(b"")
    return root


def test_numbers_are_categories(tmp_path: Path):
    names = [f"{number:04d}.png" for number in (0, 499, 500, 999, 1000, 1499, 1500, 1999, 2000)]
    found = list(pairs(laid(tmp_path, "512", *names, masks=tuple(names))))
    assert [pair.category for pair in found] == [
        *("outdoor landscape",) * 2,
        *("indoor",) * 2,
        *("building",) * 2,
        *("background",) * 2,
        "",
    ]
    assert [pair.id for pair in found] == [name.removesuffix(".png") for name in names]
    assert {pair.truth for pair in found} == {"hidden"}
    assert {pair.licence for pair in found if pair.category == "indoor"} == {"matterport3d-terms"}
    assert {pair.licence for pair in found if pair.category != "indoor"} == {"unknown"}


def test_masks_of_1024_px_have_two_more_noughts(tmp_path: Path):
    laid(tmp_path / "MISATO", "1024", "0000.png", "0700.png", masks=("000000.png", "000700.png"))
    found = list(pairs(tmp_path, "1024"))
    assert [pair.masks["given"][0].file.path.name for pair in found] == ["000000.png", "000700.png"]
    assert [pair.category for pair in found] == ["outdoor landscape", "indoor"]
    with pytest.raises(UsageError, match="512/image and 512/mask"):
        pairs(tmp_path, "512")


def test_a_name_that_is_no_number_has_no_category_and_a_missing_mask_is_a_drop(tmp_path: Path):
    laid(tmp_path, "512", "a.png", "²3.png", "0001.png", masks=("a.png", "²3.png"))
    lacking, *named = pairs(tmp_path)
    assert [pair.category for pair in named] == ["", ""]
    assert lacking.drop.startswith("missing_mask: expected ")
    assert "000001.png or " in lacking.drop


def test_hidden_files_are_no_pictures(tmp_path: Path):
    laid(tmp_path, "512", "0001.png", "._0001.png", masks=("0001.png", "._0001.png"))
    assert [pair.id for pair in pairs(tmp_path)] == ["0001"]
