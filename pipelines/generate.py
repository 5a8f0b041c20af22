"""``layerkit generate``: layers drawn from text by any generator, into folders.

    OUT/NAME/foreground.png background.png blend.png recomposition.png mask.png strip.png generation.json
    OUT/prompts.jsonl

``recomposition.png`` is the foreground over the background; ``blend.png`` the picture as the model itself drew both
together, or the recomposition where it draws none. A generator of cut-outs alone writes no background and neither of
the two. ``prompts.jsonl`` holds a row a folder with the seed that was drawn: given to ``--prompts`` it makes the same
pictures again. The record is written last; the same command takes up what an interrupted one left.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..manifests.entry import slug
from ..manifests.errors import UsageError
from ..manifests.prompts import Prompt
from ..toolkit import images
from ..toolkit.files import write_atomically
from ..toolkit.generation import Checked, Generation
from ..toolkit.pictures import sheet
from .draw import seed_of
from .options import Progress, Report

U8 = NDArray[np.uint8]

RECORD = "generation.json"
PROMPTS = "prompts.jsonl"
_SIDE = 256  # px of a panel of the strip
_REMEDY = "name another folder, or add --overwrite"


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One row of the result, and ``generation.json`` of a folder.

    Attributes:
        name: of the folder.
        prompt: what was drawn.
        negative: what it was steered away from; empty is the generator's own.
        foreground: text of the object alone, for generators that take one a layer; empty is ``prompt``.
        background: text of the scene alone, likewise.
        seed: of the noise.
        model: that drew it.
        revision: of the model.
        licence: of the model.
        options: what the model was told beside text and seed.
        size: width and height, px.
        foregrounds: file names.
        coverage: share of the picture where the alpha exceeds a half.
    """

    name: str
    prompt: str
    negative: str
    foreground: str
    background: str
    seed: int
    model: str
    revision: str
    licence: str
    options: Mapping[str, Any]
    size: tuple[int, int]
    foregrounds: tuple[str, ...]
    coverage: float

    def describe(self) -> str:
        """The row in words."""
        return f"{self.name}: seed {self.seed}, {self.size[0]}x{self.size[1]} px, object on {self.coverage:.0%}"


def seeded(prompts: Sequence[Prompt], count: int, seed: int) -> list[tuple[Prompt, int]]:
    """What is to be drawn: every prompt ``count`` times, each with the seed of its noise.

    The first picture of a prompt with a seed of its own is drawn from that; other seeds follow from ``seed``, the
    prompt's text, and how often it came before: so neither the order nor the number of prompts matters.
    """
    turns: dict[str, int] = {}
    drawn = []
    for prompt in prompts:
        for k in range(count):
            turn = turns[prompt.prompt] = turns.get(prompt.prompt, -1) + 1
            follows = seed_of(str(seed), "generate", prompt.prompt, turn) % 2**63
            drawn.append((prompt, follows if prompt.seed is None or k else prompt.seed))
    return drawn


def generate(
    prompts: Sequence[Prompt],
    generator: Checked,
    out: Path,
    *,
    told: Mapping[str, Any] = MappingProxyType({}),
    count: int = 1,
    seed: int = 0,
    batch: int = 1,
    overwrite: bool = False,
    report: Report | None = None,
) -> list[Drawn]:
    """Draw layers of texts; what an earlier call of the same arguments has drawn is not drawn again.

    Args:
        prompts: one at least.
        generator: see ``toolkit.generators.load``.
        out: gets a folder a picture.
        told: what the generator was told beside, for the records.
        count: pictures of each prompt.
        seed: of all noise that a prompt does not give a seed for; see :func:`seeded`.
        batch: pictures that are drawn at a time.
        overwrite: draw all anew, over what is there.
        report: called after every batch.

    Raises:
        UsageError: no prompt, impossible numbers, or something else is in the way.
        RunError: the generator gave what are no layers.
    """
    if not prompts or count < 1 or batch < 1:
        raise UsageError(f"expected a prompt, and count and batch of 1 or more, got {len(prompts)}, {count}, {batch}")
    wanted = seeded(prompts, count, seed)
    names = [f"{number:04d}-{slug(prompt.prompt)}" for number, (prompt, _) in enumerate(wanted)]
    asked = [
        {**_texts(prompt), "seed": own, "model": generator.name, "revision": generator.revision, "options": dict(told)}
        for prompt, own in wanted
    ]
    rows = "".join(f"{_row(prompt, own)}\n" for prompt, own in wanted).encode()
    drawn = _drawn_before(out, names, asked, rows, overwrite=overwrite)
    out.mkdir(parents=True, exist_ok=True)
    write_atomically(out / PROMPTS, rows)
    left = [k for k in range(len(wanted)) if k not in drawn]
    for some in (left[first : first + batch] for first in range(0, len(left), batch)):
        texts, seeds = zip(*(wanted[k] for k in some), strict=True)
        for k, made in zip(some, generator(texts, seeds), strict=True):
            drawn[k] = _written(out / names[k], made, asked[k], generator.licence)
        if report:
            report(Progress(stage="generate", done=len(drawn), total=len(wanted), kept=len(drawn)))
    return [drawn[k] for k in sorted(drawn)]


