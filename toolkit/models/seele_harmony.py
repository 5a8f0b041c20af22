"""Harmonising by SEELE's second equation (arXiv 2401.16861): its target, what a prediction says, and how it is sampled.

Equation 2 is ``E || e + x - x* - e_theta([x_t, m, x], t, z) ||^2``, in latents: x is the picture whose object does
not fit, shown whole; x* the one that is wanted; e the noise. The paper does not say how pictures are drawn with it,
and leaves open which latent x_t is of. Let a = sqrt(abar_t), s = sqrt(1 - abar_t), and p be a perfect prediction: p =
e + x - x*.

``input``: x_t = a x + s e. This is the letter of the paper, whose x_t in equation 1 is of x as well. In terms of x*
    it is a x* + s (e + (a / s)(x - x*)): what does not fit is counted as noise, and p is just that noise where a = s.
    At other levels a usual step goes wrong: it takes (x_t - s p) / a = x + (s / a)(x* - x) for x*. In the limit of
    small steps such sampling even ends at x: y = x_t / a follows d(y - x) / d(s/a) = (y - x) / (s/a) + x - x*, and
    all solutions go to 0 with s/a. But x is known, and so is e = (x_t - a x) / s. So at every level ``x* = x + e -
    p``.

``target``: x_t = a x* + s e, usual diffusion of x*. Of the two unknowns x* and e, x_t and p are two linear equations,
    so ``x* = (x_t - s (p - x)) / (a + s)``, which is stable at every level, for a + s >= 1; and e = p - x + x* goes
    into the usual step. Without this, sampling would end at x* as well, but only in the limit of small steps.

Either way a perfect prediction ends at x* itself, in however many steps.
"""

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

Noised = Literal["input", "target"]
Prediction = Callable[[Tensor, Tensor], Tensor]
"""From noisy latents (N, C, h, w) and a level, a scalar tensor, to what equation 2 trains, shaped as the latents."""


def target_of(noise: Tensor, given: Tensor, wanted: Tensor) -> Tensor:
    """What equation 2 has the network predict: e + x - x*, all (N, C, h, w)."""
    return noise + given - wanted


def wanted_of(made: Tensor, noisy: Tensor, given: Tensor, kept: Tensor, noised: Noised) -> Tensor:
    """What a prediction says that x* is, (N, C, h, w); see the module.

    Args:
        made: the prediction p.
        noisy: x_t.
        given: x.
        kept: abar_t, a tensor that goes with them.
        noised: which latent x_t is of.
    """
    a, s = kept.sqrt(), (1 - kept).sqrt()
    if noised == "input":
        return given + (noisy - a * given) / s - made
    return (noisy - s * (made - given)) / (a + s)


@torch.no_grad()
def sample(predict: Prediction, scheduler: Any, given: Tensor, noise: Tensor, *, steps: int, noised: Noised) -> Tensor:
    """Latents x* of latents x.

    With ``input`` the levels do not follow from one another: x is noised at each of them, and the mean of what they say
    is what comes back. With ``target`` they are steps of DDIM, and what the last one says comes back.

    Args:
        predict: see :data:`Prediction`.
        scheduler: a ``DDIMScheduler`` that predicts noise.
        given: x, (N, C, h, w).
        noise: standard normal, shaped as x.
        steps: how many levels.
        noised: as in training.
    """
    scheduler.set_timesteps(steps, device=noise.device)
    latents, total = noise, torch.zeros_like(given)
    for time in scheduler.timesteps:
        kept = scheduler.alphas_cumprod.to(noise.device)[time]
        noisy = scheduler.add_noise(given, noise, time[None]) if noised == "input" else latents
        wanted = wanted_of(predict(noisy, time), noisy, given, kept, noised)
        total = total + wanted
        latents = scheduler.step((noisy - kept.sqrt() * wanted) / (1 - kept).sqrt(), time, noisy).prev_sample
    return total / len(scheduler.timesteps) if noised == "input" else wanted
