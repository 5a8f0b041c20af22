"""CaT2I-AE, the composition-aware autoencoder of Text2Layer (arXiv 2307.09781, section 4.1): layers to one latent.

Foreground, background and mask are stacked to seven channels; the encoder is Stable Diffusion's but for its first
layer, the decoder but for its last, in whose place stand heads, each convolution, norm, ReLU, convolution: one for each
layer, and one for the picture that the layers compose, which only training looks at.

Layers are (N, 7, H, W) in -1..1: foreground colour, background, mask.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor, nn

from ...manifests.errors import UsageError
from .rgba_vae import PRESETS, Vae

LAYERS = {"foreground": 3, "background": 3, "mask": 1}
"""Channels of each layer, in the order of the stack."""

_MOMENTUM = 0.01  # of the statistics of the latent

PICTURE = {"image": 3}
"""What the auxiliary head predicts."""


@dataclass(frozen=True, kw_only=True)
class CodecOptions:
    """The sizes of an autoencoder of layers.

    Attributes:
        size: of encoder and decoder, of ``rgba_vae.PRESETS``; the paper's is Stable Diffusion's.
        latent: channels of the latent of each autoencoder; 0 is what ``size`` has, four as in Stable Diffusion.
        auxiliary: with the head that predicts the picture; False is the paper's ablation.
        separate: an autoencoder of its own for each layer, whose latents are stacked: the paper's comparison, which has
            Stable Diffusion's; there is nothing for an auxiliary head to look at then.
        norm: in the heads. The paper's is of the batch; of groups, a picture's layers do not depend on its neighbours.
        groups: of the latter.
    """

    size: str = "sd"
    latent: int = 0
    auxiliary: bool = True
    separate: bool = False
    norm: Literal["batch", "group"] = "batch"
    groups: int = 8

    def __post_init__(self) -> None:
        if self.size not in PRESETS:
            raise UsageError(f"codec.size: expected one of {', '.join(PRESETS)}, got {self.size!r}")
        if self.latent < 0:
            raise UsageError(f"codec.latent: expected channels, or 0 for those of the size, got {self.latent}")
        if self.separate and self.auxiliary:
            raise UsageError("codec: expected auxiliary = false with separate = true, which has no shared features")


class LayerCodec(nn.Module):
    """Layers to a latent and back.

    Args:
        options: see :class:`CodecOptions`.
    """

    def __init__(self, options: CodecOptions) -> None:
        super().__init__()
        names = [[name] for name in LAYERS] if options.separate else [list(LAYERS)]
        extra = PICTURE if options.auxiliary else {}
        self.parts = nn.ModuleList(_autoencoder(options, some, extra) for some in names)
        self._outputs = [{name: LAYERS[name] for name in some} | extra for some in names]
        self._inputs = [sum(LAYERS[name] for name in some) for some in names]
        self.norm = nn.BatchNorm2d(self.latent_channels, affine=False, momentum=_MOMENTUM)

    @property
    def multiple(self) -> int:
        """Sides of pictures must be multiples of this, px; a side of the latent is that much smaller."""
        blocks: Sequence[int] = self._config.block_out_channels
        return int(2 ** (len(blocks) - 1))

    @property
    def latent_channels(self) -> int:
        """Of the latent, all layers together."""
        return int(len(self.parts) * self._config.latent_channels)

    @property
    def _vaes(self) -> list[Any]:
        return list(self.parts)

    @property
    def _config(self) -> Any:
        return self._vaes[0].config

    def encode(self, layers: Tensor) -> DiagonalGaussianDistribution:
        """The posterior of the latent, (N, ``latent_channels``, h, w)."""
        stacks = torch.split(layers, self._inputs, 1)
        moments = [vae.encode(some).latent_dist for vae, some in zip(self._vaes, stacks, strict=True)]
        return DiagonalGaussianDistribution(torch.cat([m.mean for m in moments] + [m.logvar for m in moments], 1))

    def decode(self, latent: Tensor) -> dict[str, Tensor]:
        """Name to layer, in -1..1 more or less; with ``image`` where there is an auxiliary head."""
        decoded: dict[str, Tensor] = {}
        for vae, some, outputs in zip(self._vaes, latent.chunk(len(self.parts), 1), self._outputs, strict=True):
            channels = torch.split(vae.decode(some).sample, list(outputs.values()), 1)
            decoded |= dict(zip(outputs, channels, strict=True))
        return decoded

    def gather(self, latent: Tensor) -> None:
        """Note means and variances of latents, in training; :meth:`normalised` is by them.

        Latent diffusion divides by the deviation of the first batch (arXiv 2112.10752, appendix G); a running one of
        each channel is saved with the weights, and so is the same for whoever reads them.
        """
        self.norm(latent.detach())

    def normalised(self, latent: Tensor) -> Tensor:
        """The latent with a mean of about 0 and a variance of about 1 in every channel, for diffusion."""
        return (latent - self._mean) / self._deviation

    def denormalised(self, latent: Tensor) -> Tensor:
        """The inverse of :meth:`normalised`."""
        return latent * self._deviation + self._mean

    @property
    def _mean(self) -> Tensor:
        mean: Any = self.norm.running_mean
        return mean[:, None, None]  # type: ignore[no-any-return]

    @property
    def _deviation(self) -> Tensor:
        variance: Any = self.norm.running_var
        return (variance[:, None, None] + self.norm.eps).sqrt()  # type: ignore[no-any-return]

    @property
    def last(self) -> Tensor:
        """The weights of the last layer of a head, where the adaptive weight of a discriminator is measured."""
        weight: Tensor = self._vaes[0].decoder.conv_out.heads[0][-1].weight
        return weight


class _Heads(nn.Module):
    """What stands in the place of a decoder's last convolution."""

    def __init__(self, width: int, channels: Sequence[int], options: CodecOptions) -> None:
        super().__init__()
        self.heads = nn.ModuleList(_head(width, count, options) for count in channels)

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([head(features) for head in self.heads], 1)


def _head(width: int, channels: int, options: CodecOptions) -> nn.Sequential:
    norm = nn.BatchNorm2d(width) if options.norm == "batch" else nn.GroupNorm(options.groups, width)
    return nn.Sequential(
        nn.Conv2d(width, width, 3, padding=1), norm, nn.ReLU(), nn.Conv2d(width, channels, 3, padding=1)
    )


def _autoencoder(options: CodecOptions, names: Sequence[str], extra: dict[str, int]) -> Vae:
    inside = sum(LAYERS[name] for name in names)
    outside = [LAYERS[name] for name in names] + list(extra.values())
    sizes = {**PRESETS[options.size], "in_channels": inside, "out_channels": sum(outside)}
    sizes |= {"latent_channels": options.latent} if options.latent else {}
    vae: Vae = AutoencoderKL(**sizes)  # type: ignore[no-untyped-call]
    vae.decoder.conv_out = _Heads(vae.config.block_out_channels[0], outside, options)
    return vae
