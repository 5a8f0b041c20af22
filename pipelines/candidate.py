"""A candidate triplet: layers with everything that is known of them, before it is judged."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.entry import slug
from ..manifests.record import Origin
from ..toolkit.layers import Layers
from .prepare import Prepared

U8 = NDArray[np.uint8]

_ROLES = (
    "generator",
    "segmentation",
    "matting",
    "foreground_colour",
    "inpainting",
    "depth",
    "mask_judge",
    "inpaint_judge",
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Candidate:
    """What a route hands to the filters.

    Attributes:
        layers: as they will be written.
        background: the background member's bytes, whose decoded pixels the layers were composed on.
        composite_error: largest distance of the recomposed layers to the float composite, levels.
        name: readable part of the key, made from the source ids.
        caption: text of the picture.
        objects: number of objects.
        origins: of each layer.
        models: role to ``name@revision``.
        scores: filter name to value.
        choices: every random choice.
    """

    layers: Layers
    background: bytes
    composite_error: float
    name: str
    caption: str
    objects: int
    origins: tuple[Origin, ...]
    models: Mapping[str, str]
    scores: Mapping[str, float]
    choices: Mapping[str, Any]


def origin_of(row: Prepared, layer: str, id: str = "") -> Origin:
    """The origin of a layer that shows ``row``, or what else of its picture ``id`` names."""
    return Origin(
        layer=layer,
        dataset=row.source,
        id=id or row.id,
        licence=row.licence,
        author=row.author,
        url=row.url,
        sha256=row.sha256,
    )


def name_of(*rows: Prepared) -> str:
    """The ids of the rows as part of a key, ``[a-z0-9-]``."""
    return "-".join(slug(re.sub(r"\.\w{2,4}$", "", row.id), 28) for row in rows)  # a file's ending says nothing


def models_of(rows: Mapping[str, Prepared]) -> dict[str, str]:
    """The models of several rows by layer and role, such as ``foreground.matting``; every name always there."""
    return {f"{layer}.{role}": row.models.get(role, "") for layer, row in rows.items() for role in _ROLES}
