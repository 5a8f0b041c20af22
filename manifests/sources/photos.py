"""Source ``photos``: every picture under a folder, in order of its path; licence and author come from the recipe."""

import os
from collections.abc import Iterator
from pathlib import Path

from ..entry import Entry
from ..errors import UsageError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Files with another ending are not taken for pictures."""

_Parts = tuple[str, ...]


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a picture; its id is its path below ``root``.

    Raises:
        UsageError: no picture under ``root``, or a folder that cannot be read.
    """
    for id_ in picture_ids(root):
        yield Entry(source="photos", id=id_, path=root / id_)


def picture_ids(root: Path) -> list[str]:
    """Paths below ``root`` of the files that are named like pictures, in order.

    Hidden files and folders are left out, and links to folders are not followed.

    Raises:
        UsageError: there is none, or a folder that cannot be read.
    """
    try:
        found = sorted(_pictures(os.fspath(root), ()))
    except OSError as error:
        raise UsageError(f"{error.filename}: expected a folder that can be read: {error.strerror}") from error
    if not found:
        raise UsageError(f"{root}: expected pictures ({', '.join(sorted(EXTENSIONS))}), found none below this folder")
    return ["/".join(parts) for parts in found]


def _pictures(folder: str, parts: _Parts) -> Iterator[_Parts]:
    with os.scandir(folder) as found:
        for item in found:
            if item.name.startswith("."):
                continue
            if item.is_dir(follow_symlinks=False):
                yield from _pictures(item.path, (*parts, item.name))
            elif os.path.splitext(item.name)[1].lower() in EXTENSIONS and item.is_file():
                yield (*parts, item.name)
