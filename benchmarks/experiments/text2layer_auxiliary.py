"""What does the auxiliary head of Text2Layer's autoencoder do? CaT2I-AE with it, without, and one codec a layer.

Rendered triplets of 32 px (see ``rendered_triplets``), the preset ``small`` of ``layerkit train text2layer-ae`` and its
ablations, with several seeds; then every held-out triplet is encoded and decoded. Printed are PSNRs in dB and the soft
IoU of the mask, means and deviations over the seeds.

    python benchmarks/experiments/text2layer_auxiliary.py --out FOLDER

Runs that are there already are not trained again.
"""

import argparse
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rendered_triplets import built, held_out

from layerkit.manifests.entry import slug
from layerkit.pipelines.train import train
from layerkit.pipelines.training.config import load
from layerkit.pipelines.training.streams import Sources
from layerkit.pipelines.training.validation import validate
from layerkit.toolkit.images import encode_png
from layerkit.toolkit.models.registry import load_run

VARIANTS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "4 channels, with the auxiliary head": ((), ()),
    "4 channels, without it": (("no-auxiliary",), ()),
    "12 channels, with the auxiliary head": ((), ("model.codec.latent=12",)),
    "12 channels, without it": (("no-auxiliary",), ("model.codec.latent=12",)),
    "separate, 4 channels each": (("separate",), ()),
}
"""Presets and settings of each; that of the paper is the first, and three codecs have three latents."""
COLUMNS = ("foreground_psnr", "background_psnr", "background_psnr_footprint", "alpha_iou", "recomposition_psnr")


def main() -> None:
    """Build, train, score and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    data = built(given.out)
    jobs = [(variant, seed) for seed in range(given.seeds) for variant in VARIANTS]
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        asked = [pool.submit(scores, data, given.out, *job, given.steps) for job in jobs]
        found = dict(zip(jobs, [one.result() for one in asked], strict=True))
    print(f"| | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for variant in VARIANTS:
        rows = [row for (name, _), row in found.items() if name == variant]
        cells = [f"{np.mean(values):.4g} ± {np.std(values):.2g}" for values in zip(*map(_values, rows), strict=True)]
        print(f"| {variant} | {' | '.join(cells)} |")


def _values(row: Mapping[str, float]) -> list[float]:
    return [row[name] for name in COLUMNS]


def scores(data: Path, out: Path, variant: str, seed: int, steps: int) -> Mapping[str, float]:
    """Train a run that is not there yet, and score it on all held-out triplets."""
    import torch

    torch.set_num_threads(1)
    presets, settings = VARIANTS[variant]
    settings = (*settings, f"validate_every={steps}", f"save_every={steps}")
    config = load("text2layer-ae", ("small", *presets), settings, steps=steps, seed=seed)
    run = out / f"{slug(variant, 60)}-{seed}-{steps}"
    train(config, Sources(builds=(data,)), run, resume=True)
    system, _ = load_run(run)
    result = validate(system, held_out(data, config), config.micro, seed)
    (out / f"{run.name}.png").write_bytes(encode_png(result.pictures))
    return result.scores


if __name__ == "__main__":
    main()
