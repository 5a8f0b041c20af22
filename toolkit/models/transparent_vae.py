"""Latent transparency (Zhang & Agrawala 2024, arXiv 2402.17113): a latent of Stable Diffusion that holds alpha as well.

The encoder moves a picture's latent within the spread of its posterior, so that the frozen VAE still shows the picture;
the decoder reads alpha and colour back from the latent and from what the VAE shows. Parameters are named and shaped as
in the released safetensors; the widths are read from a file, so that a smaller network loads as well.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import torch
from diffusers.models.unets.unet_2d_blocks import UNetMidBlock2D, get_down_block, get_up_block
from torch import Tensor, nn

from .padded_rgb import SHRINK
from .tensor_files import check_tensors, read_tensors

Bytes = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]
Net = Callable[[Tensor, Tensor], Tensor]

# The encoder ends in a layer that begins at zero; its output is scaled up, as LoRA does, to be learnt in time.
_OFFSET_SCALE = 300.0
_LATENT_CHANNELS = 4
# The VAE's latent is an eighth of the picture, and so is what enters this level of the decoder.
_LATENT_LEVEL = 3
_ATTENTION_LEVELS = 3
_UP_LAYERS = 3
_BLOCK: dict[str, Any] = {
    "temb_channels": None,  # there is no time step
    "resnet_eps": 1e-5,
    "resnet_act_fn": "silu",
    "resnet_groups": 4,
    "attention_head_dim": 8,
}


def pad_rgb(rgba: Bytes) -> Float:
    """Fill the colour under transparency with smooth surroundings, as every LayerDiffuse model was trained on.

    A pyramid of premultiplied colour is laid over itself from coarse to fine.

    Args:
        rgba: (H, W, 4), 8-bit, straight alpha.

    Returns:
        float32 (H, W, 3) in 0..1; the picture's own colour where it is opaque, black where nothing is visible at all.
    """
    straight = rgba.astype(np.float32) / 255
    layer: Any = np.dstack([straight[..., :3] * straight[..., 3:], straight[..., 3]])
    pyramid = [layer]
    while min(layer.shape[:2]) > 1:
        height, width = (int(side / SHRINK) for side in layer.shape[:2])
        layer = cv2.resize(layer, (width, height), interpolation=cv2.INTER_AREA)
        pyramid.append(layer)
    total = layer.sum((0, 1), keepdims=True)
    filled = total[..., :3] / np.maximum(total[..., 3:], 1e-8)
    for layer in reversed(pyramid):
        filled = cv2.resize(filled, layer.shape[1::-1], interpolation=cv2.INTER_LINEAR)
        filled = layer[..., :3] + filled * (1 - layer[..., 3:])
    return np.asarray(filled, np.float32)


class TransparentEncoder(nn.Module):
    """From (N, 4, H, W) alpha and padded RGB in 0..1 to the latent's offset, (N, 4, H/8, W/8) before scaling.

    Args:
        widths: channels at full, half, quarter and eighth size; of the released network by default.
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        previous = 4
        for level, width in enumerate(widths):
            layers += [nn.Conv2d(previous, width, 3, stride=2 if level else 1, padding=1), nn.SiLU()]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.SiLU()]
            previous = width
        self.blocks = nn.Sequential(*layers, _zero(nn.Conv2d(previous, _LATENT_CHANNELS, 3, padding=1)))

    def forward(self, alpha_and_rgb: Tensor) -> Tensor:
        """See the class."""
        offset: Tensor = self.blocks(alpha_and_rgb)
        return offset


