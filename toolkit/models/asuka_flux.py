"""ASUKA on FLUX.1-Fill (extended paper, arXiv 2601.15368): two aligners for its text and its pooled vector."""

from typing import Any

import torch
from torch import Tensor, nn

from .asuka_align import Aligner, dropped, mixed
from .asuka_options import AsukaOptions
from .bases import factor_of
from .flow_matching import Velocity, drawn_levels, sample
from .flux_fill import FluxFill, dynamic_shift, pack, pack_mask, positions, unpack, velocities
from .sd_inpaint import encode

_GREY = 0.5  # what the base sees where a picture is masked: zero in -1..1


class AsukaFlux(nn.Module):
    """The conditions of a FLUX.1-Fill, their training and the sampling.

    Trained are both aligners and, where conditions are dropped, both null conditions. The pooled vector is the mean of
    what its aligner makes of the patches.

    Args:
        options: see :class:`AsukaOptions`.
        base: is frozen here; its prompt and pooled vector are where the null conditions begin.
        inputs: width of the prior's features.
        length: how many there are of a picture.
    """

    def __init__(self, options: AsukaOptions, base: FluxFill, inputs: int, length: int) -> None:
        super().__init__()
        self.options = options
        self.factor = factor_of(base.vae)
        self.multiple = 2 * self.factor
        self.transformer: Any = base.transformer.requires_grad_(False)
        self.vae: Any = base.vae.requires_grad_(False)
        with torch.device(base.prompt.device):
            queries = options.queries or length
            self.text, self.pooled = (
                Aligner(inputs, width, options.variant, options.head, queries)
                for width in (base.prompt.shape[2], base.pooled.shape[1])
            )
            self.null_text, self.null_pooled = (
                nn.Parameter(null.float().clone(), requires_grad=options.drop > 0)
                for null in (base.prompt, base.pooled)
            )

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """What is not trained."""
        return self.transformer, self.vae

    def forward(self, truth: Tensor, mask: Tensor, features: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of the velocity, noise minus clean latent, at x_s = (1 - s) x_0 + s noise.

        Args:
            truth: (N, 3, H, W) in 0..1.
            mask: what is hidden of it, (N, 1, H, W), 0 or 1.
            features: of the prior, (N, L, inputs).
            generator: of the CPU.
        """
        flow = self.options.flow
        with torch.no_grad():
            latents = encode(self.vae, truth)
        count = len(latents)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        mu = dynamic_shift(_tokens(latents)) if flow.shift_training else 0.0
        levels = drawn_levels(count, generator, flow.levels, flow.level_mean, flow.level_deviation, mu).to(latents)
        kept = (torch.rand(count, generator=generator) >= self.options.drop).to(latents.device)
        text, pooled = self._conditions(features)
        conditions = dropped(text, self.null_text, kept), dropped(pooled, self.null_pooled, kept)
        velocity = self._velocity(truth, mask, *conditions, flow.guidance_training)
        s = levels[:, None, None, None]
        return (velocity((1 - s) * latents + s * noise, levels) - (noise - latents)).square().mean()

    def paint(self, image: Tensor, mask: Tensor, features: Tensor, generator: torch.Generator) -> Tensor:
        """Latents of the picture with what is masked painted anew, (N, C, h, w); arguments as of :meth:`forward`."""
        text, pooled = self._conditions(features)
        weight = self.options.weight
        conditions = mixed(text, self.null_text, weight), mixed(pooled, self.null_pooled, weight)
        shape = self.vae.config.latent_channels, *(side // self.factor for side in image.shape[2:])
        noise = torch.randn(len(image), *shape, generator=generator).to(image)
        mu = dynamic_shift(_tokens(noise)) if self.options.flow.shift_sampling else 0.0
        return sample(self._velocity(image, mask, *conditions, self.options.guidance), noise, self.options.steps, mu)

    def _conditions(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.text(features), self.pooled(features).mean(1)

    def _velocity(self, image: Tensor, mask: Tensor, text: Tensor, pooled: Tensor, guidance: float) -> Velocity:
        """What the base predicts for this picture, mask and condition."""
        with torch.no_grad():
            view = encode(self.vae, _GREY + (image - _GREY) * (1 - mask))
        beside = torch.cat([pack(view), pack_mask(mask, self.factor)], 2)
        height, width = view.shape[2:]
        places = positions(height // 2, width // 2, 0, view.device)
        dtype = self.transformer.dtype
        prompt, vector = text.to(dtype), pooled.to(dtype)

        def velocity(noisy: Tensor, levels: Tensor) -> Tensor:
            tokens = torch.cat([pack(noisy), beside], 2).to(dtype)
            made = velocities(self.transformer, tokens, places, prompt, vector, levels, guidance)
            return unpack(made, height, width).float()

        return velocity


def _tokens(latents: Tensor) -> int:
    return latents.shape[-2] * latents.shape[-1] // 4
