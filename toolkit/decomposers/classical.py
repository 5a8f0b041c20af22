"""Baselines that need no weights: the picture as it is, holes filled, and closed-form matting over a fill."""

from dataclasses import dataclass
from importlib.metadata import version

import cv2
import numpy as np

from ..decomposition import U8, Bool, Decomposition
from ..inpaint import Inpainter, dilated, inpaint
from ..matte import cut_out

_RING = 10
_BAND_SHARE = 100


@dataclass(frozen=True)
class Identity:
    """The picture itself as the background: what a score is worth when nothing is removed."""

    revision: str = "1"

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Return a copy of the picture, and no foreground."""
        return Decomposition(image.copy())


@dataclass(frozen=True)
class MeanFill:
    """An ``Inpainter``: the mean colour of a ring of 10 px around the hole."""

    name: str = "mean-fill"
    revision: str = "1"

    def __call__(self, image: U8, hole: Bool, seed: int) -> U8:
        """Fill the bool (H, W) hole of an 8-bit (H, W, 3) picture; deterministic."""
        ring = dilated(hole, _RING) & ~hole
        filled = image.copy()
        filled[hole] = np.rint(cv2.mean(image, ring.astype(np.uint8))[:3]).astype(np.uint8)
        return filled


@dataclass(frozen=True)
class Fill:
    """Removes the object by any ``Inpainter``; no pixel outside the mask changes."""

    inpainter: Inpainter

    @property
    def revision(self) -> str:
        """The inpainter's."""
        return self.inpainter.revision

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Return the filled picture, and no foreground.

        Raises:
            BadImage: ``hole_covers_image``.
        """
        return Decomposition(inpaint(self.inpainter, image, mask, seed_from(generator)))


@dataclass(frozen=True)
class ClosedFormMatting:
    """Closed-form matting (Levin et al. 2008) of the mask, multi-level colour, and a fill behind it.

    The unknown band reaches a hundredth of the longer side to both sides of the mask's border, and the fill begins
    where the band ends.
    """

    inpainter: Inpainter

    @property
    def revision(self) -> str:
        """Of PyMatting and of the inpainter."""
        return f"pymatting-{version('pymatting')}+{self.inpainter.name}-{self.inpainter.revision}"

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Return both layers.

        Raises:
            BadImage: ``hole_covers_image``.
        """
        band = max(round(max(mask.shape) / _BAND_SHARE), 2)
        foreground = cut_out(image, mask, band)
        return Decomposition(inpaint(self.inpainter, image, mask, seed_from(generator), dilate=band), foreground)


def seed_from(generator: np.random.Generator) -> int:
    """Draw a seed of 32 bits for a method that takes one."""
    return int(generator.integers(2**32))
