"""Flow matching on a FLUX: noise levels that a training step draws, and the sampler of FluxFillPipeline."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.training_utils import compute_density_for_timestep_sampling
from torch import Tensor

from .flux_fill import shifted

Scheme = Literal["logit-normal", "uniform"]
Velocity = Callable[[Tensor, Tensor], Tensor]
"""From noisy latents (N, …) and their levels (N,) to velocities, shaped as the latents."""


def drawn_levels(
    count: int, generator: torch.Generator, scheme: Scheme, mean: float, deviation: float, mu: float = 0.0
) -> Tensor:
    """Noise levels of a training step, (count,) in 0..1, on the CPU.

    Args:
        count: of samples.
        generator: of the CPU.
        scheme: how they are drawn.
        mean: of the normal distribution behind ``logit-normal``.
        deviation: of it.
        mu: moves the levels up; see :func:`.flux_fill.dynamic_shift`.
    """
    levels: Tensor = compute_density_for_timestep_sampling(
        scheme.replace("-", "_"), count, mean, deviation, generator=generator
    )
    return shifted(levels, mu) if mu else levels


def sample(velocity: Velocity, noise: Tensor, steps: int, mu: float = 0.0) -> Tensor:
    """Follow the velocity from noise to clean latents by Euler's method, at the levels of FluxFillPipeline.

    Args:
        velocity: predicts.
        noise: (N, …).
        steps: evenly spaced levels from 1 down to 1 / steps, then 0.
        mu: moves the levels up; see :func:`.flux_fill.dynamic_shift`.

    Returns:
        Shaped as ``noise``.
    """
    scheduler: Any = FlowMatchEulerDiscreteScheduler(use_dynamic_shifting=True)  # type: ignore[no-untyped-call]
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / steps, steps), mu=mu, device=noise.device)
    latents = noise
    for timestep in scheduler.timesteps:
        levels = (timestep / scheduler.config.num_train_timesteps).expand(len(latents))
        latents = scheduler.step(velocity(latents, levels), timestep, latents, return_dict=False)[0]
    return latents
