"""ASUKA on Stable Diffusion's inpainting (arXiv 2312.04831): the frozen UNet reads the aligned prior for a text."""

from typing import Any

import torch
from torch import Tensor, nn

from .asuka_align import Aligner, dropped, mixed
from .asuka_options import AsukaOptions
from .sd_inpaint import SdInpaint, encode, sample, seen


class AsukaSd(nn.Module):
    """The condition of a UNet that inpaints, its training and its sampling.

    Trained are the aligner and, where conditions are dropped, the null condition.

    Args:
        options: see :class:`AsukaOptions`.
        base: is frozen here.
        inputs: width of the prior's features.
        length: how many there are of a picture.
    """

    def __init__(self, options: AsukaOptions, base: SdInpaint, inputs: int, length: int) -> None:
        super().__init__()
        self.options, self._base = options, base
        self.multiple = base.multiple
        self.unet: Any = base.unet.requires_grad_(False)
        self.vae: Any = base.vae.requires_grad_(False)
        with torch.device(base.unet.device):
            queries = options.queries or length
            self.aligner = Aligner(inputs, base.width, options.variant, options.head, queries)
            tokens = queries if options.variant == "four-cross" else length
            self.null = nn.Parameter(torch.zeros(1, tokens, base.width), requires_grad=options.drop > 0)

    @property
    def frozen(self) -> tuple[nn.Module, ...]:
        """What is not trained."""
        return self.unet, self.vae

    def forward(self, truth: Tensor, mask: Tensor, features: Tensor, generator: torch.Generator) -> Tensor:
        """Mean squared error of what the UNet predicts: the noise, or what else its base was trained for.

        Args:
            truth: (N, 3, H, W) in 0..1.
            mask: what is hidden of it, (N, 1, H, W), 0 or 1.
            features: of the prior, (N, L, inputs).
            generator: of the CPU.
        """
        levels = self._base.noise
        with torch.no_grad():
            latents, view = encode(self.vae, truth), seen(self.vae, truth, mask)
        count = len(latents)
        noise = torch.randn(latents.shape, generator=generator).to(latents)
        times = torch.randint(levels.config.num_train_timesteps, (count,), generator=generator).to(latents.device)
        kept = (torch.rand(count, generator=generator) >= self.options.drop).to(latents.device)
        noisy = levels.add_noise(latents, noise, times)
        states = dropped(self.aligner(features), self.null, kept)
        dtype = self.unet.dtype
        made: Tensor = self.unet(torch.cat([noisy, view], 1).to(dtype), times, states.to(dtype)).sample.float()
        return (made - target_of(levels, latents, noise, times)).square().mean()

    def paint(self, image: Tensor, mask: Tensor, features: Tensor, generator: torch.Generator) -> Tensor:
        """Latents of the picture with what is masked painted anew, (N, C, h, w); arguments as of :meth:`forward`."""
        condition = self.aligner(features)
        states = mixed(condition, self.null, self.options.weight)
        view = seen(self.vae, image, mask)
        noise = torch.randn(len(view), view.shape[1] - 1, *view.shape[2:], generator=generator).to(view)
        steps, guidance, null = self.options.steps, self.options.guidance, self.null.expand_as(condition)
        return sample(self._base, view, states, noise, steps=steps, guidance=guidance, other=null)


def target_of(levels: Any, latents: Tensor, noise: Tensor, times: Tensor) -> Tensor:
    """What a UNet is to predict, by the ``prediction_type`` of its base's noise levels: noise, velocity, or latents."""
    kind: str = levels.config.prediction_type
    if kind == "v_prediction":
        return levels.get_velocity(latents, noise, times)  # type: ignore[no-any-return]
    return noise if kind == "epsilon" else latents
