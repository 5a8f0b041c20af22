"""What Stable Diffusion's inpainting is to SEELE and ASUKA, small: an autoencoder and a UNet of rendered scenes.

Scenes of one object each, 4 x 4 pixels for a latent's place. The UNet learns to fill holes around the object, in its
shape elsewhere, and anywhere, told by a text what the hole holds: the object's kind, or the ground; one text of five is
left out. So without a text it paints an object into a hole of an object's shape as often as it has seen one there, as
the published networks do. It is written as a StableDiffusionInpaintPipeline, for ``--base``.

    python benchmarks/experiments/inpainting_base.py --out out/inpainting-base
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from layerfusion_pair import KINDS, Scenes, scenes, train
from torch import Tensor
from torch.nn import functional

from layerkit.toolkit.models.sd_inpaint import encode, seen
from layerkit.toolkit.models.tiny_text import tiny_text_config, tiny_tokenizer

SIDE, BATCH, WIDTH, TRAINED = 48, 16, 64, 6000
GROUND = "ground"

_DROPPED = 0.2
_CHUNK = 500  # scenes that are rendered at a time


# ---- data


def rendered(count: int, side: int, first: int = 0) -> Scenes:
    """Scenes of ``count`` seeds from ``first`` on, of which those without an object of a fair size are left out."""
    parts = [scenes(range(at, min(at + _CHUNK, first + count)), side) for at in range(first, first + count, _CHUNK)]
    return Scenes(*(torch.cat(each) for each in zip(*parts, strict=True)))


def holes(alpha: Tensor, draws: torch.Generator) -> Tensor:
    """Holes (B, 1, H, W), a third each: around the own object, in another's shape, an ellipse or a box."""
    others = alpha.roll(1, 0)
    kind = torch.randint(0, 3, (len(alpha), 1, 1, 1), generator=draws)
    shape = torch.where(
        kind == 0, _grown(alpha, draws), torch.where(kind == 1, _grown(others, draws), _blobs(alpha, draws))
    )
    return (shape > 0.5).float()


def _grown(alpha: Tensor, draws: torch.Generator) -> Tensor:
    """Masks grown by up to a sixteenth of the side, all of a batch by as much."""
    most = alpha.shape[-1] // 16
    radius = int(torch.randint(0, most + 1, (), generator=draws))
    return functional.max_pool2d(alpha, 2 * radius + 1, 1, radius)


def _blobs(like: Tensor, draws: torch.Generator) -> Tensor:
    """Ellipses, and boxes as often, of 0.2 to 0.6 of the side."""
    count, _, height, width = like.shape
    y, x = torch.linspace(0, 1, height)[:, None], torch.linspace(0, 1, width)
    middle, extent, corner = (torch.rand(count, 2, 1, 1, generator=draws) for _ in range(3))
    extent = 0.1 + 0.2 * extent
    down, across = (y - middle[:, 0]).abs() / extent[:, 0], (x - middle[:, 1]).abs() / extent[:, 1]
    inside = torch.where(corner[:, 0] < 0.5, down.square() + across.square(), torch.maximum(down, across)) < 1
    return inside[:, None].float()


def told(kind: Tensor, alpha: Tensor, hole: Tensor) -> list[str]:
    """What the holes hold: a kind where most of the object lies in one, the ground where nothing of it does."""
    covered = (alpha * hole).sum((1, 2, 3)) / alpha.sum((1, 2, 3))
    names = [KINDS[one] for one in kind.tolist()]
    return [
        name if share > 0.5 else GROUND if share < 0.02 else ""
        for name, share in zip(names, covered.tolist(), strict=True)
    ]


# ---- networks


def autoencoder() -> Any:
    """An ``AutoencoderKL`` of RGB, 4 channels at a quarter of the sides."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        block_out_channels=(16, 32, 64),
        latent_channels=4,
        norm_num_groups=8,
        mid_block_add_attention=False,
        sample_size=SIDE,
    )


def network() -> Any:
    """A ``UNet2DConditionModel`` of nine channels."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=SIDE // 4,
        in_channels=9,
        out_channels=4,
        block_out_channels=(48, 96),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=4,  # heads, as diffusers reads it
        cross_attention_dim=WIDTH,
        norm_num_groups=8,
    )


def noises() -> Any:
    """Stable Diffusion's noise levels, sampled by DDIM."""
    from diffusers import DDIMScheduler

    levels = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
    return DDIMScheduler(**levels, clip_sample=False, set_alpha_to_one=False, steps_offset=1)


