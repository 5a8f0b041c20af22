"""``layerkit reposition``: move a subject within its picture, step by step, and keep the picture of every step.

Steps as in SEELE (arXiv 2401.16861): remove the subject, complete what was hidden of it, set it at its place as large
as it is there, harmonise its colours, let it cast a shadow. A step that is not asked for is left out.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import UsageError
from ..toolkit import images
from ..toolkit import reposition as steps
from ..toolkit.compose import fold_shadow_u8, over_u8
from ..toolkit.files import write_atomically
from ..toolkit.inpaint import dilated
from ..toolkit.matte import border_share, cut_out
from ..toolkit.pictures import sheet
from ..toolkit.shadow import Light, Stance
from .draw import generator
from .reposition_asked import Masks, Opened, Options, Tools, expect_use, margin, opened, pixels

U8 = NDArray[np.uint8]

RECORD = "reposition.json"
_SIDE = 256  # px of a panel of the strip
_BAND = 200  # the matte's unknown band is this part of the longer side
_FAINT = 13  # 8-bit attenuation above which a painter paints a shadow: a twentieth


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
    """What the steps hand on: the picture and its masks, its name, and the pictures made so far, by file name."""

    given: Opened
    name: str
    files: dict[str, U8] = field(default_factory=dict)


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
    _expect_free(out, overwrite=overwrite)
    expect_use(masks, tools, options)
    canvas = _Canvas(opened(source, masks), source.stem)
    shift = pixels(options.to, canvas.given.subject.shape)
    background = _removed(canvas, tools, options)
    subject = _cut(canvas, tools, options)
    scale, scale_by = _scale(canvas, background, shift, tools, options)
    placed = _placed(canvas, subject, shift, scale)
    light, stance = _light(canvas, subject, background, options)
    layer = _harmonised(canvas, placed.layer, background, tools, options)
    _lit(canvas, placed, layer, background, light, stance, tools, options)
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
        notes=_notes(canvas),
    )
    _write(canvas, made, out)
    return made


def _expect_free(out: Path, *, overwrite: bool) -> None:
    if (out / RECORD).exists() and not overwrite:
        raise UsageError(f"--out: {out} is there already; name another folder, or add --overwrite")
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir():
        raise UsageError(f"--out: expected a folder, got {out}, where {there} is a file; name another one")
    if not os.access(there, os.W_OK):
        raise UsageError(f"--out: expected a folder that may be written, got {out} in {there}; name another one")


def _notes(canvas: _Canvas) -> tuple[str, ...]:
    cut = border_share(canvas.given.subject) > 0
    return ("the subject touches the picture's border: what lies beyond it stays missing",) if cut else ()


# ---- the steps


def _removed(canvas: _Canvas, tools: Tools, options: Options) -> U8:
    """The picture without the subject and its shadow; the model's own subject is kept for :func:`_cut`."""
    image, subject, _, shadow = canvas.given
    gone = dilated(subject if shadow is None else subject | shadow, margin(options.grow, subject.shape))
    made = tools.remove(image, gone, generator(str(options.seed), "remove"), canvas.name)
    canvas.files["removed.png"] = made.background
    return made.background


def _cut(canvas: _Canvas, tools: Tools, options: Options) -> U8:
    """The subject alone, completed if it was hidden in part."""
    picture, mask, amodal, _ = canvas.given
    if options.own:
        own = tools.remove(picture, mask, generator(str(options.seed), "subject"), canvas.name).foreground
        if own is None:
            raise UsageError(f"--own: expected a model that gives foregrounds, got {tools.remove.name}; leave it out")
        canvas.files["subject.png"] = own
        return own
    if amodal is not None and tools.complete is not None:
        hidden = dilated(amodal & ~mask, 2)
        made = tools.complete(picture, hidden, generator(str(options.seed), "complete"), canvas.name)
        picture = canvas.files["completed.png"] = made.background
    canvas.files["subject.png"] = cut_out(picture, canvas.given.whole, max(2, round(max(mask.shape) / _BAND)))
    return canvas.files["subject.png"]


