"""Source ``rgba``: a folder of RGBA cut-outs with straight alpha, such as LayerDiffuse's outputs.

LayerDiffuse writes a ``*_visualization.png`` checkerboard beside each cut-out: those are left out.
"""

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
    cutouts = [path for path in picture_files(root) if not path.stem.endswith("_visualization")]
    if not cutouts:
        raise UsageError(f"{root}: expected RGBA cut-outs, found only *_visualization pictures below this folder")
    for path in cutouts:
        id_ = path.relative_to(root).as_posix()
        yield Entry(source="rgba", id=id_, path=path, kind="rgba", uses=("foreground",))
