"""Source ``rorem``: RORem's removal triplets, ``meta.json`` beside ``source/``, ``mask/`` and ``GT/``.

``meta.json`` is a list of ``{"source": "source/x.png", "mask": "mask/x.png", "GT": "GT/x.png"}``: a photograph, the
object in it (white), and the same scene without the object (Li et al., CVPR 2025). There is no foreground layer. So an
entry is a photograph to ``cut`` with one seed, the mask; ``base`` is the clean plate. There are several archives, so
``meta.json`` lies in the root or one in each of its sub-folders; its paths start there and may not lead out. The rows
that the authors judged have a ``score``; 0 is a removal that they rejected, and so do we.
"""

import json
import os.path
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..entry import Entry, Seed
from ..errors import UsageError

LICENCE = "cc-by-nc-sa-4.0"
"""The authors say Apache-2.0, but part of the scenes are MuLAn's and nothing tells which: the strictest holds."""

URL = "https://huggingface.co/datasets/LetsThink/RORem_dataset"

_LEAVES = re.compile(r"[/\\]|.:|(.*[/\\])?\.\.([/\\]|\Z)", re.DOTALL)  # from the root, from a drive, or upwards
_MISSING = {"source": "missing_image", "mask": "missing_mask", "GT": "missing_base_image"}


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a row in order, its id the path of the photograph; a row of no use says why in ``drop``.

    Raises:
        UsageError: no ``meta.json``, or one that is no list.
    """
    tables = [root / "meta.json"] if (root / "meta.json").is_file() else sorted(root.glob("*/meta.json"))
    if not tables:
        raise UsageError(f"{root}: expected meta.json in this folder or in folders of it, found none")
    seen: set[str] = set()
    for table in tables:
        folder = os.path.join(table.parent, "")
        below = table.parent.relative_to(root).as_posix()
        for number, row in enumerate(_rows(table)):
            fault = _fault(folder, row)
            known = not fault.startswith(("bad_row", "path_outside_root"))
            id_ = posixpath.normpath(posixpath.join(below, row["source"] if known else table.name))
            id_ = f"{id_}#{number}" if not known or id_ in seen else id_
            seen.add(id_)
            yield _entry(id_, table, row, fault)


def _entry(id_: str, table: Path, row: Any, fault: str) -> Entry:
    if fault:
        return Entry(source="rorem", id=id_, path=table, uses=("cut",), licence=LICENCE, url=URL, drop=fault)
    folder = table.parent
    return Entry(
        source="rorem",
        id=id_,
        path=folder / row["source"],
        base=folder / row["GT"],
        uses=("cut",),
        licence=LICENCE,
        url=URL,
        seeds=(Seed(mask=folder / row["mask"], method="mask"),),
    )


def _fault(folder: str, row: Any) -> str:
    """Why a row cannot be used, empty where it can."""
    if not isinstance(row, dict) or not all(isinstance(row.get(key), str) for key in _MISSING):
        got = ", ".join(str(key)[:40] for key in row) if isinstance(row, dict) else type(row).__name__
        return f"bad_row: expected an object with the texts {', '.join(_MISSING)}, got {got or 'nothing'}"
    for key, reason in _MISSING.items():
        if _leaves(row[key]):
            return f"path_outside_root: expected a path below {folder}, got {row[key][:200]!r}"
        if not os.path.isfile(folder + row[key]):  # unlike Path.is_file, False for a name that is too long
            return f"{reason}: expected {row[key][:200]} in {folder}"
    return "rejected_by_source: its score is 0" if row.get("score") == 0 else ""


def _leaves(path: str) -> bool:
    return _LEAVES.match(path) is not None


def _rows(table: Path) -> list[Any]:
    data = table.read_bytes()
    try:
        rows = json.loads(data.decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        raise UsageError(f"{table}:{error.lineno}: expected JSON: {error.msg} in column {error.colno}") from error
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"{table}:{line}: expected UTF-8: {error.reason}") from error
    except RecursionError as error:
        raise UsageError(f"{table}:1: expected a list of objects, got one nested too deeply") from error
    if not isinstance(rows, list):
        raise UsageError(f"{table}:1: expected a list of objects, got {type(rows).__name__}")
    return rows
