"""Source ``mulan``: pictures in layers of MuLAn, as the data set comes or as its own script rendered them.

Two layouts are read, wherever they lie below the root, also side by side:

- annotations ``<id>.p.zl`` over base pictures: COCO's ``<12 digits>.jpg`` in folders ``train2017`` and ``val2017``, and
  LAION's ``<9 digits>.jpg`` as img2dataset writes them (with ``resize_mode no``, or the masks do not fit);
- the script's output: ``<id>-layer_0.png``, the background, and ``<id>-layer_1.png`` …, RGBA from bottom to top, with
  captions in ``meta_data.csv`` beside them (columns ``paths``, ``blip2``, ``llava``). The entry names layer 0, and its
  siblings are found by their names (``layerkit.toolkit.mulan.rendered_files``); a seed stands for each other layer:
  its ``id`` is the layer's number, and it holds the caption.

Where one folder holds both for one id, the annotation counts. COCO and LAION may give one id to two pictures: then the
entry's id has the sub-folder before it.
"""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from ..entry import Entry, Seed
from ..errors import UsageError

LICENCE = "cc-by-nc-sa-4.0"
URL = "https://mulan-dataset.github.io"

_ANNOTATION = ".p.zl"
_RENDERED = re.compile(r"(.+)-layer_(\d+)\.png")
_COCO = re.compile(r"\d{12}\.jpg")
_LAION = re.compile(r"\d{9}\.jpg")
_COLUMNS = ("paths", "blip2", "llava")


@dataclass(slots=True)
class _Found:
    """What lies under a root: pictures by their path without the ending, base pictures by stem, captions by path."""

    annotations: dict[Path, Path] = field(default_factory=dict)
    rendered: dict[Path, list[int]] = field(default_factory=dict)
    bases: dict[str, Path] = field(default_factory=dict)
    captions: dict[str, str] = field(default_factory=dict)


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a picture in the order of its path.

    Raises:
        UsageError: nothing of MuLAn under ``root``, or a ``meta_data.csv`` that cannot be read.
    """
    found = _look(root)
    pictures = sorted({*found.annotations, *found.rendered})
    if not pictures:
        raise UsageError(
            f"{root}: expected MuLAn annotations (*{_ANNOTATION}) or rendered layers (*-layer_0.png), found none below "
            "this folder; unpack the archive first"
        )
    names = Counter(path.name for path in pictures)
    for path in pictures:
        id_ = path.name if names[path.name] == 1 else path.relative_to(root).as_posix()
        yield _annotated(id_, path, found) if path in found.annotations else _rendered(id_, path, found)


def _annotated(id_: str, path: Path, found: _Found) -> Entry:
    names = _base_names(path)
    base = next((found.bases[name] for name in names if name in found.bases), None)
    where = "train2017 or val2017" if len(names[0]) == 12 else "img2dataset's folders"
    return Entry(
        source="mulan",
        id=id_,
        path=found.annotations[path],
        base=base,
        kind="layers",
        uses=("layers", "foreground"),
        licence=LICENCE,
        url=URL,
        drop="" if base else f"missing_base_image: expected {names[0]}.jpg under {where}",
    )


def _base_names(path: Path) -> list[str]:
    """Stems of the base picture, the likeliest first: COCO's names have 12 digits, LAION's 9."""
    if len(path.name) in (9, 12) or not path.name.isdecimal():
        return [path.name]
    padded = [path.name.zfill(12), path.name.zfill(9)]
    return padded[::-1] if any("laion" in part.lower() for part in path.parts[:-1]) else padded


def _rendered(id_: str, path: Path, found: _Found) -> Entry:
    numbers = sorted(found.rendered[path])
    gap = numbers != list(range(len(numbers)))
    captions = {number: found.captions.get(str(_layer(path, number)), "") for number in numbers if number}
    return Entry(
        source="mulan",
        id=id_,
        path=_layer(path, 0),
        kind="layers",
        uses=("layers", "foreground"),
        licence=LICENCE,
        url=URL,
        seeds=tuple(Seed(id=str(number), caption=caption) for number, caption in captions.items()),
        drop=f"missing_layer: expected layers 0 to {numbers[-1]}, found {', '.join(map(str, numbers))}" if gap else "",
    )


def _layer(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}-layer_{number}.png")


def _look(root: Path) -> _Found:
    """One walk. Links to folders are followed, for COCO often lies elsewhere; hidden folders are not entered."""
    found = _Found()
    seen: set[str] = set()
    for folder, below, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        below[:] = [] if real in seen else sorted(name for name in below if not name.startswith("."))
        if real not in seen:
            _note(Path(folder), sorted(files), found)
        seen.add(real)
    return found


def _note(folder: Path, files: list[str], found: _Found) -> None:
    of_coco = folder.name in ("train2017", "val2017")
    for name in files:
        if name.startswith("."):
            continue
        if name.endswith(_ANNOTATION):
            found.annotations[folder / name.removesuffix(_ANNOTATION)] = folder / name
        elif (_COCO if of_coco else _LAION).fullmatch(name):
            found.bases.setdefault(name.removesuffix(".jpg"), folder / name)
        elif named := _RENDERED.fullmatch(name):
            found.rendered.setdefault(folder / named[1], []).append(int(named[2]))
        elif name == "meta_data.csv":
            found.captions |= _captions(folder / name)


def _captions(path: Path) -> dict[str, str]:
    """Caption of each layer by its file; of a path only the last part counts, so none leads out of the folder."""
    captions = {}
    folder = str(path.parent)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        try:
            if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or [])]:
                got = ", ".join(reader.fieldnames or []) or "none"
                raise UsageError(f"{path}:1: expected the columns {', '.join(_COLUMNS)}; {missing[0]} lacks, got {got}")
            for row in reader:
                if None in row or None in row.values():
                    raise UsageError(f"{path}:{reader.line_num}: expected {len(reader.fieldnames or [])} fields a row")
                name = re.split(r"[/\\]", row["paths"])[-1]
                captions[os.path.join(folder, name)] = (row["llava"] or row["blip2"]).strip()
        except (csv.Error, UnicodeDecodeError) as error:
            raise UsageError(f"{path}:{reader.line_num + 1}: expected a CSV file in UTF-8: {error}") from error
    return captions
