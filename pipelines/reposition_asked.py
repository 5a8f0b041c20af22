"""What ``layerkit reposition`` is asked for: its models, masks and options, checked before anything is made."""

import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import BadImage, UsageError
from ..toolkit import images
from ..toolkit.compose import MAX_SHADOW
from ..toolkit.cutout import resize_mask
from ..toolkit.decomposers import load
from ..toolkit.decomposition import Checked
from ..toolkit.depth import DepthModel, load_depth
from ..toolkit.edit import MAX_SCALE
from ..toolkit.matte import without_specks
from ..toolkit.reposition import AMBIENT
from ..toolkit.shadow import Light, Stance

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
ShadowKind = Literal["none", "cast", "paint"]

COLOURS = 0.4
"""How far ``--harmonise colour`` moves colours towards those of the new place."""

_LARGEST = 0.95  # share of a picture that a mask may cover
_SPECK = 0.002  # of the largest piece of a mask: what is smaller is no part of the subject
_WIDEST = 0.25  # of what is removed around the masks, as a share of the longer side


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Who does what.

    Attributes:
        remove: takes the subject away; also gives the subject where ``own`` is asked for.
        complete: paints what was hidden of the subject, and its shadow where ``paint`` is asked for.
        harmonise: shown the subject set down, gives the picture in harmony.
        depth: says how near the two places are.
    """

    remove: Checked
    complete: Checked | None = None
    harmonise: Checked | None = None
    depth: DepthModel | None = None

    def names(self) -> dict[str, str]:
        """Step to name and revision of its model."""
        models = {name: getattr(self, name) for name in ("remove", "complete", "harmonise", "depth")}
        return {name: f"{model.name}@{model.revision}" for name, model in models.items() if model is not None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Masks:
    """Where things are, white in pictures of the image's aspect; they are brought to its size.

    Attributes:
        subject: what is seen of the subject.
        amodal: the whole subject, with what something hides; None where nothing does.
        shadow: its shadow, which goes away with it and says where the light is.
    """

    subject: Path
    amodal: Path | None = None
    shadow: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is asked for.

    Attributes:
        to: two numbers with a comma between them, to the right and down: whole ones are pixels, ones with a point
            shares of the picture's width and height.
        scale: of width and height; None finds it by the depth model or the horizon.
        horizon: its row, as a share of the height.
        grow: px by which what is removed reaches over the masks; None is a hundredth of the longer side.
        own: take the subject, with its effects, as the removing model gives it, rather than cut it out by its mask.
        colours: how far colours move towards those of the new place without a model, 0..1.
        shadow: ``cast`` by the light, ``paint`` by a model where the light's would fall, or ``none``.
        light: that casts it; None is the one that the mask of the shadow tells, or ``reposition.AMBIENT``.
        stance: of the subject; None tries both where the light is found by a shadow, and is else ``standing``.
        seed: of the models' randomness.
    """

    to: str
    scale: float | None = 1.0
    horizon: float | None = None
    grow: int | None = None
    own: bool = False
    colours: float = 0.0
    shadow: ShadowKind = "cast"
    light: Light | None = None
    stance: Stance | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if self.scale is not None and not 0 < self.scale <= MAX_SCALE:
            raise UsageError(f"--scale: expected a factor above 0, at most {MAX_SCALE:g}, or auto, got {self.scale}")
        if self.horizon is not None and not math.isfinite(self.horizon):
            raise UsageError(f"--horizon: expected a share of the picture's height, got {self.horizon}")
        if self.horizon is not None and self.scale is not None:
            raise UsageError(f"--horizon: expected with --scale auto, got scale {self.scale:g}; leave one of them out")
        if self.grow is not None and self.grow < 0:
            raise UsageError(f"--grow: expected pixels from 0, got {self.grow}")
        if self.light is not None and self.shadow == "none":
            raise UsageError("--light: expected with a shadow, got --shadow none; leave one of them out")


class Opened(NamedTuple):
    """The picture, and its masks at its size."""

    image: U8
    subject: Mask
    amodal: Mask | None
    shadow: Mask | None

    @property
    def whole(self) -> Mask:
        """The subject with what is hidden of it, as far as that is known, without the specks of JPEG masks."""
        return without_specks(self.subject if self.amodal is None else self.subject | self.amodal, _SPECK)


def load_tools(model: str, complete: str, harmonise: str, depth: str, **loading: Any) -> Tools:
    """The models of the steps by name.

    Args:
        model: removes; see ``toolkit.decomposers.load``.
        complete: paints; empty is none.
        harmonise: a run of ``seele``; ``none`` and ``colour`` need no model.
        depth: a name of ``toolkit.depth.DEPTH``, or empty.
        loading: ``weights``, ``device`` and ``base`` of ``decomposers.load``.

    Raises:
        UsageError: no such model, or one that does not harmonise.
        MissingWeights: weights are not on this machine.
    """
    return Tools(
        remove=load(model, keep="mask", **loading),
        complete=load(complete, keep="mask", task="complete", **loading) if complete else None,
        harmonise=load(harmonise, task="harmonise", **loading) if harmonise not in ("none", "colour") else None,
        depth=load_depth(depth, loading.get("weights")) if depth else None,
    )