def _row(prompt: Prompt, seed: int) -> str:
    """A line that ``prompts.parse_prompt`` reads."""
    told = {name: value for name, value in asdict(replace(prompt, seed=seed)).items() if value != ""}
    return json.dumps(told, ensure_ascii=False)


def _texts(prompt: Prompt) -> dict[str, str]:
    return {name: getattr(prompt, name) for name in ("prompt", "negative", "foreground", "background")}


def _drawn_before(
    out: Path, names: Sequence[str], asked: Sequence[Mapping[str, Any]], rows: bytes, *, overwrite: bool
) -> dict[int, Drawn]:
    """The records of what is there already, by number; with ``overwrite`` none.

    Raises:
        UsageError: something else is in the way: a file, other prompts, or another picture.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out: expected a folder, got the file {out}; name another one")
    if overwrite:
        return {}
    if (out / PROMPTS).exists() and (out / PROMPTS).read_bytes() != rows:
        raise UsageError(f"--out: {out / PROMPTS} is there already, of other prompts or seeds; {_REMEDY}")
    there = {k: out / name / RECORD for k, name in enumerate(names) if (out / name / RECORD).exists()}
    found = {k: _read_record(path) for k, path in there.items()}
    for k, row in found.items():
        if row is None or any(getattr(row, key) != value for key, value in asked[k].items()):
            raise UsageError(f"--out: {there[k].parent} is there already, of another model or option; {_REMEDY}")
    return {k: row for k, row in found.items() if row is not None}


def _read_record(path: Path) -> Drawn | None:
    try:
        table = json.loads(path.read_bytes())
        known: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
        return Drawn(**known)
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _written(folder: Path, made: Generation, asked: Mapping[str, Any], licence: str) -> Drawn:
    """Write one generation, its record last."""
    files = _files(made)
    files["strip.png"] = _strip(asked["prompt"], files)
    folder.mkdir(exist_ok=True)
    for old in (RECORD, "background.png", "recomposition.png", "blend.png"):  # of another generator
        (folder / old).unlink(missing_ok=True)
    for name, picture in files.items():
        write_atomically(folder / name, images.encode_png(picture))
    row = Drawn(
        name=folder.name,
        **asked,
        licence=licence,
        size=(made.foreground.shape[1], made.foreground.shape[0]),
        foregrounds=("foreground.png",),
        coverage=round(float((made.mask > 0).mean()), 6),
    )
    write_atomically(folder / RECORD, json.dumps(asdict(row), indent=1, ensure_ascii=False).encode())
    return row


def _files(made: Generation) -> dict[str, U8]:
    recomposition = made.image
    layers = {
        "foreground": made.foreground,
        "background": made.background,
        "recomposition": recomposition,
        "blend": recomposition if made.blend is None else made.blend,
        "mask": made.mask,
    }
    return {f"{name}.png": layer for name, layer in layers.items() if layer is not None}


def _strip(caption: str, files: dict[str, U8]) -> U8:
    return sheet([Path(name).stem for name in files], [(caption, list(files.values()))], _SIDE)
