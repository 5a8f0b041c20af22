"""Reader ``mulan`` of the benchmarks: MuLAn's pictures without their top-most layer.

The truth is the recomposition of the layers below it. Part of that is a model's inpainting, and no layer carries a
shadow, so a high score says that a model fills as MuLAn's inpainter did.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from ..entry import Entry
from ..errors import UsageError
from ..pairs import File, Pair
from . import mulan

_COCO = re.compile(r"\d{12}")


def pairs(root: Path, split: str = "coco") -> Iterator[Pair]:
    """Yield a pair a picture in the order of its path.

    Args:
        root: where the data set lies, see :mod:`~layerkit.manifests.sources.mulan`.
        split: ``coco``, the half over COCO's photographs, known by their twelve digits, or ``all``.

    Raises:
        UsageError: nothing of MuLAn, or nothing of its half over COCO, under ``root``.
    """
    found = [_pair(entry) for entry in mulan.index(root) if split == "all" or _of_coco(entry)]
    if not found:
        raise UsageError(f"{root}: expected pictures of MuLAn over COCO (12 digits), found others only")
    return iter(found)


def _of_coco(entry: Entry) -> bool:
    if entry.base:
        return _COCO.fullmatch(entry.base.stem) is not None
    name = entry.path.name.removesuffix(".p.zl").removesuffix("-layer_0.png")
    laion = len(name) == 9 or any("laion" in part.lower() for part in entry.path.parts[:-1])
    return name.isdecimal() and not laion


def _pair(entry: Entry) -> Pair:
    return Pair(
        source="mulan",
        id=entry.id,
        scene=entry.id,
        image=File(path=entry.path),
        kind="mulan",
        background=File(path=entry.base) if entry.base else None,
        licence=entry.licence,
        author=entry.author,
        url=entry.url,
        drop=entry.drop,
    )
