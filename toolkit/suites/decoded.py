"""What a pair or a scene shows, at its own size: pictures of one size, masks of any."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import BadImage
from ...manifests.pairs import File, Pair
from ...manifests.sources import build_pairs
from ...manifests.suite import Suite
from .. import compose, images, mulan
from . import demo
from .files import read_mask, read_picture, united

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_OF_MOVES = ("whole", "target")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decoded:
    """Pictures of one size; masks of any, by the names of :class:`~layerkit.manifests.pairs.Pair`."""

    image: U8
    background: U8 | None
    foreground: U8 | None = None
    occluder: U8 | None = None
    masks: Mapping[str, Mask] = field(default_factory=dict)
    category: str = ""


def of_scene(scene: demo.Scene) -> Decoded:
    """A scene of the suite ``demo``."""
    layers = scene.layers
    return Decoded(
        image=layers.image,
        background=layers.background,
        foreground=layers.foreground,
        occluder=layers.occluder,
        masks={"tight": layers.mask > 0, "shadow": layers.shadow > build_pairs.SHADOW},
        category=scene.category,
    )


def of_pair(pair: Pair, suite: Suite) -> Decoded:
    """The files of a pair; of its masks only those that the suite needs.

    Raises:
        BadImage: a file cannot be read, is of another size, or is no annotation of MuLAn.
    """
    return _recomposed(pair) if pair.kind == "mulan" else _decoded(pair, suite)


def _decoded(pair: Pair, suite: Suite) -> Decoded:
    if suite.mask not in pair.masks:
        raise BadImage("missing_mask", f"expected a {suite.mask} mask, got {', '.join(sorted(pair.masks))}")
    wanted = {suite.mask, *(("object", "shadow", "tight") if "shadow" in suite.regions else ()), *_OF_MOVES}
    image = read_picture(pair.image)
    layers = {name: getattr(pair, name) for name in ("background", "foreground", "occluder")}
    pictures = {name: _layer(name, file, pair, image) for name, file in layers.items()}
    masks = {name: files for name, files in pair.masks.items() if name in wanted}
    return Decoded(
        image=image,
        **pictures,
        masks={name: united([read_mask(file, image) for file in files], image.shape) for name, files in masks.items()},
        category=pair.category or _shadows_of_others(pair),
    )


def _layer(name: str, file: File | None, pair: Pair, image: U8) -> U8 | None:
    """A layer of the truth; where the alpha alone is known it is given the picture's own colours."""
    if file is None:
        return None
    if pair.truth == "alpha":
        return np.dstack([image, read_picture(file, like=image)[..., 0]])
    return read_picture(file, alpha=name != "background", like=image)


def _shadows_of_others(pair: Pair) -> str:
    """DESOBA's two halves: ``bos`` where other objects in the picture cast shadows, ``bos-free``, or empty."""
    files = pair.masks.get("background-shadow")
    if not files:
        return ""
    return "bos" if any(read_mask(file).any() for file in files) else "bos-free"


def _recomposed(pair: Pair) -> Decoded:
    """A picture of MuLAn: with its top-most layer the image, without it the truth."""
    if pair.background:
        base = read_picture(pair.background)
        layered = mulan.decode_annotation(images.read_bytes(pair.image.path), base)
    else:
        layered = mulan.read_rendered(mulan.rendered_files(pair.image.path))
    if not layered.layers:
        raise BadImage("no_layers", f"{pair.image.path}: expected a layer above the background, got none")
    *below, top = layered.layers
    background = mulan.recompose_layers(
        mulan.LayeredPicture(background=layered.background, layers=tuple(below), captions=())
    )
    return Decoded(
        image=compose.over_u8(top, background),
        background=background,
        foreground=top,
        masks={"tight": top[..., 3] > 127},
    )
