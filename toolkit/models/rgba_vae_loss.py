"""What an RGBA VAE is trained on, after AlphaVAE (arXiv 2507.09308).

The reconstruction loss is the composite's error expected over random backgrounds, in closed form. Beside it stand L1, a
perceptual distance, and the divergence from the normal distribution and from the RGB VAE's posterior.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...manifests.errors import UsageError
from .rgba_vae import Vae, over, posterior, premultiplied, signed

Perceptual = Callable[[Tensor, Tensor], Tensor]
Judge = Callable[[Tensor, Tensor, Tensor], dict[str, Tensor]]


@dataclass(frozen=True)
class Backgrounds:
    """What the loss knows of the random background b: red, green and blue in -1..1.

    Attributes:
        mean: E[b].
        square: E[b²].
    """

    mean: tuple[float, float, float]
    square: tuple[float, float, float]


#: Moments of natural pictures, as AlphaVAE publishes them.
NATURAL = Backgrounds(mean=(-0.0357, -0.0811, -0.1797), square=(0.3163, 0.3060, 0.3634))
#: Every colour is as likely as any other.
UNIFORM = Backgrounds(mean=(0.0, 0.0, 0.0), square=(1 / 3, 1 / 3, 1 / 3))


@dataclass(frozen=True)
class RgbaVaeOptions:
    """Weights of the parts that ``losses`` adds up; a part of weight 0 is not computed. Defaults are AlphaVAE's.

    AlphaVAE sums over a picture's pixels; here every part is such a sum divided by 3·H·W, which keeps their ratio at
    any size. LPIPS, one number a picture, is not divided, as in latent diffusion.

    Attributes:
        composite: of ``random_background_loss``.
        l1: of the absolute error in colour times alpha and in alpha; LayerDecomp (arXiv 2411.17864) trains on L1.
        perceptual: of the perceptual distance over black and over white, where a network is given.
        kl: of the posterior's divergence from the standard normal distribution.
        reference_kl: of its divergence from the RGB VAE's posterior, where that VAE is given; AlphaVAE's script
            has 1e-16, which is as good as nothing.
        backgrounds: what the composite's error is expected over.
    """

    composite: float = 1.0
    l1: float = 0.0
    perceptual: float = 0.5
    kl: float = 1e-6
    reference_kl: float = 0.0
    backgrounds: Backgrounds = NATURAL


def random_background_loss(pred: Tensor, target: Tensor, backgrounds: Backgrounds = NATURAL) -> Tensor:
    """Mean squared error of the composite, expected over backgrounds of one random colour (AlphaVAE).

    With premultiplied colours ac and a'c', D = ac - a'c' and d = a - a', the two composites over b differ by D - b d,
    so that E(D - b d)² = (D - E[b] d)² + (E[b²] - E[b]²) d². Only the first two moments of b matter.

    Args:
        pred: (B, 4, H, W), straight RGBA in -1..1.
        target: the same.
        backgrounds: the moments.

    Returns:
        A scalar: the mean over pictures, colours and pixels.
    """
    mean, square = (pred.new_tensor(moment).view(3, 1, 1) for moment in (backgrounds.mean, backgrounds.square))
    (colour, alpha), (true_colour, true_alpha) = premultiplied(pred), premultiplied(target)
    missed = true_alpha - alpha
    return ((true_colour - colour - mean * missed) ** 2 + (square - mean**2) * missed**2).mean()


def losses(
    vae: Vae,
    rgba: Tensor,
    options: RgbaVaeOptions,
    *,
    generator: torch.Generator | None = None,
    reference: Vae | None = None,
    perceptual: Perceptual | None = None,
    judge: Judge | None = None,
) -> dict[str, Tensor]:
    """Encode, decode and compare.

    Args:
        vae: an RGBA VAE.
        rgba: (B, 4, H, W), straight: uint8, or floating in -1..1.
        options: the weights.
        generator: draws the latent from the posterior; without one it is the mode.
        reference: the frozen RGB VAE that ``vae`` was made from; it sees the colour that ``vae`` sees.
        perceptual: from two batches of RGB in -1..1 to their distances, of any shape; LPIPS, say.
        judge: from reconstruction and truth, premultiplied RGBA in -1..1, and the loss so far to further parts, already
            weighted; a discriminator, say.

    Returns:
        Scalars: each part before its weight, under its option's name, and ``loss``, their weighted sum.

    Raises:
        UsageError: ``reference_kl`` has a weight and there is no reference, or the pictures have no alpha.
    """
    if options.reference_kl and reference is None:
        raise UsageError("expected the RGB VAE for reference_kl, got none; give it or set reference_kl = 0")
    target = signed(rgba)
    spread = posterior(vae, target)
    latent = spread.mode() if generator is None else spread.sample(generator)
    pred = vae.decode(latent).sample.float()
    samples = 3 * target.shape[-2] * target.shape[-1]
    parts: dict[str, Callable[[], Tensor]] = {
        "composite": lambda: random_background_loss(pred, target, options.backgrounds),
        "l1": lambda: _l1(pred, target),
        "kl": lambda: spread.kl().mean() / samples,
    }
    if perceptual is not None:
        parts["perceptual"] = lambda: _perceptual(perceptual, pred, target)
    if reference is not None:
        parts["reference_kl"] = lambda: _reference_kl(spread, reference, target) / samples
    computed = {name: part() for name, part in parts.items() if getattr(options, name)}
    loss = sum((getattr(options, name) * part for name, part in computed.items()), pred.new_zeros(()))
    judged = judge(_seen(pred), _seen(target), loss) if judge else {}
    return {"loss": sum(judged.values(), loss), **computed, **judged}


def _seen(rgba: Tensor) -> Tensor:
    """Colour times alpha, and alpha, (B, 4, H, W) in -1..1: a hidden colour cannot be told."""
    return torch.cat([premultiplied(rgba)[0], rgba[:, 3:]], 1)


def _l1(pred: Tensor, target: Tensor) -> Tensor:
    (colour, alpha), (true_colour, true_alpha) = premultiplied(pred), premultiplied(target)
    return (colour - true_colour).abs().mean() + (alpha - true_alpha).abs().mean()


def _perceptual(distance: Perceptual, pred: Tensor, target: Tensor) -> Tensor:
    return torch.stack([distance(over(pred, shade), over(target, shade)).mean() for shade in (-1.0, 1.0)]).mean()


def _reference_kl(spread: Any, reference: Vae, target: Tensor) -> Tensor:
    """Mean over pictures of KL(spread || reference's posterior), summed over the latent."""
    with torch.no_grad():
        known = posterior(reference, premultiplied(target)[0])
    divergence: Tensor = spread.kl(known)
    return divergence.mean()
