"""Fills a hole in a picture. One door, ``inpaint``, holds the contract for every method: only the hole changes.

Classical methods (PatchMatch, Telea, Navier-Stokes) need no weights; PatchMatch alone makes texture. Text2Layer fills
the dilated mask with Stable Diffusion 2 inpainting under an empty prompt, which ``sd-inpaint`` does; any inpainting
pipeline folder of diffusers serves as ``diffusers:DIR_OR_REPO``.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt

from ..manifests.errors import BadImage, RunError, UsageError
from ..manifests.weights import locate
from .diffusers_folders import find_folder
from .inpaint_diffusers import DiffusersInpaint

Bytes = npt.NDArray[np.uint8]
Bool = npt.NDArray[np.bool_]


class Inpainter(Protocol):
    """A named, versioned method. Call it through ``inpaint``, which holds the contract."""

    @property
    def name(self) -> str:
        """What provenance records call it."""

    @property
    def revision(self) -> str:
        """Which version ran: the library's, a commit or a content hash."""

    def __call__(self, image: Bytes, hole: Bool, seed: int) -> Bytes:
        """Fill the bool (H, W) hole of an 8-bit (H, W, 3) picture; what happens elsewhere is ignored."""


def inpaint(inpainter: Inpainter, image: Bytes, hole: Bool, seed: int = 0, dilate: int = 0) -> Bytes:
    """Fill ``hole`` of ``image``; every other pixel comes back bit for bit.

    Args:
        inpainter: the method.
        image: (H, W, 3), 8-bit RGB.
        hole: bool (H, W), True where pixels are to be replaced.
        seed: of every random choice; the same seed gives the same picture.
        dilate: grow the hole by so many pixels first (a disc), so that soft edges and shadows do not leak in.

    Returns:
        A new 8-bit (H, W, 3) picture; a copy where the hole is empty.

    Raises:
        UsageError: wrong shape, type or a negative ``dilate``.
        BadImage: ``hole_covers_image``, when no pixel remains to fill from.
        RunError: the method returned something other than a picture of this size.

    """
    _check(image, hole, dilate)
    if not hole.any():
        return image.copy()
    hole = dilated(hole, dilate)
    if hole.all():
        raise BadImage("hole_covers_image", f"no pixel of {hole.shape} is left outside the hole (dilated {dilate} px)")
    filled = inpainter(image, hole, seed)
    if filled.shape != image.shape or filled.dtype != np.uint8:
        raise RunError(
            f"inpainter {inpainter.name} must return 8-bit {image.shape}, it returned {filled.dtype} {filled.shape}"
        )
    result = image.copy()
    cv2.copyTo(np.ascontiguousarray(filled), hole.view(np.uint8), result)
    return result


def _check(image: Bytes, hole: Bool, dilate: int) -> None:
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise UsageError(f"expected an 8-bit picture (H, W, 3), got {image.dtype} {image.shape}")
    if hole.shape != image.shape[:2] or hole.dtype != bool:
        raise UsageError(f"expected a bool hole {image.shape[:2]}, as the picture is, got {hole.dtype} {hole.shape}")
    if dilate < 0:
        raise UsageError(f"expected a dilation of 0 px or more, got {dilate}")


def dilated(mask: Bool, radius: int) -> Bool:
    """Grow a bool (H, W) mask by a disc of ``radius`` pixels; a copy for 0."""
    disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * radius + 1, 2 * radius + 1))
    return np.asarray(cv2.dilate(mask.astype(np.uint8), disc), np.uint8).view(bool)


# ---- methods without weights


@dataclass(frozen=True)
class PatchMatch:
    """PatchMatch completion (Barnes et al. 2009) by PyPatchMatch: slow, but the one classical method with texture.

    Attributes:
        patch_radius: patches are 2r + 1 pixels wide; larger ones follow larger structures and cost more.
        scale: holes that are ``large`` are filled at this scale, then only the hole is enlarged: 0.5 takes a third of
            the time and loses some texture; 1 never does so.
        large: pixels from which a hole counts as large.
    """

    patch_radius: int = 3
    scale: float = 0.5
    large: int = 150_000
    name: str = "patchmatch"
    revision: str = version("PyPatchMatch")

    def __call__(self, image: Bytes, hole: Bool, seed: int) -> Bytes:
        """Return the 8-bit (H, W, 3) picture with its hole filled; deterministic for a seed."""
        if self.scale >= 1 or np.count_nonzero(hole) < self.large:
            return self._filled(image, hole, seed)
        height, width = hole.shape
        size = max(round(width * self.scale), 1), max(round(height * self.scale), 1)
        # A pixel that mixes in any of the hole belongs to it: nothing of what was there may seep out.
        hole_small = cv2.resize(hole.astype(np.float32), size, interpolation=cv2.INTER_AREA) > 0
        if hole_small.all():
            return self._filled(image, hole, seed)
        image_small = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
        small = self._filled(image_small, np.asarray(hole_small, bool), seed)
        return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)

    def _filled(self, image: Bytes, hole: Bool, seed: int) -> Bytes:
        import patchmatch

        if not patchmatch.patchmatch_available:
            raise UsageError(f"PyPatchMatch {self.revision} has no native library here; choose telea or navier-stokes")
        patchmatch.set_random_seed(seed % 2**32)
        return np.asarray(patchmatch.inpaint(image, hole, patch_size=self.patch_radius), np.uint8)


