"""From a suite to its cases: which pictures are drawn, and their pixels at the suite's size, read once."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import BadImage
from ...manifests.pairs import File, MaskFile, Pair
from ...manifests.prompts import Prompt
from ...manifests.report_files import file_name
from ...manifests.sources import build_pairs
from ...manifests.suites import Suite
from .. import compose, images, mulan
from ..cutout import resize_mask
from . import demo
from .draws import drawn
from .files import check_polarity, read_mask, read_picture, united

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

HUMAN = "human-masks"
"""Name of the ``--root`` with masks that people drew on a model's pictures, named as these are."""

EXCLUDED = ("excluded", "left out by --exclude")
"""Reason and detail of the cases that are dropped because they were asked to be."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One sample of a suite, at the suite's size.

    Attributes:
        id: unique in the suite; may hold slashes.
        scene: cases of one scene share it.
        category: what scores are broken down by, or empty.
        image: what a model is given, 8-bit (H, W, 3).
        mask: and where, bool (H, W), by the suite's policy: polarity, size, dilation.
        background: the truth, 8-bit (H, W, 3), with what lies in front of the object; None is for other makers of
            cases, here it is always known.
        foreground: the truth in straight RGBA (H, W, 4), None where it is not known.
        occluder: straight RGBA (H, W, 4) of what lies in front of the foreground, None where nothing is known to.
        regions: bool (H, W) of those regions of the suite that a mask gives: ``mask``, ``outside``, ``shadow``.
        sha256: of all these pixels; of a suite for generators of the texts as well.
        prompt: what a generator is to draw; None where the suite is not for generators.
        human: the mask, bool (H, W), that people drew on what a generator made of it; None where there is none.
    """

    id: str
    scene: str
    category: str
    image: U8
    mask: Mask
    background: U8 | None
    foreground: U8 | None
    occluder: U8 | None
    regions: Mapping[str, Mask]
    sha256: str
    prompt: Prompt | None = None
    human: Mask | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sample that cannot be scored: ``reason`` in snake_case, ``detail`` says what was expected and what came."""

    id: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Decoded:
    """Pictures of one size; masks of any, by the names of :class:`~layerkit.manifests.pairs.Pair`."""

    image: U8
    background: U8
    foreground: U8 | None = None
    occluder: U8 | None = None
    masks: Mapping[str, Mask] = field(default_factory=dict)
    category: str = ""


def cases(
    suite: Suite,
    roots: Mapping[str, Path],
    *,
    limit: int | None = None,
    seed: int | None = None,
    excluded: Collection[str] = (),
    only: Collection[str] | None = None,
) -> Iterator[Case | Dropped]:
    """Yield the cases of a suite in the order of its draw, each decoded when it is asked for.

    Args:
        suite: the protocol.
        roots: where data sets lie, by the name of the reader.
        limit: at most so many cases; the first ones of the draw, so a larger limit holds a smaller one's cases.
        seed: of the draw, instead of the suite's: another protocol.
        excluded: ids that are dropped, whatever they show.
        only: ids of the cases that are asked for; None is all. The others are not decoded.

    Yields:
        A case; or why a sample that the draw came by cannot be one. A sample that proves bad when it is decoded is not
        replaced by another: the number of cases tells.

    Raises:
        UsageError: the data set is missing, is not the suite's, or lacks its masks.
    """
    seed = suite.seed if seed is None else seed
    if suite.reader == "demo":
        for scene in demo.scenes(seed, suite.n if limit is None else min(limit, suite.n), suite.size):
            if only is None or scene.id in only:
                yield Dropped(scene.id, *EXCLUDED) if scene.id in excluded else _demo_case(scene, suite)
        return
    for pair in drawn(suite, roots, limit, seed):
        if only is None or pair.id in only:
            dropped = _dropped(pair, excluded)
            yield dropped or _case(pair, suite, roots.get(HUMAN))


def _told(case: Case, pair: Pair, masks: Path | None) -> Case:
    """A case with what a generator is to draw, and with the mask that people drew on that, if one lies in ``masks``."""
    if pair.prompt is None:
        raise BadImage("no_caption", f"expected a text to draw in the record of {case.id}, got none")
    told = json.dumps(asdict(pair.prompt), sort_keys=True)
    path = masks / f"{file_name(case.id)}.png" if masks else None
    human = read_mask(MaskFile(file=File(path=path))) if path and path.is_file() else None
    return replace(
        case,
        prompt=pair.prompt,
        human=None if human is None else resize_mask(human, case.image.shape[:2]),
        sha256=hashlib.sha256(f"{case.sha256} {told}".encode()).hexdigest(),
    )


def ids_digest(suite: Suite, roots: Mapping[str, Path]) -> str:
    """Sha256 of the ids that a suite draws, one a line, sorted; nothing is decoded.

    Raises:
        UsageError: see :func:`cases`.
    """
    if suite.reader == "demo":
        ids = [case.id for case in demo.scenes(suite.seed, suite.n, suite.size)]
    else:
        ids = [pair.id for pair in drawn(suite, roots, None, suite.seed) if not pair.drop]
    return hashlib.sha256("".join(f"{id_}\n" for id_ in sorted(ids)).encode()).hexdigest()


def pixels_digest(hashes: Mapping[str, str]) -> str:
    """Sha256 of a suite's pixels, from the ``sha256`` of its cases by id."""
    return hashlib.sha256("".join(f"{id_} {hashes[id_]}\n" for id_ in sorted(hashes)).encode()).hexdigest()


