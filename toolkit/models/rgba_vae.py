"""A VAE of RGBA pictures, made from one of RGB so that before any training the two are the same on opaque pictures.

The conversion is AlphaVAE's (arXiv 2507.09308): a fourth channel that begins blind in the encoder and opaque in the
decoder.

Pictures are (B, 4, H, W): red, green, blue and straight alpha in -1..1. The encoder sees colour times alpha about mid
grey, as LayerDiffuse (arXiv 2402.17113) feeds its VAE, where AlphaVAE feeds straight colour: so a colour that nobody
can see reaches neither the latent nor the loss, and needs no padding.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from ...manifests.errors import UsageError
from ..diffusers_folders import find_folder, load_part
from .tensor_files import check_tensors, read_tensors

# An AutoencoderKL: diffusers tells type checkers nothing of its attributes.
Vae = Any

PRESETS: dict[str, dict[str, Any]] = {
    "debug": {
        "block_out_channels": (16, 32),
        "down_block_types": ("DownEncoderBlock2D",) * 2,
        "up_block_types": ("UpDecoderBlock2D",) * 2,
        "latent_channels": 4,
        "norm_num_groups": 8,
        "mid_block_add_attention": False,
        "sample_size": 32,
        "scaling_factor": 1.0,
    },
    "sd": {
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "latent_channels": 4,
        "sample_size": 512,
        "scaling_factor": 0.18215,
    },
}
_WEIGHTS = "diffusion_pytorch_model.safetensors"
_WIDENED_IN = "encoder.conv_in.weight"
_WIDENED_OUT = ("decoder.conv_out.weight", "decoder.conv_out.bias")


# ---- the network


class _InputConv(nn.Conv2d):
    """Colour and alpha convolved apart, then added: a kernel for four channels rounds otherwise than one for three."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__(4, plain.out_channels, 3, padding=1, device="meta")
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, rgba: Tensor) -> Tensor:
        colour = nn.functional.conv2d(rgba[:, :3], self.weight[:, :3], self.bias, padding=1)
        return colour + nn.functional.conv2d(rgba[:, 3:], self.weight[:, 3:], padding=1)


class _OutputConv(nn.Conv2d):
    """Colour and alpha each by a convolution of its own, for the same reason."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__(plain.in_channels, 4, 3, padding=1, device="meta")
        self.weight, self.bias = plain.weight, plain.bias

    def forward(self, hidden: Tensor) -> Tensor:
        assert self.bias is not None
        parts = [
            nn.functional.conv2d(hidden, self.weight[rows], self.bias[rows], padding=1)
            for rows in (slice(3), slice(3, 4))
        ]
        return torch.cat(parts, 1)


def convert(vae: Vae) -> Vae:
    """Make an RGBA VAE that does on opaque pictures, bit for bit, what this RGB VAE does on their colour.

    The encoder's weights for alpha are zero; the decoder's alpha has zero weights and bias 1, which is opaque. Both
    get gradients. Configuration and tensor names are those of an ``AutoencoderKL`` with ``in_channels`` and
    ``out_channels`` 4: ``save_pretrained`` writes it, ``load`` reads it.

    Args:
        vae: any with 3 channels in and out; it is left as it is, and no memory is shared.

    Returns:
        A new VAE of the same dtype, on the same device, in the same mode.

    Raises:
        UsageError: the VAE is not one of RGB.
    """
    channels = (vae.config.in_channels, vae.config.out_channels)
    if channels != (3, 3):
        raise UsageError(
            f"expected a VAE with 3 channels in and out, got {channels[0]} and {channels[1]}; give the RGB"
        )
    tensors = {name: tensor.detach().clone() for name, tensor in vae.state_dict().items()}
    tensors[_WIDENED_IN] = nn.functional.pad(tensors[_WIDENED_IN], (0, 0, 0, 0, 0, 1))
    for name, start in zip(_WIDENED_OUT, (0.0, 1.0), strict=True):
        rows = tensors[name]
        tensors[name] = torch.cat([rows, torch.full_like(rows[:1], start)])
    return _filled(_empty({**vae.config, "in_channels": 4, "out_channels": 4}), tensors).train(vae.training)


def from_scratch(preset: str = "debug") -> Vae:
    """Build an untrained RGB VAE, to ``convert``; seeded by torch's global generator.

    ``debug`` has 4 latent channels at half the picture's sides and is meant for 32 to 64 px; ``sd`` has the sizes of
    Stable Diffusion's.

    Raises:
        UsageError: there is no such preset.
    """
    if preset not in PRESETS:
        raise UsageError(f"expected a VAE preset out of {', '.join(PRESETS)}, got {preset!r}")
    return AutoencoderKL(**PRESETS[preset])  # type: ignore[no-untyped-call]


def load(folder: Path) -> Vae:
    """Load an RGBA VAE that ``save_pretrained`` wrote: float32, on the CPU, in evaluation mode.

    Raises:
        UsageError: the folder holds no such VAE, or its tensors do not fit its configuration.
    """
    config = _read_config(folder / "config.json")
    vae = _empty(config)
    tensors = read_tensors(folder / _WEIGHTS)
    check_tensors(folder / _WEIGHTS, tensors, vae)
    return _filled(vae, tensors).eval()


def folder_of(run: Path) -> Path:
    """Where the VAE lies in a run of ``rgba-vae``; any other folder is taken for the VAE's own."""
    return run / "vae" if (run / "vae").is_dir() else run


