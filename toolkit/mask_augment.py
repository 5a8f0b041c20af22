"""Imperfect masks: what a person's brush, a box or a detector gives where a data set has the exact outline.

LayerDecomp (arXiv 2411.17864) trains and scores on tight and loose masks; Outpaint-and-Remove (arXiv 2511.20996) on
masks that are wrong on purpose, so that the model infers the true border. Their generators are not published; the
policies and ranges here are our own.

A policy takes a bool mask (H, W) and a generator and gives another; the object's *size* is the root of its area, px.
Policies expect a mask that is neither empty nor full; :func:`augment` takes any.
"""

import math
from collections.abc import Callable, Mapping

import cv2
import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import UsageError
from .matte import bounding_box

Mask = NDArray[np.bool_]
Policy = Callable[[Mask, np.random.Generator], Mask]

AREA = (0.25, 6.0)
"""Least and largest area of an augmented mask, as a multiple of the exact one's (LayerDecomp's loose masks: 3.7)."""

_LOOSE, _ERODED, _WRONG = 0.25, 0.15, 0.35  # largest radius, as a share of the object's size
_SIMPLER = (0.01, 0.05)  # least and largest distance of a simplified outline, as a share of its length


def tight(mask: Mask, rng: np.random.Generator) -> Mask:
    """The mask as it is."""
    return mask.copy()


def loose(mask: Mask, rng: np.random.Generator) -> Mask:
    """Dilated by a disc of a radius of 1 px up to a quarter of the object's size."""
    grown: Mask = _distance(~mask) <= _radius(mask, _LOOSE, rng)
    return grown


def eroded(mask: Mask, rng: np.random.Generator) -> Mask:
    """Eroded by a disc of up to 0.15 of the object's size; of a thinner object the innermost pixels stay."""
    depth = _distance(mask)
    inside: Mask = depth > min(_radius(mask, _ERODED, rng), depth.max() - 0.5)
    return inside


def polygonal(mask: Mask, rng: np.random.Generator) -> Mask:
    """The convex hull of the whole, or the outline of each piece with few corners, as a person would click it."""
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if rng.random() < 0.5:
        corners = [cv2.convexHull(np.concatenate(outlines))]
    else:
        share = rng.uniform(*_SIMPLER)
        corners = [cv2.approxPolyDP(line, share * cv2.arcLength(line, True), True) for line in outlines]
    return cv2.drawContours(np.zeros(mask.shape, np.uint8), corners, -1, 1, cv2.FILLED) > 0


def partly_wrong(mask: Mask, rng: np.random.Generator) -> Mask:
    """A bite out of the border, a blob of the surroundings beside it, or both."""
    rows, columns = np.nonzero(mask & (_distance(mask) < 2))
    out = mask.copy()
    for fault in ([False], [True], [False, True])[int(rng.integers(3))]:
        at = int(rng.integers(len(rows)))
        out[_ellipse(mask.shape, (int(columns[at]), int(rows[at])), mask, rng)] = fault
    return out


def box(mask: Mask, rng: np.random.Generator) -> Mask:
    """The bounding box."""
    out = np.zeros_like(mask)
    around = bounding_box(mask)
    if around is not None:
        out[around.slices] = True
    return out


POLICIES: dict[str, Policy] = {
    "tight": tight,
    "loose": loose,
    "eroded": eroded,
    "polygonal": polygonal,
    "partly-wrong": partly_wrong,
    "box": box,
}
"""Name to policy."""


def augment(mask: Mask, rng: np.random.Generator, weights: Mapping[str, float]) -> tuple[Mask, str]:
    """A mask by a policy that is drawn by weight.

    Args:
        mask: (H, W).
        rng: draws the policy and what it does.
        weights: policy to relative frequency, see :data:`POLICIES` and :func:`check_weights`.

    Returns:
        The new mask and the name of its policy. A result that is full, or whose area lies outside :data:`AREA`, is
        replaced by the exact mask, and so is that of an empty or full mask; the name then is ``tight``.
    """
    names = sorted(weights)
    shares = np.array([weights[name] for name in names], float)
    name = names[int(rng.choice(len(names), p=shares / shares.sum()))]
    area = np.count_nonzero(mask)
    if name != "tight" and 0 < area < mask.size:
        out = POLICIES[name](mask, rng)
        covered = np.count_nonzero(out)
        if AREA[0] * area <= covered <= min(AREA[1] * area, mask.size - 1):
            return out, name
    return mask.copy(), "tight"


def check_weights(weights: Mapping[str, float]) -> None:
    """Refuse weights that :func:`augment` cannot draw by.

    Raises:
        UsageError: an unknown policy, a negative weight, or none above 0.
    """
    unknown = sorted(weights.keys() - POLICIES.keys())
    if unknown:
        raise UsageError(f"masks: expected policies out of {', '.join(POLICIES)}, got {', '.join(unknown)}")
    sound = all(math.isfinite(weight) and weight >= 0 for weight in weights.values())
    if not sound or not sum(weights.values()):
        raise UsageError(f"masks: expected weights of 0 and more, one above 0, got {dict(weights)}")


def _radius(mask: Mask, share: float, rng: np.random.Generator) -> float:
    """Of a disc: 1 px up to ``share`` of the object's size."""
    return float(rng.uniform(1, max(1.0, share * math.sqrt(np.count_nonzero(mask)))))


def _distance(mask: Mask) -> NDArray[np.float32]:
    """Distance of each pixel of the mask to the nearest one outside, px; 0 outside. The border is no outside."""
    return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE), np.float32)


def _ellipse(shape: tuple[int, ...], centre: tuple[int, int], mask: Mask, rng: np.random.Generator) -> Mask:
    axes = round(_radius(mask, _WRONG, rng)), round(_radius(mask, _WRONG, rng))
    canvas = np.zeros(shape, np.uint8)
    return cv2.ellipse(canvas, centre, axes, float(rng.uniform(0, 180)), 0, 360, 1, cv2.FILLED) > 0
