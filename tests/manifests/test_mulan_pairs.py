"""MuLAn for benchmarks: the half over COCO, by both layouts."""

from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.sources.mulan_pairs import pairs


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def test_an_annotation_goes_with_its_photograph(tmp_path: Path):
    touched(tmp_path, "a/000000000139.p.zl", "a/000010005.p.zl", "val2017/000000000139.jpg", "laion/000010005.jpg")
    (pair,) = pairs(tmp_path)
    assert (pair.id, pair.kind, pair.licence) == ("000000000139", "mulan", "cc-by-nc-sa-4.0")
    assert (pair.image.path, pair.background.path) == (
        tmp_path / "a/000000000139.p.zl",
        tmp_path / "val2017/000000000139.jpg",
    )
    assert [one.id for one in pairs(tmp_path, "all")] == ["000000000139", "000010005"]


def test_rendered_layers_need_no_photograph(tmp_path: Path):
    (pair,) = pairs(touched(tmp_path, "000000000139-layer_0.png", "000000000139-layer_1.png"))
    assert (pair.image.path.name, pair.background, pair.drop) == ("000000000139-layer_0.png", None, "")


def test_a_missing_photograph_is_a_drop(tmp_path: Path):
    (pair,) = pairs(touched(tmp_path, "000000000139.p.zl"))
    assert pair.drop.startswith("missing_base_image: ")


def test_ids_without_their_zeros_are_coco_s_unless_the_folder_says_laion(tmp_path: Path):
    touched(tmp_path, "coco/139.p.zl", "train2017/000000000139.jpg", "LAION/140.p.zl")
    assert [pair.id for pair in pairs(tmp_path)] == ["139"]


def test_laion_s_half_alone_is_an_error(tmp_path: Path):
    with pytest.raises(UsageError, match="over COCO"):
        pairs(touched(tmp_path, "000010005.p.zl", "x/000010005.jpg"))
