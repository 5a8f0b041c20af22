"""Source ``procedural``: rendered solids on a ground plane, with true alpha, true soft shadows and a true background.

Nothing is downloaded: an entry is the seed of a scene, which :mod:`layerkit.toolkit.procedural` renders when it is
prepared. Seeds have no end; the source offers the first :data:`COUNT` of them, so that it can be indexed. Route
``layers`` takes any solid out of a scene, with its exact shadow; as foregrounds of ``paste`` the solids come without
their shadows, as backgrounds the scenes come without solids::

    count = 1_000
    size = 256

    [[mix]]
    name = "solids"
    share = 1
    route = "layers"
    photos = "procedural"

    [mix.filters]
    haze = [0, 1]

A fifth of the solids is translucent; as targets they pass only where ``haze`` is allowed, as here.
"""

from collections.abc import Iterator
from pathlib import Path

from ..entry import Entry

COUNT = 1_000


def index(root: Path) -> Iterator[Entry]:
    """Yield :data:`COUNT` scenes; ``root`` is not used. An id is the seed in six digits, and the entry's bytes."""
    for seed in range(COUNT):
        name = f"{seed:06d}"
        yield Entry(
            source="procedural",
            id=name,
            path=Path("procedural", name),
            kind="procedural",
            uses=("foreground", "background", "layers"),
            licence="cc0-1.0",
            author="layerkit",
            caption="rendered solids on a plane",
        )
