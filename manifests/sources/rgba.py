"""Source ``rgba``: a folder of RGBA cut-outs with straight alpha, whoever made them."""

from collections.abc import Iterator
from pathlib import Path

from ..entry import Entry
from ..errors import UsageError
from .photos import picture_ids


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a cut-out; its id is its path below ``root``.

    Raises:
        UsageError: no picture under ``root``.
    """
    for id_ in cutout_ids(root):
        yield Entry(source="rgba", id=id_, path=root / id_, kind="rgba", uses=("foreground",))


def cutout_ids(root: Path) -> list[str]:
    """Paths below ``root`` of the cut-outs, without the ``*_visualization.png`` that LayerDiffuse writes beside them.

    Raises:
        UsageError: there is none, or a folder that cannot be read.
    """
    cutouts = [id_ for id_ in picture_ids(root) if not id_.rpartition(".")[0].endswith("_visualization")]
    if not cutouts:
        raise UsageError(f"{root}: expected RGBA cut-outs, found only *_visualization pictures below this folder")
    return cutouts
