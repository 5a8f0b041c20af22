"""ASUKA's decoder (arXiv 2312.04831): Stable Diffusion's, with a branch that sees the picture around the hole.

It is the decoder of an asymmetric autoencoder (arXiv 2306.04632), whose ``MaskConditionDecoder`` of diffusers is blind
for the mask. With h what the base's decoder makes of the latent before each of its levels, e what the branch makes of
the picture without its hole and of the mask, m the mask at h's size and m_ whether any of the mask falls on a pixel::

    m_ = [area-downsampled m > 0]
    h  = h m_ + e (1 - m_)

at every level and once more at full size, where m_ is m, ahead of the last norm and convolution.
"""

import copy
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torch.utils.checkpoint import checkpoint

from .rgba_vae import Vae
from .sd_inpaint import pasted

_SEEN = 4  # colour and mask


class ConditionEncoder(nn.Module):
    """The branch: a convolution a level, as in the asymmetric autoencoder, but of the picture and of the mask.

    Args:
        widths: channels of what it gives, the finest first; the first two are of the picture's size, each further one
            of half the size of the one before.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        kernels = [(3, 1)] * 2 + [(4, 2)] * (len(widths) - 2)
        self.layers = nn.ModuleList(
            nn.Conv2d(before, after, size, stride, padding=1)
            for (before, after), (size, stride) in zip(pairwise((_SEEN, *widths)), kernels, strict=True)
        )

    def forward(self, image: Tensor, mask: Tensor) -> list[Tensor]:
        """Features, the coarsest first.

        Args:
            image: (N, 3, H, W) in 0..1, of any content where the mask is 1: it is grey before it is looked at.
            mask: (N, 1, H, W), 0 or 1.
        """
        shown = torch.cat([torch.where(mask > 0, 0, 2 * image - 1), mask], 1)
        features: list[Tensor] = []
        for layer in self.layers:
            shown = layer(shown.relu() if features else shown)
            features.append(shown)
        return features[::-1]


class AsukaDecoder(nn.Module):
    """The decoder, begun with the weights of a VAE's.

    Before any training it is the VAE's decoder wherever the mask is 1 on the whole picture, to the bit.

    Args:
        vae: an ``AutoencoderKL`` of RGB; it is left as it is, and no memory is shared.
        condition: with the branch; without it the picture is looked at for the pasting alone.
    """

    def __init__(self, vae: Vae, *, condition: bool = True) -> None:
        super().__init__()
        self.base: Any = copy.deepcopy(vae.decoder).requires_grad_(True)
        unscaled = vae.post_quant_conv  # of the posterior, where the VAE has one
        self.quant: Any = nn.Identity() if unscaled is None else copy.deepcopy(unscaled).requires_grad_(True)
        self.condition = ConditionEncoder(_widths(self.base)) if condition else None
        self.scale, self.shift = float(vae.config.scaling_factor), float(vae.config.shift_factor or 0.0)
        self.recompute = False

    def enable_gradient_checkpointing(self) -> None:
        """Make activations anew in the backward pass."""
        self.recompute = True

    def forward(self, latent: Tensor, image: Tensor, mask: Tensor, *, paste: bool = True) -> Tensor:
        """Pictures of latents, (N, 3, H, W).

        What is pasted is in 0..1 and equals ``image`` to the bit where the mask is 0: by the pasting, not by the
        network, whose own unmasked pixels go through convolutions and a norm and come near to the image, no more.

        Args:
            latent: (N, C, h, w), shifted and scaled as ``sd_inpaint.encode`` gives it.
            image: (N, 3, H, W) in 0..1; what lies where the mask is 1 changes nothing.
            mask: (N, 1, H, W), 0 or 1: where the latent decides.
            paste: put the image back; without it nothing is cut to 0..1, and a loss has a gradient everywhere.
        """
        unscaled = self.quant((latent / self.scale + self.shift).to(self.base.conv_in.weight.dtype))
        made = (self._decoded(unscaled, self._features(image, mask), mask).float() + 1) / 2
        return pasted(made, image, mask) if paste else made

    def _features(self, image: Tensor, mask: Tensor) -> list[Tensor | None]:
        """What is mixed in before each level and after the last."""
        if self.condition is None:
            return [None] * (len(self.base.up_blocks) + 1)
        return [*self.condition(image, mask)]

    def _decoded(self, unscaled: Tensor, features: Sequence[Tensor | None], mask: Tensor) -> Tensor:
        """The pass of diffusers' ``Decoder``, with the mixing between its levels."""
        hidden = self._run(self.base.mid_block, self.base.conv_in(unscaled))
        for block, known in zip(self.base.up_blocks, features[:-1], strict=True):
            hidden = self._run(block, mixed(hidden, known, mask))
        hidden = self.base.conv_norm_out(mixed(hidden, features[-1], mask))
        made: Tensor = self.base.conv_out(self.base.conv_act(hidden))
        return made

    def _run(self, block: nn.Module, hidden: Tensor) -> Tensor:
        if self.recompute and torch.is_grad_enabled():
            again: Tensor = checkpoint(block, hidden, use_reentrant=False)
            return again
        made: Tensor = block(hidden)
        return made


def mixed(hidden: Tensor, known: Tensor | None, mask: Tensor) -> Tensor:
    """What goes on, h m_ + e (1 - m_); or h where there is no e.

    Args:
        hidden: h, (N, C, h, w).
        known: e, shaped as ``hidden``.
        mask: m, (N, 1, H, W).
    """
    return hidden if known is None else torch.where(touched(mask, hidden), hidden, known.to(hidden.dtype))


def touched(mask: Tensor, like: Tensor) -> Tensor:
    """m_, bool (N, 1, h, w): whether any of the mask falls on a pixel, so that a hole can only grow.

    Args:
        mask: (N, 1, H, W).
        like: whose size it takes, (…, h, w).
    """
    return interpolate(mask.float(), like.shape[-2:], mode="area") > 0


def _widths(decoder: Any) -> list[int]:
    """Channels after the last level and before each, the finest first."""
    inputs = [int(block.resnets[0].in_channels) for block in decoder.up_blocks]
    return [int(decoder.conv_norm_out.num_channels), *reversed(inputs)]
