"""FLUX.1-Fill as a base: where it lies, what it is made of, and how it lays out its input.

A base is a ``FluxFillPipeline`` folder of diffusers, which is read and never downloaded. Of the published one the sizes
are known here, so that it can be counted on torch's meta device without its weights.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxFillPipeline, FluxTransformer2DModel
from torch import Tensor
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from ...manifests.errors import UsageError
from ..diffusers_folders import load_part
from .bases import DEBUG, factor_of, find_base, networks
from .system import Origin

Text = Literal["empty", "zeros"]

PUBLISHED = "black-forest-labs/FLUX.1-Fill-dev"
CONFIGS: dict[str, dict[str, dict[str, Any]]] = {
    PUBLISHED: {
        "transformer": {
            "patch_size": 1,
            "in_channels": 384,
            "out_channels": 64,
            "num_layers": 19,
            "num_single_layers": 38,
            "attention_head_dim": 128,
            "num_attention_heads": 24,
            "joint_attention_dim": 4096,
            "pooled_projection_dim": 768,
            "guidance_embeds": True,
            "axes_dims_rope": (16, 56, 56),
        },
        "vae": {
            "in_channels": 3,
            "out_channels": 3,
            "down_block_types": ("DownEncoderBlock2D",) * 4,
            "up_block_types": ("UpDecoderBlock2D",) * 4,
            "block_out_channels": (128, 256, 512, 512),
            "layers_per_block": 2,
            "latent_channels": 16,
            "norm_num_groups": 32,
            "sample_size": 1024,
            "scaling_factor": 0.3611,
            "shift_factor": 0.1159,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        },
    },
    DEBUG: {
        "transformer": {
            "in_channels": 48,
            "out_channels": 16,
            "num_layers": 1,
            "num_single_layers": 1,
            "attention_head_dim": 16,
            "num_attention_heads": 4,
            "joint_attention_dim": 32,
            "pooled_projection_dim": 32,
            "guidance_embeds": True,
            "axes_dims_rope": (4, 4, 8),
        },
        "vae": {
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            "block_out_channels": (8, 16),
            "latent_channels": 4,
            "norm_num_groups": 4,
            "scaling_factor": 1.5,
            "shift_factor": 0.06,
            "use_quant_conv": False,
            "use_post_quant_conv": False,
        },
    },
}
"""Sizes of the transformer and the VAE of bases that are known here: the published one, and a tiny one for a CPU."""

_PIPELINE = "FluxFillPipeline"
_KINDS: dict[str, Any] = {"transformer": FluxTransformer2DModel, "vae": AutoencoderKL}


# ---- the base


@dataclass(frozen=True, kw_only=True)
class FluxFill:
    """A base.

    Attributes:
        transformer: a ``FluxTransformer2DModel`` that takes noisy latents, masked latents and a mask.
        vae: an ``AutoencoderKL`` of RGB.
        prompt: what stands for the text, (1, L, joint_attention_dim).
        pooled: the same in one vector, (1, pooled_projection_dim).
    """

    transformer: Any
    vae: Any
    prompt: Tensor
    pooled: Tensor


def load_flux_fill(origin: Origin, dtype: torch.dtype, text: Text = "empty", text_tokens: int = 512) -> FluxFill:
    """Read a base; on the meta device its sizes alone.

    Args:
        origin: ``base`` is a pipeline folder, a name in the weights table (``flux-fill``) or a repository in the hub
            cache. With ``meta`` it may be empty, or not be here, for the published base. ``debug`` is a tiny one of
            random weights, always the same, which needs no files and paints nothing that one would look at.
        dtype: of every weight.
        text: ``empty``: what the base's own CLIP and T5 make of the empty prompt, which then are dropped; ``zeros``:
            zeros of that shape, for bases without text encoders.
        text_tokens: length of ``prompt``; FluxFillPipeline takes 512.

    Raises:
        UsageError: no base is given, it is not one of FLUX-Fill, or it has no text encoders for ``empty``.
        MissingWeights: it is not on this machine, or not completely.
    """
    folder = find_base(origin, _PIPELINE, CONFIGS)
    if text == "empty" and not origin.meta and not _has_encoders(folder):
        raise UsageError(f'the base {origin.base} has no text encoders for text = "empty"; give text = "zeros"')
    transformer, vae = networks(folder, origin, _KINDS, CONFIGS, dtype)
    _require_layout(transformer, vae)
    shapes = (1, text_tokens, transformer.config.joint_attention_dim), (1, transformer.config.pooled_projection_dim)
    prompt, pooled = (torch.zeros(shape, dtype=dtype, device=transformer.device) for shape in shapes)
    if folder is not None and text == "empty" and not origin.meta:
        prompt, pooled = _empty_prompt(folder, dtype, text_tokens)
    return FluxFill(transformer=transformer, vae=vae, prompt=prompt, pooled=pooled)


def save_debug(folder: Path) -> None:
    """Write the base ``debug`` to a folder, as diffusers saves a FluxFillPipeline: to try ``--base DIR`` with."""
    parts = dict.fromkeys(("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    kinds: tuple[Any, Any] = (FluxFillPipeline, FlowMatchEulerDiscreteScheduler)  # which have no types
    transformer, vae = networks(None, Origin(base=DEBUG), _KINDS, CONFIGS, torch.float32)
    scheduler = kinds[1](use_dynamic_shifting=True)
    kinds[0](scheduler=scheduler, vae=vae, transformer=transformer, **parts).save_pretrained(folder)


def _require_layout(transformer: Any, vae: Any) -> None:
    channels, wanted = transformer.config.in_channels, input_channels(vae)
    if channels != wanted or transformer.out_channels != 4 * vae.config.latent_channels:
        raise UsageError(
            f"expected a transformer of {wanted} channels in (noise, masked picture, mask) for a VAE of "
            f"{vae.config.latent_channels} channels at 1/{factor_of(vae)}, got {channels}; give a base that fills"
        )


def _has_encoders(folder: Path | None) -> bool:
    if folder is None:
        return False
    index = json.loads((folder / "model_index.json").read_text(encoding="utf-8"))
    return all(index.get(name, [None])[0] is not None for name in ("text_encoder", "text_encoder_2"))


def _empty_prompt(folder: Path, dtype: torch.dtype, length: int) -> tuple[Tensor, Tensor]:
    pipeline = load_part(_PIPELINE, folder, dtype=dtype, **dict.fromkeys((*_KINDS, "scheduler")))
    with torch.no_grad():
        prompt, pooled, _ = pipeline.encode_prompt("", "", max_sequence_length=length)
    return prompt, pooled


# ---- its layout


def input_channels(vae: Any) -> int:
    """Channels of a token: noisy latent, masked picture's latent, mask at full resolution; a token is 2 × 2 latents."""
    return 8 * int(vae.config.latent_channels) + 4 * factor_of(vae) ** 2


