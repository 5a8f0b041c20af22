"""From a suite to its cases: which pictures are drawn, and their pixels at the suite's size, read once."""

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from ...manifests.errors import BadImage
from ...manifests.pairs import File, MaskFile, Pair, Truth
from ...manifests.prompts import Prompt
from ...manifests.report_files import file_name
from ...manifests.suites import Suite
from .. import compose
from ..cutout import resize_mask
from . import demo
from .decoded import Decoded, of_pair, of_scene
from .draws import drawn
from .files import check_polarity, read_mask
from .moves import Move, move_between

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]

HUMAN = "human-masks"
"""Name of the ``--root`` with masks that people drew on a model's pictures, named as these are."""

_POLAR = ("files", "moved", "scaled")
_OF_ANY_AREA: tuple[Truth, ...] = ("hidden", "alpha")  # what a hole or a matte covers says nothing of its polarity

EXCLUDED = ("excluded", "left out by --exclude")
"""Reason and detail of the cases that are dropped because they were asked to be."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Case:
    """One sample of a suite, at the suite's size.

    Attributes:
        id: unique in the suite; may hold slashes.
        scene: cases of one scene share it.
        category: what scores are broken down by, or empty.
        image: what a model is given, 8-bit (H, W, 3); where the truth is hidden, the suite's matte fills the hole.
        mask: and where, bool (H, W), by the suite's policy: polarity, size, dilation.
        background: the truth, 8-bit (H, W, 3), with what lies in front of the object; None where the alpha alone is
            known, and of other makers of cases.
        foreground: the truth in straight RGBA (H, W, 4), None where it is not known; where the alpha alone is known,
            in the colours of the image.
        occluder: straight RGBA (H, W, 4) of what lies in front of the foreground, None where nothing is known to.
        regions: bool (H, W) of those regions of the suite that a mask gives: ``mask``, ``outside``, ``shadow``.
        sha256: of all these pixels; of a suite for generators of the texts as well.
        prompt: what a generator is to draw; None where the suite is not for generators.
        human: the mask, bool (H, W), that people drew on what a generator made of it; None where there is none.
        move: where the object is to be put; None where it is to be taken away.
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
    move: Move | None = None


@dataclass(frozen=True, slots=True)
class Dropped:
    """A sample that cannot be scored: ``reason`` in snake_case, ``detail`` says what was expected and what came."""

    id: str
    reason: str
    detail: str


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
                yield (
                    Dropped(scene.id, *EXCLUDED)
                    if scene.id in excluded
                    else _fitted(scene.id, scene.id, of_scene(scene), suite)
                )
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
        decoded = of_pair(pair, suite)
        if pair.kind in _POLAR and pair.truth not in _OF_ANY_AREA:
            check_polarity(decoded.masks[suite.mask])
        case = _fitted(pair.id, pair.scene, decoded, suite, is_scaled=pair.kind == "scaled")
        return _told(case, pair, masks) if suite.generates else case
    except BadImage as error:
        return Dropped(pair.id, error.reason, error.detail)


def _fitted(id_: str, scene: str, decoded: Decoded, suite: Suite, *, is_scaled: bool = False) -> Case:
    """Everything at the suite's size, the mask dilated there."""
    size = _size(decoded.image.shape, suite)
    tight = resize_mask(decoded.masks[suite.mask], size)
    if not tight.any():
        raise BadImage("empty_mask", f"expected white in the {suite.mask} mask, got no pixel of it at {size}")
    mask = _dilated(tight, suite.dilate)
    image = compose.resize(decoded.image, size)
    background = None if decoded.background is None else compose.resize(decoded.background, size)
    if suite.truth == "hidden":
        image, background = _hidden(image, mask, suite.matte), image
    foreground = None if decoded.foreground is None else compose.resize_rgba(decoded.foreground, size)
    occluder = None if decoded.occluder is None else compose.resize_rgba(decoded.occluder, size)
    if occluder is not None and background is not None:  # who takes the object away leaves what stands in front of it
        background = compose.over_u8(occluder, background)
    regions = _regions(suite, mask, _shadow(decoded, suite, size))
    layers = {"image": image, "mask": mask, "background": background, "foreground": foreground, "occluder": occluder}
    move = _move(tight, decoded, size, is_scaled=is_scaled)
    digest = _digest({**layers, **{f"region {name}": region for name, region in regions.items()}})
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
        sha256=hashlib.sha256(f"{digest} {move}".encode()).hexdigest() if move else digest,
        move=move,
    )


def _hidden(picture: U8, hole: Mask, colour: tuple[int, int, int]) -> U8:
    """The picture as models are shown it: one colour in the hole."""
    if hole.all():
        raise BadImage("hole_covers_image", "expected something of the picture outside the hole, got nothing")
    shown: U8 = np.where(hole[..., None], np.array(colour, np.uint8), picture)
    return shown


def _move(visible: Mask, decoded: Decoded, size: tuple[int, int], *, is_scaled: bool) -> Move | None:
    """Where the masks of both views say that the object goes; None where there is no other view."""
    if "target" not in decoded.masks:
        return None
    whole, target = (resize_mask(decoded.masks[name], size) for name in ("whole", "target"))
    return move_between(visible, whole | visible, target, scaled=is_scaled)


def _shadow(decoded: Decoded, suite: Suite, size: tuple[int, int]) -> Mask | None:
    """The shadow without the object, where the suite looks at it and the data have one."""
    if "shadow" not in suite.regions or "shadow" not in decoded.masks:
        return None
    owner = decoded.masks.get("object", decoded.masks.get("tight"))
    assert owner is not None  # who has a shadow has an object
    return resize_mask(decoded.masks["shadow"], size) & ~resize_mask(owner, size)


def _size(shape: tuple[int, ...], suite: Suite) -> tuple[int, int]:
    height, width = shape[:2]
    if suite.resize == "native":
        return height, width
    if suite.resize == "square":
        return suite.size, suite.size
    if suite.resize == "shorter-side":  # the longer one rounded down, as the loader of ReS does
        shorter = min(height, width)
        return height * suite.size // shorter, width * suite.size // shorter
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
