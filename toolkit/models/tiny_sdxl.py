"""An SDXL of a few thousand random weights with LayerDiffuse's files for it, in the layout of ``--weights``.

It runs every line that the published weights run, in seconds on a CPU; its pictures are noise, and its record says so
by the hash in place of a revision. For trying commands before a download of 16 GB, and for tests.
"""

from pathlib import Path
from typing import Any

from ...manifests.weights import WEIGHTS
from .tiny_text import tiny_text_config, tiny_tokenizer

_ATTENTION, _ENCODER, _DECODER = WEIGHTS["layerdiffuse-sdxl"].files
_WIDTHS = (8,) * 4  # of the VAE, which halves three times: sides of pictures are multiples of 8 px

_UNET: dict[str, Any] = {
    "sample_size": 16,
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
    "attention_head_dim": (2, 4),
    "use_linear_projection": True,
    "addition_embed_type": "text_time",
    "addition_time_embed_dim": 4,
    "projection_class_embeddings_input_dim": 6 * 4 + 8,
    "cross_attention_dim": 16,
    "norm_num_groups": 4,
}
_VAE: dict[str, Any] = {
    "block_out_channels": _WIDTHS,
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "latent_channels": 4,
    "norm_num_groups": 4,
    "scaling_factor": 0.13025,
}
_SAMPLER: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "timestep_spacing": "leading",
    "steps_offset": 1,
}


def write_tiny_sdxl(folder: Path) -> Path:
    """Write the weights, always the same; return ``folder``, for ``--weights``.

    It holds ``layerdiffuse-sdxl-base`` and ``layerdiffuse-sdxl``. Sides of pictures must be multiples of 8 px.
    """
    import diffusers
    import torch
    import transformers

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        kinds: Any = diffusers
        unet = kinds.UNet2DConditionModel(**_UNET)
        texts = tiny_text_config()
        kinds.StableDiffusionXLPipeline(
            vae=kinds.AutoencoderKL(**_VAE),
            text_encoder=transformers.CLIPTextModel(texts),
            text_encoder_2=transformers.CLIPTextModelWithProjection(texts),
            tokenizer=tiny_tokenizer(folder / "vocabulary" / "1"),
            tokenizer_2=tiny_tokenizer(folder / "vocabulary" / "2"),
            unet=unet,
            scheduler=kinds.EulerDiscreteScheduler(**_SAMPLER),
        ).save_pretrained(folder / "layerdiffuse-sdxl-base", safe_serialization=True)
        _write_layers(folder / "layerdiffuse-sdxl", unet)
    return folder


def _write_layers(folder: Path, unet: Any) -> None:
    """LayerDiffuse's three files for the network."""
    import torch
    from safetensors.torch import save_file

    from .transparent_vae import TransparentDecoder, TransparentEncoder

    folder.mkdir()
    attention = {name: value for name, value in unet.state_dict().items() if ".attn" in name}
    save_file({name: torch.randn_like(value).half() for name, value in attention.items()}, folder / _ATTENTION)
    decoder = TransparentDecoder(_WIDTHS)
    torch.nn.init.normal_(decoder.latent_conv_in.weight)
    torch.nn.init.normal_(decoder.conv_out.weight)
    save_file(decoder.state_dict(), folder / _DECODER)
    save_file(TransparentEncoder(_WIDTHS).state_dict(), folder / _ENCODER)
