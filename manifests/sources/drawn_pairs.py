"""Reader ``layerfusion`` of the benchmarks: prompts, and the pictures that other models drew of each layer.

ROOT/prompts.jsonl            a prompt a line; a picture is named by the number of its line, from 000001
ROOT/foregrounds/NUMBER.png   RGBA, of a model of foregrounds: LayerDiffuse's in the paper
ROOT/backgrounds/NUMBER.png   RGB, of a model of scenes: the bare SDXL in the paper
"""

from collections.abc import Iterator
from pathlib import Path

from ..errors import UsageError
from ..pairs import File, MaskFile, Pair
from .prompts import numbered_prompts


def pairs(root: Path, split: str = "") -> Iterator[Pair]:
    """A pair a prompt, in their order; one that lacks a picture says so in ``drop``.

    Args:
        root: see the module.
        split: not looked at; there is one.

    Raises:
        UsageError: no such folder, or a line that is no prompt.
    """
    for name in ("foregrounds", "backgrounds"):
        if not (root / name).is_dir():
            raise UsageError(f"{root}: expected prompts.jsonl beside foregrounds/ and backgrounds/, {name}/ is missing")
    for number, prompt in numbered_prompts(root / "prompts.jsonl"):
        name = f"{number:06d}"
        foreground, background = (root / layer / f"{name}.png" for layer in ("foregrounds", "backgrounds"))
        missing = next((path for path in (foreground, background) if not path.is_file()), None)
        yield Pair(
            source="layerfusion",
            id=name,
            scene=name,
            image=File(path=background),
            kind="triplet",
            background=File(path=background),
            foreground=File(path=foreground),
            masks={"tight": (MaskFile(file=File(path=foreground), of_alpha=True),)},
            prompt=prompt,
            drop=f"missing_file: expected {missing} for line {number} of prompts.jsonl" if missing else "",
        )