# ---- training


def train_autoencoder(vae: Any, data: Scenes, steps: int) -> None:
    """Absolute error of crops of half the side, with and without the object; the latent's scale is measured after."""

    def loss(draws: torch.Generator) -> Tensor:
        some = torch.randint(0, len(data.kind), (BATCH,), generator=draws)
        bare = torch.rand(BATCH, 1, 1, 1, generator=draws) < 0.3
        pictures = _cropped(torch.where(bare, data.background[some], data.image[some]), draws)
        latent = vae.encode(pictures).latent_dist
        drawn = latent.mean + latent.std * torch.randn(latent.mean.shape, generator=draws)
        return (vae.decode(drawn).sample - pictures).abs().mean() + 1e-6 * latent.kl().mean()

    train(list(vae.parameters()), loss, steps, 2e-3)
    vae.requires_grad_(False).eval()
    with torch.no_grad():
        vae.register_to_config(scaling_factor=1 / float(vae.encode(data.image[:256]).latent_dist.mean.std()))


def _cropped(pictures: Tensor, draws: torch.Generator) -> Tensor:
    """One window of half the side, the same for a batch."""
    side = pictures.shape[-1] // 2
    top, left = torch.randint(0, side + 1, (2,), generator=draws).tolist()
    return pictures[..., top : top + side, left : left + side]


def train_network(unet: Any, text: Any, tokenizer: Any, vae: Any, data: Scenes, steps: int) -> None:
    """The noise of the latent, by Eq. 1 of any inpainting network, with the text encoder learnt beside it."""
    levels = noises()

    def loss(draws: torch.Generator) -> Tensor:
        some = torch.randint(0, len(data.kind), (BATCH,), generator=draws)
        image, alpha = (data.image[some] + 1) / 2, data.alpha[some]
        hole = holes(alpha, draws)
        kept = (torch.rand(BATCH, generator=draws) >= _DROPPED).tolist()
        texts = [words * keep for words, keep in zip(told(data.kind[some], alpha, hole), kept, strict=True)]
        with torch.no_grad():
            clean, view = encode(vae, image), seen(vae, image, hole)
        noise = torch.randn(clean.shape, generator=draws)
        times = torch.randint(0, levels.config.num_train_timesteps, (BATCH,), generator=draws)
        shown = torch.cat([levels.add_noise(clean, noise, times), view], 1)
        return functional.mse_loss(unet(shown, times, states(text, tokenizer, texts)).sample, noise)

    train([*unet.parameters(), *text.parameters()], loss, steps, 1e-3)


def states(text: Any, tokenizer: Any, texts: list[str]) -> Tensor:
    """What the UNet attends to, (B, 16, width)."""
    ids = tokenizer(texts, padding="max_length", truncation=True, return_tensors="pt").input_ids
    found: Tensor = text(ids).last_hidden_state
    return found


def base(out: Path, *, side: int = SIDE, seed: int = 0, vae_steps: int = 3000, steps: int = 6000) -> Path:
    """The pipeline's folder below ``out``; trained if it is not there."""
    from diffusers import StableDiffusionInpaintPipeline
    from transformers import CLIPTextModel

    folder = out / f"inpainting-{side}-{seed}-{vae_steps}-{steps}"
    if (folder / "model_index.json").is_file():
        return folder
    torch.manual_seed(seed)
    data = rendered(TRAINED, side, seed * 100_000)
    vae, unet, text = autoencoder(), network(), CLIPTextModel(tiny_text_config(WIDTH))
    tokenizer = tiny_tokenizer(out / f"vocabulary-{side}-{seed}-{vae_steps}-{steps}")
    train_autoencoder(vae, data, vae_steps)
    train_network(unet, text, tokenizer, vae, data, steps)
    parts = {"unet": unet, "vae": vae, "text_encoder": text, "tokenizer": tokenizer, "scheduler": noises()}
    none = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    StableDiffusionInpaintPipeline(**parts, **none).save_pretrained(folder)
    return folder


def main() -> None:
    """Train, and say where it is."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/inpainting-base"))
    parser.add_argument("--side", type=int, default=SIDE)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vae-steps", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=6000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(base(given.out, side=given.side, seed=given.seed, vae_steps=given.vae_steps, steps=given.steps))


if __name__ == "__main__":
    main()
