"""Objects in colours that do not belong into their picture, to learn harmonising from: what iHarmony4 has ready.

iHarmony4 (Cong et al. 2020, arXiv 1911.13239) takes the colours of another picture, or of a photographer's retouching,
over to an object. Here an object's own colours are changed: a curve, a cast of each channel, brightness, saturation and
hue. The ranges are our own. Pictures are (N, 3, H, W) in 0..1, masks (N, 1, H, W), 0 or 1.
"""

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor

from ...manifests.errors import UsageError

_LUMA = (0.299, 0.587, 0.114)  # Rec. 601


@dataclass(frozen=True, kw_only=True)
class RecolourOptions:
    """Least and greatest of each change; all are drawn evenly, and all defaults are ours.

    Attributes:
        gamma: exponent of the curve, above 0.
        cast: factor of each channel, by itself.
        brightness: factor of all channels.
        saturation: 0 is grey.
        hue: degrees by which colours go round the grey axis.
    """

    gamma: tuple[float, float] = (0.7, 1.5)
    cast: tuple[float, float] = (0.85, 1.15)
    brightness: tuple[float, float] = (0.6, 1.4)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: tuple[float, float] = (-30.0, 30.0)

    def __post_init__(self) -> None:
        for name in (one.name for one in fields(self)):
            least, most = getattr(self, name)
            if not -math.inf < least <= most < math.inf or (name != "hue" and least < 0):
                raise UsageError(f"recolour.{name}: expected least and greatest, not below 0, got {least}, {most}")
        if self.gamma[0] == 0:
            raise UsageError("recolour.gamma: expected exponents above 0, got 0")


@dataclass(frozen=True, kw_only=True, eq=False)
class Changes:
    """What is done to the colours of N objects, in this order.

    Attributes:
        gamma: (N,).
        cast: with the brightness in it, (N, 3).
        saturation: (N,).
        hue: degrees, (N,).
    """

    gamma: Tensor
    cast: Tensor
    saturation: Tensor
    hue: Tensor


def draw_changes(options: RecolourOptions, count: int, generator: torch.Generator) -> Changes:
    """Changes of ``count`` objects, on the CPU, by a generator of the CPU."""

    def drawn(span: tuple[float, float], *shape: int) -> Tensor:
        return span[0] + (span[1] - span[0]) * torch.rand((count, *shape), generator=generator, device="cpu")

    gamma, cast = drawn(options.gamma), drawn(options.cast, 3) * drawn(options.brightness, 1)
    return Changes(gamma=gamma, cast=cast, saturation=drawn(options.saturation), hue=drawn(options.hue))


def recoloured(image: Tensor, mask: Tensor, changes: Changes) -> Tensor:
    """The picture with other colours where the mask is 1, cut to 0..1; elsewhere it is as it was, to the bit."""
    gamma, cast = changes.gamma.to(image).view(-1, 1, 1, 1), changes.cast.to(image)[..., None, None]
    curved = image.clamp(0, 1) ** gamma * cast
    turned = torch.einsum("nij,njhw->nihw", _turn(changes.saturation, changes.hue).to(image), curved)
    return torch.where(mask > 0, turned.clamp(0, 1), image)


def _turn(saturation: Tensor, hue: Tensor) -> Tensor:
    """(N, 3, 3) that saturates, then turns round the grey axis (Rodrigues' formula); both leave grey as it is."""
    grey = torch.tensor(_LUMA).expand(3, 3)
    spread = grey + saturation.view(-1, 1, 1) * (torch.eye(3) - grey)
    angle = torch.deg2rad(hue).view(-1, 1, 1)
    axis = torch.tensor([[0.0, -1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 1.0, 0.0]]) / math.sqrt(3)
    around = (
        torch.cos(angle) * torch.eye(3) + torch.sin(angle) * axis + (1 - torch.cos(angle)) * torch.full((3, 3), 1 / 3)
    )
    return around @ spread
