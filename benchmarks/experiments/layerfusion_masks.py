"""Do LayerFusion's masks find the object? On a small pair of networks, against an alpha that is known.

The pair is that of ``layerfusion_pair``: a network of rendered scenes, and attention that draws objects on grey.
Held-out objects on grey, noised to several time steps, go through the foreground's stream once, and the masks of
``layerkit.toolkit.models.layerfusion_masks`` are held against their alpha on the network's grid of 16 x 16. Then
layered pictures are drawn. Means and deviations of several seeds are printed as tables; strips of pictures lie in the
folder.

    python benchmarks/experiments/layerfusion_masks.py --out FOLDER

Networks that are there already are not trained again.
"""

import argparse
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from math import inf
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from layerfusion_pair import (
    GRID,
    KINDS,
    SIDE,
    Pair,
    Scenes,
    latent,
    scenes,
    scheduler,
    tokens,
    trained,
)
from torch import Tensor
from torch.nn import functional

from layerkit.toolkit.images import encode_png
from layerkit.toolkit.models.layerfusion_attention import Fusion, fuse
from layerkit.toolkit.models.layerfusion_masks import hard_mask, soft_mask
from layerkit.toolkit.models.layerfusion_options import Content, FusionOptions, Polarity, Priors, Sharing, Timing
from layerkit.toolkit.models.layerfusion_streams import Sampled, Texts, sample

HELD_OUT = 256
TIMES = (100, 300, 500, 700, 900)
MASKS: dict[str, tuple[Priors, Polarity, Content]] = {
    "self-attention, sparse": ("self", "sparse", "block"),
    "self-attention, dense": ("self", "dense", "block"),
    "cross-attention": ("cross", "sparse", "block"),
    "both, sparse": ("both", "sparse", "block"),
    "both, dense": ("both", "dense", "block"),
    "all cross-attentions": ("cross", "sparse", "all"),
    "both, sparse, all cross-attentions": ("both", "sparse", "all"),
    "both, dense, all cross-attentions": ("both", "dense", "all"),
}
DECISIONS = (2, 5, 10, 20, inf)
SHARINGS: tuple[Sharing, ...] = ("off", "blended", "joint")
TIMINGS: tuple[Timing, ...] = ("previous", "prepass")
Row = dict[str, float]


# ---- masks


def iou(mask: Tensor, alpha: Tensor) -> float:
    """Soft intersection over union, Σ min / Σ max of each picture, the mean of pictures; of 0 and 1 the usual one."""
    return float((torch.minimum(mask, alpha).sum((1, 2)) / torch.maximum(mask, alpha).sum((1, 2))).mean())


def priors(pair: Pair, fusion: Fusion, data: Scenes, t: int) -> tuple[Tensor, Tensor]:
    """Both priors of the objects on grey at a time step, by a pass of the foreground's stream alone."""
    count = len(data.kind)
    clean, times = latent(data.on_grey), torch.full((count,), t)
    noised = scheduler().add_noise(clean, torch.randn(clean.shape, generator=torch.Generator().manual_seed(t)), times)
    fusion.begin((GRID, GRID), torch.full((count,), 2), 1)
    fusion.alone = True
    with torch.no_grad():
        pair.unet(noised, times, pair.read(tokens(data.kind, "kind")))
    fusion.alone = False
    return fusion.take()


def soft_masks(pair: Pair, data: Scenes) -> dict[tuple[str, int], Tensor]:
    """The masks of objects on grey, (N, 16, 16), by row of the table and time step; and one that is 1 everywhere."""
    made = {}
    for content in ("block", "all"):
        fusion = fuse(pair.unet, FusionOptions(timing="prepass", content=content), pair.own)
        for t in TIMES:
            s, c = priors(pair, fusion, data, t)
            made["everything", t] = torch.ones_like(s)
            for name, (prior, polarity, whose) in MASKS.items():
                if whose == content:
                    flat = soft_mask(s.flatten(1), c.flatten(1), priors=prior, polarity=polarity)
                    made[name, t] = flat.reshape(s.shape)
    return made


def mask_scores(pair: Pair, data: Scenes) -> tuple[dict[str, Row], dict[str, Row]]:
    """Rows of the table of masks, and of the one of decision coefficients."""
    soft, wanted = soft_masks(pair, data), functional.avg_pool2d(data.alpha, 2)[:, 0]
    masks: dict[str, Row] = {}
    for name in ("everything", *MASKS):
        found = {t: iou((soft[name, t] > 0.5).float(), (wanted > 0.5).float()) for t in TIMES}
        masks[name] = {f"t = {t}": value for t, value in found.items()} | {
            "mean": float(np.mean(list(found.values()))),
            "soft IoU": float(np.mean([iou(soft[name, t], wanted) for t in TIMES])),
        }
    return masks, {f"{name}, d = {d:g}": _hard(soft, name, d, wanted) for name in _BOTH for d in DECISIONS}


_BOTH = ("both, sparse", "both, dense")


def _hard(soft: Mapping[tuple[str, int], Tensor], name: str, decision: float, wanted: Tensor) -> Row:
    made = [hard_mask(soft[name, t], decision) for t in TIMES]
    error = [float((mask - wanted).abs().mean()) for mask in made]
    return {"soft IoU": float(np.mean([iou(mask, wanted) for mask in made])), "mean error": float(np.mean(error))}


