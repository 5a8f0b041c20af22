"""Readers of outside data sets: each a module with ``index(root)`` that yields entries and decodes no pixels."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from ..entry import Entry
from ..errors import UsageError
from . import coco, embedded, img2dataset, layerdiffuse, mulan, openimages, photos, procedural, prompts, rgba, rorem


@dataclass(frozen=True, slots=True)
class Source:
    """A row of the table of sources.

    Attributes:
        index: yields the entries under a root, in a fixed order.
        needs_root: whether ``--root NAME=DIR`` must say where it lies.
        about: one line for ``layerkit ls sources``.
    """

    index: Callable[[Path], Iterator[Entry]]
    needs_root: bool
    about: str


SOURCES: dict[str, Source] = {
    "embedded": Source(embedded.index, False, "photographs that scikit-image and scikit-learn ship, with object seeds"),
    "procedural": Source(procedural.index, False, "rendered solids with true alpha, soft shadow and background"),
    "photos": Source(photos.index, True, "any folder of photographs"),
    "rgba": Source(rgba.index, True, "a folder of RGBA cut-outs"),
    "layerdiffuse": Source(layerdiffuse.index, True, "LayerDiffuse's RGBA outputs, with prompts in txt or jsonl"),
    "layerdiffuse:generate": Source(prompts.index, True, "prompts in txt or jsonl that LayerDiffuse makes cut-outs of"),
    "prompts": Source(prompts.index_layers, True, "prompts in txt or jsonl that a generator draws layers of"),
    "img2dataset": Source(img2dataset.index, True, "a download of img2dataset: shards NNNNN.tar or NNNNN/"),
    "mulan": Source(mulan.index, True, "MuLAn: annotations .p.zl with COCO or LAION pictures, or rendered layers"),
    "rorem": Source(rorem.index, True, "RORem: photographs with a mask and a clean plate, by meta.json"),
    "openimages": Source(openimages.index, True, "Open Images V5 to V7: folders or tars of pictures, CSVs, masks"),
    "coco": Source(coco.index, True, "photographs with COCO instances JSON, polygons as seeds"),
}


def entries(name: str, roots: dict[str, Path]) -> Iterator[Entry]:
    """The entries of a source.

    Raises:
        UsageError: see :func:`root_of`; or the root holds nothing usable.
    """
    return find(name).index(root_of(name, roots))


def root_of(name: str, roots: dict[str, Path]) -> Path:
    """The folder of a source.

    Raises:
        UsageError: an unknown source, a root that is missing or no folder.
    """
    source = find(name)
    if source.needs_root and name not in roots:
        raise UsageError(f"source {name!r} needs to know where it lies; add --root {name}=DIR")
    root = roots.get(name, Path())
    if source.needs_root and not root.is_dir():
        missing = "" if root.exists() else ", which does not exist"
        raise UsageError(f"--root {name}: expected a folder, got {root}{missing}")
    return root


def find(name: str) -> Source:
    """The row of a source.

    Raises:
        UsageError: unknown; the known names are listed.
    """
    if name not in SOURCES:
        raise UsageError(f"source: expected one of {', '.join(SOURCES)}, got {name!r}")
    return SOURCES[name]