def load_rgb(source: str) -> Vae:
    """Load the RGB VAE of a folder, or of a name in the hub cache: a VAE's own, or a pipeline's with one.

    Raises:
        UsageError: its configuration is not that of an RGB VAE.
        MissingWeights: it is not on this machine, or its safetensors are not complete.
    """
    vae = load_part("AutoencoderKL", folder_of(find_folder(source)))
    if (vae.config.in_channels, vae.config.out_channels) != (3, 3):
        raise UsageError(f"expected an AutoencoderKL of 3 channels, got {vae.config.in_channels} in {source}")
    return vae.eval()


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(
            f"expected the configuration of an RGBA VAE in {path}, which cannot be read ({error})"
        ) from error
    found = tuple(config.get(key) for key in ("_class_name", "in_channels", "out_channels"))
    if found != ("AutoencoderKL", 4, 4):
        raise UsageError(
            f"expected an AutoencoderKL with 4 channels in and 4 out, got {found[0]} with {found[1]} and {found[2]} "
            f"in {path}; make it from an RGB VAE with the recipe rgba-vae"
        )
    return config


def _empty(config: dict[str, Any]) -> Vae:
    """A VAE without memory, which draws no random numbers either."""
    # diffusers' own notes, of which one resets to its default what the VAE that it came from had by default
    config = {name: value for name, value in config.items() if not name.startswith("_")}
    with torch.device("meta"):
        return AutoencoderKL.from_config(config)  # type: ignore[no-untyped-call]


def _filled(vae: Vae, tensors: dict[str, Tensor]) -> Vae:
    vae.load_state_dict(tensors, assign=True)
    vae.encoder.conv_in = _InputConv(vae.encoder.conv_in)
    vae.decoder.conv_out = _OutputConv(vae.decoder.conv_out)
    return vae


# ---- pictures and latents


def encode(vae: Vae, pictures: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Encode pictures to latents, shifted and scaled as the VAE's configuration says.

    Args:
        vae: an RGBA VAE of ``convert``, or an RGB one.
        pictures: (B, C, H, W) with as many channels as the VAE takes: uint8, or floating in -1..1.
        generator: draws from the posterior; without one, the latent is its mode.

    Returns:
        float32 (B, c, h, w).

    Raises:
        UsageError: the pictures have another number of channels.
    """
    spread = posterior(vae, pictures)
    latent: Tensor = (spread.mode() if generator is None else spread.sample(generator)).float()
    return (latent - (vae.config.shift_factor or 0.0)) * float(vae.config.scaling_factor)


def decode(vae: Vae, latent: Tensor) -> Tensor:
    """Decode what ``encode`` gives; gradients reach the latent, also through a frozen VAE.

    Returns:
        float32 (B, C, H, W) about -1..1, not cut to it: a cut would end the gradient.
    """
    unscaled = latent / vae.config.scaling_factor + (vae.config.shift_factor or 0.0)
    pixels: Tensor = vae.decode(unscaled.to(vae.dtype)).sample
    return pixels.float()


def over(rgba: Tensor, background: Tensor | float) -> Tensor:
    """Composite (B, 4, H, W) in -1..1 over a background in -1..1 that broadcasts to (B, 3, H, W)."""
    colour, alpha = premultiplied(rgba)
    return colour + (1 - alpha) * background


def posterior(vae: Vae, pictures: Tensor) -> Any:
    """Encode pictures, as ``encode`` does, to diffusers' ``DiagonalGaussianDistribution``: neither shifted nor scaled.

    Raises:
        UsageError: the pictures have another number of channels.
    """
    wanted = vae.config.in_channels
    if pictures.ndim != 4 or pictures.shape[1] != wanted:
        raise UsageError(f"expected pictures of shape (B, {wanted}, H, W) for this VAE, got {tuple(pictures.shape)}")
    pixels = signed(pictures)
    if wanted == 4:
        pixels = torch.cat([premultiplied(pixels)[0], pixels[:, 3:]], 1)
    return vae.encode(pixels.to(vae.dtype)).latent_dist


def signed(pictures: Tensor) -> Tensor:
    """Bring uint8 pictures to float32 in -1..1, where floating ones already are."""
    return pictures.float() if pictures.is_floating_point() else pictures.float() / 127.5 - 1


def premultiplied(rgba: Tensor) -> tuple[Tensor, Tensor]:
    """Colour times alpha, in -1..1, and alpha, in 0..1."""
    alpha = (rgba[:, 3:] + 1) / 2
    return rgba[:, :3] * alpha, alpha
