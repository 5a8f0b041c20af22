"""How a system does on held-out triplets: scores of ``toolkit.metrics``, and pictures at fixed seeds.

A batch's noise is seeded by the key of its first sample, so that two steps of a run, and two runs of one ``micro``, are
compared on the same draws.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ...toolkit.compose import over_u8
from ...toolkit.metrics.layering import on_colour, recomposition_psnr
from ...toolkit.metrics.masks import soft_iou
from ...toolkit.metrics.pixels import psnr, ssim
from ...toolkit.models.system import Predicted, System, Triplets
from ...toolkit.pictures import sheet
from ..draw import seed_of
from .sample import Batch, Sample, collate

U8 = NDArray[np.uint8]

MOST = 100.0
"""PSNR of equal pictures, dB: their mean with others is to stay finite."""

_ROWS = 6  # samples that are shown
_SIDE = 128
_LEAST_FOR_SSIM = 11  # px, its window


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Made:
    """What a system made of one sample, 8-bit; None is what it does not make."""

    background: U8 | None
    foreground: U8 | None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Validation:
    """Mean scores by name, and a sheet of pictures."""

    scores: Mapping[str, float]
    pictures: U8


def triplets(batch: Batch, device: torch.device | str) -> Triplets:
    """A batch as the systems take it: floating, in 0..1."""
    layers = {
        name: getattr(batch, name).to(device, non_blocking=True).float() / 255
        for name in ("image", "foreground", "background", "mask")
    }
    return Triplets(**layers, has_foreground=batch.has_foreground.to(device), captions=batch.captions)


def torch_generator(seed: int, *names: str | int) -> torch.Generator:
    """A generator of the CPU, seeded by what it is for."""
    return torch.Generator().manual_seed(seed_of(str(seed), *names) % 2**63)


def validate(system: System, samples: Sequence[Sample], micro: int, seed: int) -> Validation:
    """Score a system on held-out samples.

    Args:
        system: in evaluation mode.
        samples: one at least.
        micro: samples that are held at a time.
        seed: of the system's randomness.
    """
    shown = samples[:_ROWS] if system.generates else samples
    layers = list(_predicted(system, shown, micro, seed))
    if system.generates:
        rows = list(_losses(system, samples, seed))
    else:
        rows = [_scores(sample, made) for sample, made in zip(samples, layers, strict=True)]
    return Validation(scores=_means(rows), pictures=_pictures(samples[:_ROWS], layers))


@torch.no_grad()
def _losses(system: System, samples: Sequence[Sample], seed: int) -> Iterator[Mapping[str, float]]:
    """The losses of held-out samples, a row each, all at the same noise at every step of a run."""
    device = next(system.parameters()).device
    for sample in samples:
        generator = torch_generator(seed, "validation", sample.key)
        losses = system(triplets(collate([sample]), device), generator, 0)
        yield {f"held_out_{name}": float(loss) for name, loss in losses.items()}


def _means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of each score over the samples that have it: in an empty region it is NaN, which is no value."""
    found: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if not math.isnan(value):
                found.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def _predicted(system: System, samples: Sequence[Sample], micro: int, seed: int) -> Iterator[Made]:
    """Layer by layer what the system makes; each batch's noise is seeded by its first key."""
    device = next(system.parameters()).device
    for some in (samples[k : k + micro] for k in range(0, len(samples), micro)):
        generator = torch_generator(seed, "validation", some[0].key)
        yield from _unstacked(system.predict(triplets(collate(some), device), generator), len(some))


def _unstacked(made: Predicted, count: int) -> Iterator[Made]:
    stacks = {name: _to_u8(getattr(made, name)) for name in ("background", "foreground")}
    for k in range(count):
        yield Made(**{name: None if stack is None else stack[k] for name, stack in stacks.items()})


def _to_u8(stack: torch.Tensor | None) -> U8 | None:
    if stack is None:
        return None
    levels = (stack.float().clamp(0, 1) * 255).round().to(torch.uint8)
    return np.ascontiguousarray(levels.permute(0, 2, 3, 1).cpu().numpy())


def _scores(sample: Sample, made: Made) -> dict[str, float]:
    scores: dict[str, float] = {}
    footprint = (sample.foreground[..., 3] > 0) if sample.has_foreground else sample.mask > 0
    if made.background is not None:
        scores["background_psnr"] = _capped(psnr(made.background, sample.background))
        scores["background_psnr_footprint"] = _capped(psnr(made.background, sample.background, footprint))
        if min(sample.mask.shape) >= _LEAST_FOR_SSIM:
            scores["background_ssim"] = ssim(made.background, sample.background)
    if made.foreground is not None and sample.has_foreground:
        scores["foreground_psnr"] = _capped(psnr(on_colour(made.foreground), on_colour(sample.foreground)))
        scores["alpha_iou"] = soft_iou(made.foreground[..., 3], sample.foreground[..., 3])
    if made.background is not None and made.foreground is not None:
        scores["recomposition_psnr"] = _capped(recomposition_psnr(made.foreground, made.background, sample.image))
    return scores


def _capped(decibel: float) -> float:
    return decibel if math.isnan(decibel) else min(decibel, MOST)


def _pictures(samples: Sequence[Sample], layers: Sequence[Made]) -> U8:
    """A row a sample: what came in, what was made, and the truth."""
    rows, titles = [], []
    for sample, made in zip(samples, layers, strict=False):
        panels = {"image": sample.image, "mask": sample.mask}
        if made.background is not None:
            panels |= {"background": made.background}
        if made.foreground is not None:
            panels |= {"foreground": made.foreground}
        if made.background is not None and made.foreground is not None:
            panels |= {"recomposition": over_u8(made.foreground, made.background)}
        panels |= {"true background": sample.background, "true foreground": sample.foreground}
        titles = list(panels)
        rows.append((sample.key, list(panels.values())))
    return sheet(titles, rows, _SIDE)