def pack(latents: Tensor) -> Tensor:
    """Cut maps (B, C, h, w) into tokens of 2 × 2, (B, h/2 · w/2, 4C), row by row."""
    return pixel_unshuffle(latents, 2).flatten(2).transpose(1, 2)


def unpack(tokens: Tensor, height: int, width: int) -> Tensor:
    """Put tokens back to maps of ``height`` × ``width``, the inverse of :func:`pack`."""
    return pixel_shuffle(tokens.transpose(1, 2).reshape(len(tokens), -1, height // 2, width // 2), 2)


def pack_mask(mask: Tensor, factor: int) -> Tensor:
    """Tokens (B, h/2 · w/2, 4 · factor²) of a mask (B, 1, H, W) that keeps its pixels: H = factor · h."""
    return pack(pixel_unshuffle(mask, factor))


def positions(height: int, width: int, stream: int, device: torch.device) -> Tensor:
    """Token places for the rotary embedding, (height · width, 3): stream, row and column, of a grid of tokens."""
    rows, columns = torch.arange(height, device=device), torch.arange(width, device=device)
    grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), -1).reshape(-1, 2)
    return torch.cat([torch.full_like(grid[:, :1], stream), grid], 1).float()


def velocities(
    transformer: Any,
    sequence: Tensor,
    places: Tensor,
    prompt: Tensor,
    pooled: Tensor,
    levels: Tensor,
    guidance: float,
) -> Tensor:
    """What a base's transformer predicts of tokens, (B, N, 4C): the velocity, noise minus clean latent.

    Args:
        transformer: of the base.
        sequence: (B, N, channels), noisy latent, masked picture and mask of every token.
        places: of the tokens, (N, 3); see :func:`positions`.
        prompt: what stands for the text, (B or 1, L, joint_attention_dim).
        pooled: the same in one vector, (B or 1, pooled_projection_dim).
        levels: (B,), of noise, 0..1.
        guidance: what a base distilled by guidance is told; others are not.
    """
    count, guided = len(sequence), transformer.config.guidance_embeds
    velocity: Tensor = transformer(
        hidden_states=sequence,
        encoder_hidden_states=prompt.expand(count, -1, -1),
        pooled_projections=pooled.expand(count, -1),
        timestep=levels,
        img_ids=places,
        txt_ids=places.new_zeros(prompt.shape[1], 3),
        guidance=levels.new_full((count,), guidance) if guided else None,
        return_dict=False,
    )[0]
    return velocity


def dynamic_shift(tokens: int) -> float:
    """How the base moves noise levels up with a picture's size, mu: 0.5 at 256 tokens, 1.15 at 4,096, on a line."""
    return 0.5 + (1.15 - 0.5) * (tokens - 256) / (4096 - 256)


def shifted(levels: Tensor, mu: float) -> Tensor:
    """Noise levels in 0..1 moved by mu: e^mu s / (1 + (e^mu - 1) s)."""
    return math.exp(mu) * levels / (1 + (math.exp(mu) - 1) * levels)
