"""A discriminator of patches (PatchGAN, Isola et al. 2017) and how a VAE is trained against it (Esser et al. 2021).

One optimiser trains both sides at once: the discriminator's loss sees the reconstruction without its history, the
VAE's loss sees the discriminator without its weights, so that neither gradient reaches the other's.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import relu

from ...manifests.errors import UsageError

_HIGHEST = 1e4  # of the adaptive weight, as in latent diffusion


@dataclass(frozen=True, kw_only=True)
class Adversarial:
    """How a discriminator takes part.

    Attributes:
        weight: of the adversarial loss, beside the adaptive one; 0 is without a discriminator.
        adaptive: with the adaptive weight; without it ``weight`` stands alone.
        start: step from which it counts; AlphaVAE begins at 4,000.
        width: channels of its first layer.
        depth: of its halvings.
    """

    weight: float = 0.0
    adaptive: bool = True
    start: int = 4000
    width: int = 64
    depth: int = 3

    def __post_init__(self) -> None:
        if self.weight < 0 or self.start < 0 or self.width < 8 or self.width % 8 or self.depth < 1:
            raise UsageError(
                "adversarial: expected weight and start of 0 or more, width a multiple of 8 and depth above 0, "
                f"got {self.weight}, {self.start}, {self.width} and {self.depth}"
            )


class PatchDiscriminator(nn.Module):
    """Scores of overlapping patches, high for real pictures.

    Args:
        channels: of a picture.
        options: ``width`` and ``depth`` are read.
    """

    def __init__(self, channels: int, options: Adversarial) -> None:
        super().__init__()
        widths = [options.width * min(2**k, 8) for k in range(options.depth + 1)]
        layers: list[nn.Module] = [nn.Conv2d(channels, widths[0], 4, 2, 1), nn.LeakyReLU(0.2)]
        for k, (before, width) in enumerate(pairwise(widths)):
            stride = 2 if k + 1 < options.depth else 1
            # groups rather than batches, which would make a picture's score depend on its neighbours
            layers += [nn.Conv2d(before, width, 4, stride, 1, bias=False), nn.GroupNorm(8, width), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 4, 1, 1))

    def forward(self, pictures: Tensor) -> Tensor:
        """(B, C, H, W) to scores (B, 1, h, w)."""
        scores: Tensor = self.layers(pictures)
        return scores


def adversarial_losses(
    discriminator: PatchDiscriminator, fake: Tensor, real: Tensor, loss: Tensor, last: Tensor, options: Adversarial
) -> dict[str, Tensor]:
    """What is added to a reconstruction's loss: hinge losses of both sides.

    Args:
        discriminator: in training.
        fake: reconstructions, (B, C, H, W).
        real: what they should be.
        loss: of the reconstruction; its gradient at ``last`` sets the adaptive weight.
        last: the weights of the decoder's last layer.
        options: ``weight`` and ``adaptive`` are read.

    Returns:
        ``adversarial``, weighted, of the VAE; ``discriminator``, of the other side.
    """
    frozen = {name: parameter.detach() for name, parameter in discriminator.named_parameters()}
    fooled: Tensor = -functional_call(discriminator, frozen, (fake,)).mean()
    judged = relu(1 - discriminator(real)).mean() + relu(1 + discriminator(fake.detach())).mean()
    adaptive = _adaptive_weight(loss, fooled, last) if options.adaptive else 1.0
    return {"adversarial": options.weight * adaptive * fooled, "discriminator": judged / 2}


def _adaptive_weight(loss: Tensor, fooled: Tensor, last: Tensor) -> Tensor:
    """The ratio of both gradients' norms at the last layer: neither outweighs the other (Esser et al., eq. 7)."""
    wanted, given = (torch.autograd.grad(one, last, retain_graph=True)[0].norm() for one in (loss, fooled))
    ratio: Tensor = wanted / (given + 1e-4)
    return ratio.clamp(0, _HIGHEST).detach()


def untouched(discriminator: nn.Module) -> Tensor:
    """A zero that depends on every weight, for DDP to find them all used before the discriminator takes part."""
    return 0 * torch.stack([parameter.sum() for parameter in discriminator.parameters()]).sum()
