"""Does a masked autoencoder's idea of the hole keep new objects out of it? ASUKA's condition, small.

On the base of ``inpainting_base``, frozen, the text is replaced by what a masked autoencoder knows of the hole, aligned
to the text's width. The autoencoder and the aligners learn on scenes that the base never saw; then objects of held-out
scenes are removed, and new ones are counted, as ``seele_prompts`` does it. Two truths are tried: backgrounds, which are
the recipe's, and pictures with their objects, from which the paper learns, for it has no backgrounds; and the aligner's
ablation ``linear``.

    python benchmarks/experiments/asuka_prior.py --out FOLDER

``--base`` takes a base that is there already. What is there already is not trained again.
"""

import argparse
from pathlib import Path
from typing import TypeVar

import torch
from inpainting_base import GROUND, base, rendered
from layerfusion_pair import train
from seele_prompts import (
    HOLES,
    STEPS,
    U8,
    Cases,
    Fill,
    as_u8,
    batch_of,
    by_text,
    cases,
    filled,
    masks_of,
    print_removal,
)

from layerkit.toolkit.images import encode_png
from layerkit.toolkit.models import mae_training, sd_inpaint
from layerkit.toolkit.models.asuka import Asuka
from layerkit.toolkit.models.asuka_options import AsukaOptions
from layerkit.toolkit.models.asuka_sd import AsukaSd
from layerkit.toolkit.models.mae import MaeSizes, MaskedAutoencoder
from layerkit.toolkit.models.runs import WEIGHTS
from layerkit.toolkit.models.system import Origin, System
from layerkit.toolkit.pictures import sheet

SIZES = MaeSizes(
    side=48, patch=6, width=96, depth=4, heads=4, decoder_width=64, decoder_depth=8, decoder_heads=4
)  # of the small autoencoder
HEAD = 16
Learns = TypeVar("Learns", bound=System)
WAYS = {
    "ASUKA": {"truth": "background", "variant": "four-self"},
    "ASUKA of pictures": {"truth": "image", "variant": "four-self"},
    "ASUKA, linear": {"truth": "background", "variant": "linear"},
}
_TRAINED, _FIRST, _HELD_OUT = 3000, 200_000, 300_000
_SHOWN = 8


def main() -> None:
    """Train, remove, count and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--prior-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--held-out", type=int, default=96)
    given = parser.parse_args()
    torch.set_num_threads(1)
    folder = given.base or base(given.out)
    data = cases(rendered(_TRAINED, SIZES.side, _FIRST))
    held_out = cases(rendered(given.held_out, SIZES.side, _HELD_OUT))
    priors = {truth: prior(data, given.out, truth, given.prior_steps) for truth in ("background", "image")}
    found = sd_inpaint.load_sd_inpaint(Origin(base=str(folder)), torch.float32)
    fills = {
        "no prompt": [by_text(found, "")],
        f"text `{GROUND}`": [by_text(found, GROUND)],
        "autoencoder alone": [painter(priors["background"])],
    }
    for name, options in WAYS.items():
        asukas = [
            aligned(folder, priors[options["truth"]], data, given.out, seed, given.steps, options)
            for seed in range(given.seeds)
        ]
        fills[name] = [painter(one) for one in asukas]
    for name, grown in HOLES.items():
        print_removal(name, fills, data, held_out, grown)
    (given.out / "asuka-prior.png").write_bytes(encode_png(strips(fills, held_out)))


def prior(data: Cases, out: Path, truth: str, steps: int) -> mae_training.AsukaMae:
    """An autoencoder, trained if it is not there."""
    torch.manual_seed(0)
    options = mae_training.AsukaMaeOptions(network=SIZES, truth=truth)
    return learnt(
        mae_training.AsukaMae(options, MaskedAutoencoder(SIZES)), data, out / f"prior-{truth}-{steps}", 0, steps
    )


def aligned(
    folder: Path, mae: mae_training.AsukaMae, data: Cases, out: Path, seed: int, steps: int, changes: dict[str, str]
) -> Asuka:
    """An ASUKA on the base, its aligner trained if it is not there."""
    torch.manual_seed(seed)
    options = AsukaOptions(mae="", head=HEAD, base_dtype="float32", steps=STEPS, **changes)
    found = sd_inpaint.load_sd_inpaint(Origin(base=str(folder)), torch.float32)
    system = Asuka(options, mae.mae, AsukaSd(options, found, SIZES.decoder_width, SIZES.grid**2))
    return learnt(system, data, out / "-".join(["asuka", *changes.values(), str(seed), str(steps)]), seed, steps)


def learnt(system: Learns, data: Cases, run: Path, seed: int, steps: int) -> Learns:
    """A system with the weights of a run, trained if they are not there."""
    if not (run / WEIGHTS).is_file():
        draws = torch.Generator().manual_seed(seed)
        parameters = list(system.trained().values())
        train(parameters, lambda _: system(batch_of(data, draws), draws, 0)["loss"], steps, 1e-3)
        run.mkdir(parents=True, exist_ok=True)
        system.save(run)
    system.restore(run)
    system.eval()
    return system


def painter(system: System) -> Fill:
    """What a system paints into holes."""
    return lambda image, mask, draws: system.decompose(image, mask, draws)[0]


def strips(fills: dict[str, list[Fill]], held_out: Cases) -> U8:
    """Some held-out scenes: what came in, each filling of the dilated hole, the truth."""
    some, grown = Cases(*(each[:_SHOWN] for each in held_out)), HOLES["dilated by 5 px"]
    panels = {
        "image": as_u8(some.image),
        "hole": [hole.astype("uint8") * 255 for hole in masks_of(some, grown)],
        **{way: as_u8(filled(of_seeds[0], some, grown, 0)) for way, of_seeds in fills.items()},
        "background": as_u8(some.background),
    }
    return sheet(list(panels), [(str(k), [one[k] for one in panels.values()]) for k in range(_SHOWN)], 160)


if __name__ == "__main__":
    main()
