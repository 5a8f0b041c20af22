"""MuLAn's reader: layouts, ids that clash, base pictures that are missing, and captions that are no CSV."""

from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.sources import entries
from layerkit.manifests.sources.mulan import index

COCO, LAION = "000000000110", "000010005"


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def table(root: Path, name: str, text: str) -> Path:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(text, encoding="utf-8")
    return root


# annotations


@pytest.mark.parametrize("folder", ["train2017", "val2017", "images/train2017", "coco/images/val2017"])
def test_an_annotation_finds_its_coco_picture(tmp_path: Path, folder: str) -> None:
    touch(tmp_path, f"annotations/{COCO}.p.zl", f"{folder}/{COCO}.jpg", f"{folder}/000000000111.jpg")
    (entry,) = entries("mulan", {"mulan": tmp_path})
    assert (entry.source, entry.id, entry.kind, entry.uses) == ("mulan", COCO, "layers", ("layers", "foreground"))
    assert entry.path == tmp_path / "annotations" / f"{COCO}.p.zl"
    assert entry.base == tmp_path / folder / f"{COCO}.jpg"
    assert entry.licence == "cc-by-nc-sa-4.0"
    assert entry.drop == ""


def test_a_laion_annotation_finds_its_picture_in_the_shards(tmp_path: Path) -> None:
    touch(tmp_path, f"{LAION}.p.zl", f"laion/00001/{LAION}.jpg", f"laion/00001/{LAION}.json")
    (entry,) = index(tmp_path)
    assert entry.base == tmp_path / "laion/00001" / f"{LAION}.jpg"


def test_a_missing_base_picture_is_a_reason_and_names_the_file(tmp_path: Path) -> None:
    touch(tmp_path, f"{COCO}.p.zl", f"{LAION}.p.zl", f"elsewhere/{COCO}.jpg", "train2017/000000000999.jpg")
    coco, laion = index(tmp_path)
    assert coco.drop == f"missing_base_image: expected {COCO}.jpg under train2017 or val2017"
    assert laion.drop == f"missing_base_image: expected {LAION}.jpg under img2dataset's folders"
    assert coco.base is laion.base is None


def test_ids_without_their_zeros_find_the_picture_of_their_part(tmp_path: Path) -> None:
    touch(tmp_path, "coco/10005.p.zl", "laion/10005.p.zl", "train2017/000000010005.jpg", f"laion/00001/{LAION}.jpg")
    coco, laion = index(tmp_path)
    assert coco.base == tmp_path / "train2017/000000010005.jpg"
    assert laion.base == tmp_path / "laion/00001" / f"{LAION}.jpg"


def test_ids_that_clash_get_their_sub_folder(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{part}/{name}.p.zl" for part in ("coco", "laion") for name in (LAION, part)))
    assert [entry.id for entry in index(tmp_path)] == [f"coco/{LAION}", "coco", f"laion/{LAION}", "laion"]


def test_the_order_is_that_of_the_paths_and_hidden_files_stay_out(tmp_path: Path) -> None:
    touch(tmp_path, "b/2.p.zl", "b/1.p.zl", "a/3.p.zl", ".x/4.p.zl", "a/.5.p.zl", "6.zl", "7.p")
    assert [entry.id for entry in index(tmp_path)] == ["3", "1", "2"]


def test_a_linked_coco_folder_is_followed_once_even_in_a_circle(tmp_path: Path) -> None:
    touch(tmp_path, f"coco/train2017/{COCO}.jpg", f"root/{COCO}.p.zl")
    (tmp_path / "root" / "train2017").symlink_to(tmp_path / "coco" / "train2017")
    (tmp_path / "root" / "circle").symlink_to(tmp_path / "root")
    (entry,) = index(tmp_path / "root")
    assert entry.base == tmp_path / "root/train2017" / f"{COCO}.jpg"


def test_nothing_of_mulan_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, f"train2017/{COCO}.jpg")
    with pytest.raises(UsageError, match=r"expected MuLAn annotations \(\*\.p\.zl\) or rendered layers"):
        list(index(tmp_path))
    with pytest.raises(UsageError, match="add --root mulan=DIR"):
        entries("mulan", {})


