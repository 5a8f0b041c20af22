"""Inpainting by Stable Diffusion as a base: where it lies, what its UNet sees, and how it samples.

A base is a ``StableDiffusionInpaintPipeline`` folder of diffusers. Its UNet takes nine channels: the noisy latent, the
mask at the latent's size, and the latent of the picture without what is masked.

Pictures are (N, 3, H, W) in 0..1, masks (N, 1, H, W), 1 where it is to paint; latents (N, C, h, w) have about unit
variance.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionInpaintPipeline, UNet2DConditionModel
from torch import Tensor
from torch.nn.functional import interpolate

from ...manifests.errors import MissingWeights, UsageError
from . import rgba_vae
from .bases import DEBUG, factor_of, find_base, networks
from .system import Origin

SD2, SD15 = "sd2-community/stable-diffusion-2-inpainting", "stable-diffusion-v1-5/stable-diffusion-inpainting"
_VAE: dict[str, Any] = rgba_vae.PRESETS["sd"]
_UNET: dict[str, Any] = {
    "sample_size": 64,
    "in_channels": 9,
    "out_channels": 4,
    "block_out_channels": (320, 640, 1280, 1280),
    "layers_per_block": 2,
}
_LEVELS: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "steps_offset": 1,
}
_TINY_WIDTH = 16  # of the debug base's text

CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    SD2: {
        "unet": {
            **_UNET,
            "cross_attention_dim": 1024,
            "attention_head_dim": (5, 10, 20, 20),
            "use_linear_projection": True,
        },
        "vae": _VAE,
    },
    SD15: {"unet": {**_UNET, "cross_attention_dim": 768, "attention_head_dim": 8}, "vae": _VAE},
    DEBUG: {
        "unet": {
            "sample_size": 16,
            "in_channels": 9,
            "out_channels": 4,
            "block_out_channels": (16, 32),
            "layers_per_block": 1,
            "down_block_types": ("CrossAttnDownBlock2D",) * 2,
            "up_block_types": ("CrossAttnUpBlock2D",) * 2,
            "attention_head_dim": 4,
            "cross_attention_dim": _TINY_WIDTH,
            "norm_num_groups": 8,
        },
        "vae": {
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "block_out_channels": (8, 16),
            "latent_channels": 4,
            "norm_num_groups": 4,
            "scaling_factor": 1.5,
        },
    },
}
"""Sizes of the UNet and the VAE of bases that are known here: the published ones, and a tiny one for a CPU."""

_PIPELINE = "StableDiffusionInpaintPipeline"
_KINDS: dict[str, Any] = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}


# ---- the base


@dataclass(frozen=True, kw_only=True)
class SdInpaint:
    """A base.

    Attributes:
        unet: a ``UNet2DConditionModel`` that takes :func:`seen` behind the noisy latent.
        vae: an ``AutoencoderKL`` of RGB.
        noise: a ``DDIMScheduler`` of the base's own noise levels and prediction type.
        folder: where it lies; None for one of random weights, or of sizes alone.
    """

    unet: Any
    vae: Any
    noise: Any
    folder: Path | None

    @property
    def width(self) -> int:
        """Channels of the sequence that the UNet attends to."""
        return int(self.unet.config.cross_attention_dim)

    @property
    def multiple(self) -> int:
        """What sides of pictures must be multiples of, px."""
        halvings: int = len(self.unet.config.block_out_channels) - 1
        return factor_of(self.vae) << halvings


def load_sd_inpaint(origin: Origin, dtype: torch.dtype) -> SdInpaint:
    """Read a base; on the meta device its sizes alone.

    Args:
        origin: ``base`` is a pipeline folder, a name in the weights table (``sd-inpaint``, ``sd15-inpaint``) or a
            repository in the hub cache. With ``meta`` it may be empty, or not be here, for the published bases.
            ``debug`` is a tiny one of random weights, always the same, which needs no files and paints noise.
        dtype: of every weight.

    Raises:
        UsageError: no base is given, or it is not one that inpaints by nine channels.
        MissingWeights: it is not on this machine, or not completely.
    """
    folder = find_base(origin, _PIPELINE, CONFIGS)
    unet, vae = networks(folder, origin, _KINDS, CONFIGS, dtype)
    _require_layout(unet, vae)
    return SdInpaint(unet=unet, vae=vae, noise=_noise(folder), folder=folder)


def save_debug(folder: Path) -> None:
    """Write the base ``debug`` to a folder, as diffusers saves the pipeline, with a tiny text encoder beside it."""
    from transformers import CLIPTextModel

    from .tiny_text import tiny_text_config, tiny_tokenizer

    unet, vae = networks(None, Origin(base=DEBUG), _KINDS, CONFIGS, torch.float32)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        text = CLIPTextModel(tiny_text_config(_TINY_WIDTH))
    pipeline: Any = StableDiffusionInpaintPipeline  # which has no types
    pipeline(
        unet=unet,
        vae=vae,
        scheduler=_noise(None),
        text_encoder=text,
        tokenizer=tiny_tokenizer(folder / "tokenizer"),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    ).save_pretrained(folder)


def _noise(folder: Path | None) -> Any:
    kind: Any = DDIMScheduler
    if folder is None:
        return kind(**_LEVELS)
    try:
        return kind.from_pretrained(folder / "scheduler", local_files_only=True)
    except OSError as error:
        raise MissingWeights(f"expected a scheduler's configuration in {folder / 'scheduler'}: {error}") from error


def _require_layout(unet: Any, vae: Any) -> None:
    latent = vae.config.latent_channels
    if unet.config.in_channels != 2 * latent + 1 or unet.config.out_channels != latent:
        raise UsageError(
            f"expected a UNet of {2 * latent + 1} channels in (noise, mask, masked picture) and {latent} out, as its "
            f"VAE has {latent}, got {unet.config.in_channels} and {unet.config.out_channels}; give a base that inpaints"
        )


# ---- what it sees


def encode(vae: Any, pictures: Tensor) -> Tensor:
    """Latents of pictures: the mode, where the pipeline draws from the posterior."""
    return rgba_vae.encode(vae, 2 * pictures - 1)


def decode(vae: Any, latents: Tensor) -> Tensor:
    """Pictures of latents; nothing is cut off, so that a loss on pixels has a gradient everywhere."""
    return (rgba_vae.decode(vae, latents) + 1) / 2


def seen(vae: Any, image: Tensor, mask: Tensor, *, hidden: bool = True) -> Tensor:
    """What the UNet is shown beside the noisy latent, (N, 1 + C, h, w): the mask, by nearest pixels, and the picture.

    Args:
        vae: of the base.
        image: see the module.
        mask: see the module.
        hidden: whether the picture is grey, zero in -1..1, where the mask is 1; SEELE harmonises what is shown.
    """
    shown = 0.5 + (image - 0.5) * (1 - mask) if hidden else image
    latents = encode(vae, shown)
    return torch.cat([interpolate(mask, latents.shape[2:]).to(latents), latents], 1)


# ---- sampling


@torch.no_grad()
def sample(
    base: SdInpaint,
    view: Tensor,
    states: Tensor,
    noise: Tensor,
    *,
    steps: int,
    guidance: float = 1.0,
    other: Tensor | None = None,
) -> Tensor:
    """Latents that the base paints, by DDIM without noise of its own.

    Args:
        base: see :class:`SdInpaint`.
        view: of :func:`seen`.
        states: what it attends to, (N, L, width).
        noise: standard normal, (N, C, h, w).
        steps: of the sampler.
        guidance: scale of classifier-free guidance; 1 is none.
        other: what guidance steers away from, shaped as ``states``; needed where there is some.
    """
    attended = states if guidance == 1 or other is None else torch.cat([states, other])
    attended, copies = attended.to(base.unet.dtype), len(attended) // len(states)
    base.noise.set_timesteps(steps, device=noise.device)
    latents = noise
    for time in base.noise.timesteps:
        shown = torch.cat([latents, view], 1).repeat(copies, 1, 1, 1)
        made = base.unet(shown.to(base.unet.dtype), time, attended).sample.to(latents)
        if copies == 2:
            wanted, unwanted = made.chunk(2)
            made = unwanted + guidance * (wanted - unwanted)
        latents = base.noise.step(made, time, latents).prev_sample
    return latents


def pasted(filled: Tensor, image: Tensor, mask: Tensor) -> Tensor:
    """The filled picture in 0..1 where the mask is 1, the image elsewhere, to the bit."""
    return torch.where(mask > 0, filled.clamp(0, 1), image)