class TransparentDecoder(nn.Module):
    """A UNet from the VAE's picture (N, 3, H, W) in 0..1 and its latent to (N, 4, H, W): alpha, red, green, blue.

    Args:
        widths: channels a level, four levels or more, each half as large as the one before; multiples of 8. The last
            three have attention. Of the released network by default.

    Attributes:
        multiple: what divides the sides of every picture it takes.
    """

    def __init__(self, widths: Sequence[int] = (32, 32, 64, 128, 256, 512, 512)) -> None:
        super().__init__()
        last = len(widths) - 1
        kinds = ["Attn" if last - level < _ATTENTION_LEVELS else "" for level in range(len(widths))]
        self.multiple = 2**last
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.latent_conv_in = _zero(nn.Conv2d(_LATENT_CHANNELS, widths[_LATENT_LEVEL - 1], 1))
        self.down_blocks = nn.ModuleList(
            _down_block(kinds[level], widths[max(level - 1, 0)], widths[level], level < last)
            for level in range(len(widths))
        )
        self.mid_block = UNetMidBlock2D(in_channels=widths[last], **_BLOCK)
        self.up_blocks = nn.ModuleList(
            _up_block(kinds[level], widths[min(level + 1, last)], widths[level], widths[max(level - 1, 0)], level > 0)
            for level in reversed(range(len(widths)))
        )
        self.conv_norm_out = nn.GroupNorm(4, widths[0], eps=1e-5)
        self.conv_out = nn.Conv2d(widths[0], 4, 3, padding=1)

    def forward(self, pixels: Tensor, latent: Tensor) -> Tensor:
        """See the class; ``latent`` is (N, 4, H/8, W/8), not scaled by the VAE's factor."""
        hidden = self.conv_in(pixels)
        skips = [hidden]
        for level, block in enumerate(self.down_blocks):
            if level == _LATENT_LEVEL:
                hidden = hidden + self.latent_conv_in(latent)
            hidden, kept = block(hidden)
            skips += kept
        hidden = self.mid_block(hidden)
        for block in self.up_blocks:
            hidden = block(hidden, tuple(skips[-_UP_LAYERS:]))
            del skips[-_UP_LAYERS:]
        alpha_first: Tensor = self.conv_out(nn.functional.silu(self.conv_norm_out(hidden)))
        return alpha_first


def _zero(layer: nn.Conv2d) -> nn.Conv2d:
    """A layer that does nothing until it is trained."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


def _down_block(kind: str, before: int, width: int, shrinks: bool) -> Any:
    return get_down_block(
        f"{kind}DownBlock2D",
        num_layers=2,
        in_channels=before,
        out_channels=width,
        add_downsample=shrinks,
        downsample_padding=1,
        downsample_type="conv",
        **_BLOCK,
    )


def _up_block(kind: str, below: int, width: int, above: int, grows: bool) -> Any:
    return get_up_block(
        f"{kind}UpBlock2D",
        num_layers=_UP_LAYERS,
        in_channels=above,
        out_channels=width,
        prev_output_channel=below,
        add_upsample=grows,
        upsample_type="conv",
        **_BLOCK,
    )


# ---- pictures


def encode(vae: Any, encoder: nn.Module, pictures: Sequence[Bytes]) -> Tensor:
    """Encode 8-bit (H, W, 4) straight RGBA pictures of one size; gradients reach the encoder.

    The VAE is fed the colour premultiplied around mid grey. In place of the posterior's noise stands the offset:
    latent = mean + std · 300 · offset.

    Args:
        vae: an ``AutoencoderKL`` of diffusers, an eighth of the picture per side.
        encoder: a ``TransparentEncoder``, on the VAE's device.
        pictures: at least one; sides that 8 divides.

    Returns:
        float32 (N, 4, H/8, W/8), not scaled by the VAE's factor.
    """
    straight = torch.stack([_channels_first(picture.astype(np.float32) / 255) for picture in pictures]).to(vae.device)
    padded = torch.stack([_channels_first(pad_rgb(picture)) for picture in pictures]).to(vae.device)
    return encode_padded(vae, encoder, straight, padded)


def encode_padded(vae: Any, encoder: nn.Module, straight: Tensor, padded: Tensor) -> Tensor:
    """:func:`encode` of pictures (N, 4, H, W) and their padded colour (N, 3, H, W), float32 in 0..1."""
    posterior = vae.encode(vae_feed(straight).to(vae.dtype)).latent_dist
    offset = encoder(torch.cat([straight[:, 3:], padded], 1)) * _OFFSET_SCALE
    latent: Tensor = posterior.mean.float() + posterior.std.float() * offset
    return latent


def vae_feed(straight: Tensor) -> Tensor:
    """What the VAE is to show of RGBA pictures (N, 4, H, W) in 0..1: colour times alpha about mid grey, in -1..1."""
    return (straight[:, :3] * 2 - 1) * straight[:, 3:]


def _channels_first(pixels: npt.NDArray[np.floating]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))


@torch.no_grad()
def decode(vae: Any, decoder: Net, latent: Tensor) -> Tensor:
    """Decode latents to RGBA.

    Args:
        vae: an ``AutoencoderKL`` of diffusers.
        decoder: a ``TransparentDecoder`` in float32, on the VAE's device.
        latent: (N, 4, H/8, W/8), not scaled by the VAE's factor.

    Returns:
        float32 (N, 4, H, W) in 0..1: red, green, blue, straight alpha.
    """
    shown = vae.decode(latent.to(vae.dtype)).sample.float()
    alpha_first = median_of_eight(decoder, (shown / 2 + 0.5).clamp(0, 1), latent.float())
    return alpha_first.roll(-1, 1)


def cutout(vae: Any, decoder: Net, latent: Tensor) -> Bytes:
    """Decode one latent (1, 4, H/8, W/8), scaled by the VAE's factor, to an 8-bit (H, W, 4); alpha 0 has no colour."""
    channels = decode(vae, decoder, latent / vae.config.scaling_factor)[0].cpu().numpy()
    picture = np.ascontiguousarray((channels.transpose(1, 2, 0) * 255).round().astype(np.uint8))
    picture[picture[..., 3] == 0] = 0
    return picture