def test_the_pictures_of_the_hubs_own_page_are_not_taken_for_the_data(tmp_path: Path) -> None:
    touch(tmp_path, "README.md", "dataset_decomposition.py", "file_id_url_linking.csv", "mulan.part001.rar")
    touch(tmp_path, *(f"images/{name}.png" for name in ("teaser", "layer_0", "example-layer", "results")))
    with pytest.raises(UsageError, match="found none below this folder; unpack the archive first"):
        list(index(tmp_path))


# what the script rendered


def test_rendered_layers_are_one_entry_with_a_seed_a_layer(tmp_path: Path) -> None:
    touch(tmp_path, *(f"out/{COCO}-layer_{number}.png" for number in range(12)), "out/other-layer_0.png")
    dogs = f',/far/../{COCO}-layer_1.png,a dog\n"a cat,\nasleep",{COCO}-layer_10.png,cat\n'
    odd = "x,..,y\nx,a/.,y\nx,,y\n"
    text = f"llava,paths,blip2\n{dogs}{odd}"
    table(tmp_path, "out/meta_data.csv", text)
    first, other = index(tmp_path)
    assert (first.id, first.path, first.base) == (COCO, tmp_path / "out" / f"{COCO}-layer_0.png", None)
    assert (first.kind, first.uses, first.drop) == ("layers", ("layers", "foreground"), "")
    assert [seed.id for seed in first.seeds] == [str(number) for number in range(1, 12)]
    assert {seed.id: seed.caption for seed in first.seeds if seed.caption} == {"1": "a dog", "10": "a cat,\nasleep"}
    assert (other.id, other.seeds) == ("other", ())


@pytest.mark.parametrize(("numbers", "found"), [((0, 1, 3), "0 to 3, found 0, 1, 3"), ((1,), "0 to 1, found 1")])
def test_a_missing_layer_is_a_reason(tmp_path: Path, numbers: tuple[int, ...], found: str) -> None:
    touch(tmp_path, *(f"x-layer_{number}.png" for number in numbers))
    (entry,) = index(tmp_path)
    assert entry.drop == f"missing_layer: expected layers {found}"


def test_an_annotation_counts_before_its_rendered_layers(tmp_path: Path) -> None:
    touch(tmp_path, "a/1.p.zl", "a/1-layer_0.png", "b/1-layer_0.png")
    assert [(entry.id, entry.path.name) for entry in index(tmp_path)] == [("a/1", "1.p.zl"), ("b/1", "1-layer_0.png")]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("paths,blip2\na.png,x\n", r"meta_data\.csv:1: expected the columns paths, blip2, llava; .* got paths, blip2"),
        ("", r"meta_data\.csv:1: .*got none"),
        ("paths,blip2,llava\na,b,c\na,b\n", r"meta_data\.csv:3: expected 3 fields"),
        ("paths,blip2,llava\na,b,c,d\n", r"meta_data\.csv:2: expected 3 fields"),
        ("paths,blip2,llava\n" + "a" * 140_000 + ",b,c\n", r"meta_data\.csv:2: expected a CSV file .*limit"),
    ],
)
def test_a_broken_table_is_refused_with_file_and_line(tmp_path: Path, text: str, what: str) -> None:
    table(touch(tmp_path, "x-layer_0.png"), "meta_data.csv", text)
    with pytest.raises(UsageError, match=what):
        list(index(tmp_path))


def test_a_table_in_another_encoding_is_refused(tmp_path: Path) -> None:
    (touch(tmp_path, "x-layer_0.png") / "meta_data.csv").write_bytes(b"paths,blip2,llava\nx-layer_0.png,caf\xe9,\n")
    with pytest.raises(UsageError, match=r"meta_data\.csv:\d: expected a CSV file in UTF-8"):
        list(index(tmp_path))


def test_real_coco_pictures_are_found_beside_their_annotations(shared_data: Path, tmp_path: Path) -> None:
    photos = sorted((shared_data / "coco128/images/train2017").glob("*.jpg"))
    (tmp_path / "images").symlink_to(shared_data / "coco128/images")
    touch(tmp_path, *(f"annotations/{photo.stem}.p.zl" for photo in photos))
    found = list(index(tmp_path))
    assert [entry.base.name for entry in found if entry.base] == [photo.name for photo in photos]
