"""What a source yields: entries, each a picture that exists, where it comes from, and where its objects are."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

Use = Literal["foreground", "background", "cut", "layers", "generate"]
Kind = Literal["photo", "rgba", "layers", "prompt", "procedural"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seed:
    """Where an object is in a photograph, and how to cut it out.

    Attributes:
        id: the object's name within its entry; empty where the entry has one object.
        box: left, top, width, height in px of the upright picture; not looked at where ``mask`` is given.
        method: see :func:`layerkit.toolkit.cutout.object_mask`; ``mask`` takes ``mask`` as it is.
        stance: ``standing`` on its lower edge or ``lying``, seen from above.
        caption: what it is.
        outlines: polygons, each flat x, y, x, y … in px.
        holes: polygons of what can be seen through it.
        mask: file of a mask of the whole picture, bright = object; another size is resized by nearest.
        mask_member: name of the member, where ``mask`` is a zip.
        uses: what this object may serve for.
        drop: why the source's own flags rule it out, in snake_case (``occluded``); such a seed becomes a reject row.
    """

    id: str = ""
    box: tuple[int, int, int, int] = (0, 0, 0, 0)
    method: Literal["grabcut", "threshold", "outline", "mask"] = "grabcut"
    stance: Literal["standing", "lying"] = "standing"
    caption: str = ""
    outlines: tuple[tuple[float, ...], ...] = ()
    holes: tuple[tuple[float, ...], ...] = ()
    mask: Path | None = None
    mask_member: str = ""
    uses: tuple[Use, ...] = ("foreground", "cut")
    drop: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One picture of a source; no pixels are decoded to make it.

    Attributes:
        source: name of the source.
        id: unique within the source.
        path: the file; a tar where ``span`` says which bytes of it are the picture.
        span: offset and length of the picture in ``path``, or None for the whole file.
        base: a second file that the first needs, such as the photograph under a MULAN annotation.
        rotation: degrees by which the decoded picture is turned counter-clockwise to stand upright: 0, 90, 180 or 270.
        kind: ``photo``, ``rgba`` for a cut-out with straight alpha, ``layers`` for a picture already in layers,
            ``prompt`` for text that a model makes a cut-out or layers of, or ``procedural`` for the seed of a scene
            that is rendered: its id is its bytes, and ``path`` names no file.
        uses: what the picture may serve for.
        licence: identifier of :data:`layerkit.manifests.licences.LICENCES`.
        author: as the source gives it.
        url: landing page or file address.
        caption: text of the picture.
        ground: share of the picture's height above which no object can stand: 0 for a surface seen from above.
        seeds: its objects, where the source knows them; without, saliency proposes one.
        drop: why the source itself cannot offer it (``missing_base_image``), with a colon and detail where there is
            more to say; such an entry becomes a reject row and is not read.
    """

    source: str
    id: str
    path: Path
    span: tuple[int, int] | None = None
    base: Path | None = None
    rotation: int = 0
    kind: Kind = "photo"
    uses: tuple[Use, ...] = ("foreground", "background", "cut")
    licence: str = "unknown"
    author: str = ""
    url: str = ""
    caption: str = ""
    ground: float = 0.5
    seeds: tuple[Seed, ...] = ()
    drop: str = ""


def slug(text: str, length: int = 32) -> str:
    """``text`` as part of a key: ``[a-z0-9-]``, at most ``length`` characters, never empty."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:length].rstrip("-") or "x"
