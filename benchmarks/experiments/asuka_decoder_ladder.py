"""What the rungs of ASUKA's decoder do to the seam: plain, with the branch, with colours that are off, with x̂0.

A small autoencoder and inpainting UNet of rendered scenes (see ``inpainting_base``) take Stable Diffusion's place;
each rung of ``asuka-decoder``, by its preset ``small``, is trained on it with several seeds. Held-out grounds with a
hole are then decoded from three latents: their own; their own with other colours in the hole; and what the UNet paints,
told that it is ground. Printed are ASUKA's edge gradient (levels, less is better) and the PSNR in the hole (dB), both
after the paste-back, and how far the decoders are from the picture outside the hole without it.

    python benchmarks/experiments/asuka_decoder_ladder.py --out FOLDER

At another size, on a GPU: ``--side 128 --device cuda``. Runs that are there already are not trained again.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from inpainting_base import GROUND, SIDE, base, holes, rendered
from layerfusion_pair import Scenes
from numpy.typing import NDArray
from torch import Tensor, nn

from layerkit.pipelines.training.config import TrainConfig, load
from layerkit.toolkit.images import encode_png
from layerkit.toolkit.metrics.pixels import psnr
from layerkit.toolkit.metrics.seams import edge_gradient
from layerkit.toolkit.models.asuka_decoder import AsukaDecoderTraining, build, resolve
from layerkit.toolkit.models.asuka_decoder_network import AsukaDecoder
from layerkit.toolkit.models.asuka_decoder_views import Colour, off_colour
from layerkit.toolkit.models.registry import parse_options
from layerkit.toolkit.models.runs import WEIGHTS
from layerkit.toolkit.models.sd_inpaint import SdInpaint, encode, load_sd_inpaint, sample, seen
from layerkit.toolkit.models.system import Origin, Triplets
from layerkit.toolkit.models.text_encoders import TextOptions, load_text_encoder
from layerkit.toolkit.pictures import sheet

U8 = NDArray[np.uint8]
RUNGS = ("plain", "condition", "colour", "latent")
LATENTS = ("own", "off", "painted")
SCENES, TRAINED, HELD_OUT = 2000, 50_000_000, 60_000_000  # number and seeds of scenes that the base has not seen
_SHOWN, _PANEL, _SAMPLER = 8, 160, 50


class Cases(NamedTuple):
    """Held-out grounds (N, 3, H, W) in 0..1, their holes (N, 1, H, W), and the latents that stand for them, by name."""

    pictures: Tensor
    masks: Tensor
    latents: Mapping[str, Tensor]


def main() -> None:
    """Make the base, train the rungs, score, print the tables and write the strips."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=None, help="of a rung; the preset's by default")
    parser.add_argument("--base", type=Path, default=None, help="pipeline folder; a small one is trained by default")
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--device", default="cpu")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    folder = given.base or base(given.out, side=given.side)
    found = based(folder, given.device)
    cases = held_out(found, given.side, given.cases, given.device)
    data = rendered(SCENES, given.side, TRAINED)
    made: dict[str, list[AsukaDecoder]] = {"base": [AsukaDecoder(found.vae, condition=False)]}
    for rung in RUNGS:
        config = load("asuka-decoder", ("small", rung), base=str(folder), steps=given.steps)
        runs = {seed: given.out / f"{folder.name}-{rung}-{seed}-{config.steps}" for seed in range(given.seeds)}
        made[rung] = [trained(config, data, run, seed, given.device) for seed, run in runs.items()]
    report(made, cases, given.out)


# ---- cases


def based(folder: Path, device: str) -> SdInpaint:
    """The base, frozen, on a device."""
    found = load_sd_inpaint(Origin(base=str(folder)), torch.float32)
    for part in (found.unet, found.vae):
        part.requires_grad_(False).eval().to(device)
    return found


@torch.no_grad()
def held_out(found: SdInpaint, side: int, count: int, device: str) -> Cases:
    """Grounds, each with a hole in an object's shape, an ellipse or a box."""
    draws = torch.Generator().manual_seed(0)
    scenes = rendered(2 * count, side, HELD_OUT)
    masks = holes(scenes.alpha, draws)[:count]
    pictures = (scenes.background[: len(masks)] + 1) / 2
    off = off_colour(pictures, masks, Colour(probability=1.0), draws)
    pictures, masks, off = (one.to(device) for one in (pictures, masks, off))
    own = encode(found.vae, pictures)
    told = load_text_encoder(TextOptions(), str(found.folder))([GROUND]).to(device).expand(len(own), -1, -1)
    noise = torch.randn(own.shape, generator=draws).to(device)
    painted = sample(found, seen(found.vae, pictures, masks), told, noise, steps=_SAMPLER)
    return Cases(pictures, masks, {"own": own, "off": encode(found.vae, off), "painted": painted})


# ---- training


def trained(config: TrainConfig, data: Scenes, run: Path, seed: int, device: str) -> AsukaDecoder:
    """The decoder of a rung; trained, by the recipe's steps, batch and rate, if it is not there."""
    torch.manual_seed(seed)
    origin = Origin(base=config.base)
    system = build(resolve(parse_options(config.system, config.model), origin), origin).to(device)
    if (run / WEIGHTS).is_file():
        system.restore(run)
    else:
        fit(system, config, data, seed, device)
        run.mkdir(parents=True, exist_ok=True)
        system.save(run)
    return system.decoder.requires_grad_(False).eval()


