"""RORD's reader: five layouts, plates, polarity, labels, and what is missing or broken."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from layerkit.manifests.errors import BadImage, UsageError
from layerkit.manifests.pairs import Pair
from layerkit.manifests.sources.rord import outlines, pairs, scene_of

SCENE = "I-210614_O04019_W01"
FRAMES = [f"{SCENE}_F0107", f"{SCENE}_F0109"]
PLATE = f"{SCENE}_G0001"


def touched(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def mirror(root: Path, split: str = "val") -> Path:
    where = f"RORD/{split}"
    touched(root, *(f"{where}/img/{SCENE}/{stem}.jpg" for stem in (*FRAMES, PLATE)))
    touched(root, *(f"{where}/label/{SCENE}/{stem}.json" for stem in FRAMES))
    return touched(root, *(f"{where}/mask/{SCENE}/{stem}_M.png" for stem in FRAMES))


def tar_of(path: Path, *names: str, size: int = 100) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for number, name in enumerate(names):
            info = tarfile.TarInfo(name)
            info.size = size
            tar.addfile(info, io.BytesIO(bytes([number]) * size))
    return path


def of(root: Path, split: str = "test") -> list[Pair]:
    return list(pairs(root, split))


def test_the_mirror_has_tight_labels_and_loose_black_masks_over_a_raw_plate(tmp_path: Path):
    first, second = of(mirror(tmp_path))
    folder = tmp_path / "RORD/val"
    assert [first.id, second.id] == FRAMES
    assert first.scene == second.scene == "210614_O04019_W01"
    assert (first.image.path, first.background.path) == (
        folder / f"img/{SCENE}/{FRAMES[0]}.jpg",
        folder / f"img/{SCENE}/{PLATE}.jpg",
    )
    assert (first.truth, first.drop, first.licence) == ("background", "", "unknown")
    (tight,), (loose,) = first.masks["tight"], first.masks["loose"]
    assert (tight.format, tight.file.path) == ("rord-label", folder / f"label/{SCENE}/{FRAMES[0]}.json")
    assert (loose.format, loose.white_is_object) == ("picture", False)
    assert loose.file.path == folder / f"mask/{SCENE}/{FRAMES[0]}_M.png"


def test_the_root_may_be_the_split_itself_and_the_other_split_is_never_taken(tmp_path: Path):
    mirror(tmp_path, "val")
    mirror(tmp_path, "train")
    for root in (tmp_path, tmp_path / "RORD", tmp_path / "RORD/val"):
        assert [pair.image.path.parents[2].name for pair in of(root)] == ["val", "val"]
    assert [pair.image.path.parents[2].name for pair in of(tmp_path, "train")] == ["train", "train"]


def test_the_other_split_alone_is_no_data_set_of_this_one(tmp_path: Path):
    mirror(tmp_path / "data", "train")
    with pytest.raises(UsageError, match="expected RORD in test, val"):
        pairs(tmp_path / "data" / "RORD")


def test_the_raw_layout_has_labels_alone(tmp_path: Path):
    touched(tmp_path, *(f"set/jpg/{SCENE}/{stem}.jpg" for stem in (*FRAMES, PLATE)))
    touched(tmp_path, *(f"set/M/{SCENE}/{stem}_M.json" for stem in FRAMES))
    first, _ = of(tmp_path)
    assert set(first.masks) == {"tight"}
    assert first.masks["tight"][0].format == "rord-label"
    assert first.background.path.stem == PLATE


@pytest.mark.parametrize(
    ("split", "inputs", "ending", "truth", "white"),
    [("test", "img", "png", "blended", False), ("val_rord", "paste", "jpg", "background", True)],
)
def test_the_flat_layouts(tmp_path: Path, split: str, inputs: str, ending: str, truth: str, white: bool):
    stem = FRAMES[0]
    touched(tmp_path, *(f"{split}/{folder}/{stem}.{ending}" for folder in (inputs, "gt", "mask")))
    (pair,) = of(tmp_path)
    assert (pair.id, pair.truth, pair.drop) == (stem, truth, "")
    (mask,) = pair.masks["tight"]
    assert mask.white_is_object is white
    assert pair.background.path == tmp_path / split / "gt" / f"{stem}.{ending}"


def test_tars_are_read_by_span_whatever_prefix_the_names_have(tmp_path: Path):
    kinds = ("before.jpg", "after.jpg", "mask.png")
    tar = tar_of(tmp_path / "val-000000.tar", *(f"val-000000/000017_{FRAMES[0]}.{kind}" for kind in kinds))
    tar_of(tmp_path / "train-000000.tar", *(f"train-000000/{FRAMES[1]}.{kind}" for kind in kinds))
    tar_of(tmp_path / "val-lite-000000.tar", *(f"val-lite-000000/{FRAMES[0]}.{kind}" for kind in kinds))
    (pair,) = of(tmp_path)
    assert (pair.id, pair.scene, pair.image.path) == (FRAMES[0], "210614_O04019_W01", tar)
    for number, file in enumerate((pair.image, pair.background, pair.masks["tight"][0].file)):
        offset, length = file.span
        assert tar.read_bytes()[offset : offset + length] == bytes([number]) * 100


def test_names_in_a_tar_lead_nowhere(tmp_path: Path):
    kinds = ("before.jpg", "after.jpg", "mask.png")
    tar_of(tmp_path / "val-000000.tar", *(f"../../{name}.{kind}" for name in ("etc", "..") for kind in kinds))
    (pair,) = of(tmp_path)
    assert (pair.id, pair.image.path.parent) == ("etc", tmp_path)


@pytest.mark.parametrize("length", [4096, 4096 + 300, 4096 + 512 + 50], ids=["between", "header", "data"])
def test_a_truncated_tar_gives_what_is_whole_and_says_that_it_is_not(tmp_path: Path, length: int):
    kinds = ("before.jpg", "after.jpg", "mask.png")
    tar = tar_of(tmp_path / "val-000000.tar", *(f"v/{stem}.{kind}" for stem in FRAMES for kind in kinds))
    tar.write_bytes(tar.read_bytes()[:length])
    first, second, fault = of(tmp_path)
    assert (first.id, first.drop) == (FRAMES[0], "")
    assert second.drop.startswith("missing_plate: ")
    assert (fault.id, fault.scene) == ("val-000000.tar", "")
    assert fault.drop.startswith(f"unreadable_tar: {tar} ")


def test_a_file_that_is_no_tar_is_a_drop(tmp_path: Path):
    (tmp_path / "val-000000.tar").write_bytes(b"no tar" * 1000)
    (fault,) = of(tmp_path)
    assert fault.drop.startswith("unreadable_tar: ")


@pytest.mark.parametrize("plates", [[], [PLATE, f"{SCENE}_G0002"]], ids=["none", "two"])
def test_a_scene_without_its_one_plate_is_dropped(tmp_path: Path, plates: list[str]):
    mirror(tmp_path)
    (tmp_path / f"RORD/val/img/{SCENE}/{PLATE}.jpg").unlink()
    touched(tmp_path, *(f"RORD/val/img/{SCENE}/{stem}.jpg" for stem in plates))
    assert [pair.drop.partition(":")[0] for pair in of(tmp_path)] == ["missing_plate"] * 2


def test_a_copy_without_masks_is_dropped_row_by_row(tmp_path: Path):
    touched(tmp_path, *(f"img/{stem}.png" for stem in FRAMES), f"gt/{FRAMES[0]}.png")
    assert [pair.drop.partition(":")[0] for pair in of(tmp_path)] == ["missing_mask", "missing_plate"]


def test_the_error_tells_the_layouts_and_what_is_there(tmp_path: Path):
    touched(tmp_path, "pictures/a.jpg")
    with pytest.raises(UsageError, match=r"img/SCENE with label or mask.*paste with gt.*tars.*got pictures"):
        pairs(tmp_path)


def test_scenes_of_frames_by_their_names():
    assert scene_of("I-210614_O04019_W01_F0109") == "210614_O04019_W01"
    assert scene_of("I-210614_O04019_T01_G0001") == "210614_O04019_T01"
    assert scene_of("000000006818") == "000000006818"


def label(*annotations: tuple[str, list[float]], resolution: str = "1920, 1080") -> bytes:
    table = {
        "Raw_Data_Info.": {"Resolution": resolution},
        "Learning_Data_Info.": {"Annotation": [{"Class_ID": name, "segmentation": xy} for name, xy in annotations]},
    }
    return json.dumps(table, ensure_ascii=False).encode()


def test_a_label_gives_the_objects_polygons_in_its_own_resolution():
    square = [0, 0, 10, 0, 10, 10, 0, 10]
    data = label(("F01", square), ("BO1", [1, 1, 2, 2, 3, 3]), ("F02", [1, 2, 3, 4]), ("F03", [*square, 7]))
    found, size = outlines(data)
    assert found == (tuple(map(float, square)), tuple(map(float, square)))
    assert size == (1920, 1080)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"Raw_Data_Info": {}}',
        label(resolution="1920"),
        label(resolution="0, 0"),
        label(resolution="-4, 4"),
        label(("F01", ["x"] * 6)),
        label(("F01", [1e999] * 6)),
        b"[" * 100_000,
        b"\xff\xfe",
    ],
    ids=range(10),
)
def test_a_label_that_is_none_is_a_bad_image(data: bytes):
    with pytest.raises(BadImage) as error:
        outlines(data)
    assert error.value.reason == "bad_label"
