"""LayerFusion's sampler: foreground, blended and background, stepped together by one forward of one network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .layerfusion_attention import STREAMS, Fusion


@dataclass(frozen=True, eq=False, kw_only=True)
class Texts:
    """What the streams are told. Rows are (halves, streams, N), flattened; the half without text comes first.

    Attributes:
        states: (rows, L, width), what cross-attention reads.
        added: the network's other conditions, each of as many rows; SDXL's ``text_embeds`` and ``time_ids``.
        eos: where the foregrounds' texts end, (N,).
        halves: 2 with guidance, else 1.
    """

    states: Tensor
    added: Mapping[str, Tensor]
    eos: Tensor
    halves: int = 2

    def foreground(self) -> "Texts":
        """Of the foregrounds with their text alone."""
        first, count = (self.halves - 1) * STREAMS * len(self.eos), len(self.eos)
        added = {name: rows[first : first + count] for name, rows in self.added.items()}
        return Texts(states=self.states[first : first + count], added=added, eos=self.eos, halves=1)


class Sampled(NamedTuple):
    """Latents (3, N, C, h, w) of the streams, and m_soft of every step, (steps, N, h', w') in 0..1."""

    latents: Tensor
    masks: Tensor


@torch.no_grad()
def sample(
    unet: Any, scheduler: Any, noise: Tensor, texts: Texts, fusion: Fusion, *, steps: int, guidance: float
) -> Sampled:
    """Step the three streams from noise to pictures.

    Args:
        unet: a network that :func:`~.layerfusion_attention.fuse` was called on.
        scheduler: of diffusers.
        noise: (3, N, C, h, w), of unit variance.
        texts: of the streams.
        fusion: what ``fuse`` returned.
        steps: sampling steps.
        guidance: classifier-free guidance scale; not looked at where the texts have one half.
    """
    fusion.begin((noise.shape[-2], noise.shape[-1]), texts.eos, texts.halves)
    scheduler.set_timesteps(steps, device=noise.device)
    x, masks = noise.flatten(0, 1) * scheduler.init_noise_sigma, []
    ahead = fusion.options.timing == "prepass"
    for t in scheduler.timesteps:
        seen = scheduler.scale_model_input(x, t)
        if ahead:
            masks.append(_looked_ahead(unet, seen, t, texts, fusion))
        guess = _guided(_predicted(unet, seen.repeat(texts.halves, 1, 1, 1), t, texts), texts.halves, guidance)
        if not ahead:
            masks.append(fusion.renew())
        x = scheduler.step(guess, t, x, return_dict=False)[0]
    return Sampled(x.reshape(noise.shape), torch.stack([mask.float().cpu() for mask in masks]))


def _looked_ahead(unet: Any, seen: Tensor, t: Tensor, texts: Texts, fusion: Fusion) -> Tensor:
    """The mask of this step, read of a pass of the foregrounds alone."""
    fusion.alone = True
    try:
        _predicted(unet, seen[: len(texts.eos)], t, texts.foreground())
    finally:
        fusion.alone = False
    return fusion.renew()


def _predicted(unet: Any, rows: Tensor, t: Tensor, texts: Texts) -> Tensor:
    guess: Tensor = unet(rows, t, texts.states, added_cond_kwargs=dict(texts.added), return_dict=False)[0]
    return guess


def _guided(guess: Tensor, halves: int, guidance: float) -> Tensor:
    if halves == 1:
        return guess
    without, informed = guess.chunk(2)
    return without + guidance * (informed - without)
