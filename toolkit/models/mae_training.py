"""ASUKA's prior as the training loop sees it: a masked autoencoder that fills holes of any shape.

ASUKA (arXiv 2312.04831) fine-tunes MAE-FAR's autoencoder (arXiv 2208.01837) for continuous masks and says no more of
it. What it paints is the mean of what might be there: blurred, but never an object that nobody asked for.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ...manifests.errors import UsageError
from . import holes
from .mae import MaeSizes, MaskedAutoencoder, denormalised
from .mae_weights import fill, find_mae
from .sd_inpaint import pasted
from .system import Origin, System, Triplets

MASKS: Mapping[str, float] = {"brush": 0.4, "object": 0.4, "both": 0.2}
"""Shares of kinds of holes in MAE-FAR's training."""

Truth = Literal["background", "image"]


@dataclass(frozen=True, kw_only=True)
class AsukaMaeOptions:
    """Everything that makes a training of the autoencoder.

    Attributes:
        network: its sizes, which must be those of the base, where it begins with one.
        truth: the picture whose parts are hidden: the ``background``, so that it never learns to draw what is to be
            taken away; or the ``image``, as papers without layers have it. The default is ours.
        masks: kind of hole to its weight, see ``holes.KINDS``; MAE-FAR's shares.
        hidden: least share of the patches that are hidden: as many others are added at random. He et al. and MAE-FAR
            hide three quarters. ASUKA is silent: by default nothing is added, and it learns on what it is used for.
        normalised: whether the pixels that are learnt are those of a patch less its mean, by its deviation, as He et
            al. found better for recognition. MAE-FAR's are not, and a hole cannot be filled with such.
    """

    network: MaeSizes = field(default_factory=MaeSizes)
    truth: Truth = "background"
    masks: Mapping[str, float] = field(default_factory=lambda: dict(MASKS))
    hidden: float = 0.0
    normalised: bool = False

    def __post_init__(self) -> None:
        holes.check_kinds(self.masks)
        if not 0 <= self.hidden < 1:
            raise UsageError(f"hidden: expected a share in 0..1, below 1, got {self.hidden}")
        if not self.hidden and not any(weight for kind, weight in self.masks.items() if kind != "none"):
            raise UsageError("expected holes to learn from, got none; give masks of a kind, or hidden above 0")


class AsukaMae(System):
    """A masked autoencoder, all of which is trained.

    Args:
        options: see :class:`AsukaMaeOptions`.
        mae: to train.
    """

    def __init__(self, options: AsukaMaeOptions, mae: MaskedAutoencoder) -> None:
        super().__init__()
        self.options, self.mae = options, mae

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        """See :meth:`System.forward`: the squared error of the hidden patches, in ImageNet's deviations (He et al.)."""
        truth = getattr(batch, self.options.truth)
        mask = holes.draw(batch.mask, self.options.masks, generator)
        hidden = with_others(self.mae.hidden(self.mae.hole(mask)), self.options.hidden, generator)
        pixels, _ = self.mae.fitted(truth, torch.zeros_like(mask))
        target = self.mae.patches(pixels)
        target = by_patch(target) if self.options.normalised else target
        errors = (self.mae(pixels, hidden) - target).square().mean(2)
        return {"loss": (errors * hidden).sum() / hidden.sum().clamp(min=1)}

    @torch.no_grad()
    def decompose(self, image: Tensor, mask: Tensor, generator: torch.Generator) -> tuple[Tensor, None]:
        """See :meth:`System.decompose`: what is masked is filled, blurred; the rest comes back to the bit."""
        pixels, hole = self.mae.fitted(image, mask)
        patches = self.mae(pixels, self.mae.hidden(hole))
        if self.options.normalised:
            patches = _in_colours_of(patches, pixels, hole)
        filled = denormalised(self.mae.picture(patches))
        return pasted(interpolate(filled, image.shape[2:], mode="bilinear"), image, mask), None


def with_others(hidden: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Hidden patches, bool (N, L), with as many others at random as make up a share of all."""
    ranks = (hidden + torch.rand(hidden.shape, generator=generator).to(hidden.device)).argsort(1, descending=True)
    return hidden | (ranks.argsort(1) < round(share * hidden.shape[1]))


def by_patch(patches: Tensor) -> Tensor:
    """Each patch less its mean, by its deviation (He et al., section 3)."""
    variance, mean = torch.var_mean(patches, -1, keepdim=True)
    return (patches - mean) / (variance + 1e-6).sqrt()


def _in_colours_of(patches: Tensor, pixels: Tensor, hole: Tensor) -> Tensor:
    """Patches of :func:`by_patch` with the mean and deviation of what is seen, to be looked at."""
    seen = (~hole).to(pixels)
    count = seen.sum((1, 2, 3), keepdim=True).clamp(min=1)
    mean = (pixels * seen).sum((2, 3), keepdim=True) / count
    deviation = ((pixels - mean).square() * seen).sum((2, 3), keepdim=True).div(count).sqrt()
    per_pixel = torch.unflatten(patches, 2, (-1, 3))
    return (per_pixel * deviation.flatten(1)[:, None, None] + mean.flatten(1)[:, None, None]).flatten(2)


def build(options: AsukaMaeOptions, origin: Origin) -> AsukaMae:
    """An autoencoder of random weights, of the base, or of a run.

    Raises:
        UsageError: the base is no masked autoencoder, or one of other sizes.
        MissingWeights: the base is not on this machine.
    """
    system = AsukaMae(options, MaskedAutoencoder(options.network))
    if origin.base and origin.run is None and not origin.meta:
        fill(system.mae, find_mae(origin.base, origin.weights))
    return system
