"""``layerkit reposition``: move a subject within its picture, step by step, and keep the picture of every step.

Steps as in SEELE (arXiv 2401.16861): remove the subject, complete what was hidden of it, set it at its place as large
as it is there, harmonise its colours, let it cast a shadow. A step that is not asked for is left out.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import BadImage, UsageError
from ..toolkit import images
from ..toolkit import reposition as steps
from ..toolkit.compose import MAX_SHADOW, over_u8
from ..toolkit.cutout import resize_mask
from ..toolkit.decomposers import load
from ..toolkit.decomposition import Checked
from ..toolkit.depth import DepthModel, load_depth
from ..toolkit.edit import Edit, edited
from ..toolkit.files import write_atomically
from ..toolkit.inpaint import dilated
from ..toolkit.matte import border_share, cut_out
from ..toolkit.pictures import sheet
from ..toolkit.shadow import Light, Stance
from .draw import generator

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Point = tuple[float, float]
ShadowKind = Literal["none", "cast", "paint"]

RECORD = "reposition.json"
_SIDE = 256  # px of a panel of the strip
_LARGEST = 0.95  # share of a picture that a mask may cover
COLOURS = 0.4
"""How far ``--harmonise colour`` moves colours towards those of the new place."""

_BAND = 200  # the matte's unknown band is this part of the longer side
_FAINT = 13  # 8-bit attenuation above which a painter paints a shadow: a twentieth


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """``reposition.json``.

    Attributes:
        image: path of the picture.
        masks: paths by their names.
        move: to the right and down, px.
        scale: of the subject.
        scale_by: ``given``, ``depth`` or ``horizon``.
        models: name and revision of each step's model.
        light: that cast the shadow; None without one.
        stance: of the subject under it.
        seed: of the models' randomness.
        files: the pictures of the steps, in their order; the last one is the result.
        notes: what a person should know of it.
    """

    image: str
    masks: Mapping[str, str]
    move: tuple[int, int]
    scale: float
    scale_by: str
    models: Mapping[str, str]
    light: Light | None
    stance: Stance
    seed: int
    files: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    def describe(self) -> str:
        """It in words."""
        lines = [f"moved by {self.move[0]}, {self.move[1]} px, scale {self.scale:.3g} ({self.scale_by})", *self.notes]
        return "\n".join([*lines, *(f"{step}: {name}" for step, name in self.models.items())])


@dataclass(slots=True)
class _Canvas:
    """What the steps hand on: the picture and its masks, and the pictures made of them so far, by file name."""

    image: U8
    subject: Mask
    amodal: Mask | None
    shadow: Mask | None
    files: dict[str, U8] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def load_tools(model: str, complete: str, harmonise: str, depth: str, **loading: Any) -> Tools:
    """The models of the steps by name.

    Args:
        model: removes; see ``toolkit.decomposers.load``.
        complete: paints; empty is none.
        harmonise: a run of ``seele``; ``none`` and ``colour`` need no model.
        depth: a name of ``toolkit.depth.DEPTH``, or empty.
        loading: ``weights``, ``device`` and ``base`` of ``decomposers.load``.

    Raises:
        UsageError: no such model.
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
    return Light(azimuth=azimuth, elevation=elevation, size=steps.AMBIENT.size / 6, strength=strength, contact=0.2)


def reposition(
    source: Path, masks: Masks, tools: Tools, options: Options, out: Path, *, overwrite: bool = False
) -> Made:
    """Move a subject.

    Args:
        source: the picture.
        masks: see :class:`Masks`.
        tools: see :class:`Tools`.
        options: see :class:`Options`.
        out: gets the pictures of the steps, ``background.png`` and ``foreground.png``, of which ``result.png`` is the
            composition unless a model painted the shadow, ``strip.png``, and ``reposition.json`` last.
        overwrite: write over what is there.

    Raises:
        UsageError: the picture, a mask, a move or a scale is of no use, or something is in the way.
        BadImage: a model cannot do it.
    """
    if (out / RECORD).exists() and not overwrite:
        raise UsageError(f"--out: {out} is there already; name another folder, or add --overwrite")
    canvas = _opened(source, masks)
    shift = _pixels(options.to, canvas.subject.shape)
    background = _removed(canvas, tools, options)
    subject = _cut(canvas, tools, options)
    scale, scale_by = _scale(canvas, background, shift, tools, options)
    placed = _placed(canvas, subject, shift, scale)
    placed = _harmonised(canvas, placed, background, tools, options)
    light, stance = _light(canvas, subject, background, options)
    _lit(canvas, placed, background, light, stance, tools, options)
    made = Made(
        image=str(source),
        masks={name: str(path) for name, path in asdict(masks).items() if path},
        move=shift,
        scale=scale,
        scale_by=scale_by,
        models=tools.names(),
        light=light,
        stance=stance,
        seed=options.seed,
        files=tuple(canvas.files),
        notes=tuple(canvas.notes),
    )
    _write(canvas, made, out)
    return made


