"""Source ``img2dataset``: a folder that img2dataset downloaded into, in its formats ``webdataset`` and ``files``.

A shard is ``NNNNN.tar`` or a folder ``NNNNN/``; a row is ``KEY.jpg`` (or png, webp), ``KEY.json`` and ``KEY.txt``.
KEY is the shard's number and the row's, unique over the shards. Only a row with status ``success`` has a picture. The
hashes in the json are of the file on the web, not of the picture here, which img2dataset encoded again: they are not
kept.

The default ``resize_mode=border`` pads a picture to a square with white bars, and ``center_crop`` cuts it to one. No
other mode makes a square of a picture that is not one, so a square whose ``original_width`` and ``original_height``
are further from one than rounding explains is not used.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from ..entry import Entry
from ..errors import UsageError
from ..licences import LICENCES
from .foreign import licence_of
from .tars import members

_PICTURES = ("jpg", "png", "webp")
_TEXTS = ("json", "txt")
_LICENCE_COLUMNS = ("license", "licence", "license_url", "license_id")
_TEXT_LIMIT = 1 << 20
"""Bytes of a json or txt; img2dataset writes about a thousand."""

_MADE_AGAIN = "download again with resize_mode=no or keep_ratio"


class _Part(NamedTuple):
    """A file, or the bytes of a tar that hold one; of a json or txt in a tar, these bytes as well."""

    path: Path
    span: tuple[int, int] | None = None
    text: bytes = b""


_Row = dict[str, _Part]  # ending -> where it lies


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a row, shard by shard; its id is the key. A shard that lies there as tar and folder is read once.

    Raises:
        UsageError: no shard under ``root``, or the pictures are inside parquet files.
    """
    shards = {path.stem: path for path in sorted(root.iterdir()) if _is_shard(path)}  # a tar after its folder
    if not shards:
        raise UsageError(_nothing_in(root))
    for _, path in sorted(shards.items()):
        yield from _folder_entries(path) if path.is_dir() else _tar_entries(path)


def _is_shard(path: Path) -> bool:
    return path.stem.isdigit() and (path.is_dir() if path.suffix == "" else path.suffix == ".tar")


def _nothing_in(root: Path) -> str:
    inside = next((kind for kind in ("parquet", "tfrecord") if any(root.glob(f"[0-9]*.{kind}"))), "")
    if inside:
        return (
            f"{root}: expected shards NNNNN.tar or NNNNN/, found NNNNN.{inside} alone; "
            "download again with output_format=webdataset or files"
        )
    return f"{root}: expected img2dataset's shards, NNNNN.tar or NNNNN/, found none in this folder"


def _folder_entries(folder: Path) -> Iterator[Entry]:
    rows: dict[str, _Row] = {}
    for path in sorted(folder.iterdir()):
        if path.is_file() and not path.name.startswith("."):
            rows.setdefault(path.stem, {})[path.suffix[1:].lower()] = _Part(path)
    yield from _entries(rows)


def _tar_entries(path: Path) -> Iterator[Entry]:
    listed, fault = members(path)
    rows: dict[str, _Row] = {}
    with path.open("rb") as file:
        for name, span in listed:
            key, _, ending = name.rpartition("/")[2].partition(".")
            text = _text(file, *span) if ending.lower() in _TEXTS else b""
            rows.setdefault(key, {})[ending.lower()] = _Part(path, span, text)
    if fault and rows and not _is_whole(rows[key]):
        del rows[key]  # cut off within it
    yield from _entries(rows)
    if fault:
        drop = f"truncated_shard: {path.name} {fault}; {len(rows)} rows are whole"
        yield Entry(source="img2dataset", id=path.name, path=path, drop=drop)


def _entries(rows: Mapping[str, _Row]) -> Iterator[Entry]:
    for key, row in rows.items():
        if _picture(row) or "json" in row:  # else a file that belongs to no row
            yield _entry(key, row)


def _picture(row: _Row) -> _Part | None:
    return next((row[ending] for ending in _PICTURES if ending in row), None)


def _is_whole(row: _Row) -> bool:
    return "json" in row and _picture(row) is not None


def _entry(key: str, row: _Row) -> Entry:
    picture = _picture(row)
    where = picture or row["json"]
    try:
        known = _metadata(row)
    except (ValueError, RecursionError) as error:
        drop = f"bad_metadata: {key}.json: {error}"
        return Entry(source="img2dataset", id=key, path=where.path, span=where.span, drop=drop)
    caption = known.get("caption") or (_read(row["txt"]).decode(errors="replace") if "txt" in row else "")
    return Entry(
        source="img2dataset",
        id=key,
        path=where.path,
        span=where.span,
        licence=_licence(known),
        author=_string(known, "author"),
        url=_string(known, "url"),
        caption=str(caption).strip(),
        drop=_why_not(known, has_picture=picture is not None),
    )


def _metadata(row: _Row) -> dict[str, Any]:
    """What the json says, its names in lower case; nothing where there is no json.

    Raises:
        ValueError: it is no JSON object.
    """
    if "json" not in row:
        return {}
    known = json.loads(_read(row["json"]))
    if not isinstance(known, dict):
        raise ValueError(f"expected an object, got {type(known).__name__}")
    return {name.lower(): value for name, value in known.items()}


def _read(part: _Part) -> bytes:
    if part.span:
        return part.text
    with part.path.open("rb") as file:
        return _text(file, 0, _TEXT_LIMIT)


def _text(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(min(size, _TEXT_LIMIT))


def _string(known: Mapping[str, Any], name: str) -> str:
    value = known.get(name)
    return value if isinstance(value, str) else ""


def _why_not(known: Mapping[str, Any], *, has_picture: bool) -> str:
    status = known.get("status", "success")
    if status != "success" or not has_picture:
        return f"download_failed: {status}, {known.get('error_message') or 'no picture'}"
    sides = [known.get(name) for name in ("width", "height", "original_width", "original_height")]
    if _made_square(sides):
        width, height, *original = sides
        return f"border_resized: made {width}x{height} of {original[0]}x{original[1]}; {_MADE_AGAIN}"
    return ""


def _made_square(sides: list[Any]) -> bool:
    """Whether a picture became a square that it was not; sides are width and height, then those before.

    Scaled with its proportions kept, the shorter side is within a pixel of its share of the longer one.
    """
    if not all(isinstance(side, int) and side > 0 for side in sides):
        return False
    width, height, *original = sides
    return bool(width == height and width - width * min(original) / max(original) > 1)


def _licence(known: Mapping[str, Any]) -> str:
    """The identifier that a licence column names by address or id, else ``unknown``."""
    said = next((known[name] for name in _LICENCE_COLUMNS if isinstance(known.get(name), str)), "")
    address = re.sub(r"/(deed|legalcode)[^/]*$", "", said.strip())
    id_ = re.sub(r"[^a-z0-9.]+", "-", said.lower()).strip("-")
    return id_ if id_ in LICENCES else licence_of(address)