@dataclass(frozen=True)
class Telea:
    """Fast marching (Telea 2004) by OpenCV: smooth, without texture; the seed changes nothing."""

    radius: float = 3
    name: str = "telea"
    revision: str = f"opencv-{cv2.__version__}"

    def __call__(self, image: Bytes, hole: Bool, seed: int) -> Bytes:
        """Return the 8-bit (H, W, 3) picture with its hole filled."""
        return np.asarray(cv2.inpaint(image, hole.astype(np.uint8), self.radius, cv2.INPAINT_TELEA), np.uint8)


@dataclass(frozen=True)
class NavierStokes:
    """Isophotes carried in as a fluid (Bertalmio et al. 2001) by OpenCV: smooth; the seed changes nothing."""

    radius: float = 3
    name: str = "navier-stokes"
    revision: str = f"opencv-{cv2.__version__}"

    def __call__(self, image: Bytes, hole: Bool, seed: int) -> Bytes:
        """Return the 8-bit (H, W, 3) picture with its hole filled."""
        return np.asarray(cv2.inpaint(image, hole.astype(np.uint8), self.radius, cv2.INPAINT_NS), np.uint8)


# ---- loading


def _sd(weights: Path | None) -> Inpainter:
    # With an empty prompt both sides of the guidance are the same: leaving it out halves the time and changes nothing.
    return DiffusersInpaint(locate("sd-inpaint", weights), name="sd-inpaint", guidance=1.0, side=512)


def _sdxl(weights: Path | None) -> Inpainter:
    return DiffusersInpaint(locate("sdxl-inpaint", weights), name="sdxl-inpaint", side=1024)


def _flux(weights: Path | None) -> Inpainter:
    return DiffusersInpaint(locate("flux-fill", weights), name="flux-fill", side=1024)


INPAINTERS: dict[str, Callable[[Path | None], Inpainter]] = {
    "patchmatch": lambda weights: PatchMatch(),
    "telea": lambda weights: Telea(),
    "navier-stokes": lambda weights: NavierStokes(),
    "sd-inpaint": _sd,
    "sdxl-inpaint": _sdxl,
    "flux-fill": _flux,
}


def load_inpainter(name: str, weights: Path | None = None) -> Inpainter:
    """Return the inpainter called ``name``, or ``diffusers:DIR_OR_REPO`` for any inpainting pipeline of diffusers.

    Args:
        name: a key of ``INPAINTERS``, or ``diffusers:`` and a folder or a repository of the hub cache.
        weights: the folder given by ``--weights``, looked into before the hub cache.

    Raises:
        UsageError: unknown name, or the folder holds no inpainting pipeline.
        MissingWeights: the weights are not on this machine.

    """
    prefix, _, source = name.partition(":")
    if prefix == "diffusers" and source:
        return _from_diffusers(source)
    loader = INPAINTERS.get(name)
    if loader is None:
        raise UsageError(f"expected an inpainter ({', '.join(INPAINTERS)} or diffusers:DIR_OR_REPO), got {name!r}")
    return loader(weights)


def _from_diffusers(source: str) -> DiffusersInpaint:
    folder = find_folder(source)
    is_given = folder == Path(source).expanduser()
    return DiffusersInpaint(folder, name=f"diffusers:{folder.resolve().name if is_given else source}")


# ---- score


def texture_ratio(image: Bytes, hole: Bool, ring: int = 12) -> float:
    """Divide the gradient energy inside a hole by that in a ring around it: 1 = alike, near 0 = smeared.

    Energy is the mean squared Sobel gradient of the grey picture, plus the 1 that flat areas need to compare as equal.

    Args:
        image: (H, W, 3), 8-bit RGB, already inpainted.
        hole: bool (H, W).
        ring: width of the ring in pixels (a box around every pixel of the hole).

    Returns:
        The ratio, above 0; 1 where the hole or the ring is empty, for nothing can be told then.

    """
    rows, columns = np.flatnonzero(hole.any(1)), np.flatnonzero(hole.any(0))
    if not rows.size:
        return 1.0
    # One pixel more than the ring, for the gradient at its rim.
    top, left = max(rows[0] - ring - 1, 0), max(columns[0] - ring - 1, 0)
    window = np.s_[top : rows[-1] + ring + 2, left : columns[-1] + ring + 2]
    inside = hole[window].astype(np.uint8)
    around = cv2.dilate(inside, np.ones((2 * ring + 1, 2 * ring + 1), np.uint8)) - inside
    if not around.any():
        return 1.0
    energy = _gradient_energy(image[window])
    return (cv2.mean(energy, inside)[0] + 1) / (cv2.mean(energy, around)[0] + 1)


def _gradient_energy(image: Bytes) -> npt.NDArray[np.float32]:
    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    # An eighth makes the Sobel sums grey levels per pixel.
    across = cv2.Sobel(grey, cv2.CV_32F, 1, 0, scale=0.125)
    down = cv2.Sobel(grey, cv2.CV_32F, 0, 1, scale=0.125)
    return np.asarray(cv2.multiply(across, across) + cv2.multiply(down, down), np.float32)