def sun(azimuth: float, elevation: float, strength: float) -> Light:
    """A light of the sun's kind; see :class:`~layerkit.toolkit.shadow.Light`.

    Raises:
        UsageError: a value out of range.
    """
    if not (0 < elevation < 90 and 0 <= strength <= MAX_SHADOW):
        raise UsageError(
            f"--light: expected an elevation in 0..90 and a strength in 0..{MAX_SHADOW}, got {elevation}, {strength}"
        )
    if not math.isfinite(azimuth):
        raise UsageError(f"--light: expected an azimuth in degrees, got {azimuth}")
    return Light(azimuth=azimuth, elevation=elevation, size=AMBIENT.size / 6, strength=strength, contact=0.2)


def expect_use(masks: Masks, tools: Tools, options: Options) -> None:
    """Refuse what would be passed over in silence, and what is asked for without what it needs.

    Raises:
        UsageError: see there.
    """
    if masks.amodal is not None and options.own:
        raise UsageError(
            f"--own: expected without --amodal, for the model's own subject is not completed: {masks.amodal}"
        )
    if masks.amodal is not None and tools.complete is None:
        raise UsageError(
            f"--amodal: expected --complete with a model that paints what is hidden, got {masks.amodal} alone"
        )
    if options.shadow == "paint" and tools.complete is None:
        raise UsageError("--shadow paint: expected --complete with a model that paints, got none")
    if tools.complete is not None and masks.amodal is None and options.shadow != "paint":
        raise UsageError(
            f"--complete: expected --amodal or --shadow paint, which it is for, got {tools.complete.name} alone"
        )
    if tools.depth is not None and (options.scale is not None or options.horizon is not None):
        raise UsageError(f"--depth: expected with --scale auto and no --horizon, got {tools.depth.name} beside another")
    if options.scale is None and options.horizon is None and tools.depth is None:
        raise UsageError("--scale auto: expected --depth with a depth model, or --horizon; got neither")


def opened(source: Path, masks: Masks) -> Opened:
    """The picture and its masks.

    Raises:
        UsageError: one of them cannot be read, or is of no use.
    """
    try:
        image = images.read(source)
    except BadImage as error:
        raise UsageError(f"expected a picture, got {source}: {error.detail}") from error
    subject = _mask("--mask", masks.subject, image)
    amodal = _mask("--amodal", masks.amodal, image) if masks.amodal else None
    shadow = _mask("--shadow-mask", masks.shadow, image) if masks.shadow else None
    if amodal is not None and not (amodal & ~subject).any():
        raise UsageError(f"--amodal: expected more than the mask of what is seen, got no more in {masks.amodal}")
    return Opened(image, subject, amodal, shadow)


def _mask(option: str, path: Path, image: U8) -> Mask:
    try:
        picture = images.read(path)
    except BadImage as error:
        raise UsageError(f"{option}: expected a picture, white where it is, got {path}: {error.detail}") from error
    (height, width), (rows, columns) = image.shape[:2], picture.shape[:2]
    if abs(rows * width - columns * height) > max(height, width, rows, columns):  # more than a pixel of rounding
        raise UsageError(
            f"{option}: expected a mask of the picture's aspect, {width}x{height}, got {columns}x{rows} in {path}"
        )
    brightest = cv2.max(cv2.max(picture[..., 0], picture[..., 1]), picture[..., 2])
    mask = resize_mask(np.asarray(brightest) > 127, (height, width))
    if not 0 < mask.mean() <= _LARGEST:
        raise UsageError(f"{option}: expected a mask that is white where it is, {mask.mean():.0%} of {path} is white")
    return mask


def pixels(text: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """The move in whole pixels; see :class:`Options`.

    Raises:
        UsageError: it is no move within a picture of ``shape`` = (H, W).
    """
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)", part) for part in parts):
        raise UsageError(f"--to: expected DX,DY, whole pixels or shares such as 0.25,-0.1, got {text!r}")
    extents = shape[1], shape[0]
    dx, dy = (
        round(float(part) * extent) if "." in part else int(part) for part, extent in zip(parts, extents, strict=True)
    )
    if abs(dx) > extents[0] or abs(dy) > extents[1]:
        raise UsageError(f"--to: expected a move within {extents[0]}x{extents[1]} px, got {dx}, {dy}")
    return dx, dy


def margin(grow: int | None, shape: tuple[int, ...]) -> int:
    """How many pixels are removed around the masks; see :class:`Options`.

    Raises:
        UsageError: more than a quarter of the longer side.
    """
    side = max(shape)
    if grow is not None and grow > side * _WIDEST:
        raise UsageError(f"--grow: expected at most a quarter of the longer side, {side} px, got {grow}")
    return round(side / 100) if grow is None else grow