def _dropped(pair: Pair, excluded: Collection[str]) -> Dropped | None:
    if pair.id in excluded and not pair.drop:
        return Dropped(pair.id, *EXCLUDED)
    reason, _, detail = pair.drop.partition(": ")
    return Dropped(pair.id, reason, detail) if reason else None


def _case(pair: Pair, suite: Suite, masks: Path | None) -> Case | Dropped:
    try:
        decoded = _recomposed(pair) if pair.kind == "mulan" else _decoded(pair, suite)
        if pair.kind == "files":
            check_polarity(decoded.masks[suite.mask])
        case = _fitted(pair.id, pair.scene, decoded, suite)
        return _told(case, pair, masks) if suite.generates else case
    except BadImage as error:
        return Dropped(pair.id, error.reason, error.detail)


def _demo_case(scene: demo.Scene, suite: Suite) -> Case:
    layers = scene.layers
    decoded = _Decoded(
        image=layers.image,
        background=layers.background,
        foreground=layers.foreground,
        occluder=layers.occluder,
        masks={"tight": layers.mask > 0, "shadow": layers.shadow > build_pairs.SHADOW},
        category=scene.category,
    )
    return _fitted(scene.id, scene.id, decoded, suite)


def _decoded(pair: Pair, suite: Suite) -> _Decoded:
    """The files of a pair; of its masks only those that the suite needs."""
    if suite.mask not in pair.masks:
        raise BadImage("missing_mask", f"expected a {suite.mask} mask, got {', '.join(sorted(pair.masks))}")
    wanted = {suite.mask, *(("object", "shadow", "tight") if "shadow" in suite.regions else ())}
    image = read_picture(pair.image)
    layers = {name: getattr(pair, name) for name in ("background", "foreground", "occluder")}
    pictures = {
        name: read_picture(file, alpha=name != "background", like=image) for name, file in layers.items() if file
    }
    masks = {name: files for name, files in pair.masks.items() if name in wanted}
    return _Decoded(
        image=image,
        **pictures,
        masks={name: united([read_mask(file) for file in files], image.shape) for name, files in masks.items()},
        category=pair.category or _shadows_of_others(pair),
    )


def _shadows_of_others(pair: Pair) -> str:
    """DESOBA's two halves: ``bos`` where other objects in the picture cast shadows, ``bos-free``, or empty."""
    files = pair.masks.get("background-shadow")
    if not files:
        return ""
    return "bos" if any(read_mask(file).any() for file in files) else "bos-free"


def _recomposed(pair: Pair) -> _Decoded:
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
    return _Decoded(
        image=compose.over_u8(top, background),
        background=background,
        foreground=top,
        masks={"tight": top[..., 3] > 127},
    )


def _fitted(id_: str, scene: str, decoded: _Decoded, suite: Suite) -> Case:
    """Everything at the suite's size, the mask dilated there."""
    size = _size(decoded.image.shape, suite)
    mask = resize_mask(decoded.masks[suite.mask], size)
    if not mask.any():
        raise BadImage("empty_mask", f"expected an object in the {suite.mask} mask, got no pixel of it at {size}")
    mask = _dilated(mask, suite.dilate)
    shadow = None
    if "shadow" in suite.regions and "shadow" in decoded.masks:
        owner = decoded.masks.get("object", decoded.masks["tight"])
        shadow = resize_mask(decoded.masks["shadow"], size) & ~resize_mask(owner, size)
    image, background = compose.resize(decoded.image, size), compose.resize(decoded.background, size)
    foreground = None if decoded.foreground is None else compose.resize_rgba(decoded.foreground, size)
    occluder = None if decoded.occluder is None else compose.resize_rgba(decoded.occluder, size)
    if occluder is not None:  # who takes the object away leaves what stands in front of it
        background = compose.over_u8(occluder, background)
    regions = _regions(suite, mask, shadow)
    layers = {"image": image, "mask": mask, "background": background, "foreground": foreground, "occluder": occluder}
    return Case(
        id=id_,
        scene=scene,
        category=decoded.category,
        image=image,
        mask=mask,
        background=background,
        foreground=foreground,
        occluder=occluder,
        regions=regions,
        sha256=_digest({**layers, **{f"region {name}": region for name, region in regions.items()}}),
    )


def _size(shape: tuple[int, ...], suite: Suite) -> tuple[int, int]:
    height, width = shape[:2]
    if suite.resize == "native":
        return height, width
    if suite.resize == "square":
        return suite.size, suite.size
    scale = suite.size / max(height, width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _dilated(mask: Mask, radius: int) -> Mask:
    """The mask grown by a disc: every pixel at most ``radius`` px from one of its pixels."""
    if radius == 0:
        return mask
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    disc = (x * x + y * y <= radius * radius).astype(np.uint8)
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc)) > 0


def _regions(suite: Suite, mask: Mask, shadow: Mask | None) -> dict[str, Mask]:
    """Masks of the suite's regions; ``shadow`` is without the object already, and reaches into the dilated mask."""
    given = {"mask": mask, "outside": ~mask} | ({} if shadow is None else {"shadow": shadow})
    return {name: given[name] for name in suite.regions if name in given}


def _digest(layers: Mapping[str, U8 | Mask | None]) -> str:
    digest = hashlib.sha256()
    for name, layer in layers.items():
        if layer is not None:
            digest.update(f"{name} {layer.dtype} {layer.shape}\n".encode())
            digest.update(np.ascontiguousarray(layer).data)
    return digest.hexdigest()
