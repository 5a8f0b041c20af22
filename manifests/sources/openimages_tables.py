"""The CSV tables of Open Images: read by the names of their columns, row after row.

What the tables mean (storage.googleapis.com/openimages, "Data formats"):

- ``IsOccluded``, ``IsTruncated``, ``IsGroupOf``, ``IsDepiction`` and ``IsInside`` have three values: 1 present,
  0 absent, **-1 unknown**.
- Boxes are shares of the picture's sides in the order XMin, **XMax**, YMin, YMax; the train table has 8 more columns.
- A row of masks carries no flags; it belongs to the row of boxes with the same picture, class and box.
- ``Rotation`` is by how many degrees picture and boxes have to be turned **counter-clockwise** to stand upright (the
  convention of ``Entry.rotation``); empty or ``nan`` where the original was gone and nobody knows. Masks and boxes
  are those of the picture as it is stored, before that turn.
"""

import csv
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import cache
from operator import itemgetter
from pathlib import Path
from struct import Struct
from sys import intern
from typing import NamedTuple

from ..errors import UsageError

FLAGS = {
    "IsOccluded": "occluded",
    "IsTruncated": "truncated",
    "IsGroupOf": "group_of",
    "IsDepiction": "depiction",
    "IsInside": "inside",
}
"""Column of the boxes table -> why an object with this flag is dropped, in the order in which they are looked at."""

UNKNOWN_FLAGS = "unknown_flags"
"""The drop of a mask that no row of boxes belongs to."""

NEAR = 0.0005
"""Boxes of one class are the same where no side differs by more: half a pixel of 1024, for the tables round."""

_HEADERS = (["id", "name"], ["LabelName", "DisplayName"])
_BOX = Struct("4d")  # an object of 65 bytes where a tuple of floats takes 168; the train split has 2.7 million


class ImageRow(NamedTuple):
    """A row of the table of pictures, as text."""

    id: str
    licence: str
    author: str
    url: str
    rotation: str


@dataclass(slots=True)
class Instance:
    """A segmented object.

    Attributes:
        id: BoxID.
        label: MID of the class.
        mask: MaskPath as the table has it, not to be trusted.
        packed: its box.
        drop: why its flags rule it out; empty where all five are 0.
    """

    id: str
    label: str
    mask: str
    packed: bytes
    drop: str = UNKNOWN_FLAGS

    @property
    def box(self) -> tuple[float, ...]:
        """XMin, XMax, YMin, YMax, shares of the picture's sides."""
        return _BOX.unpack(self.packed)


def read_rows(path: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """Yield these columns of every row; ``csv.DictReader`` by position, at several times its speed.

    Raises:
        UsageError: a column is missing, a row has another length than the header, or the file is no CSV in UTF-8.
    """
    rows = _lines(path)
    header = next(rows, [])
    pick = _picker(path, header, columns)
    for row in rows:
        if len(row) != len(header):
            begins = ",".join(row)[:80]
            raise UsageError(
                f"{path}: expected {len(header)} columns, got {len(row)} in the row {begins!r}; is the file complete?"
            )
        yield pick(row)


def _lines(path: Path) -> Iterator[list[str]]:
    """The rows of a CSV file that are not empty."""
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream)
        try:
            yield from filter(None, reader)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UsageError(f"{path}: after line {reader.line_num}: expected a CSV in UTF-8: {error}") from error


def _picker(path: Path, header: list[str], columns: tuple[str, ...]) -> Callable[[list[str]], tuple[str, ...]]:
    missing = [column for column in columns if column not in header]
    if missing:
        found = ", ".join(header) or "an empty file"
        raise UsageError(f"{path}: expected the columns {', '.join(missing)}, found {found}; download it again")
    pick: Callable[[list[str]], tuple[str, ...]] = itemgetter(*map(header.index, columns))
    return pick


def read_images(path: Path) -> Iterator[ImageRow]:
    """Yield the rows of a table of pictures."""
    return map(ImageRow._make, read_rows(path, "ImageID", "License", "Author", "OriginalLandingURL", "Rotation"))


def read_instances(path: Path, wanted: Container[str]) -> dict[str, list[Instance]]:
    """The masks of the pictures in ``wanted``, by picture; their flags are not known yet.

    Raises:
        UsageError: the table cannot be read, or a box has no numbers.
    """
    instances: dict[str, list[Instance]] = {}
    columns = ("ImageID", "LabelName", "BoxID", "MaskPath", "BoxXMin", "BoxXMax", "BoxYMin", "BoxYMax")
    for image, label, box_id, mask, *box in read_rows(path, *columns):
        if image in wanted:
            packed = _BOX.pack(*_shares(path, image, box))
            instances.setdefault(image, []).append(Instance(box_id, intern(label), mask, packed))
    return instances


def judge_by_boxes(path: Path, instances: dict[str, list[Instance]]) -> None:
    """Set the ``drop`` of the instances from the flags in a table of boxes; of two rows for one the strict one holds.

    Raises:
        UsageError: the table cannot be read, a box has no numbers, or a flag is none of 1, 0 and -1.
    """
    for image, label, *rest in read_rows(path, "ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax", *FLAGS):
        for instance in instances.get(image, ()):
            if instance.label == label and _same(instance.box, _shares(path, image, rest[:4])):
                drop = _offence(path, image, tuple(rest[4:]))
                if instance.drop in ("", UNKNOWN_FLAGS):
                    instance.drop = drop


def _same(box: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return all(abs(a - b) <= NEAR for a, b in zip(box, other, strict=True))


def _shares(path: Path, image: str, texts: list[str]) -> tuple[float, ...]:
    try:
        return tuple(map(float, texts))
    except ValueError:
        raise UsageError(f"{path}: picture {image}: expected a box of four shares 0..1, got {texts}") from None


def _offence(path: Path, image: str, flags: tuple[str, ...]) -> str:
    try:
        return _drop_of(flags)
    except KeyError as error:
        raise UsageError(f"{path}: picture {image}: expected 1, 0 or -1 in {', '.join(FLAGS)}, got {error}") from None


@cache
def _drop_of(flags: tuple[str, ...]) -> str:
    prefixes = [{"0": None, "1": "", "-1": "unknown_"}[flag] for flag in flags]
    offending = (prefix + name for prefix, name in zip(prefixes, FLAGS.values(), strict=True) if prefix is not None)
    return next(offending, "")


def read_classes(path: Path) -> dict[str, str]:
    """Class names by MID, from a table with a header (``id,name``, ``LabelName,DisplayName``) or without one.

    Raises:
        UsageError: another header, or a row without two columns.
    """
    names = {}
    for number, row in enumerate(_lines(path)):
        if len(row) == 2 and row[0].startswith("/"):
            names[row[0]] = row[1]
        elif number or row not in _HEADERS:
            raise UsageError(f"{path}: expected rows such as '/m/011k07,Tortoise', got {','.join(row)[:80]!r}")
    return names
