"""Source ``rgba``: a folder of RGBA cut-outs with straight alpha, whoever made them."""

from collections.abc import Iterator
from pathlib import Path

from ..entry import Entry
from ..errors import UsageError
from .photos import picture_files


def index(root: Path) -> Iterator[Entry]:
    """Yield an entry a cut-out; its id is its path below ``root``.

    Raises:
        UsageError: no picture under ``root``.
    """
    for path in cutout_files(root):
        id_ = path.relative_to(root).as_posix()
        yield Entry(source="rgba", id=id_, path=path, kind="rgba", uses=("foreground",))


def cutout_files(root: Path) -> list[Path]:
    """The cut-outs under ``root`` in order, without the ``*_visualization.png`` that LayerDiffuse writes beside them.

    Raises:
        UsageError: there is none.
    """
    cutouts = [path for path in picture_files(root) if not path.stem.endswith("_visualization")]
    if not cutouts:
        raise UsageError(f"{root}: expected RGBA cut-outs, found only *_visualization pictures below this folder")
    return cutouts