def _scale(
    canvas: _Canvas, background: U8, shift: tuple[int, int], tools: Tools, options: Options
) -> tuple[float, str]:
    """The scale, and what it was found by."""
    if options.scale is not None:
        return options.scale, "given"
    x, y = steps.foot_of(canvas.given.whole)
    target = x + shift[0], y + shift[1]
    if options.horizon is not None:
        return steps.scale_by_horizon((x, y), target, options.horizon * len(background)), "horizon"
    assert tools.depth is not None  # ``expect_use`` said so
    return steps.scale_by_depth(tools.depth(background), (x, y), target), "depth"


def _placed(canvas: _Canvas, subject: U8, shift: tuple[int, int], scale: float) -> steps.Placed:
    placed = steps.set_down(subject, shift, scale)
    if not placed.layer[..., 3].any():
        raise UsageError(f"--to: {shift[0]}, {shift[1]} px takes the whole subject out of the picture; move it less")
    canvas.files["placed.png"] = placed.layer
    return placed


def _harmonised(canvas: _Canvas, placed: U8, background: U8, tools: Tools, options: Options) -> U8:
    if tools.harmonise is not None:
        composed, mask = over_u8(placed, background), placed[..., 3] > 0
        made = tools.harmonise(composed, mask, generator(str(options.seed), "harmonise"), canvas.name)
        placed = steps.recoloured(placed, background, made.background)
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
    image, shadow = canvas.given.image, canvas.given.shadow
    if options.light is None and shadow is not None:
        stances = (options.stance,) if options.stance else get_args(Stance)
        return steps.light_of(np.ascontiguousarray(subject[..., 3]), shadow, image, background, stances)
    return options.light or steps.AMBIENT, options.stance or "standing"


def _lit(
    canvas: _Canvas,
    placed: steps.Placed,
    layer: U8,
    background: U8,
    light: Light | None,
    stance: Stance,
    tools: Tools,
    options: Options,
) -> None:
    """The result of a layer, harmonised or as it was placed, with the shadow, as the last of the files."""
    foreground, result = layer, over_u8(layer, background)
    if light is not None:
        cast = canvas.files["shadow.png"] = placed.shadow(light, stance)
        if options.shadow == "paint":
            result = _painted(canvas, result, cast, layer, tools, options)
        else:
            foreground = fold_shadow_u8(layer[..., :3], layer[..., 3], cast)
            result = over_u8(foreground, background)
    canvas.files |= {"background.png": background, "foreground.png": foreground, "result.png": result}


def _painted(canvas: _Canvas, picture: U8, cast: U8, layer: U8, tools: Tools, options: Options) -> U8:
    assert tools.complete is not None  # ``expect_use`` said so
    hole = (cast > _FAINT) & (layer[..., 3] == 0)
    if not hole.any():
        return picture
    made = tools.complete(picture, hole, generator(str(options.seed), "shadow"), canvas.name)
    return np.where(hole[..., None], made.background, picture)


# ---- what goes out


def _write(canvas: _Canvas, made: Made, out: Path) -> None:
    """Every picture, and the record last."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--out: expected a folder that can be made, got {out}: {error}; name another one") from error
    for stale in (RECORD, "completed.png", "harmonised.png", "shadow.png"):
        (out / stale).unlink(missing_ok=True)
    for name, picture in canvas.files.items():
        write_atomically(out / name, images.encode_png(picture))
    write_atomically(out / "strip.png", images.encode_png(_strip(canvas, out.name)))
    write_atomically(out / RECORD, json.dumps(asdict(made), indent=1).encode())


def _strip(canvas: _Canvas, name: str) -> U8:
    shown: Sequence[tuple[str, U8]] = [
        ("image", canvas.given.image),
        ("mask", canvas.given.subject.astype(np.uint8) * 255),
        *((Path(file).stem, picture) for file, picture in canvas.files.items() if file not in _LAYERS),
    ]
    return sheet([title for title, _ in shown], [(name, [picture for _, picture in shown])], _SIDE)


_LAYERS = ("background.png", "foreground.png")
