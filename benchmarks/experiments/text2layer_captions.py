"""Does the text decide what Text2Layer draws? Colours and shapes of rendered solids, asked for and drawn.

Rendered triplets of 32 px (see ``rendered_triplets``), the presets ``small`` of ``text2layer-ae`` and ``text2layer``;
then every colour and shape that the captions name is drawn, several times, at several scales of guidance. Printed are
the share of drawn objects whose mean colour is nearest to the colour that was asked for, among nine; how many tori, and
how many others, have a hole; and how far down its box the middle of a cone, and of the others, lies. Beside them stand
the same of held-out truths: shading moves their colours too, and others hide parts of them.

    python benchmarks/experiments/text2layer_captions.py --out FOLDER

Runs that are there already are not trained again.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import cv2
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
from layerkit.toolkit.pictures import sheet
from layerkit.toolkit.procedural.world import COLOURS, KINDS, colour_name

U8 = NDArray[np.uint8]
TEXTS = [f"a rendered {colour} {kind}" for colour in COLOURS for kind in KINDS]
COLUMNS = ("colour as asked", "tori with a hole", "others with one", "middle of cones", "of others")
GUIDANCE = (1.0, 3.0, 7.5)
_BATCH = 36
_SHOWN = [colour * len(KINDS) + colour % len(KINDS) for colour in range(len(COLOURS))]


def main() -> None:
    """Build, train, draw, count and print the table; the sheets show one object of each colour."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=2)
    given = parser.parse_args()
    torch.set_num_threads(1)
    data = built(given.out)
    codec = trained("text2layer-ae", data, given.out / "ae")
    run = trained("text2layer", data, given.out / "t2l", f"model.codec='{codec.resolve()}'")
    print(f"| | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for guidance in GUIDANCE:
        drawn = drawn_of(run, guidance, given.seeds)
        print(row(f"guidance {guidance:g}", TEXTS * given.seeds, [made.foreground for made in drawn]))
        (given.out / f"text2layer-{guidance:g}.png").write_bytes(encode_png(shown(drawn)))
    truths = held_out(data, load_config(str(run / "config.toml")))
    print(row("held-out truths", [one.caption for one in truths], [one.foreground for one in truths]))


def trained(system: str, data: Path, run: Path, *settings: str) -> Path:
    """The run of a preset ``small``."""
    train(load_config(system, ("small",), settings), Sources(builds=(data,)), run, resume=True)
    return run


def drawn_of(run: Path, guidance: float, seeds: int) -> list[Generation]:
    """All texts, by every seed."""
    generator = load(str(run), Options(guidance=guidance, device="cpu"))
    asked = [(Prompt(text), seed * len(TEXTS) + k) for seed in range(seeds) for k, text in enumerate(TEXTS)]
    parts = (asked[first : first + _BATCH] for first in range(0, len(asked), _BATCH))
    return [made for part in parts for made in generator(*map(list, zip(*part, strict=True)))]


def row(name: str, texts: Sequence[str], foregrounds: Sequence[U8]) -> str:
    """A line of the table, of the objects that there are."""
    seen = [(text.split()[2:], layer) for text, layer in zip(texts, foregrounds, strict=True) if _mask(layer).any()]
    right = [colour_name(_mean_colour(layer)) == colour for (colour, _), layer in seen]
    holes = {
        is_torus: [_has_hole(one) for (_, kind), one in seen if (kind == "torus") == is_torus]
        for is_torus in (True, False)
    }
    middles = {
        is_cone: [_middle(one) for (_, kind), one in seen if (kind == "cone") == is_cone] for is_cone in (True, False)
    }
    shares = [_share(one) for one in (right, holes[True], holes[False])]
    heights = [f"{np.mean(one):.2f} ± {np.std(one):.2f}" for one in (middles[True], middles[False])]
    return f"| {name} | {' | '.join([*shares, *heights])} |"


def _mask(layer: U8) -> NDArray[np.bool_]:
    """The object, without the faint shadow around it."""
    return layer[..., 3] > 127


def _mean_colour(layer: U8) -> tuple[float, float, float]:
    red, green, blue = layer[_mask(layer)][:, :3].mean(0) / 255
    return float(red), float(green), float(blue)


def _has_hole(layer: U8) -> bool:
    """Whether something that is not the object cannot be reached from the border."""
    beside = np.pad(~_mask(layer), 1, constant_values=True).astype(np.uint8)
    return int(cv2.connectedComponents(beside, connectivity=4)[0]) > 2


def _middle(layer: U8) -> float:
    """How far down its bounding box the object's centre of mass lies, 0..1."""
    rows = np.nonzero(_mask(layer))[0]
    return float((rows.mean() - rows.min()) / max(1, rows.max() - rows.min()))


def _share(marks: Sequence[bool]) -> str:
    return f"{np.mean(marks):.0%} of {len(marks)}"


def shown(drawn: Sequence[Generation]) -> U8:
    """One object of each colour, its layers and their composition."""
    rows = [(TEXTS[k], [drawn[k].foreground, drawn[k].background, drawn[k].image]) for k in _SHOWN]
    return sheet(["foreground", "background", "recomposition"], rows, 96)


if __name__ == "__main__":
    main()
