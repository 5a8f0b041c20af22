"""img2dataset's folders: rows of tars and folders, refusals that are told, tars cut anywhere, padded pictures."""

import io
import json
import random
import tarfile
from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.sources import entries, img2dataset
from layerkit.manifests.sources.tars import Header

FINE = {
    "caption": "a red fox",
    "url": "https://a.example/fox.jpg",
    "key": "000000000",
    "status": "success",
    "error_message": None,
    "width": 640,
    "height": 480,
    "original_width": 640,
    "original_height": 480,
    "exif": "{}",
    "sha256": "0" * 64,
}


def members(key: str, picture: bytes | None = b"\xff\xd8picture", ending: str = "jpg", **about) -> dict[str, bytes]:
    """The files of a row, in the order in which webdataset writes them."""
    meta = json.dumps({**FINE, "key": key, **about}, indent=4).encode()
    files = {"json": meta, "txt": (about.get("caption", FINE["caption"]) or "").encode()}
    if picture is not None:
        files[ending] = picture
    return {f"{key}.{name}": files[name] for name in sorted(files)}


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    path.mkdir()
    for name, data in files.items():
        (path / name).write_bytes(data)
    return path


def content(entry) -> bytes:
    data = entry.path.read_bytes()
    return data if entry.span is None else data[entry.span[0] : sum(entry.span)]


@pytest.mark.parametrize("write", [write_tar, write_folder])
def test_a_row_is_a_picture_with_what_is_known_of_it(tmp_path: Path, write) -> None:
    ending = ".tar" if write is write_tar else ""
    second = members(
        "000010007", b"second", "png", caption=None, LICENSE="https://creativecommons.org/licenses/by/2.0/"
    )
    write(tmp_path / f"00001{ending}", second)
    write(tmp_path / f"00000{ending}", members("000000000", b"first") | members("000000004", b"third", "webp"))
    (tmp_path / "00000_stats.json").write_text("{}")
    (tmp_path / "00000.parquet").touch()
    found = list(entries("img2dataset", {"img2dataset": tmp_path}))
    assert [entry.id for entry in found] == ["000000000", "000000004", "000010007"]
    assert [content(entry) for entry in found] == [b"first", b"third", b"second"]
    assert {entry.drop for entry in found} == {""}
    assert (found[0].caption, found[0].url, found[0].licence) == ("a red fox", FINE["url"], "unknown")
    assert (found[2].caption, found[2].licence) == ("", "cc-by-2.0")


def test_the_caption_is_in_the_json_or_else_in_the_txt(tmp_path: Path) -> None:
    files = members("000000000", caption="json") | {"000000000.txt": b"txt"}
    bare = {"000000001.jpg": b"x", "000000001.txt": b" of the txt \n"}
    write_tar(tmp_path / "00000.tar", files | bare | {"README": b"belongs to no row"})
    assert [entry.caption for entry in img2dataset.index(tmp_path)] == ["json", "of the txt"]


@pytest.mark.parametrize(
    ("about", "picture", "said"),
    [
        (
            {"status": "failed_to_download", "error_message": "HTTP Error 404"},
            None,
            "download_failed: failed_to_download, HTTP Error 404",
        ),
        (
            {"status": "failed_to_resize", "error_message": "not an image"},
            b"x",
            "download_failed: failed_to_resize, not",
        ),
        ({}, None, "download_failed: success, no picture"),
    ],
)
def test_a_row_without_success_or_picture_is_told(tmp_path: Path, about, picture, said: str) -> None:
    write_folder(tmp_path / "00000", members("000000000", picture, **about))
    (entry,) = img2dataset.index(tmp_path)
    assert entry.drop.startswith(said)


@pytest.mark.parametrize("text", [b"{", b"[1]", b"\xff\xfe\xfa", b"[" * 100_000])
def test_metadata_that_cannot_be_read_is_a_refused_row(tmp_path: Path, text: bytes) -> None:
    write_tar(tmp_path / "00000.tar", {"000000000.jpg": b"x", "000000000.json": text})
    (entry,) = img2dataset.index(tmp_path)
    assert entry.drop.startswith("bad_metadata: 000000000.json: ")


@pytest.mark.parametrize(
    ("made", "original", "padded"),
    [
        ((256, 256), (640, 480), True),
        ((256, 256), (480, 640), True),
        ((512, 512), (520, 512), True),
        ((256, 256), (640, 640), False),
        ((256, 256), (1001, 1000), False),  # keep_ratio rounds it to a square
        ((341, 256), (640, 480), False),
        ((640, 480), (640, 480), False),
        ((256, 256), (None, None), False),
        ((0, 0), (640, 480), False),
        (("256", "256"), (640, 480), False),
    ],
)
def test_a_picture_padded_to_a_square_is_recognised(tmp_path: Path, made, original, padded: bool) -> None:
    names = ("width", "height", "original_width", "original_height")
    files = members("000000000", **dict(zip(names, (*made, *original), strict=True)))
    write_tar(tmp_path / "00000.tar", files)
    (entry,) = img2dataset.index(tmp_path)
    assert bool(entry.drop) == padded
    if padded:
        assert entry.drop.startswith(f"border_resized: made {made[0]}x{made[1]} of {original[0]}x{original[1]}; ")
        assert entry.drop.endswith("download again with resize_mode=no or keep_ratio")


