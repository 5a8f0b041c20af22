"""What CaT2I-AE is trained on: Text2Layer (arXiv 2307.09781), equations 3, 4, 7 and 8.

    L      = L_img + λ L_mask,  λ = 1
    L_mask = l_1 + 2 l_comp + 3 l_lap
    l_comp = Σ_i sqrt((C_i - Ĉ_i)² + ε²),  Ĉ = m̂ F̂ + (1 - m̂) B̂,  ε = 1e-6
    l_lap  = Σ_{j=1..3} 2^(j-1) |φ_j(m̂) - φ_j(m)|₁

Equation 7 is printed without the root, and with the true mask where the text speaks of the predicted one; the root is
that of deep matting, which it cites. Sums over pixels are divided by the number of pixels, so that weights keep their
meaning at any size.
"""

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

_EPSILON = 1e-6
_BINOMIAL = (1.0, 4.0, 6.0, 4.0, 1.0)

LEVELS = 3
"""Of the pyramid, where pictures are large enough."""


def composition_loss(true: Tensor, foreground: Tensor, background: Tensor, mask: Tensor) -> Tensor:
    """l_comp: how far the predicted layers compose from the true composite, as a mean over pixels and colours.

    Args:
        true: (N, 3, H, W).
        foreground: predicted, (N, 3, H, W).
        background: predicted, (N, 3, H, W).
        mask: predicted, (N, 1, H, W), about 0..1.
    """
    composed = mask * foreground + (1 - mask) * background
    return ((true - composed) ** 2 + _EPSILON**2).sqrt().mean()


def laplacian_loss(predicted: Tensor, true: Tensor, levels: int = LEVELS) -> Tensor:
    """l_lap of masks (N, 1, H, W): absolute differences of their Laplacian pyramids, the coarse weighing more.

    The sum of each level, over all pixels of the first. Levels too small for the kernel are left out.
    """
    difference = predicted - true  # a pyramid is linear
    pixels = difference.numel()
    total = difference.new_zeros(())
    for j in range(levels):
        if min(difference.shape[-2:]) < len(_BINOMIAL):
            break
        smaller = _shrunk(difference)
        total = total + 2**j * (difference - _grown(smaller, difference.shape[-2:])).abs().sum() / pixels
        difference = smaller
    return total


def _kernel(like: Tensor, scale: float) -> Tensor:
    line = like.new_tensor(_BINOMIAL)
    return (scale * torch.outer(line, line) / line.sum() ** 2)[None, None]


def _shrunk(masks: Tensor) -> Tensor:
    """Every second pixel of the blurred masks (Burt and Adelson 1983), edges reflected."""
    return conv2d(pad(masks, (2, 2, 2, 2), mode="reflect"), _kernel(masks, 1.0), stride=2)


def _grown(masks: Tensor, size: torch.Size) -> Tensor:
    """Twice as large: zeros between the pixels, blurred to four times the brightness."""
    height, width = size
    apart = masks.new_zeros(*masks.shape[:2], 2 * masks.shape[-2], 2 * masks.shape[-1])
    apart[..., ::2, ::2] = masks
    blurred = conv2d(pad(apart, (2, 2, 2, 2), mode="reflect"), _kernel(masks, 4.0))
    return blurred[..., :height, :width]