# ---- pictures


def drawn(pair: Pair, count: int, options: FusionOptions, steps: int = 15, guidance: float = 3.0) -> Sampled:
    """Layered pictures of the kinds in turn; the same noise whatever the options."""
    kind = torch.arange(count) % len(KINDS)
    nothing = [tokens(kind, "")] * 3
    told = [tokens(kind, words) for words in ("kind", "both", "ground")]
    noise = torch.randn(1, count, 12, GRID, GRID, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1, -1)
    with torch.no_grad():
        texts = Texts(states=pair.read(torch.cat(nothing + told)), added={}, eos=torch.full((count,), 2))
    fusion = fuse(pair.unet, options, pair.own)
    made = sample(pair.unet, scheduler(), noise, texts, fusion, steps=steps, guidance=guidance)
    return Sampled(functional.pixel_shuffle(made.latents, 2).clamp(-1, 1), made.masks)


def seen(foreground: Tensor) -> Tensor:
    """What of pictures (N, 3, S, S) on grey is no grey, 0 or 1, (N, S, S): there is no decoder of alpha here."""
    return (foreground.abs().amax(1) > 0.1).float()


def picture_scores(pair: Pair, count: int = 24) -> dict[str, Row]:
    """How the three pictures hang together, by sharing and timing; and without blending."""
    plain = FusionOptions(priors="none", sharing="off")
    variants = {"no blending, no sharing": plain}
    for timing in TIMINGS:
        for sharing in SHARINGS:
            variants[f"{timing}, {sharing}"] = FusionOptions(timing=timing, sharing=sharing)
    apart = drawn(pair, count, plain).latents
    return {name: _picture_row(drawn(pair, count, options), apart) for name, options in variants.items()}


def _picture_row(made: Sampled, apart: Tensor) -> Row:
    foreground, blend, background = made.latents
    inside = seen(foreground)
    last = functional.interpolate(made.masks[-1][:, None], size=(SIDE, SIDE), mode="bilinear")[:, 0]
    return {
        "blend like foreground, inside": distance(blend, foreground, inside),
        "blend like background, outside": distance(blend, background, 1 - inside),
        "background moved, inside": distance(background, apart[2], inside),
        "mask's IoU with what is not grey": iou((last > 0.5).float(), inside),
        "share not grey": float(inside.mean()),
    }


def distance(a: Tensor, b: Tensor, where: Tensor) -> float:
    """Mean absolute difference of pictures in -1..1 where a mask is 1, in 8-bit levels."""
    return float(((a - b).abs().mean(1) * where).sum() / where.sum().clamp(min=1)) * 127.5


def strip(pair: Pair, options: FusionOptions, count: int = 12, zoom: int = 4) -> bytes:
    """A column a picture, from above: foreground, mask, background, blend, foreground over background; a PNG."""
    made = drawn(pair, count, options)
    foreground, blend, background = made.latents
    inside = seen(foreground)[:, None]
    mask = functional.interpolate(made.masks.mean(0)[:, None], size=(SIDE, SIDE)).expand(-1, 3, -1, -1) * 2 - 1
    rows = [foreground, mask, background, blend, inside * foreground + (1 - inside) * background]
    pixels = torch.cat([torch.cat(list(row), 2) for row in rows], 1).mul(127.5).add(127.5).round().byte()
    return encode_png(np.ascontiguousarray(pixels.permute(1, 2, 0).numpy().repeat(zoom, 0).repeat(zoom, 1)))


# ---- tables


class Scores(NamedTuple):
    """Of one seed: tables as row, column, value."""

    masks: dict[str, Row]
    decisions: dict[str, Row]
    pictures: dict[str, Row]


def scores(seed: int, out: Path, steps: int, own_steps: int) -> Scores:
    """Train a pair that is not there yet, and measure it; its strips lie beside it."""
    torch.set_num_threads(1)
    pair = trained(seed, out, steps, own_steps)
    # Scenes of no seed's training: rendered of seeds of their own.
    masks, decisions = mask_scores(pair, scenes(range(10_000_000, 10_000_000 + HELD_OUT)))
    for sharing in SHARINGS:
        (out / f"strip-{seed}-{sharing}.png").write_bytes(strip(pair, FusionOptions(sharing=sharing)))
    return Scores(masks, decisions, picture_scores(pair))


def table(rows: Sequence[dict[str, Row]]) -> str:
    """Means and deviations over seeds, as Markdown."""
    columns = list(next(iter(rows[0].values())))
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    for name in rows[0]:
        found = np.array([[row[name][column] for column in columns] for row in rows])
        cells = [f"{mean:.3g} ± {sd:.2g}" for mean, sd in zip(found.mean(0), found.std(0), strict=True)]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    """Train, measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/layerfusion-masks"))
    parser.add_argument("--steps", type=int, default=800)
    parser.add_argument("--own-steps", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(given.jobs, mp_context=get_context("spawn")) as pool:
        asked = [pool.submit(scores, seed, given.out, given.steps, given.own_steps) for seed in range(given.seeds)]
        found = [one.result() for one in asked]
    for part in zip(*found, strict=True):
        print(table(part), end="\n\n")


if __name__ == "__main__":
    main()
