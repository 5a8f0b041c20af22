"""What ASUKA's decoder (arXiv 2312.04831) is trained on: holes, colours that are off, latents as a sampler leaves them.

The paper says that colours in the hole are perturbed, and that clean latents are replaced by ones denoised in one step;
neither ranges nor probabilities are published: all of them are ours. Pictures are (N, 3, H, W) in 0..1, masks
(N, 1, H, W), 0 or 1. Every draw is of the CPU.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from ...manifests.errors import UsageError
from .recolour import RecolourOptions, draw_changes, recoloured

_MILD = RecolourOptions(
    gamma=(0.85, 1.2), cast=(0.95, 1.05), brightness=(0.85, 1.15), saturation=(0.8, 1.2), hue=(-10.0, 10.0)
)


@dataclass(frozen=True, kw_only=True)
class Colour:
    """How colours in the hole are perturbed before they are encoded. Every default is ours.

    Attributes:
        probability: of a sample.
        changes: what is changed, and how far: less than where SEELE learns to harmonise, for a sampler is not as wrong.
    """

    probability: float = 0.5
    changes: RecolourOptions = field(default_factory=lambda: _MILD)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise UsageError(f"colour: expected a probability in 0..1, got {self.probability}")


@dataclass(frozen=True, kw_only=True)
class Denoised:
    """How latents are taken from the base's own guess at them. Every default is ours.

    Attributes:
        probability: of a sample.
        times: least and largest t, as shares of the base's noise levels: the later, the more is guessed, and the less
            it has to do with the picture that the decoder is to give.
        text: what the base's UNet attends to: the ``empty`` prompt by the base's own text encoder, as it is without
            guidance; or ``zeros``, which needs no text encoder.
    """

    probability: float = 0.5
    times: tuple[float, float] = (0.0, 0.5)
    text: Literal["empty", "zeros"] = "empty"

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1 or not 0 <= self.times[0] <= self.times[1] <= 1:
            raise UsageError(
                f"latent: expected a probability in 0..1 and times in rising order within 0..1, got {self.probability} "
                f"and {list(self.times)}"
            )


# ---- holes


def holes(mask: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """The masks of the data, and random ellipses in the place of a share of them, (N, 1, H, W)."""
    drawn = torch.rand(len(mask), 1, 1, 1, generator=generator) < share
    return torch.where(drawn.to(mask.device), ellipses(mask.shape, generator).to(mask), mask)


def ellipses(shape: torch.Size, generator: torch.Generator) -> Tensor:
    """Masks of ``shape`` with an ellipse each, anywhere, of half axes of 0.1 to 0.35 of the sides."""
    height, width = shape[2:]
    draws = torch.rand(5, shape[0], 1, 1, generator=generator)
    down, across = torch.arange(height)[:, None] + 0.5, torch.arange(width) + 0.5
    y, x = down / height - draws[0], across / width - draws[1]
    turn, (tall, wide) = math.pi * draws[2], 0.1 + 0.25 * draws[3:]
    u, v = x * turn.cos() + y * turn.sin(), y * turn.cos() - x * turn.sin()
    inside: Tensor = (u / wide).square() + (v / tall).square() < 1
    return inside.float()[:, None]


# ---- colours


def off_colour(pictures: Tensor, mask: Tensor, options: Colour, generator: torch.Generator) -> Tensor:
    """The pictures with other colours in the holes of some of them; outside of the masks nothing changes."""
    changes = draw_changes(options.changes, len(pictures), generator)
    chosen = torch.rand(len(pictures), 1, 1, 1, generator=generator) < options.probability
    return recoloured(pictures, mask * chosen.to(mask), changes)


# ---- latents


def draw_times(options: Denoised, count: int, levels: int, generator: torch.Generator) -> Tensor:
    """Draw t of a base of that many noise levels, (N,), evenly within ``times``."""
    least, most = (round(share * (levels - 1)) for share in options.times)
    return torch.randint(least, most + 1, (count,), generator=generator)


def one_step(
    unet: Any, schedule: Any, latents: Tensor, view: Tensor, states: Tensor, times: Tensor, eps: Tensor
) -> Tensor:
    """x̂0(x_t), the base's guess at clean latents from noisy ones, x_t = √ᾱ_t x_0 + √(1 - ᾱ_t) ε, in one step.

    Args:
        unet: the base's.
        schedule: with the base's noise levels and what its UNet predicts.
        latents: x_0, (N, C, h, w).
        view: of ``sd_inpaint.seen``.
        states: what the UNet attends to, (1, L, width).
        times: t, (N,).
        eps: ε, shaped as ``latents``.
    """
    signal = schedule.alphas_cumprod[times].to(latents)[:, None, None, None]
    noisy = signal.sqrt() * latents + (1 - signal).sqrt() * eps
    shown = torch.cat([noisy, view], 1).to(unet.dtype)
    made = unet(shown, times.to(latents.device), states.to(unet.dtype).expand(len(latents), -1, -1)).sample
    return clean_of(made.to(latents), noisy, signal, schedule.config.prediction_type)


def clean_of(made: Tensor, noisy: Tensor, signal: Tensor, kind: str) -> Tensor:
    """x̂0 of what a UNet made of x_t.

    Args:
        made: the prediction.
        noisy: x_t, shaped as ``made``.
        signal: ᾱ_t, which broadcasts to them.
        kind: ``epsilon``, (x_t - √(1 - ᾱ) ε) / √ᾱ; ``v_prediction``, √ᾱ x_t - √(1 - ᾱ) v; or ``sample``.

    Raises:
        UsageError: another kind.
    """
    if kind == "epsilon":
        return (noisy - (1 - signal).sqrt() * made) / signal.sqrt()
    if kind == "v_prediction":
        return signal.sqrt() * noisy - (1 - signal).sqrt() * made
    if kind == "sample":
        return made
    raise UsageError(f"expected a base that predicts epsilon, v_prediction or sample, got {kind!r}; give another base")