@pytest.mark.parametrize(
    ("said", "licence"),
    [
        ("https://creativecommons.org/licenses/by-nc-sa/4.0/", "cc-by-nc-sa-4.0"),
        ("http://www.creativecommons.org/licenses/by/2.0/deed.en", "cc-by-2.0"),
        ("http://creativecommons.org/publicdomain/zero/1.0", "cc0-1.0"),
        ("CC BY-SA 4.0", "cc-by-sa-4.0"),
        ("Public Domain", "public-domain"),
        ("?", "unknown"),
        ("all rights reserved", "unknown"),
        (7, "unknown"),
    ],
)
@pytest.mark.parametrize("column", ["license", "LICENSE", "license_url"])
def test_a_licence_column_is_read_by_address_or_id(tmp_path: Path, column: str, said, licence: str) -> None:
    write_tar(tmp_path / "00000.tar", members("000000000", **{column: said}))
    (entry,) = img2dataset.index(tmp_path)
    assert entry.licence == licence


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
def test_wherever_a_tar_is_cut_its_whole_rows_come_and_the_cut_is_told(tmp_path: Path, ending: str) -> None:
    pictures = {f"00000000{number}": bytes([number]) * 700 for number in range(3)}
    files = {name: data for key, picture in pictures.items() for name, data in members(key, picture, ending).items()}
    whole = write_tar(tmp_path / "00000.tar", files).read_bytes()
    end = len(whole.rstrip(b"\0"))
    for cut in range(0, end, 256):
        (tmp_path / "00000.tar").write_bytes(whole[:cut])
        *kept, told = img2dataset.index(tmp_path)
        assert [entry.id for entry in kept] == list(pictures)[: len(kept)]
        assert all(content(entry) == pictures[entry.id] and not entry.drop for entry in kept)
        assert told.id == "00000.tar"
        assert told.drop.startswith("truncated_shard: 00000.tar ")
        assert f"; {len(kept)} rows are whole" in told.drop
    (tmp_path / "00000.tar").write_bytes(whole)
    assert [entry.drop for entry in img2dataset.index(tmp_path)] == ["", "", ""]


def listed(path: Path, header: type[tarfile.TarInfo]) -> list[tuple] | str:
    """Name, place, size and kind of every member, or the kind of error."""
    try:
        with tarfile.open(path, "r:", tarinfo=header) as tar:
            return [(each.name, each.offset_data, each.size, each.type) for each in tar]
    except tarfile.TarError as error:
        return type(error).__name__


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_headers_are_read_as_tarfile_reads_them(tmp_path: Path, form: int) -> None:
    draw = random.Random(0)
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=form) as tar:
        for name in ("a.jpg", "b/c.json", "d" * 100, f"{'e' * 90}/{'f' * 90}", "ü.jpg", "folder/", "link"):
            member = tarfile.TarInfo(name)
            member.type = {"folder/": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}.get(name, tarfile.REGTYPE)
            member.size = draw.randrange(2000) if member.isreg() else 0
            member.linkname = "a.jpg"
            tar.addfile(member, io.BytesIO(draw.randbytes(2000)))
    whole = path.read_bytes()
    assert len(listed(path, Header)) == 7
    for _ in range(600):
        assert listed(path, Header) == listed(path, tarfile.TarInfo)
        data = bytearray(whole[: draw.choice([len(whole), draw.randrange(len(whole))])])
        for _ in range(draw.randint(1, 5)):
            at = draw.randrange(len(data))
            at = min(at - at % 512 + draw.choice([at % 512, 124 + at % 40, 257]), len(data) - 1)  # a header, rather
            data[at] = draw.choice([0, 32, 48, 56, draw.randrange(256)])
        path.write_bytes(data)


def test_a_cut_tar_does_not_hide_the_next_one(tmp_path: Path) -> None:
    cut = write_tar(tmp_path / "00000.tar", members("000000000"))
    cut.write_bytes(cut.read_bytes()[:700])
    write_tar(tmp_path / "00001.tar", members("000010000"))
    assert [entry.id for entry in img2dataset.index(tmp_path)] == ["00000.tar", "000010000"]


def test_links_and_foreign_names_in_a_tar_reach_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "00000.tar"
    with tarfile.open(path, "w") as tar:
        link = tarfile.TarInfo("000000001.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
        outside = tarfile.TarInfo("../../000000002.jpg")
        outside.size = 3
        tar.addfile(outside, io.BytesIO(b"abc"))
    (entry,) = img2dataset.index(tmp_path)
    assert (entry.id, entry.path, content(entry)) == ("000000002", path, b"abc")


def test_a_shard_unpacked_beside_its_tar_is_read_once(tmp_path: Path) -> None:
    write_tar(tmp_path / "00000.tar", members("000000000"))
    write_folder(tmp_path / "00000", members("000000000"))
    (entry,) = img2dataset.index(tmp_path)
    assert entry.span is not None


@pytest.mark.parametrize("kind", ["parquet", "tfrecord"])
def test_pictures_inside_parquet_are_refused_with_what_to_do(tmp_path: Path, kind: str) -> None:
    (tmp_path / f"00000.{kind}").touch()
    with pytest.raises(UsageError, match=rf"found NNNNN\.{kind} alone; download again with output_format=webdataset"):
        list(img2dataset.index(tmp_path))


def test_a_folder_without_shards_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").touch()
    with pytest.raises(UsageError, match=r"expected img2dataset's shards, NNNNN\.tar or NNNNN/, found none"):
        list(img2dataset.index(tmp_path))
