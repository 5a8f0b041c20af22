"""Mattes: alpha, mask and trimap, their components and borders, refinement of a hard mask, and foreground colour.

``alpha`` is 8-bit (H, W), ``mask`` is bool (H, W), ``image`` is 8-bit RGB (H, W, 3).
"""

import sys
from contextlib import redirect_stdout
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

U8 = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Float = NDArray[np.floating[Any]]

BACKGROUND, UNKNOWN, FOREGROUND = 0, 128, 255
"""The three values of a trimap."""

DIRT_LOW, DIRT_HIGH = 12, 250
"""Alpha at or below 12 is meant as clear, at or above 250 as opaque: measured on LayerDiffuse outputs, which leave a
haze of 1 to 12 over most of an empty canvas."""


class Box(NamedTuple):
    """A half-open pixel box: rows top..bottom, columns left..right."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def height(self) -> int:
        """Rows."""
        return self.bottom - self.top

    @property
    def width(self) -> int:
        """Columns."""
        return self.right - self.left

    @property
    def slices(self) -> tuple[slice, slice]:
        """The box as an index into an (H, W, …) array."""
        return slice(self.top, self.bottom), slice(self.left, self.right)

    def grown(self, margin: int, shape: tuple[int, ...]) -> "Box":
        """The box with ``margin`` pixels more on each side, kept inside an array of ``shape``."""
        top, left = max(0, self.top - margin), max(0, self.left - margin)
        return Box(top, left, min(shape[0], self.bottom + margin), min(shape[1], self.right + margin))


def mask_of(alpha: U8) -> Mask:
    """Alpha to hard mask: more than half covered."""
    return alpha > 127


def bounding_box(mask: NDArray[Any]) -> Box | None:
    """The smallest box around the non-zero pixels, or None where there is none."""
    rows = np.flatnonzero(mask.any(axis=1))
    if rows.size == 0:
        return None
    columns = np.flatnonzero(mask[rows[0] : rows[-1] + 1].any(axis=0))
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def trimap(mask: Mask, band: int) -> U8:
    """A trimap whose unknown band reaches ``band`` pixels to both sides of the mask's border."""
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * band + 1, 2 * band + 1))
    hard = mask.astype(np.uint8)
    outer, inner = cv2.dilate(hard, kernel), cv2.erode(hard, kernel, borderValue=1)
    return np.where(inner > 0, FOREGROUND, np.where(outer > 0, UNKNOWN, BACKGROUND)).astype(np.uint8)


def component_areas(mask: Mask) -> NDArray[np.int64]:
    """Areas in pixels of the 8-connected components, largest first."""
    box = bounding_box(mask)
    inside = mask[box.slices] if box else mask[:1]
    _, _, stats, _ = cv2.connectedComponentsWithStats(inside.astype(np.uint8), connectivity=8)
    return np.sort(stats[1:, cv2.CC_STAT_AREA].astype(np.int64))[::-1]


def fragments(mask: Mask, minimum: int = 100) -> int:
    """Number of 8-connected components of at least ``minimum`` pixels (Text2Layer counts those of 100 and more)."""
    return int((component_areas(mask) >= minimum).sum())


def without_specks(mask: Mask, share: float = 0.02) -> Mask:
    """The mask without components smaller than ``share`` of its largest one."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    if count <= 2:
        return mask
    areas = stats[:, cv2.CC_STAT_AREA]
    keep = areas >= share * areas[1:].max()
    keep[0] = False
    kept: Mask = keep[labels]
    return kept


def border_share(mask: NDArray[Any]) -> float:
    """Share of the picture's outermost pixels that the mask covers: above zero, the object may be cut off."""
    edges = np.concatenate([mask[0], mask[-1], mask[1:-1, 0], mask[1:-1, -1]])
    return float(np.count_nonzero(edges) / edges.size)


