"""Does the text decide what Text2Layer draws? Colours and shapes of rendered solids, asked for and drawn.

Rendered triplets of 32 px (see ``rendered_triplets``), the presets ``small`` of ``text2layer-ae`` and ``text2layer``;
then every colour and shape that the captions name is drawn, several times, at several scales of guidance. Printed are
the share of drawn objects whose mean colour is nearest to the colour that was asked for, among nine, how much of the
picture they cover, and how many are in one piece; beside them the same of held-out truths, whose shading moves colours
too.

    python benchmarks/experiments/text2layer_captions.py --out FOLDER

Runs that are there already are not trained again.
"""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rendered_triplets import built, held_out

from layerkit.manifests.prompts import Prompt
from layerkit.pipelines.train import train
from layerkit.pipelines.training.config import load as load_config
from layerkit.pipelines.training.streams import Sources
from layerkit.toolkit.generation import Generation
from layerkit.toolkit.generators import load
from layerkit.toolkit.generators.options import Options
from layerkit.toolkit.images import encode_png
from layerkit.toolkit.matte import fragments
from layerkit.toolkit.pictures import sheet
from layerkit.toolkit.procedural.world import COLOURS, KINDS, colour_name

U8 = NDArray[np.uint8]
TEXTS = [(colour, f"a rendered {colour} {kind}") for colour in COLOURS for kind in KINDS]
COLUMNS = ("colour as asked", "share of the picture", "in one piece", "no object")
GUIDANCE = (1.0, 3.0, 7.5)
_BATCH = 36
_SHOWN = [colour * len(KINDS) + colour % len(KINDS) for colour in range(len(COLOURS))]


def main() -> None:
    """Build, train, draw, count and print the table; the sheets show one object of each colour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--latent", type=int, default=12, help="channels; with 4, so small a codec keeps no colour")
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = built(given.out)
    codec = trained("text2layer-ae", data, given.out / f"ae-{given.latent}", f"model.codec.latent={given.latent}")
    run = trained("text2layer", data, given.out / f"t2l-{given.latent}", f"model.codec='{codec.resolve()}'")
    print(f"| | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for guidance in GUIDANCE:
        drawn = drawn_of(run, guidance, given.seeds)
        asked = [colour for colour, _ in TEXTS] * given.seeds
        print(row(f"guidance {guidance:g}", asked, [made.foreground for made in drawn]))
        (given.out / f"text2layer-{given.latent}-{guidance:g}.png").write_bytes(encode_png(shown(drawn)))
    truths = held_out(data, load_config(str(run / "config.toml")))
    print(row("held-out truths", [one.caption.split()[2] for one in truths], [one.foreground for one in truths]))


def trained(system: str, data: Path, run: Path, *settings: str) -> Path:
    """The run of a preset ``small``."""
    train(load_config(system, ("small",), settings), Sources(builds=(data,)), run, resume=True)
    return run


def drawn_of(run: Path, guidance: float, seeds: int) -> list[Generation]:
    """All texts, by every seed."""
    generator = load(str(run), Options(guidance=guidance, device="cpu"))
    asked = [(Prompt(text), seed * len(TEXTS) + k) for seed in range(seeds) for k, (_, text) in enumerate(TEXTS)]
    parts = (asked[first : first + _BATCH] for first in range(0, len(asked), _BATCH))
    return [made for part in parts for made in generator(*map(list, zip(*part, strict=True)))]


def row(name: str, asked: Sequence[str], foregrounds: Sequence[U8]) -> str:
    """A line of the table."""
    seen = [(colour, layer) for colour, layer in zip(asked, foregrounds, strict=True) if (layer[..., 3] > 127).any()]
    right = [colour_name(tuple(_mean_colour(layer))) == colour for colour, layer in seen]
    cover = [float((layer[..., 3] > 127).mean()) for _, layer in seen]
    whole = [fragments(layer[..., 3] > 127) == 1 for _, layer in seen]
    none = len(foregrounds) - len(seen)
    return f"| {name} | {_share(right)} | {np.mean(cover):.1%} ± {np.std(cover):.1%} | {_share(whole)} | {none} |"


def _mean_colour(layer: U8) -> list[float]:
    """Of the object, without the faint shadow around it, 0..1."""
    mean: list[float] = (layer[layer[..., 3] > 127][:, :3].mean(0) / 255).tolist()
    return mean


def _share(marks: Iterable[bool]) -> str:
    marks = list(marks)
    return f"{np.mean(marks):.0%} of {len(marks)}"


def shown(drawn: Sequence[Generation]) -> U8:
    """One object of each colour, its layers and their composition."""
    rows = [(TEXTS[k][1], [drawn[k].foreground, drawn[k].background, drawn[k].image]) for k in _SHOWN]
    return sheet(["foreground", "background", "recomposition"], rows, 96)


if __name__ == "__main__":
    main()