# ---- what comes in


def _opened(source: Path, masks: Masks) -> _Canvas:
    try:
        image = images.read(source)
    except BadImage as error:
        raise UsageError(f"expected a picture, got {source}: {error.detail}") from error
    subject = _mask("--mask", masks.subject, image)
    amodal = _mask("--amodal", masks.amodal, image) if masks.amodal else None
    shadow = _mask("--shadow-mask", masks.shadow, image) if masks.shadow else None
    if amodal is not None and not (amodal & ~subject).any():
        raise UsageError(f"--amodal: expected more than the mask of what is seen, got no more in {masks.amodal}")
    canvas = _Canvas(image, subject, amodal, shadow)
    if border_share(subject) > 0:
        canvas.notes.append("the subject touches the picture's border: what lies beyond it stays missing")
    return canvas


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
    mask = resize_mask(picture.max(axis=2) > 127, (height, width))
    if not 0 < mask.mean() <= _LARGEST:
        raise UsageError(f"{option}: expected a mask that is white where it is, {mask.mean():.0%} of {path} is white")
    return mask


def _pixels(text: str, shape: tuple[int, ...]) -> tuple[int, int]:
    """The move in whole pixels; see :class:`Options`."""
    parts = [part.strip() for part in text.split(",")]
    if len(parts) != 2 or not all(re.fullmatch(r"[+-]?\d+|[+-]?\d*\.\d+", part) for part in parts):
        raise UsageError(f"--to: expected DX,DY, whole pixels or shares such as 0.25,-0.1, got {text!r}")
    extents = shape[1], shape[0]
    dx, dy = (
        round(float(part) * extent) if "." in part else int(part) for part, extent in zip(parts, extents, strict=True)
    )
    return dx, dy


# ---- the steps


def _removed(canvas: _Canvas, tools: Tools, options: Options) -> U8:
    """The picture without the subject and its shadow; the model's own subject is kept for :func:`_cut`."""
    grow = round(max(canvas.subject.shape) / 100) if options.grow is None else options.grow
    gone = canvas.subject if canvas.shadow is None else canvas.subject | canvas.shadow
    made = tools.remove(canvas.image, dilated(gone, grow), generator(str(options.seed), "remove"))
    canvas.files["removed.png"] = made.background
    return made.background


def _cut(canvas: _Canvas, tools: Tools, options: Options) -> U8:
    """The subject alone, completed if it was hidden in part."""
    whole, mask = canvas.image, canvas.subject
    if options.own:
        own = tools.remove(whole, mask, generator(str(options.seed), "subject")).foreground
        if own is None:
            raise UsageError(f"--own: expected a model that gives foregrounds, got {tools.remove.name}; leave it out")
        canvas.files["subject.png"] = own
        return own
    if canvas.amodal is not None and tools.complete is not None:
        hidden = dilated(canvas.amodal & ~mask, 2)
        whole = tools.complete(whole, hidden, generator(str(options.seed), "complete")).background
        canvas.files["completed.png"] = whole
        mask = mask | canvas.amodal
    canvas.files["subject.png"] = cut_out(whole, mask, max(2, round(max(mask.shape) / _BAND)))
    return canvas.files["subject.png"]


def _scale(
    canvas: _Canvas, background: U8, shift: tuple[int, int], tools: Tools, options: Options
) -> tuple[float, str]:
    """The scale, and what it was found by."""
    if options.scale is not None:
        return options.scale, "given"
    x, y = steps.foot_of(canvas.subject)
    target = x + shift[0], y + shift[1]
    if options.horizon is not None:
        return steps.scale_by_horizon((x, y), target, options.horizon * len(background)), "horizon"
    if tools.depth is None:
        raise UsageError("--scale auto: expected --depth with a depth model, or --horizon; got neither")
    return steps.scale_by_depth(tools.depth(background), (x, y), target), "depth"