def fit(system: AsukaDecoderTraining, config: TrainConfig, data: Scenes, seed: int, device: str) -> None:
    """AdamW at the recipe's rate; pictures with the object and without, as often."""
    parameters, draws = list(system.trained().values()), torch.Generator().manual_seed(seed)
    optimiser = torch.optim.AdamW(parameters, lr=config.lr, betas=config.betas, weight_decay=config.weight_decay)
    for step in range(config.steps):
        for group in optimiser.param_groups:
            group["lr"] = config.rate(step)
        optimiser.zero_grad()
        system(batch_of(data, config.batch, draws, device), draws, step)["loss"].backward()
        nn.utils.clip_grad_norm_(parameters, config.clip)
        optimiser.step()


def batch_of(data: Scenes, count: int, draws: torch.Generator, device: str) -> Triplets:
    """Pictures in 0..1 that are trained on in the place of backgrounds, and holes."""
    some = torch.randint(0, len(data.kind), (count,), generator=draws)
    bare = torch.rand(count, 1, 1, 1, generator=draws) < 0.5
    pictures = ((torch.where(bare, data.background[some], data.image[some]) + 1) / 2).to(device)
    masks = holes(data.alpha[some], draws).to(device)
    known = torch.zeros(count, dtype=torch.bool, device=device)
    return Triplets(
        image=pictures,
        foreground=torch.cat([pictures, masks], 1),
        background=pictures,
        mask=masks,
        has_foreground=known,
    )


# ---- scores


@torch.no_grad()
def report(made: Mapping[str, Sequence[AsukaDecoder]], cases: Cases, out: Path) -> None:
    """Print both tables and write a sheet of each kind of latent."""
    pictures, masks = levels(cases.pictures), levels(cases.masks)[..., 0] > 0
    columns = [f"{name}, {what}" for name in LATENTS for what in ("seam", "PSNR in the hole")]
    print(f"| | {' | '.join(columns)} |\n|---|{'---|' * len(columns)}")
    shown: dict[str, list[U8]] = {name: [] for name in LATENTS}
    for rung, decoders in made.items():
        of_seeds = [decoded(decoder, cases) for decoder in decoders]
        print(row(rung, [[x for name in LATENTS for x in scores(one[name], pictures, masks)] for one in of_seeds]))
        for name in LATENTS:
            shown[name].append(of_seeds[0][name][:_SHOWN])
    print("\n| outside the hole, not pasted | mean error, levels | within half a level | largest |\n|---|---|---|---|")
    for rung, decoders in made.items():
        print(row(rung, [outside(one, cases) for one in decoders]))
    for name, strips in shown.items():
        (out / f"ladder-{name}.png").write_bytes(encode_png(strip(pictures, masks, strips, ["truth", "hole", *made])))


def decoded(decoder: AsukaDecoder, cases: Cases) -> dict[str, U8]:
    """What a decoder makes of each kind of latent, pasted back."""
    return {name: levels(decoder(cases.latents[name], cases.pictures, cases.masks)) for name in LATENTS}


def strip(pictures: U8, masks: NDArray[np.bool_], strips: Sequence[U8], titles: Sequence[str]) -> U8:
    """Some cases, one a row: the picture, its hole, and what each rung made of it."""
    holed = np.where(masks[:_SHOWN, ..., None], np.uint8(128), pictures[:_SHOWN])
    panels = zip(pictures[:_SHOWN], holed, *strips, strict=True)
    return sheet(titles, [("", [enlarged(one) for one in panel]) for panel in panels], _PANEL)


def row(rung: str, of_seeds: Sequence[Sequence[float]]) -> str:
    """A line of a table: means and standard deviations over the seeds."""
    return f"| {rung} | {' | '.join(told(column) for column in np.array(of_seeds).T)} |"


def scores(decoded: U8, pictures: U8, masks: NDArray[np.bool_]) -> tuple[float, float]:
    """Means over the cases: the edge gradient, which pastes back by itself, and the PSNR in the hole."""
    each = zip(decoded, pictures, masks, strict=True)
    found = [(edge_gradient(one, true, mask), psnr(one, true, mask)) for one, true, mask in each]
    seam, hole = np.nanmean(np.array(found), axis=0)
    return float(seam), float(hole)


def outside(decoder: AsukaDecoder, cases: Cases) -> tuple[float, float, float]:
    """Of the network's own unmasked pixels, from the own latent: mean error, share within half a level, the largest."""
    given = decoder(cases.latents["own"], cases.pictures, cases.masks, paste=False).clamp(0, 1)
    error = 255 * (given - cases.pictures).abs()[(cases.masks == 0).expand_as(given)]
    return float(error.mean()), float((error <= 0.5).float().mean()), float(error.max())


def told(values: NDArray[np.float64]) -> str:
    """Mean and standard deviation over the seeds."""
    return f"{values.mean():.3g}" + (f" ± {values.std():.2g}" if len(values) > 1 else "")


def levels(pictures: Tensor) -> U8:
    """(N, C, H, W) in 0..1 as 8-bit (N, H, W, C)."""
    found: U8 = (255 * pictures.clamp(0, 1)).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    return np.ascontiguousarray(found)


def enlarged(picture: U8) -> U8:
    """By whole pixels, so that a seam is not smoothed away."""
    times = max(1, _PANEL // len(picture))
    return picture.repeat(times, 0).repeat(times, 1)


if __name__ == "__main__":
    main()
