"""Open Images: layouts, tars and zips, three-valued flags, boxes joined to masks, tables that cannot be trusted."""

import contextlib
import gzip
import io
import random
import re
import shutil
import tarfile
import warnings
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from layerkit.manifests.entry import Entry, Seed
from layerkit.manifests.errors import BadImage, UsageError
from layerkit.manifests.sources import entries, openimages_tables, zips
from layerkit.manifests.sources.zips import read_member
from layerkit.pipelines.assets import Photo
from layerkit.pipelines.recipe import CutOptions

IMAGES = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,"
    "Thumbnail300KURL,Rotation"
)
BOXES = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
CLICKS = ",XClick1X,XClick2X,XClick3X,XClick4X,XClick1Y,XClick2Y,XClick3Y,XClick4Y"
MASKS = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"
BY = "https://creativecommons.org/licenses/by/2.0/"
CAT, DOG = "/m/01yrx", "/m/0bt9lr"
ONE = "0a0000000000000a"
TWO = "fb0000000000000b"
BOX = ("0.1", "0.5", "0.2", "0.75")


def image_row(id_: str, rotation: str = "0.0", licence: str = BY, title: str = "A cat") -> str:
    return f'{id_},validation,https://o,https://land/{id_},{licence},https://p,"Wen, L.","{title}",1,m==,https://t,{rotation}'


def box_row(id_: str = ONE, label: str = CAT, box: Iterable[str] = BOX, flags: str = "0,0,0,0,0") -> str:
    return f"{id_},xclick,{label},1,{','.join(box)},{flags}"


def mask_path(id_: str = ONE, box_id: str = "9a041d52", label: str = CAT) -> str:
    return f"{id_}_{label.replace('/', '')}_{box_id}.png"


def mask_row(
    id_: str = ONE, box_id: str = "9a041d52", label: str = CAT, box: Iterable[str] = BOX, path: str | None = None
) -> str:
    path = mask_path(id_, box_id, label) if path is None else path
    return f"{path},{id_},{label},{box_id},{','.join(box)},0.88,0.3 0.4 1;0.2 0.5 0"