def haze(alpha: U8) -> float:
    """Share of an object's pixels that are half transparent *inside*, away from its edge; 0 for a crisp cut-out.

    An edge of up to 4 px is allowed for: what remains is glass, smoke, or a matte that failed.
    """
    covered = (alpha > DIRT_LOW).astype(np.uint8)
    inner = cv2.erode(covered, np.ones((9, 9), np.uint8), borderValue=0) > 0
    soft = inner & (alpha < DIRT_HIGH)
    return int(np.count_nonzero(soft)) / max(1, int(np.count_nonzero(covered)))


def clean_alpha(alpha: U8, low: int = DIRT_LOW, high: int = DIRT_HIGH) -> U8:
    """Clamp near-clear and near-opaque alpha and drop specks; what lies between stays untouched."""
    clamped = np.where(alpha <= low, 0, np.where(alpha >= high, 255, alpha)).astype(np.uint8)
    return np.where(without_specks(clamped > 0), clamped, 0).astype(np.uint8)


def refine(image: U8, mask: Mask, *, band: int = 4, method: Literal["closed-form", "guided"] = "closed-form") -> U8:
    """A hard mask into a soft alpha, changed only within ``band`` pixels of its border.

    Args:
        image: the picture the mask belongs to.
        mask: the object.
        band: half width of the unknown band, px.
        method: ``closed-form`` matting (Levin et al. 2008, by PyMatting; the guided filter where an object is too thin
            to be sure of any pixel) or the ``guided`` filter (He et al. 2010).

    Returns:
        8-bit alpha (H, W).
    """
    box = bounding_box(mask)
    if box is None or mask.all():
        return mask.astype(np.uint8) * 255
    region = box.grown(2 * band + 2, mask.shape).slices
    known = trimap(mask[region], band)
    alpha = np.zeros(mask.shape, np.uint8)
    solvable = (known == FOREGROUND).any() and (known == BACKGROUND).any()  # else the linear system is singular
    closed = method == "closed-form" and solvable
    soft = _closed_form(image[region], known) if closed else _guided(image[region], mask[region])
    alpha[region] = np.where(known == UNKNOWN, np.rint(np.clip(soft, 0, 1) * 255), known)
    return alpha


def _closed_form(image: U8, known: U8) -> Float:
    from pymatting import estimate_alpha_cf

    with redirect_stdout(sys.stderr):  # where it prints of a preconditioner that it tries anew; stdout is for results
        alpha: Float = estimate_alpha_cf(image / 255.0, known / 255.0)
    return alpha


def _guided(image: U8, mask: Mask, radius: int = 4, eps: float = 1e-4) -> Float:
    """Guided filter of the hard mask with the grey picture as its guide (He et al. 2010, equations 5 and 6)."""
    guide = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) / 255
    target = mask.astype(np.float32)
    window = (2 * radius + 1, 2 * radius + 1)
    mean_guide, mean_target = cv2.blur(guide, window), cv2.blur(target, window)
    variance = cv2.blur(guide * guide, window) - mean_guide**2
    covariance = cv2.blur(guide * target, window) - mean_guide * mean_target
    a = covariance / (variance + eps)
    b = mean_target - a * mean_guide
    soft: Float = cv2.blur(a, window) * guide + cv2.blur(b, window)
    return soft


def estimate_colour(image: U8, alpha: U8) -> U8:
    """Colour under a soft alpha (multi-level, Germer et al. 2020, by PyMatting): 8-bit RGB, zero where clear.

    Opaque pixels keep the picture's colour bit for bit.
    """
    from pymatting import estimate_foreground_ml

    box = bounding_box(alpha)
    colour = np.zeros_like(image)
    if box is None:
        return colour
    region = box.grown(16, alpha.shape).slices
    estimate = estimate_foreground_ml(image[region] / 255.0, alpha[region] / 255.0)
    colour[region] = np.rint(np.clip(estimate, 0, 1) * 255)
    colour[alpha == 255] = image[alpha == 255]
    colour[alpha == 0] = 0
    return colour


def cut_out(image: U8, mask: Mask, band: int) -> U8:
    """The object of a hard mask as straight RGBA: alpha by :func:`refine`, colour by :func:`estimate_colour`."""
    alpha = refine(image, mask, band=band)
    return np.dstack([estimate_colour(image, alpha), alpha])
