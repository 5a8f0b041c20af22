"""Removes objects with a TorchScript network that takes a picture and a mask, as the published LaMa file does.

LaMa (Suvorov et al. 2022, arXiv 2109.07161) runs at any size that 8 divides. Its network is given (1, 3, H, W) colour
in 0..1 and a (1, 1, H, W) mask of 0 and 1, blanks the hole itself, and returns the whole picture, which is kept as it
is.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ...manifests.errors import RunError, UsageError
from ...manifests.weights import revision_of
from ..decomposition import U8, Bool, Decomposition

_MULTIPLE = 8


class TorchScriptRemover:
    """One network file on one device.

    Args:
        path: the TorchScript file; its code runs inside TorchScript and cannot reach Python.
        device: None = CUDA where there is one, else the CPU; float32 on both.

    Raises:
        UsageError: the file is no TorchScript.
    """

    def __init__(self, path: Path, device: str | None = None) -> None:
        import torch

        read: Any = torch.jit.load
        self.revision = revision_of(path)
        self._device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            self._network = read(str(path), map_location=self._device).eval()
        except RuntimeError as error:
            raise UsageError(f"expected a TorchScript file, got {path}: {str(error).splitlines()[0]}") from error

    def __call__(self, image: U8, mask: Bool, generator: np.random.Generator) -> Decomposition:
        """Return the network's picture at the size of ``image``, and no foreground; deterministic.

        Raises:
            RunError: the network returns another shape than it was given.
        """
        import torch

        height, width = mask.shape
        colour = torch.from_numpy(_padded(image)).permute(2, 0, 1)[None].float() / 255
        hole = torch.from_numpy(_padded(mask.astype(np.uint8)))[None, None].float()
        with torch.inference_mode():
            filled = self._network(colour.to(self._device), hole.to(self._device))
        if filled.shape != colour.shape:
            raise RunError(f"expected {tuple(colour.shape)} from the network, got {tuple(filled.shape)}")
        pixels = (filled[0, :, :height, :width].clamp(0, 1) * 255).round().byte()
        return Decomposition(np.ascontiguousarray(pixels.permute(1, 2, 0).cpu().numpy()))


def _padded(pixels: U8) -> U8:
    """Mirror rows and columns in at the bottom and the right, up to the next multiple of 8."""
    height, width = pixels.shape[:2]
    return np.asarray(
        cv2.copyMakeBorder(pixels, 0, -height % _MULTIPLE, 0, -width % _MULTIPLE, cv2.BORDER_REFLECT), np.uint8
    )