def write(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return path


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def read(root: Path) -> list[Entry]:
    return list(entries("openimages", {"openimages": root}))


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """Two pictures of the validation split, one with a mask."""
    touch(*(tmp_path / "validation" / f"{id_}.jpg" for id_ in (ONE, TWO)))
    touch(tmp_path / "validation-masks-0" / mask_path())
    write(tmp_path / "validation-images-with-rotation.csv", IMAGES, image_row(TWO), image_row(ONE), image_row("c" * 16))
    write(tmp_path / "validation-annotations-bbox.csv", BOXES, box_row())
    write(tmp_path / "validation-annotations-object-segmentation.csv", MASKS, mask_row())
    write(tmp_path / "class-descriptions-boxable.csv", f"{CAT},Cat", f'{DOG},"Dog, or so"')
    return tmp_path


def only_seed(root: Path) -> Seed:
    (seed,) = [seed for entry in read(root) for seed in entry.seeds]
    return seed


# layouts


def test_the_official_layout(official: Path) -> None:
    two, one = read(official)
    assert (two.id, one.id) == (f"validation/{TWO}", f"validation/{ONE}")  # the order of the table
    assert one.path == official / "validation" / f"{ONE}.jpg"
    assert (one.span, one.rotation, one.kind, one.drop) == (None, 0, "photo", "")
    assert (one.licence, one.author, one.url) == ("cc-by-2.0", "Wen, L.", f"https://land/{ONE}")
    assert one.uses == ("foreground", "background", "cut")
    assert (two.uses, two.seeds) == (("background", "cut"), ())
    mask = official / "validation-masks-0" / mask_path()
    assert one.seeds == (Seed(id="9a041d52", method="mask", mask=mask, caption="Cat"),)


@pytest.mark.parametrize("folder", ["annotations", "metadata"])
def test_tables_may_lie_in_a_folder_of_their_own(official: Path, folder: str) -> None:
    (official / folder).mkdir()
    for path in official.glob("*.csv"):
        path.rename(official / folder / path.name)
    assert only_seed(official).drop == ""
    assert {entry.licence for entry in read(official)} == {"cc-by-2.0"}


@pytest.mark.parametrize("folder", ["masks", "validation-masks", "masks/validation", "masks/0", "annotations/masks"])
def test_masks_may_be_unpacked_into_one_folder(official: Path, folder: str) -> None:
    (official / folder).parent.mkdir(exist_ok=True)
    (official / "validation-masks-0").rename(official / folder)
    assert only_seed(official).mask == official / folder / mask_path()


@pytest.mark.parametrize("alone", [False, True], ids=["splits", "one split"])
def test_the_layout_of_fiftyone(tmp_path: Path, alone: bool) -> None:
    base = tmp_path / "validation"
    touch(base / "data" / f"{TWO}.jpg", base / "labels" / "masks" / "F" / mask_path(TWO))
    write(base / "labels" / "detections.csv", BOXES, box_row(TWO))
    write(base / "labels" / "segmentations.csv", MASKS, mask_row(TWO))
    write(base / "metadata" / "classes.csv", f"{CAT},Cat")
    write(base / "metadata" / "image_ids.csv", IMAGES, image_row(TWO, "90.0"))
    (entry,) = read(base if alone else tmp_path)
    assert entry.id == f"validation/{TWO}"
    assert entry.path == base / "data" / f"{TWO}.jpg"
    assert entry.rotation == 90
    (seed,) = entry.seeds
    assert (seed.caption, seed.drop) == ("Cat", "")
    assert seed.mask == base / "labels" / "masks" / "F" / mask_path(TWO)


def test_the_train_tables_have_names_and_columns_of_their_own(tmp_path: Path) -> None:
    touch(tmp_path / "train" / f"{ONE}.jpg", tmp_path / "train-masks-0" / mask_path())
    write(tmp_path / "oidv6-train-annotations-bbox.csv", BOXES + CLICKS, box_row() + 8 * ",0.3")
    write(tmp_path / "train-annotations-object-segmentation.csv", MASKS, mask_row())
    write(tmp_path / "train-images-boxable-with-rotation.csv", IMAGES, image_row(ONE))
    write(tmp_path / "oidv6-class-descriptions-boxable.csv", "id,name", f"{CAT},Cat")
    (entry,) = read(tmp_path)
    assert (entry.licence, entry.seeds[0].drop, entry.seeds[0].caption) == ("cc-by-2.0", "", "Cat")


def test_pictures_alone_are_backgrounds_of_unknown_licence_in_order(tmp_path: Path) -> None:
    touch(*(tmp_path / "test" / name for name in ("b.jpg", "a.jpg", "c.txt", ".d.jpg", "e.png")))
    found = read(tmp_path)
    assert [entry.id for entry in found] == ["test/a", "test/b"]
    assert {entry.licence for entry in found} == {"unknown"}
    assert {entry.uses for entry in found} == {("background", "cut")}


def test_a_picture_that_no_table_lists_comes_last(official: Path) -> None:
    touch(official / "validation" / "0.jpg")
    assert [entry.id for entry in read(official)][-1] == "validation/0"


def test_a_root_without_pictures_is_refused(tmp_path: Path, official: Path) -> None:
    for path in (official / "validation").iterdir():
        path.unlink()
    with pytest.raises(UsageError, match=r"expected Open Images pictures in train/.* found none"):
        read(official)


# tars


def tar_of(path: Path, names: dict[str, bytes], **options: object) -> Path:
    with tarfile.open(path, "w", **options) as tar:
        for name, data in names.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def test_pictures_in_a_plain_tar_are_spans(tmp_path: Path) -> None:
    names = {
        f"train_0/{ONE}.jpg": b"one",
        "train_0/notes.txt": b"x" * 700,
        "train_0/._x.jpg": b"",
        "0z.jpg": b"two" * 400,
    }
    tar = tar_of(tmp_path / "train_0.tar", names)
    found = {entry.id: entry for entry in read(tmp_path)}
    assert set(found) == {f"train/{ONE}", "train/0z"}
    for id_, data in ((ONE, b"one"), ("0z", b"two" * 400)):
        entry = found[f"train/{id_}"]
        assert entry.path == tar
        assert entry.span is not None
        offset, size = entry.span
        assert tar.read_bytes()[offset : offset + size] == data


def test_a_long_name_in_a_tar_cannot_lead_astray(tmp_path: Path) -> None:
    tar_of(tmp_path / "test.tar", {f"{'d' * 200}/../../../{ONE}.jpg": b"one"}, format=tarfile.PAX_FORMAT)
    (entry,) = read(tmp_path)
    assert (entry.id, entry.path) == (f"test/{ONE}", tmp_path / "test.tar")


def test_an_unpacked_picture_goes_before_the_tar(official: Path) -> None:
    tar_of(official / "validation.tar", {f"{ONE}.jpg": b"one"})
    assert {entry.span for entry in read(official)} == {None}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"no tar",
        lambda data: data[:1600],
        lambda data: data[:1536] + b"x" * 512 + data[2048:],
        gzip.compress,
    ],
    ids=["text", "truncated", "damaged header", "compressed"],
)
def test_a_tar_that_cannot_be_read_is_named(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    names = {"a.jpg": b"x" * 700, "b.jpg": b"x" * 9000}
    tar = tar_of(tmp_path / "test.tar", names)
    tar.write_bytes(spoil(tar.read_bytes()))
    with pytest.raises(UsageError, match=r"test\.tar: expected a plain tar: .*download it again"):
        read(tmp_path)


@pytest.mark.parametrize("name", ["train_f.tar.gz", "train_f.tgz", "test.tar.gz"])
def test_a_compressed_tar_is_to_be_unpacked(tmp_path: Path, name: str) -> None:
    touch(tmp_path / name, tmp_path / "train" / f"{ONE}.jpg")
    with pytest.raises(UsageError, match=re.escape(name) + r": .* cannot be addressed; unpack it"):
        read(tmp_path)


def test_a_compressed_tar_that_was_unpacked_may_stay(tmp_path: Path) -> None:
    touch(tmp_path / "train_f.tar.gz", tmp_path / "train" / f"{TWO}.jpg")
    assert [entry.id for entry in read(tmp_path)] == [f"train/{TWO}"]


# masks in zips


def zip_of(path: Path, names: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in names.items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def zipped(official: Path) -> Path:
    """The pictures with their masks in the archive, as it is downloaded."""
    shutil.rmtree(official / "validation-masks-0")
    zip_of(official / "validation-masks-0.zip", {mask_path(box_id="other"): b"no", mask_path(): PNG})
    return official


PNG = b"\x89PNG, or what passes for one" * 40


@pytest.mark.parametrize("folder", [".", "validation", "validation-masks", "masks", "annotations/validation-masks"])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("inside", ["", "validation-masks-0/"])
def test_a_mask_in_a_zip_is_read_in_place(zipped: Path, folder: str, compression: int, inside: str) -> None:
    (zipped / "validation-masks-0.zip").unlink()
    path = zipped / folder / "validation-masks-0.zip"
    zip_of(path, {f"{inside}{mask_path(box_id='a')}": b"a", f"{inside}{mask_path()}": PNG}, compression)
    seed = only_seed(zipped)
    assert (seed.mask, seed.mask_member, seed.drop) == (path, inside + mask_path(), "")
    assert read_member(path, seed.mask_member) == PNG


def test_every_zip_is_opened_once(zipped: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [f"0{number:015x}" for number in range(50)]
    touch(*(zipped / "validation" / f"{id_}.jpg" for id_ in ids))
    zip_of(zipped / "validation-masks-0.zip", {mask_path(id_): PNG for id_ in ids})
    write(zipped / "validation-annotations-bbox.csv", BOXES, *map(box_row, ids))
    write(zipped / "validation-annotations-object-segmentation.csv", MASKS, *map(mask_row, ids))
    opened = []
    monkeypatch.setattr(zips, "_listed", lambda path, listed=zips._listed: opened.append(path) or listed(path))
    assert {seed.mask_member for entry in read(zipped) for seed in entry.seeds} == set(map(mask_path, ids))
    assert opened == [zipped / "validation-masks-0.zip"]


def test_an_unpacked_mask_goes_before_the_zip(zipped: Path) -> None:
    touch(zipped / "validation-masks-0" / mask_path())
    seed = only_seed(zipped)
    assert (seed.mask, seed.mask_member) == (zipped / "validation-masks-0" / mask_path(), "")


def test_a_mask_that_no_zip_holds_is_missing(zipped: Path) -> None:
    zip_of(zipped / "validation-masks-0.zip", {f".{mask_path()}": PNG, f"{mask_path()}/x.txt": b"", "x.png": PNG})
    assert only_seed(zipped).drop == "missing_mask"


@pytest.mark.parametrize("folder", ["../../", "/", "C:\\", "a/../../"])
def test_no_member_of_a_zip_leads_out_of_it(zipped: Path, folder: str) -> None:
    touch(zipped.parent / mask_path())
    path = zip_of(zipped / "validation-masks-0.zip", {folder + mask_path(): PNG})
    seed = only_seed(zipped)
    if seed.mask is None:
        assert seed.drop == "missing_mask"
    else:
        assert (seed.mask, read_member(path, seed.mask_member)) == (path, PNG)
    write(zipped / "validation-annotations-object-segmentation.csv", MASKS, mask_row(path=folder + mask_path()))
    assert only_seed(zipped).drop == "path_outside_root"


def encrypted(data: bytes) -> bytes:
    """The zip with bit 0 of the flags set in its list of members."""
    at = data.index(b"PK\1\2") + 8
    return data[:at] + b"\x01" + data[at + 1 :]


@pytest.mark.parametrize(
    ("spoil", "what"),
    [
        (encrypted, r"expected plain or deflated members, got '.*other\.png' encrypted; unpack it"),
        (lambda data: data[:-30], "expected a zip: .*; download it again"),
        (lambda data: data[:200], "expected a zip: "),
        (lambda data: b"", "expected a zip: "),
        (lambda data: data.replace(b"PK\1\2", b"PK\1\3"), "expected a zip: "),
    ],
    ids=["encrypted", "no end", "truncated", "empty", "damaged list"],
)
def test_a_zip_that_cannot_be_read_is_named(zipped: Path, spoil: Callable[[bytes], bytes], what: str) -> None:
    path = zipped / "validation-masks-0.zip"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(UsageError, match=rf"validation-masks-0\.zip: {what}"):
        read(zipped)


@pytest.mark.parametrize("other", [mask_path(), f"again/{mask_path()}"])
def test_a_mask_that_stands_in_a_zip_twice_is_refused(zipped: Path, other: str) -> None:
    with zipfile.ZipFile(zipped / "validation-masks-0.zip", "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the name that stands there already
        archive.writestr(other, b"another")
    with pytest.raises(UsageError, match=rf"0\.zip: expected every name once, got '{mask_path()}' twice"):
        read(zipped)


def test_another_method_than_deflate_is_refused(zipped: Path) -> None:
    zip_of(zipped / "validation-masks-0.zip", {mask_path(): PNG}, zipfile.ZIP_LZMA)
    with pytest.raises(UsageError, match=r"0\.zip: expected plain or deflated members, got .* packed by method 14"):
        read(zipped)


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_damaged_member_is_a_bad_picture_and_nothing_else(tmp_path: Path, compression: int) -> None:
    draw = random.Random(0)
    whole = zip_of(tmp_path / "x.zip", {"a.png": PNG, "b.png": draw.randbytes(3000)}, compression).read_bytes()
    refused = 0
    for number in range(400):
        data = bytearray(whole[: draw.choice([len(whole), draw.randrange(len(whole))])])
        for _ in range(draw.randint(1, 4)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data)
        try:
            read_member(path, "b.png")
        except BadImage as error:
            refused += error.reason == "unreadable" and str(path) in error.detail
        with contextlib.suppress(UsageError):
            zips.members(path, ".png")
    assert 100 < refused < 400


def test_a_member_that_unpacks_to_more_than_a_mask_is_refused(tmp_path: Path) -> None:
    path = zip_of(tmp_path / "x.zip", {"bomb.png": bytes(1_000_001), "fine.png": bytes(1_000_000)})
    assert len(read_member(path, "fine.png", limit=1_000_000)) == 1_000_000
    with pytest.raises(BadImage, match=r"too_large: .*x\.zip: expected at most 1000000 bytes in 'bomb\.png', got more"):
        read_member(path, "bomb.png", limit=1_000_000)
    with pytest.raises(BadImage, match=r"unreadable: .*expected 'gone\.png' in this zip: it has no such member"):
        read_member(path, "gone.png")
    with pytest.raises(BadImage, match=r"unreadable: .*gone\.zip"):
        read_member(tmp_path / "gone.zip", "x.png")


# flags


@pytest.mark.parametrize(
    ("flags", "drop"),
    [
        ("0,0,0,0,0", ""),
        ("1,0,0,0,0", "occluded"),
        ("0,1,0,0,0", "truncated"),
        ("0,0,1,0,0", "group_of"),
        ("0,0,0,1,0", "depiction"),
        ("0,0,0,0,1", "inside"),
        ("-1,-1,-1,-1,-1", "unknown_occluded"),
        ("0,0,0,0,-1", "unknown_inside"),
        ("0,-1,1,0,0", "unknown_truncated"),
    ],
)
def test_flags_have_three_values(official: Path, flags: str, drop: str) -> None:
    write(official / "validation-annotations-bbox.csv", BOXES, box_row(flags=flags))
    seed = only_seed(official)
    assert seed.drop == drop
    assert seed.mask is not None  # also of what is no foreground: a background must be rid of it


def test_a_flag_of_another_value_is_refused(official: Path) -> None:
    write(official / "validation-annotations-bbox.csv", BOXES, box_row(flags="0,0,True,0,0"))
    with pytest.raises(UsageError, match=rf"bbox\.csv: picture {ONE}: expected 1, 0 or -1 .* got 'True'"):
        read(official)


def test_columns_go_by_name(official: Path) -> None:
    header = "IsInside,IsDepiction,IsGroupOf,IsTruncated,IsOccluded,YMax,YMin,XMax,XMin,LabelName,ImageID"
    row = f"0,0,0,1,0,{BOX[3]},{BOX[2]},{BOX[1]},{BOX[0]},{CAT},{ONE}"
    write(official / "validation-annotations-bbox.csv", header, row)
    assert only_seed(official).drop == "truncated"


def test_a_mask_takes_the_flags_of_its_own_box(official: Path) -> None:
    boxes = [
        box_row(flags="1,1,1,1,1", label=DOG),
        box_row(flags="1,1,1,1,1", box=("0.1", "0.5", "0.2", "0.7")),
        box_row(TWO, flags="1,1,1,1,1"),
        box_row(box=("0.100000", "0.5004", "0.1996", "0.750000")),  # the tables round differently
    ]
    write(official / "validation-annotations-bbox.csv", BOXES, *boxes)
    assert only_seed(official).drop == ""


def test_of_two_rows_for_one_mask_the_strict_one_holds(official: Path) -> None:
    rows = [box_row(), box_row(flags="0,0,0,1,0")]
    for order in (rows, rows[::-1]):
        write(official / "validation-annotations-bbox.csv", BOXES, *order)
        assert only_seed(official).drop == "depiction"


@pytest.mark.parametrize("rows", [None, []], ids=["no table", "no row"])
def test_without_a_row_of_boxes_the_flags_are_unknown(official: Path, rows: list[str] | None) -> None:
    (official / "validation-annotations-bbox.csv").unlink()
    if rows is not None:
        write(official / "validation-annotations-bbox.csv", BOXES, *rows)
    assert only_seed(official).drop == "unknown_flags"


@pytest.mark.parametrize(
    ("box", "drop"),
    [
        (("0.004", "0.5", "0.2", "0.7"), "touches_border"),
        (("0.1", "0.996", "0.2", "0.7"), "touches_border"),
        (("0.1", "0.5", "0.0", "0.7"), "touches_border"),
        (("0.1", "0.5", "0.2", "1.0"), "touches_border"),
        (("0.006", "0.994", "0.006", "0.994"), ""),
    ],
)
def test_a_box_at_the_border_is_dropped(official: Path, box: tuple[str, ...], drop: str) -> None:
    write(official / "validation-annotations-bbox.csv", BOXES, box_row(box=box))
    write(official / "validation-annotations-object-segmentation.csv", MASKS, mask_row(box=box))
    assert only_seed(official).drop == drop


# masks and paths


def test_a_mask_that_is_missing(official: Path) -> None:
    (official / "validation-masks-0" / mask_path()).unlink()
    seed = only_seed(official)
    assert (seed.drop, seed.mask) == ("missing_mask", None)


def test_a_mask_of_another_size_is_left_to_the_decoder(official: Path) -> None:
    (official / "validation-masks-0" / mask_path()).write_bytes(b"no picture at all")
    assert only_seed(official).drop == ""


@pytest.mark.parametrize(
    "path", ["../secret.png", "/etc/passwd", "a/b.png", "a\\b.png", "..", "", "C:x.png", "x\0.png"]
)
def test_no_mask_path_leaves_the_root(official: Path, path: str) -> None:
    touch(official / "secret.png", official / "validation-masks-0" / "b.png")
    write(official / "validation-annotations-object-segmentation.csv", MASKS, mask_row(path=path))
    seed = only_seed(official)
    assert (seed.drop, seed.mask) == ("path_outside_root", None)


def test_a_mask_path_of_any_length_is_only_missing(official: Path) -> None:
    write(official / "validation-annotations-object-segmentation.csv", MASKS, mask_row(path="0" * 5000))
    assert only_seed(official).drop == "missing_mask"


@pytest.mark.parametrize("id_", ["../../etc/passwd", "/etc/passwd", "..", "a\\b"])
def test_no_image_id_leaves_the_root(official: Path, id_: str) -> None:
    write(official / "validation-images-with-rotation.csv", IMAGES, image_row(id_), image_row(ONE))
    entry = read(official)[0]
    assert (entry.id, entry.drop) == (f"validation/{id_}", "path_outside_root")
    assert entry.path == official / "validation"


def test_rows_of_pictures_that_are_not_there_are_passed_over(official: Path) -> None:
    rows = [mask_row("e" * 16, box=("no", "num", "ber", "s")), mask_row()]
    write(official / "validation-annotations-object-segmentation.csv", MASKS, *rows)
    assert len(read(official)) == 2


# pictures


@pytest.mark.parametrize(
    ("text", "degrees"), [("", 0), ("0.0", 0), ("nan", 0), ("90", 90), ("180.0", 180), ("270.0", 270)]
)
def test_rotation_is_counter_clockwise_as_it_is_there(official: Path, text: str, degrees: int) -> None:
    write(official / "validation-images-with-rotation.csv", IMAGES, image_row(ONE, text))
    assert (read(official)[0].rotation, read(official)[0].drop) == (degrees, "")


@pytest.mark.parametrize("degrees", [0, 90, 180, 270])
def test_picture_and_mask_are_turned_together_and_once(zipped: Path, degrees: int) -> None:
    scene = np.zeros((30, 40, 3), np.uint8)
    scene[2:8, 5:15] = 255  # off every axis of symmetry
    Image.fromarray(scene).save(zipped / "validation" / f"{ONE}.jpg", quality=95)
    png = io.BytesIO()
    Image.fromarray(scene[::2, ::2, 0]).save(png, "png")  # masks may be smaller
    zip_of(zipped / "validation-masks-0.zip", {mask_path(): png.getvalue()})
    write(zipped / "validation-images-with-rotation.csv", IMAGES, image_row(ONE, f"{degrees}.0"))
    (entry,) = [entry for entry in read(zipped) if entry.seeds]
    photo = Photo(entry=entry, seed=None, data=entry.path.read_bytes(), options=CutOptions(), size=64, weights=None)
    picture, factor = photo.picture()
    upright = np.asarray(Image.fromarray(scene).rotate(degrees, expand=True))  # Pillow's is counter-clockwise, too
    assert (picture.shape, factor) == (upright.shape, 1)
    assert np.abs(picture.astype(int) - upright).mean() < 5
    assert (photo.mask(picture, factor, entry.seeds[0]) == (upright[..., 0] > 127)).mean() > 0.95


@pytest.mark.parametrize("text", ["45.0", "up", "inf", "-90"])
def test_another_rotation_drops_the_picture(official: Path, text: str) -> None:
    write(official / "validation-images-with-rotation.csv", IMAGES, image_row(ONE, text))
    assert read(official)[0].drop == f"bad_rotation: {text}"


def test_an_author_or_title_may_hold_commas_and_line_breaks(official: Path) -> None:
    rows = [image_row(TWO, title="a,\n b ''"), image_row(ONE)]
    write(official / "validation-images-with-rotation.csv", IMAGES, *rows)
    assert [entry.author for entry in read(official)] == ["Wen, L."] * 2


# classes


@pytest.mark.parametrize("header", [[], ["id,name"], ["LabelName,DisplayName"]])
def test_classes_with_and_without_a_header(official: Path, header: list[str]) -> None:
    write(official / "class-descriptions-boxable.csv", *header, f'{CAT},"Cat, tame"')
    assert only_seed(official).caption == "Cat, tame"


def test_a_class_that_is_not_listed_has_no_caption(official: Path) -> None:
    write(official / "class-descriptions-boxable.csv", f"{DOG},Dog")
    assert only_seed(official).caption == ""


@pytest.mark.parametrize("rows", [["mid,text"], [f"{CAT},Cat,Katze"], [f"{CAT},Cat", "id,name"]])
def test_other_rows_of_classes_are_refused(official: Path, rows: list[str]) -> None:
    write(official / "class-descriptions-boxable.csv", *rows)
    with pytest.raises(UsageError, match=rf"boxable\.csv: expected rows such as .*got '{rows[-1]}'"):
        read(official)


# tables that cannot be read

NAMES = [
    "validation-images-with-rotation.csv",
    "validation-annotations-bbox.csv",
    "validation-annotations-object-segmentation.csv",
]
COLUMNS = ["Rotation", "IsTruncated", "BoxXMax"]


@pytest.mark.parametrize(("name", "column"), list(zip(NAMES, COLUMNS, strict=True)))
def test_a_missing_column_is_named_with_those_found(official: Path, name: str, column: str) -> None:
    text = (official / name).read_text(encoding="utf-8")
    (official / name).write_text(text.replace(column, "Other", 1), encoding="utf-8")
    with pytest.raises(UsageError, match=rf"{name}: expected the columns {column}, found .*Other"):
        read(official)


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_table_has_no_columns(official: Path, name: str) -> None:
    write(official / name)
    with pytest.raises(UsageError, match=rf"{name}: expected the columns ImageID, .*found an empty file"):
        read(official)


@pytest.mark.parametrize("name", NAMES)
def test_a_table_cut_short_is_refused(official: Path, name: str) -> None:
    path = official / name
    path.write_text(path.read_text(encoding="utf-8")[:-18], encoding="utf-8")
    if name != NAMES[0]:
        path.write_text(path.read_text(encoding="utf-8").rpartition(",")[0], encoding="utf-8")
    with pytest.raises(UsageError, match=rf"{name}: expected \d+ columns, got \d+ in the row"):
        read(official)


@pytest.mark.parametrize("data", [b"ImageID\n\xff\xfe\n", b'ImageID\n"' + b"x" * 200_000], ids=["bytes", "field"])
def test_what_is_no_table_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(data)
    with pytest.raises(UsageError, match=r"x\.csv: after line \d: expected a CSV in UTF-8"):
        list(openimages_tables.read_rows(path, "ImageID"))


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("\ufeffImageID\na\n\nb\n", encoding="utf-8")
    assert list(openimages_tables.read_rows(path, "ImageID", "ImageID")) == [("a", "a"), ("b", "b")]


@pytest.mark.parametrize("name", NAMES[1:])
def test_a_box_without_numbers_is_refused(official: Path, name: str) -> None:
    row = {NAMES[1]: box_row, NAMES[2]: mask_row}[name](box=("0.1", "0.5", "x", "0.7"))
    write(official / name, BOXES if name == NAMES[1] else MASKS, row)
    with pytest.raises(UsageError, match=rf"{name}: picture {ONE}: expected a box of four shares"):
        read(official)


# real rows


def real_rows(shared_data: Path, name: str) -> list[str]:
    text = (shared_data / "openimages_format" / "openimages_v6_csv_rows.md").read_text(encoding="utf-8")
    block = re.search(rf"^{re.escape(name)}[^\n]*\n(.*?)(\n\n|\Z)", text, re.MULTILINE | re.DOTALL)
    assert block
    return block[1].strip().splitlines()


def test_real_rows(shared_data: Path, tmp_path: Path) -> None:
    names = ["train-images-boxable-with-rotation", "oidv6-train-annotations-bbox", "oidv6-class-descriptions-boxable"]
    for name in [*names, "train-annotations-object-segmentation"]:
        write(tmp_path / f"{name}.csv", *real_rows(shared_data, f"{name}.csv"))
    ids = ["4fa8054781a4c382", "b37f763ae67d0888", "677c122b0eaa5d16", "05529ae018130c68", "000002b66c9c498e"]
    touch(*(tmp_path / "train" / f"{id_}.jpg" for id_ in ids))
    found = {entry.id.removeprefix("train/"): entry for entry in read(tmp_path)}
    assert list(found)[:2] == ids[:2]
    assert (found[ids[0]].author, found[ids[1]].author) == ("Michael Beat", "Karen")
    assert found[ids[0]].licence == "cc-by-2.0"
    assert found[ids[0]].url == "https://www.flickr.com/photos/michael-beat/5898076654"
    assert [seed.id for seed in found[ids[2]].seeds] == ["9a041d52"]
    assert found[ids[3]].seeds[0].drop == "unknown_flags"  # its row of boxes is not among the samples
    assert found[ids[4]].uses == ("background", "cut")


def test_the_real_dictionary_of_classes(shared_data: Path) -> None:
    names = openimages_tables.read_classes(shared_data / "openimages_format" / "dict.csv")
    assert len(names) > 7800
    assert names["/g/11jwzh3_l"] == "volcanic landform"
