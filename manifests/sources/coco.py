"""Source ``coco``: photographs with instances in COCO's JSON (Lin et al. 2014, cocodataset.org "Data format").

Read are ``annotations/instances_*.json``, or else every ``*.json`` in the root that has ``images``, ``annotations`` and
``categories``; pictures lie in ``<split>/``, ``images/<split>/``, ``images/``, ``data/`` or the root, where ``<split>``
is the rest of the file's name (``train2017``). A JSON is parsed whole: count on six times its size in memory.

An object that cannot serve says why: ``crowd`` (also run lengths, which outline no single object), ``touches_border``,
``no_outline`` (empty, or not pairs of numbers), ``empty_box``. COCO has no authors; ``url`` leads to the picture.
"""

import gc
import json
from collections.abc import Iterator
from math import ceil, floor, isfinite
from os.path import isfile
from pathlib import Path
from typing import Any

from ..entry import Entry, Seed, Use
from ..errors import UsageError
from .foreign import below, licence_of, touches_border

TABLES = ("images", "annotations", "categories")


class _Document:
    """One instances file, its tables joined."""

    def __init__(self, path: Path, tables: dict[str, Any]) -> None:
        self.path = path
        self.split = path.stem.removeprefix("instances_")
        self.images = _table(path, tables, "images")
        categories = enumerate(_table(path, tables, "categories"))
        pairs = (_pick(path, f"categories[{k}]", row, "id", "name") for k, row in categories)
        self.names = {str(id_): str(name) for id_, name in pairs}
        licences = tables.get("licenses")
        known = [row for row in licences if isinstance(row, dict)] if isinstance(licences, list) else []
        self.licences = {str(row.get("id")): licence_of(str(row.get("url"))) for row in known}
        self.captions = _captions(path)
        self.objects: dict[str, list[tuple[int, Any]]] = {}  # by picture, with the place in the table for messages
        for k, row in enumerate(_table(path, tables, "annotations")):
            (image,) = _pick(path, f"annotations[{k}]", row, "image_id")
            self.objects.setdefault(str(image), []).append((k, row))

    def entries(self, root: Path) -> Iterator[Entry]:
        """An entry a row of ``images``, in order."""
        under = (root / self.split, root / "images" / self.split, root / "images", root / "data", root)
        folders = list(filter(Path.is_dir, under))
        ids: set[str] = set()
        for k, row in enumerate(self.images):
            entry = self._entry(k, row, folders)
            if entry.id in ids:
                raise UsageError(f"{self.path}: images[{k}]: expected an id of its own, got {row['id']} again")
            ids.add(entry.id)
            yield entry

    def _entry(self, position: int, row: Any, folders: list[Path]) -> Entry:
        where = f"images[{position}]"
        id_, name, *size = _pick(self.path, where, row, "id", "file_name", "width", "height")
        width, height = _numbers(self.path, where, "width and height", size, 2)
        if width < 1 or height < 1:
            raise UsageError(f"{self.path}: {where}: expected a width and height from 1, got {size}")
        paths = [path for folder in folders if (path := below(folder, str(name)))]
        path = next(filter(isfile, paths), None)
        seeds = tuple(self._seed(k, each, width, height) for k, each in self.objects.get(str(id_), ()))
        uses: tuple[Use, ...] = ("foreground", "background", "cut") if seeds else ("background", "cut")
        return Entry(
            source="coco",
            id=f"{self.split}/{id_}",
            path=path or next(iter(paths), folders[-1]),
            uses=uses,
            licence=self.licences.get(str(row.get("license")), "unknown"),
            url=str(row.get("coco_url") or row.get("flickr_url") or ""),
            caption=self.captions.get(str(id_), ""),
            seeds=seeds,
            drop="" if path else "missing_image" if paths else "path_outside_root",
        )

    def _seed(self, position: int, row: Any, width: float, height: float) -> Seed:
        where = f"annotations[{position}]"
        id_, category, shape, bbox = _pick(self.path, where, row, "id", "category_id", "segmentation", "bbox")
        x, y, w, h = _numbers(self.path, where, "bbox", bbox, 4)
        outlines = _outlines(shape)
        if row.get("iscrowd") or isinstance(shape, dict):
            drop = "crowd"
        elif not outlines:
            drop = "no_outline"
        elif w <= 0 or h <= 0:
            drop = "empty_box"
        else:
            at_border = touches_border(x / width, y / height, (x + w) / width, (y + h) / height)
            drop = "touches_border" if at_border else ""
        return Seed(
            id=str(id_),
            box=_outward(x, y, x + w, y + h, width, height),
            method="outline",
            outlines=outlines,
            caption=self.names.get(str(category), ""),
            drop=drop,
        )


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a row of ``images``, with a seed an annotation, file after file.

    A picture that is not there has the drop ``missing_image``, one outside the root ``path_outside_root``.

    Raises:
        UsageError: no instances file, broken JSON, or a key that is missing or of another type.
    """
    for path, tables in _files(root):
        yield from _Document(path, tables).entries(root)


def _files(root: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    named = sorted((root / "annotations").glob("instances_*.json"))
    lacking = []
    found = bool(named)
    for path in named or sorted(root.glob("*.json")):
        tables = _load(path)
        lacks = [key for key in TABLES if key not in tables]
        if named or not lacks:
            found = True
            yield path, tables
        else:
            lacking.append(f"{path.name} lacks {', '.join(lacks)}")
    if not found:
        raise UsageError(
            f"{root}: expected annotations/instances_*.json, or a .json with {', '.join(TABLES)}; "
            + ("; ".join(lacking) or "found no .json")
        )


def _load(path: Path) -> dict[str, Any]:
    collecting = gc.isenabled()
    gc.disable()  # among millions of new lists, looking for rings takes longer than parsing
    try:
        tables = json.loads(path.read_bytes(), parse_constant=_no_number)
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"{path}: expected JSON: {error}") from error
    finally:
        if collecting:
            gc.enable()
    return tables if isinstance(tables, dict) else {}


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no number of JSON")


def _table(path: Path, tables: dict[str, Any], key: str) -> list[Any]:
    rows = tables.get(key)
    if not isinstance(rows, list):
        what = f"a {type(rows).__name__}" if key in tables else f"only {', '.join(tables) or 'no key'}"
        raise UsageError(f"{path}: expected a list under the key {key!r}, got {what}")
    return rows


def _pick(path: Path, where: str, row: Any, *keys: str) -> list[Any]:
    if not isinstance(row, dict):
        raise UsageError(f"{path}: {where}: expected an object, got {row!r:.80}")
    try:
        return [row[key] for key in keys]
    except KeyError as error:
        raise UsageError(f"{path}: {where}: expected the key {error}, found {', '.join(row)}") from None


def _numbers(path: Path, where: str, key: str, values: Any, count: int) -> list[float]:
    """``values`` as so many finite numbers.

    Raises:
        UsageError: they are not.
    """
    try:
        numbers = [float(value) for value in values]
    except (TypeError, ValueError, OverflowError):
        numbers = []
    if len(numbers) != count or not all(map(isfinite, numbers)):
        raise UsageError(f"{path}: {where}: expected {count} numbers for {key}, got {values!r:.80}")
    return numbers


def _outlines(shape: Any) -> tuple[tuple[float, ...], ...]:
    """Polygons of three points and more; COCO has a few of two, which hold no area. Empty where any is no polygon."""
    try:
        polygons = [tuple(map(float, polygon)) for polygon in shape] if isinstance(shape, list) else []
    except (TypeError, ValueError, OverflowError):
        return ()
    if any(len(polygon) % 2 or not all(map(isfinite, polygon)) for polygon in polygons):
        return ()
    return tuple(polygon for polygon in polygons if len(polygon) >= 6)


def _outward(
    left: float, top: float, right: float, bottom: float, width: float, height: float
) -> tuple[int, int, int, int]:
    """The box in whole px, rounded outwards but not out of the picture; left, top, width, height."""
    # COCO has two decimals: more are noise of the sum, which would add a px
    x, y = max(0, floor(round(left, 3))), max(0, floor(round(top, 3)))
    return x, y, min(ceil(width), ceil(round(right, 3))) - x, min(ceil(height), ceil(round(bottom, 3))) - y


def _captions(path: Path) -> dict[str, str]:
    """The first caption of each picture, from the captions file beside an instances file; empty without one."""
    captions: dict[str, str] = {}
    beside = path.with_name(path.name.replace("instances_", "captions_", 1))
    if beside != path and beside.is_file():
        for k, row in enumerate(_table(beside, _load(beside), "annotations")):
            image, text = _pick(beside, f"annotations[{k}]", row, "image_id", "caption")
            captions.setdefault(str(image), str(text).strip())
    return captions
