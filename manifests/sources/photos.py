"""Source ``photos``: every picture under a folder, in order of its path; licence and author come from the recipe."""

from collections.abc import Iterator
from pathlib import Path

from ..entry import Entry
from ..errors import UsageError

EXTENSIONS = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
"""Files with another ending are not taken for pictures."""


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a picture; its id is its path below ``root``.

    Raises:
        UsageError: no picture under ``root``.
    """
    for path in picture_files(root):
        yield Entry(source="photos", id=path.relative_to(root).as_posix(), path=path)


def picture_files(root: Path) -> Iterator[Path]:
    """The files under ``root`` that are named like pictures, hidden ones left out, in order.

    Raises:
        UsageError: there is none.
    """
    found = 0
    for path in sorted(root.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(root).parts)
        if path.suffix.lower() in EXTENSIONS and not hidden and path.is_file():
            found += 1
            yield path
    if not found:
        raise UsageError(f"{root}: expected pictures ({', '.join(sorted(EXTENSIONS))}), found none below this folder")
