"""What tables of outside data sets say, checked before it is believed: file names, licences, boxes at the border."""

import re
from functools import cache
from pathlib import Path

from ..licences import LICENCES

BORDER = 0.005
"""Share of a side; an object whose box comes nearer to the border is taken to go on beyond it."""

_PLAIN = re.compile(r"(?!\.{1,2}\Z)[^/\\:\0]+")


def is_plain(name: str) -> bool:
    """Whether ``name`` is one file name: no separator, drive or NUL in it, not empty, not ``.`` or ``..``."""
    return _PLAIN.fullmatch(name) is not None


def below(folder: Path, name: str) -> Path | None:
    """The path ``name`` (with ``/``) below ``folder``, or None where it would leave it; links are not followed."""
    parts = [part for part in name.split("/") if part != "."]
    return folder.joinpath(*parts) if parts and all(map(is_plain, parts)) else None


def _address(url: str) -> str:
    return re.sub(r"^https?://(www\.)?", "", url.strip().lower()).rstrip("/")


_BY_ADDRESS = {_address(licence.url): licence.id for licence in LICENCES.values() if licence.url} | {
    "usa.gov/copyright.shtml": "public-domain"  # works of the United States government, as COCO names them
}


@cache
def licence_of(url: str) -> str:
    """The identifier of the licence at ``url``, http or https, with or without a last slash; else ``unknown``."""
    return _BY_ADDRESS.get(_address(url), "unknown")


def touches_border(left: float, top: float, right: float, bottom: float) -> bool:
    """Whether a box, its sides given as shares 0..1 of the picture's, comes nearer to the border than BORDER."""
    return min(left, top, 1 - right, 1 - bottom) < BORDER
