"""Does LayerDecomp's consistency loss make the layers recompose? Its ablations ``v2`` and ``full``, small, on a CPU.

Rendered triplets of 32 px (source ``procedural``, route ``layers``) with a split ``val`` of scenes of their own; both
variants by the preset ``small`` of ``layerkit train layerdecomp``, with several seeds; then every held-out triplet is
taken apart. Printed are PSNRs in dB, of the recomposition and of the background, whole and in the footprint of object
and shadow, beside the picture as it is and Telea's filling of the mask, which leaves the shadow.

    python benchmarks/experiments/layerdecomp_consistency.py --out FOLDER

``--weight`` is that of the consistency loss. Runs that are there already are not trained again.
"""

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from rendered_triplets import built, held_out

from layerkit.pipelines.train import train
from layerkit.pipelines.training.config import load
from layerkit.pipelines.training.sample import Sample
from layerkit.pipelines.training.streams import Sources
from layerkit.pipelines.training.validation import validate
from layerkit.toolkit.images import encode_png
from layerkit.toolkit.inpaint import Telea, inpaint
from layerkit.toolkit.metrics.pixels import psnr
from layerkit.toolkit.models.registry import load_run

VARIANTS = ("v2", "full")
COLUMNS = ("recomposition_psnr", "background_psnr", "background_psnr_footprint", "foreground_psnr", "alpha_iou")


def main() -> None:
    """Build, train, score and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--weight", type=float, default=10.0)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    data = built(given.out)
    jobs = [(variant, seed) for seed in range(given.seeds) for variant in VARIANTS]
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        asked = [pool.submit(_scores, data, given.out, *job, given.steps, given.weight) for job in jobs]
        scores = dict(zip(jobs, [one.result() for one in asked], strict=True))
    _print(scores, _baselines(held_out(data, _config("v2", 0, 1, 1.0))))


def _config(variant: str, seed: int, steps: int, weight: float):  # noqa: ANN202
    settings = [f"model.consistency.weight={weight}", f"validate_every={steps}", f"save_every={steps}"]
    return load("layerdecomp", ("small", variant), settings, steps=steps, seed=seed)


def _scores(data: Path, out: Path, variant: str, seed: int, steps: int, weight: float) -> Mapping[str, float]:
    """Train a run that is not there yet, and score it on all held-out triplets."""
    import torch

    torch.set_num_threads(1)
    config = _config(variant, seed, steps, weight)
    run = out / f"{variant}-{seed}-{steps}-{weight:g}"
    train(config, Sources(builds=(data,)), run, resume=True)
    system, _ = load_run(run)
    result = validate(system, held_out(data, config), config.micro, seed)
    (out / f"{run.name}.png").write_bytes(encode_png(result.pictures))
    return result.scores


def _baselines(samples: Sequence[Sample]) -> Mapping[str, tuple[float, float]]:
    """Of the picture as it is and of Telea, mean PSNR of the background, whole and in the footprint."""
    found: dict[str, list[tuple[float, float]]] = {"identity": [], "telea": []}
    for sample in samples:
        hole = sample.mask > 0
        for name, picture in (("identity", sample.image), ("telea", inpaint(Telea(), sample.image, hole, dilate=1))):
            where = (None, sample.foreground[..., 3] > 0)
            whole, footprint = (psnr(picture, sample.background, mask) for mask in where)
            found[name].append((whole, footprint))
    return {name: tuple(np.mean(values, axis=0).tolist()) for name, values in found.items()}


def _print(scores: Mapping[tuple[str, int], Mapping[str, float]], baselines: Mapping[str, tuple[float, float]]) -> None:
    print(f"| | {' | '.join(COLUMNS)} |\n|---|{'---|' * len(COLUMNS)}")
    for (variant, seed), row in sorted(scores.items(), key=lambda item: (VARIANTS.index(item[0][0]), item[0][1])):
        print(f"| {variant}, seed {seed} | {' | '.join(f'{row[name]:.3g}' for name in COLUMNS)} |")
    for variant in VARIANTS:
        rows = np.array([[row[name] for name in COLUMNS] for (one, _), row in scores.items() if one == variant])
        cells = [f"{mean:.2f} ± {spread:.2f}" for mean, spread in zip(rows.mean(0), rows.std(0), strict=True)]
        print(f"| **{variant}** | {' | '.join(cells)} |")
    for name, (whole, footprint) in baselines.items():
        print(f"| {name} | | {whole:.2f} | {footprint:.2f} | | |")


if __name__ == "__main__":
    main()
