"""Readers ``removalbench`` and ``aim-500``: folders beside one another whose files share their stems.

RemovalBench (Wei et al., OmniEraser, 2025): ``images/``, ``masks/`` (white on the object) and ``gt/``, PNG.

AIM-500 (Li et al., IJCAI 2021): ``original/`` (JPEG), ``mask/``, which is the alpha, and ``trimap/``, PNG; types and
categories stand in ``aim_category_type.json`` beside or above, where it is.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..pairs import File, MaskFile, Pair

_PICTURES = (".png", ".jpg", ".jpeg")
_TABLE = "aim_category_type.json"


def removalbench(root: Path, split: str = "test") -> Iterator[Pair]:
    """Yield a pair a picture of ``images``, in the order of their names; ``split`` is not looked at.

    Raises:
        UsageError: the folders are not there.
    """
    _, files = _folders(root, "images", "masks", "gt")
    for stem, image in files["images"].items():
        mask, truth = files["masks"].get(stem), files["gt"].get(stem)
        lacks = "missing_mask" if mask is None else "missing_plate" if truth is None else ""
        yield Pair(
            source="removalbench",
            id=stem,
            scene=stem,
            image=File(path=image),
            background=File(path=truth) if truth else None,
            masks={"tight": (MaskFile(file=File(path=mask)),)} if mask else {},
            url="https://huggingface.co/datasets/BaiLing/RemovalBench",
            drop=f"{lacks}: expected a picture of the stem of {image}" if lacks else "",
        )


def aim(root: Path, split: str = "test") -> Iterator[Pair]:
    """Yield a pair a picture of ``original``, in the order of their names; ``split`` is not looked at.

    Raises:
        UsageError: the folders are not there, or the table of the categories is broken.
    """
    folder, files = _folders(root, "original", "mask", "trimap")
    categories = _categories(folder)
    for stem, image in files["original"].items():
        alpha, trimap = files["mask"].get(stem), files["trimap"].get(stem)
        lacks = "missing_alpha" if alpha is None else "missing_trimap" if trimap is None else ""
        tight = {"tight": (MaskFile(file=File(path=alpha)),)} if alpha else {}
        loose = {"loose": (MaskFile(file=File(path=trimap), threshold=63),)} if trimap else {}
        yield Pair(
            source="aim-500",
            id=stem,
            scene=stem,
            image=File(path=image),
            truth="alpha",
            foreground=File(path=alpha) if alpha else None,
            masks=tight | loose,
            category=categories.get(stem, ""),
            licence="mit",
            url="https://github.com/JizhiziLi/AIM",
            drop=f"{lacks}: expected a picture of the stem of {image}" if lacks else "",
        )


def _folders(root: Path, *names: str) -> tuple[Path, dict[str, dict[str, Path]]]:
    """Where the folders lie, and their pictures by stem, in order."""
    for top in (root, *sorted(path for path in root.iterdir() if path.is_dir())):
        if all((top / name).is_dir() for name in names):
            return top, {name: _pictures(top / name) for name in names}
    raise UsageError(f"{root}: expected {', '.join(f'{name}/' for name in names)} here or in a folder, found none")


def _pictures(folder: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(folder.glob("[!.]*")) if path.suffix.lower() in _PICTURES}


def _categories(folder: Path) -> dict[str, str]:
    """Category by stem: ``{"o_1": {"type": "SO", "category": "animal"}, …}``; names with an ending are allowed."""
    path = next((top / _TABLE for top in (folder, folder.parent) if (top / _TABLE).is_file()), None)
    if path is None:
        return {}
    try:
        table: dict[str, Any] = json.loads(path.read_bytes())
        return {Path(name).stem: str(row["category"]) for name, row in table.items()}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{path}: expected an object with a category for each name, got another: {error!r}") from error