def median_of_eight(net: Net, pixels: Tensor, latent: Tensor) -> Tensor:
    """Estimate under four quarter turns of the input and of its mirror image, turn back, and take the median.

    Estimates are cut to 0..1; of the two in the middle the lower is taken, as the released code does.
    """
    estimates = []
    for mirrored in (False, True):
        for turns in range(4):
            seen = [torch.rot90(each.flip(3) if mirrored else each, turns, (2, 3)) for each in (pixels, latent)]
            back = torch.rot90(net(*seen).clamp(0, 1), -turns, (2, 3))
            estimates.append(back.flip(3) if mirrored else back)
    return torch.stack(estimates).median(0).values


# ---- files


def load_encoder(path: Path) -> TransparentEncoder:
    """Load an encoder from safetensors: float32, on the CPU, in evaluation mode.

    Raises:
        UsageError: the file cannot be read, or holds other tensors than an encoder has.
    """
    tensors = read_tensors(path)
    # Four modules a level; the first of the next one tells where the levels end.
    widths = _lengths(tensors, "blocks.{}.weight", 4)[:-1]
    with torch.device("meta"):
        encoder = TransparentEncoder(widths) if widths else TransparentEncoder()
    _fill(encoder, tensors, path)
    return encoder.eval()


def load_decoder(path: Path) -> TransparentDecoder:
    """Load a decoder from safetensors: float32, on the CPU, in evaluation mode.

    Raises:
        UsageError: the file cannot be read, or holds other tensors than a decoder has.
    """
    tensors = read_tensors(path)
    widths = _lengths(tensors, "down_blocks.{}.resnets.0.conv1.weight")
    possible = len(widths) > _LATENT_LEVEL and not any(width % 8 for width in widths)
    with torch.device("meta"):
        decoder = TransparentDecoder(widths) if possible else TransparentDecoder()
    _fill(decoder, tensors, path)
    return decoder.eval()


def _lengths(tensors: dict[str, Tensor], name: str, step: int = 1) -> list[int]:
    """First lengths of the tensors whose names hold the numbers 0, ``step``, 2 · ``step`` …, up to the first gap."""
    lengths: list[int] = []
    while (tensor := tensors.get(name.format(step * len(lengths)))) is not None and tensor.ndim:
        lengths.append(len(tensor))
    return lengths


def _fill(module: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    check_tensors(path, tensors, module)
    module.load_state_dict(tensors, assign=True)
