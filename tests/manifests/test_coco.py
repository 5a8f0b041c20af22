"""COCO: pictures where one may have them, polygons as seeds, objects that cannot serve, and files that are no COCO."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerkit.manifests.entry import Entry, Seed
from layerkit.manifests.errors import UsageError
from layerkit.manifests.sources import coco, entries

SQUARE = [10.0, 20.0, 40.5, 20.0, 40.5, 60.25, 10.0, 60.25]


def annotation(**fields: Any) -> dict[str, Any]:
    known = {"id": 1774, "image_id": 9, "category_id": 18, "iscrowd": 0}
    return known | {"segmentation": [SQUARE], "bbox": [10.0, 20.0, 30.5, 40.25]} | fields


def image(**fields: Any) -> dict[str, Any]:
    known = {"id": 9, "file_name": "000000000009.jpg", "width": 640, "height": 480, "license": 4}
    return known | {"coco_url": "http://coco/9.jpg", "flickr_url": "http://flickr/9.jpg"} | fields


def tables(**fields: Any) -> dict[str, Any]:
    return {
        "licenses": [
            {"id": 1, "url": "http://creativecommons.org/licenses/by-nc-nd/2.0/"},
            {"id": 4, "url": "http://creativecommons.org/licenses/by/2.0/"},
        ],
        "categories": [{"id": 18, "name": "dog"}],
        "images": [image()],
        "annotations": [annotation()],
    } | fields


def write(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def read(root: Path) -> list[Entry]:
    return list(entries("coco", {"coco": root}))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    touch(tmp_path / "val2017" / "000000000009.jpg")
    write(tmp_path / "annotations" / "instances_val2017.json", tables())
    return tmp_path


def rewrite(root: Path, **fields: Any) -> None:
    write(root / "annotations" / "instances_val2017.json", tables(**fields))


def only_seed(root: Path, **fields: Any) -> Seed:
    rewrite(root, annotations=[annotation(**fields)])
    ((seed,),) = [entry.seeds for entry in read(root)]
    return seed


# layouts


def test_an_entry_and_its_seed(root: Path) -> None:
    seed = Seed(id="1774", box=(10, 20, 31, 41), method="outline", outlines=(tuple(SQUARE),), caption="dog")
    assert read(root) == [
        Entry(
            source="coco",
            id="val2017/9",
            path=root / "val2017" / "000000000009.jpg",
            licence="cc-by-2.0",
            url="http://coco/9.jpg",
            seeds=(seed,),
        )
    ]


@pytest.mark.parametrize("folder", ["images/val2017", "images", "data", "."])
def test_pictures_may_lie_elsewhere(root: Path, folder: str) -> None:
    (root / "val2017" / "000000000009.jpg").unlink()
    path = touch(root / folder / "000000000009.jpg")
    assert [(entry.path, entry.drop) for entry in read(root)] == [(path, "")]


def test_a_file_name_may_name_a_folder(root: Path) -> None:
    rewrite(root, images=[image(file_name="./val2017/000000000009.jpg")])
    assert [entry.path for entry in read(root)] == [root / "val2017" / "000000000009.jpg"]


def test_several_files_come_in_order(root: Path) -> None:
    write(root / "annotations" / "instances_train2017.json", tables())
    assert [entry.id for entry in read(root)] == ["train2017/9", "val2017/9"]


def test_a_file_in_the_root_is_known_by_its_tables(tmp_path: Path) -> None:
    touch(tmp_path / "000000000009.jpg")
    write(tmp_path / "labels.json", tables())
    write(tmp_path / "info.json", {"images": 3})
    write(tmp_path / "list.json", [1, 2])
    assert [entry.id for entry in read(tmp_path)] == ["labels/9"]


def test_a_caption_comes_from_the_file_beside(root: Path) -> None:
    captions = [
        {"image_id": 9, "caption": " A dog.\n"},
        {"image_id": 9, "caption": "Two."},
        {"image_id": 8, "caption": ""},
    ]
    write(root / "annotations" / "captions_val2017.json", {"annotations": captions})
    assert [entry.caption for entry in read(root)] == ["A dog."]


def test_a_picture_without_objects_is_a_background(root: Path) -> None:
    rewrite(root, annotations=[])
    assert [(entry.uses, entry.seeds) for entry in read(root)] == [(("background", "cut"), ())]


def test_provenance_where_tables_say_less(root: Path) -> None:
    bare = {"id": "a", "file_name": "000000000009.jpg", "width": 640, "height": 480}
    for licenses in ([{"id": 4}], [4], None, {}):
        rewrite(root, images=[bare, image(coco_url="")], licenses=licenses)
        first, second = read(root)
        assert (first.id, first.licence, first.url) == ("val2017/a", "unknown", "")
        assert (second.licence, second.url) == ("unknown", "http://flickr/9.jpg")


def test_the_eight_licences_of_coco(root: Path) -> None:
    names = ["by-nc-sa/2.0", "by-nc/2.0", "by-nc-nd/2.0", "by/2.0", "by-sa/2.0", "by-nd/2.0"]
    urls = [f"http://creativecommons.org/licenses/{name}/" for name in names]
    urls += ["http://flickr.com/commons/usage/", "http://www.usa.gov/copyright.shtml"]
    rewrite(
        root,
        licenses=[{"id": k, "url": url} for k, url in enumerate(urls, 1)],
        images=[image(id=k, license=k) for k in range(1, 9)],
    )
    known = [f"cc-{name.replace('/', '-')}" for name in names]
    assert [entry.licence for entry in read(root)] == [*known, "unknown", "public-domain"]


# objects that cannot serve


@pytest.mark.parametrize(
    ("fields", "drop"),
    [
        ({"iscrowd": 1, "segmentation": {"counts": [3, 4], "size": [480, 640]}}, "crowd"),
        ({"segmentation": {"counts": "abc", "size": [480, 640]}}, "crowd"),
        ({"iscrowd": 1}, "crowd"),
        ({"segmentation": []}, "no_outline"),
        ({"segmentation": None}, "no_outline"),
        ({"segmentation": [[1, 2, 3, 4]]}, "no_outline"),
        ({"segmentation": [SQUARE[:-1]]}, "no_outline"),
        ({"segmentation": [SQUARE, ["a"] * 6]}, "no_outline"),
        ({"segmentation": [SQUARE, 7]}, "no_outline"),
        ({"segmentation": [[1, 2, 10**400, 4, 5, 6]]}, "no_outline"),
        ({"bbox": [10, 20, 0, 5]}, "empty_box"),
        ({"bbox": [10, 20, 5, -1]}, "empty_box"),
        ({"bbox": [3.1, 20, 30, 40]}, "touches_border"),
        ({"bbox": [10, 2.3, 30, 40]}, "touches_border"),
        ({"bbox": [10, 20, 626.9, 40]}, "touches_border"),
        ({"bbox": [10, 20, 30, 457.7]}, "touches_border"),
        ({"bbox": [3.3, 2.5, 633.4, 475]}, ""),
    ],
)
def test_an_object_says_why_it_cannot_serve(root: Path, fields: dict[str, Any], drop: str) -> None:
    assert only_seed(root, **fields).drop == drop


def test_a_polygon_of_two_points_goes_and_the_others_stay(root: Path) -> None:
    seed = only_seed(root, segmentation=[[1, 2, 3, 4], SQUARE, [1, 2, 3, 4, 5, 6]])
    assert seed.outlines == (tuple(SQUARE), (1, 2, 3, 4, 5, 6))


def test_a_category_that_is_not_listed_has_no_name(root: Path) -> None:
    assert only_seed(root, category_id=19).caption == ""


@given(*(st.integers(0, 20_000) for _ in range(4)))
def test_a_box_is_rounded_outwards(x: int, y: int, w: int, h: int) -> None:
    left, top, right, bottom = x / 100, y / 100, (x + w) / 100, (y + h) / 100
    box = coco._outward(left, top, x / 100 + w / 100, y / 100 + h / 100, 401, 401)  # with the noise of the sums
    assert box[:2] == (x // 100, y // 100)
    assert box[0] <= left
    assert box[1] <= top
    assert 0 <= box[0] + box[2] - right < 1
    assert 0 <= box[1] + box[3] - bottom < 1


def test_a_box_does_not_leave_the_picture() -> None:
    assert coco._outward(-2.5, -0.1, 700, 480.4, 640, 480) == (0, 0, 640, 480)


# pictures that are not there


def test_a_missing_picture_is_a_reject(root: Path) -> None:
    rewrite(root, images=[image(id=8, file_name="8.jpg"), image()])
    missing, there = read(root)
    assert (missing.drop, missing.path, there.drop) == ("missing_image", root / "val2017" / "8.jpg", "")


@pytest.mark.parametrize(
    "name", ["../x.jpg", "/etc/passwd", "a/../../x.jpg", "..\\x.jpg", "C:x.jpg", "", ".", "a//b.jpg"]
)
def test_no_file_name_leaves_the_root(root: Path, name: str) -> None:
    touch(root.parent / "x.jpg")
    rewrite(root, images=[image(file_name=name)])
    assert [(entry.drop, entry.path) for entry in read(root)] == [("path_outside_root", root)]


# files that cannot be read


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('{"images": [', "Expecting value"),
        ("", "Expecting value"),
        ('{"images": NaN}', "NaN is no number"),
        ("[" * 100_000, "recursion"),
        ("\udcff", "utf-8|Expecting"),
    ],
)
def test_broken_json_is_named(root: Path, text: str, what: str) -> None:
    path = root / "annotations" / "instances_val2017.json"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(UsageError, match=rf"instances_val2017\.json: expected JSON: .*({what})"):
        read(root)


@pytest.mark.parametrize("key", coco.TABLES)
def test_a_missing_table_is_named(root: Path, key: str) -> None:
    rest = {name: rows for name, rows in tables().items() if name != key}
    path = write(root / "annotations" / "instances_val2017.json", rest)
    with pytest.raises(UsageError, match=rf"val2017\.json: expected a list under the key '{key}', got only licenses, "):
        read(root)
    write(path, rest | {key: {"a": 1}})
    with pytest.raises(UsageError, match=rf"expected a list under the key '{key}', got a dict"):
        read(root)
    path.rename(root / "labels.json")
    write(root / "labels.json", rest)
    with pytest.raises(UsageError, match=rf"or a \.json with .*; labels\.json lacks {key}"):
        read(root)


@pytest.mark.parametrize(
    ("table", "key"),
    [
        *(("images", key) for key in ("id", "file_name", "width", "height")),
        *(("annotations", key) for key in ("id", "image_id", "category_id", "segmentation", "bbox")),
        *(("categories", key) for key in ("id", "name")),
    ],
)
def test_a_missing_key_is_named_with_its_row(root: Path, table: str, key: str) -> None:
    row = tables()[table][0]
    rewrite(root, **{table: [{name: value for name, value in row.items() if name != key}]})
    with pytest.raises(UsageError, match=rf"val2017\.json: {table}\[0\]: expected the key '{key}', found "):
        read(root)
    rewrite(root, **{table: [7]})
    with pytest.raises(UsageError, match=rf"{table}\[0\]: expected an object, got 7"):
        read(root)


@pytest.mark.parametrize("bbox", [[1, 2, 3], [1, 2, 3, "x"], 7, None, [1, 2, 3, 10**400], "1234 "])
def test_a_box_that_is_none_is_named(root: Path, bbox: Any) -> None:
    with pytest.raises(UsageError, match=r"annotations\[0\]: expected 4 numbers for bbox, got"):
        only_seed(root, bbox=bbox)


@pytest.mark.parametrize("width", [0, -3, "wide", None])
def test_a_width_that_is_none_is_named(root: Path, width: Any) -> None:
    rewrite(root, images=[image(width=width)])
    with pytest.raises(UsageError, match=r"images\[0\]: expected .*width and height"):
        read(root)


def test_a_picture_listed_twice_is_refused(root: Path) -> None:
    rewrite(root, images=[image(), image()])
    with pytest.raises(UsageError, match=r"images\[1\]: expected an id of its own, got 9 again"):
        read(root)


def test_captions_without_their_keys_are_refused(root: Path) -> None:
    write(root / "annotations" / "captions_val2017.json", {"annotations": [{"image_id": 9}]})
    with pytest.raises(UsageError, match=r"captions_val2017\.json: annotations\[0\]: expected the key 'caption'"):
        read(root)


def test_a_root_without_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        UsageError, match=re.escape(f"{tmp_path}: expected annotations/instances_*.json") + ".*found no"
    ):
        read(tmp_path)


# real pictures


def test_coco128(shared_data: Path) -> None:
    root = shared_data / "coco128"
    found = read(root)
    assert len(found) == 128
    assert not any(entry.drop for entry in found)
    assert all(entry.path.parent == root / "images" / "train2017" for entry in found)
    seeds = [seed for entry in found for seed in entry.seeds]
    assert len(seeds) == 939
    assert sum(seed.drop == "crowd" for seed in seeds) == 10
    assert {seed.drop for seed in seeds} == {"", "crowd", "touches_border"}
    assert all(seed.caption for seed in seeds)
    for seed in seeds:
        check_box_holds_outlines(seed)
    with (root / "image_licences_train2017.csv").open(newline="", encoding="utf-8") as stream:
        by = {row["file_name"] for row in csv.DictReader(stream) if row["license_id"] == "4"}
    assert {entry.path.name for entry in found if entry.licence == "cc-by-2.0"} == by


def check_box_holds_outlines(seed: Seed) -> None:
    left, top, width, height = seed.box
    for outline in seed.outlines:
        assert left - 1 <= min(outline[::2]) <= max(outline[::2]) <= left + width + 1
        assert top - 1 <= min(outline[1::2]) <= max(outline[1::2]) <= top + height + 1