def _placed(canvas: _Canvas, subject: U8, shift: tuple[int, int], scale: float) -> U8:
    height, width = subject.shape[:2]
    if abs(shift[0]) > width or abs(shift[1]) > height:
        raise UsageError(f"--to: expected a move within {width}x{height} px, got {shift[0]}, {shift[1]}")
    placed = edited(subject, Edit(move=(shift[0] / width, shift[1] / height), scale=scale, about="foot"))
    if not placed[..., 3].any():
        raise UsageError(f"--to: {shift[0]}, {shift[1]} px takes the whole subject out of the picture; move it less")
    canvas.files["placed.png"] = placed
    return placed


def _harmonised(canvas: _Canvas, placed: U8, background: U8, tools: Tools, options: Options) -> U8:
    if tools.harmonise is not None:
        composed, mask = over_u8(placed, background), placed[..., 3] > 0
        picture = tools.harmonise(composed, mask, generator(str(options.seed), "harmonise")).background
        placed = steps.recoloured(placed, background, picture)
    elif options.colours:
        placed = steps.harmonised(placed, background, options.colours)
    else:
        return placed
    canvas.files["harmonised.png"] = over_u8(placed, background)
    return placed


def _light(canvas: _Canvas, subject: U8, background: U8, options: Options) -> tuple[Light | None, Stance]:
    """The light that is given, or that the old shadow tells, or an even one."""
    if options.shadow == "none":
        return None, options.stance or "standing"
    if options.light is None and canvas.shadow is not None:
        alpha, stances = (
            np.ascontiguousarray(subject[..., 3]),
            (options.stance,) if options.stance else get_args(Stance),
        )
        return steps.light_of(alpha, canvas.shadow, canvas.image, background, stances)
    return options.light or steps.AMBIENT, options.stance or "standing"


def _lit(
    canvas: _Canvas, placed: U8, background: U8, light: Light | None, stance: Stance, tools: Tools, options: Options
) -> None:
    """The result, with the shadow, as the last of the files."""
    foreground, result = placed, over_u8(placed, background)
    if light is not None:
        foreground, cast = steps.shaded(placed, light, stance)
        canvas.files["shadow.png"] = cast
        if options.shadow == "paint":
            foreground, result = placed, _painted(result, cast, placed, tools, options)
        else:
            result = over_u8(foreground, background)
    canvas.files |= {"background.png": background, "foreground.png": foreground, "result.png": result}


def _painted(picture: U8, cast: U8, placed: U8, tools: Tools, options: Options) -> U8:
    if tools.complete is None:
        raise UsageError("--shadow paint: expected --complete with a model that paints, got none")
    hole = (cast > _FAINT) & (placed[..., 3] == 0)
    if not hole.any():
        return picture
    made = tools.complete(picture, hole, generator(str(options.seed), "shadow")).background
    return np.where(hole[..., None], made, picture)


# ---- what goes out


def _write(canvas: _Canvas, made: Made, out: Path) -> None:
    """Every picture, and the record last."""
    out.mkdir(parents=True, exist_ok=True)
    for stale in (RECORD, "completed.png", "harmonised.png", "shadow.png"):
        (out / stale).unlink(missing_ok=True)
    for name, picture in canvas.files.items():
        write_atomically(out / name, images.encode_png(picture))
    write_atomically(out / "strip.png", images.encode_png(_strip(canvas, out.name)))
    write_atomically(out / RECORD, json.dumps(asdict(made), indent=1).encode())


def _strip(canvas: _Canvas, name: str) -> U8:
    shown: Sequence[tuple[str, U8]] = [
        ("image", canvas.image),
        ("mask", canvas.subject.astype(np.uint8) * 255),
        *((Path(file).stem, picture) for file, picture in canvas.files.items() if file not in _LAYERS),
    ]
    return sheet([title for title, _ in shown], [(name, [picture for _, picture in shown])], _SIDE)


_LAYERS = ("background.png", "foreground.png")
