"""What a source yields: entries, each a picture that exists, where it comes from, and where its objects are."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Use = Literal["foreground", "background", "cut"]
Kind = Literal["photo", "rgba"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """Where an object is in a photograph, and how to cut it out.

    Attributes:
        id: the object's name within its entry; empty where the entry has one object.
        box: left, top, width, height in px.
        method: see :func:`layerkit.toolkit.cutout.object_mask`.
        stance: ``standing`` on its lower edge or ``lying``, seen from above.
        caption: what it is.
        outlines: polygons, each flat x, y, x, y … in px.
        holes: polygons of what can be seen through it.
        uses: what this object may serve for.
    """

    id: str = ""
    box: tuple[int, int, int, int]
    method: Literal["grabcut", "threshold", "outline"] = "grabcut"
    stance: Literal["standing", "lying"] = "standing"
    caption: str = ""
    outlines: tuple[tuple[float, ...], ...] = ()
    holes: tuple[tuple[float, ...], ...] = ()
    uses: tuple[Use, ...] = ("foreground", "cut")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One picture of a source; no pixels are decoded to make it.

    Attributes:
        source: name of the source.
        id: unique within the source.
        path: the file.
        kind: ``photo``, or ``rgba`` for a cut-out with straight alpha.
        uses: what the picture may serve for.
        licence: identifier of :data:`layerkit.manifests.licences.LICENCES`.
        author: as the source gives it.
        url: landing page or file address.
        caption: text of the picture.
        ground: share of the picture's height above which no object can stand: 0 for a surface seen from above.
        seeds: its objects, where the source knows them; without, saliency proposes one.
    """

    source: str
    id: str
    path: Path
    kind: Kind = "photo"
    uses: tuple[Use, ...] = ("foreground", "background", "cut")
    licence: str = "unknown"
    author: str = ""
    url: str = ""
    caption: str = ""
    ground: float = 0.5
    seeds: tuple[Seed, ...] = ()


def slug(text: str, length: int = 32) -> str:
    """``text`` as part of a key: ``[a-z0-9-]``, at most ``length`` characters, never empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].rstrip("-") or "x"
