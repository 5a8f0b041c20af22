"""What turns pictures into latents and back: a pair of VAEs, or no network at all.

Pictures are (N, C, H, W) in 0..1, alpha straight; latents have about unit variance. Decoders are differentiable and
cut nothing off, for a loss on their pixels to have a gradient everywhere.
"""

from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from ...manifests.errors import UsageError
from . import rgba_vae
from .rgba_vae import Vae

_SPREAD = 2.0  # the pixels of photographs in -1..1 have a standard deviation of about a half


class Codec(Protocol):
    """Encoders and decoders of one latent space.

    The paper of LayerDecomp encodes the mask as a picture, by the RGB encoder. Parameters behind the functions must be
    frozen (``requires_grad_(False)``) for a loss on decoded pixels to train the network alone.
    """

    def encode(self, picture: Tensor) -> Tensor:
        """(N, 3, H, W) to (N, C, h, w), of image, mask and background."""

    def encode_rgba(self, picture: Tensor) -> Tensor:
        """(N, 4, H, W) to (N, C, h, w), of the foreground."""

    def decode(self, latent: Tensor) -> Tensor:
        """(N, C, h, w) to (N, 3, H, W)."""

    def decode_rgba(self, latent: Tensor) -> Tensor:
        """(N, C, h, w) to (N, 4, H, W)."""


class PixelCodec(nn.Module):
    """The pixels themselves: red, green, blue and alpha about zero, with colour zero where nothing is seen.

    For small pictures and for machines without weights; ``channels`` is 4, ``factor`` 1.
    """

    channels = 4
    factor = 1

    def encode(self, picture: Tensor) -> Tensor:
        """See :class:`Codec`."""
        return _SPREAD * torch.cat([2 * picture - 1, torch.ones_like(picture[:, :1])], 1)

    def encode_rgba(self, picture: Tensor) -> Tensor:
        """See :class:`Codec`."""
        alpha = picture[:, 3:]
        return _SPREAD * torch.cat([(2 * picture[:, :3] - 1) * (alpha > 0), 2 * alpha - 1], 1)

    def decode(self, latent: Tensor) -> Tensor:
        """See :class:`Codec`."""
        return (latent[:, :3] / _SPREAD + 1) / 2

    def decode_rgba(self, latent: Tensor) -> Tensor:
        """See :class:`Codec`."""
        return (latent / _SPREAD + 1) / 2


class VaeCodec(nn.Module):
    """A frozen RGBA VAE for the foreground, beside the RGB VAE that it was made from.

    Args:
        rgba: of :mod:`.rgba_vae`.
        rgb: an ``AutoencoderKL`` of 3 channels, of the same latent space; without one the RGBA VAE takes its place,
            which sees every picture as opaque.
    """

    def __init__(self, rgba: Vae, rgb: Vae | None = None) -> None:
        super().__init__()
        self.rgba, self.rgb = rgba, rgb
        self.requires_grad_(False)
        self.channels: int = rgba.config.latent_channels
        self.factor = 2 ** (len(rgba.config.block_out_channels) - 1)

    def encode(self, picture: Tensor) -> Tensor:
        """See :class:`Codec`."""
        if self.rgb is not None:
            return rgba_vae.encode(self.rgb, 2 * picture - 1)
        return self.encode_rgba(torch.cat([picture, torch.ones_like(picture[:, :1])], 1))

    def encode_rgba(self, picture: Tensor) -> Tensor:
        """See :class:`Codec`."""
        return rgba_vae.encode(self.rgba, 2 * picture - 1)

    def decode(self, latent: Tensor) -> Tensor:
        """See :class:`Codec`."""
        return (rgba_vae.decode(self.rgba if self.rgb is None else self.rgb, latent)[:, :3] + 1) / 2

    def decode_rgba(self, latent: Tensor) -> Tensor:
        """See :class:`Codec`."""
        return (rgba_vae.decode(self.rgba, latent) + 1) / 2


def load_codec(kind: str, vae: str, rgba: str, *, meta: bool = False) -> PixelCodec | VaeCodec:
    """The codec that options name.

    Args:
        kind: ``pixels``, or ``vae``.
        vae: folder or name in the hub cache of the RGB VAE, or of a pipeline with one; or empty.
        rgba: folder of the RGBA VAE, or of a run of ``rgba-vae``.
        meta: only its shapes matter: where the RGBA VAE is still to be trained, Stable Diffusion's sizes stand for it.

    Raises:
        UsageError: a folder holds no such VAE, or none is named.
        MissingWeights: the RGB VAE is not on this machine.
    """
    if kind == "pixels":
        return PixelCodec()
    if meta and not (rgba and Path(rgba).is_dir()):
        return VaeCodec(rgba_vae.convert(rgba_vae.from_scratch("sd")))
    if not rgba:
        raise UsageError(
            "codec = 'vae' needs rgba_vae, the folder of a run of rgba-vae; "
            "add --set model.rgba_vae=RUN, or train on pixels by --set model.codec=pixels"
        )
    return VaeCodec(rgba_vae.load(rgba_vae.folder_of(Path(rgba))), rgba_vae.load_rgb(vae) if vae else None)
