"""Cast shadows from an object's alpha, its ground contact, a light and an intensity.

A *standing* object is a curtain that rises from its contact line, the lower edge of its silhouette. A point at height h
above the contact c(x) throws its shadow on the ground at

    (u, v) = (x + kx h, c(x) - ky h),   kx = cot(elevation) cos(azimuth),  ky = cot(elevation) sin(azimuth) f

with f the foreshortening of the ground. The contact line is piecewise linear, so the map is affine between its vertices
and exact. The penumbra grows in proportion to the distance from the contact (contact hardening): the silhouette is
blurred by a width proportional to h *before* it is projected, which equals averaging the hard shadows of an area light
(SSN, Sheng et al. 2021) to first order; a test compares the two. A *lying* object (seen from above) is a thin slab: its
silhouette, extruded along the light.
"""

import math
from dataclasses import dataclass
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import UsageError
from .compose import MAX_SHADOW
from .matte import Box, bounding_box

Float = NDArray[np.floating[Any]]
U8 = NDArray[np.uint8]
Stance = Literal["standing", "lying"]

FORESHORTENING = 0.45
"""Vertical picture extent of a unit of ground depth: a camera that looks down by about 27 degrees."""

_RISE = 0.25  # the contact line may climb by this share of the object's width: half the depth of a round foot, seen so
_SLAB = 0.06  # height of a lying object as a share of its smaller side
_LEVELS = 4  # blurred copies between which the penumbra is interpolated


@dataclass(frozen=True, slots=True, kw_only=True)
class Light:
    """Where the light of a scene comes from, told by where shadows fall.

    Attributes:
        azimuth: direction in which shadows fall on the ground, degrees: 0 to the right, 90 away from the viewer,
            180 to the left, 270 towards the viewer.
        elevation: height of the light above the horizon, degrees, 0 < elevation < 90.
        size: angular diameter of the light, radians; the penumbra is this wide per unit of distance.
        strength: attenuation in the umbra, 0..0.85.
        contact: further attenuation where the object touches the ground, as a share of ``strength``.
    """

    azimuth: float
    elevation: float
    size: float
    strength: float
    contact: float

    @property
    def slope(self) -> tuple[float, float]:
        """(kx, ky): the shadow's shift in the picture per unit of height, to the right and upwards."""
        reach = 1 / math.tan(math.radians(self.elevation))
        angle = math.radians(self.azimuth)
        return reach * math.cos(angle), reach * math.sin(angle) * FORESHORTENING


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowOptions:
    """Distributions that lights are drawn from: hard sun, or a wide soft light.

    Measured on the three DESOBA pairs (``benchmarks/experiments/shadow_statistics.py``; n = 3, all conspicuous sun
    shadows, so the defaults are priors): attenuation of the core 0.73, 0.83, 0.69 (mean 0.75, sd 0.06, of 5 px means;
    10th to 90th percentile of single pixels 0.64 to 0.92); no contact darkening (core near the foot over the rest 0.89,
    1.11, 1.00); 10-90 % penumbra 2.0 to 2.3 px at 256 px with no measurable growth (the sun's own 0.0093 rad bounds
    it); length over height 0.95, 1.47, 0.24; all three fall away from the viewer. Seven scenes with hard shadows: 0.75,
    sd 0.09. Indoor pairs: 0.02 to 0.13 at the feet, gone within 0.4 heights. Conspicuous shadows are overrepresented,
    hence a mean of 0.68.

    Attributes:
        none: probability that a scene casts no shadow at all.
        soft: probability that the light of a scene with shadows is soft.
        strength: of sun: mean, standard deviation, least and largest attenuation of the umbra (a clipped normal).
        size: of sun: median, log standard deviation, least and largest angular diameter, radians (a clipped
            log-normal).
        contact: of sun: least and largest contact darkening.
        soft_strength: as ``strength``, of soft light.
        soft_size: least and largest angular diameter of soft light, radians, drawn log-uniformly.
        soft_contact: as ``contact``, of soft light.
        elevation: least and largest elevation, degrees.
        away: probability that shadows lean away from the viewer rather than towards.
    """

    none: float = 0.1
    soft: float = 0.35
    strength: tuple[float, float, float, float] = (0.68, 0.11, 0.35, 0.85)
    size: tuple[float, float, float, float] = (0.012, 0.4, 0.006, 0.03)
    contact: tuple[float, float] = (0.0, 0.2)
    soft_strength: tuple[float, float, float, float] = (0.32, 0.1, 0.1, 0.5)
    soft_size: tuple[float, float] = (0.05, 0.4)
    soft_contact: tuple[float, float] = (0.6, 1.2)
    elevation: tuple[float, float] = (25.0, 65.0)
    away: float = 0.8

    def __post_init__(self) -> None:
        for name in ("none", "soft", "away"):
            if not 0 <= getattr(self, name) <= 1:
                raise UsageError(f"shadow.{name}: a probability lies in 0..1, got {getattr(self, name)}")
        if not 0 < self.elevation[0] <= self.elevation[1] < 90:
            raise UsageError(f"shadow.elevation: expected 0 < least <= most < 90 degrees, got {self.elevation}")
        if max(self.strength[3], self.soft_strength[3]) > MAX_SHADOW:
            raise UsageError(
                f"shadow.strength: at most {MAX_SHADOW}, or the object's alpha cannot be read back from 8 bits"
            )


def draw_light(rng: np.random.Generator, options: ShadowOptions) -> Light | None:
    """Draw the light of a scene, or None for a scene without shadows.

    Azimuths within 12 degrees of the picture plane are left out: a flat silhouette lit along its own plane throws a
    line.
    """
    if rng.random() < options.none:
        return None
    soft = rng.random() < options.soft
    mean, std, least, most = options.soft_strength if soft else options.strength
    away = rng.random() < options.away
    return Light(
        azimuth=float(rng.uniform(12, 168) + (0 if away else 180)),
        elevation=float(rng.uniform(*options.elevation)),
        size=_soft_size(rng, options) if soft else _sun_size(rng, options),
        strength=float(np.clip(rng.normal(mean, std), least, most)),
        contact=float(rng.uniform(*(options.soft_contact if soft else options.contact))),
    )


def _soft_size(rng: np.random.Generator, options: ShadowOptions) -> float:
    return float(np.exp(rng.uniform(*np.log(options.soft_size))))


def _sun_size(rng: np.random.Generator, options: ShadowOptions) -> float:
    median, spread, least, most = options.size
    return float(np.clip(median * np.exp(rng.normal(0, spread)), least, most))


def contact_line(alpha: U8, box: Box) -> NDArray[np.float64]:
    """Vertices (x, y) of the line on which an object stands, left to right, in picture coordinates.

    The lower hull of the silhouette, so that an arch (the belly between two wheels) is off the ground; it climbs at
    most a quarter of the object's width above the lowest point, so that what overhangs is not taken for ground.
    """
    mask = alpha[box.slices] > 127
    columns = np.flatnonzero(mask.any(axis=0))
    if columns.size == 0:
        return np.array([[box.left, box.bottom], [box.right, box.bottom]], np.float64)
    bottoms = box.height - np.argmax(mask[::-1, columns], axis=0)
    floor = bottoms.max() - _RISE * box.width
    chain = _lower_hull(columns + 0.5, np.maximum(bottoms, floor))
    chain[0, 0], chain[-1, 0] = 0, box.width
    chain += (box.left, box.top)
    return chain


def _lower_hull(x: Float, y: Float) -> NDArray[np.float64]:
    """Lower convex hull (y grows downwards) of points sorted by x, first to last, thinned to nine vertices."""
    points = np.stack([x, y], axis=1).astype(np.float32)
    if len(points) < 3:
        return np.array([points[0], points[-1] + (len(points) == 1, 0)], np.float64)
    hull = cv2.convexHull(points)[:, 0]
    first, last = points[0], points[-1]
    chord = first[1] + (hull[:, 0] - first[0]) * (last[1] - first[1]) / (last[0] - first[0])
    below = hull[hull[:, 1] > chord]
    below = below[(below[:, 0] > first[0]) & (below[:, 0] < last[0])]
    chain = np.vstack([first, below[np.argsort(below[:, 0])], last]).astype(np.float64)
    if len(chain) <= 9:
        return chain
    knots = np.linspace(chain[0, 0], chain[-1, 0], 9)
    return np.stack([knots, np.interp(knots, chain[:, 0], chain[:, 1])], axis=1)


def cast_shadow(alpha: U8, light: Light, *, stance: Stance = "standing") -> NDArray[np.float32]:
    """The shadow of one object on the ground of its own canvas.

    Args:
        alpha: object alpha on the canvas, 8-bit (H, W).
        light: direction, size and strength.
        stance: ``standing`` on its lower edge, or ``lying`` (seen from above).

    Returns:
        Attenuation (H, W), float32, 0..0.85. It is zero where the object is opaque (a shadow never lies on the object
        itself) and what would fall beside the canvas is cut off.
    """
    box = bounding_box(alpha > 127)
    out = np.zeros(alpha.shape, np.float32)
    if box is None:
        return out
    reach = _reach(box, light, alpha.shape)
    part = np.ascontiguousarray(alpha[reach.slices])
    inner = Box(box.top - reach.top, box.left - reach.left, box.bottom - reach.top, box.right - reach.left)
    umbra, touch = (_standing if stance == "standing" else _lying)(part, inner, light)
    # Two ways in which ground loses light: the lamp is hidden, and the sky is.
    shade = 1 - (1 - light.strength * umbra) * (1 - light.strength * light.contact * touch)
    out[reach.slices] = np.where(part == 255, 0, np.clip(shade, 0, MAX_SHADOW))
    return out


def _reach(box: Box, light: Light, shape: tuple[int, ...]) -> Box:
    """The part of the canvas that a shadow may touch: the object, the throw of its top, and the widest penumbra."""
    kx, ky = light.slope
    dx, dy = kx * box.height, (1 - ky) * box.height  # how far the top of the object is moved
    margin = math.ceil(0.1 * max(box.width, box.height) + light.size * math.hypot(dx, dy, box.height)) + 4
    left, right = min(box.left, box.left + dx), max(box.right, box.right + dx)
    bottom = max(box.bottom, box.top + dy)
    thrown = Box(math.floor(min(box.top, box.top + dy)), math.floor(left), math.ceil(bottom), math.ceil(right))
    top, left, bottom, right = thrown.grown(margin, shape)
    # Even edges: at half resolution every scene then falls on the same grid as its mirror image.
    return Box(top - top % 2, left - left % 2, min(shape[0], bottom + bottom % 2), min(shape[1], right + right % 2))


def _standing(alpha: U8, box: Box, light: Light) -> tuple[Float, Float]:
    chain = contact_line(alpha, box)
    half = alpha.shape[0] * alpha.shape[1] > 128 * 128  # shadows carry no detail: half the resolution is enough
    scale = 0.5 if half else 1.0
    canvas = (math.ceil(alpha.shape[0] * scale), math.ceil(alpha.shape[1] * scale))
    small = cv2.resize(alpha, canvas[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    line = chain * scale
    reach = Box(*(int(v * scale) for v in box[:2]), *(math.ceil(v * scale) for v in box[2:]))
    umbra = _project(_soften(small, reach, line, light), line, light)
    touch = _touch(small, reach, line)
    return _enlarged(umbra, alpha.shape), _enlarged(touch, alpha.shape)


def _enlarged(part: Float, shape: tuple[int, ...]) -> Float:
    return np.asarray(cv2.resize(part, shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _soften(alpha: Float, box: Box, line: Float, light: Light) -> Float:
    """Blur each row of the silhouette by the penumbra it will throw: diameter size x h / sin(elevation)."""
    height = _heights(alpha.shape, line)
    # A disc of diameter w has standard deviation w / 4.
    growth = light.size / (4 * math.sin(math.radians(light.elevation)))
    widest = growth * box.height
    if widest < 0.4:
        return np.where(height >= 0, alpha, 0)
    region = box.grown(math.ceil(2 * widest), alpha.shape).slices
    out = np.zeros_like(alpha)
    out[region] = _blur_by_level(alpha[region], np.clip(height[region], 0, None) * (growth / widest), widest)
    return np.where(height >= 0, out, 0)


def _blur_by_level(picture: Float, level: Float, widest: float) -> Float:
    """Space-variant Gaussian: ``level`` 0..1 of the ``widest`` sigma at each pixel, linear between blurred copies."""
    position = np.clip(level, 0, 1) * (_LEVELS - 1)
    blurred = picture * np.clip(1 - position, 0, 1)
    for k in range(1, _LEVELS):
        weight = np.clip(1 - np.abs(position - k), 0, 1)
        sigma = widest * k / (_LEVELS - 1)
        blurred += weight * cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT)
    return blurred


def _heights(shape: tuple[int, ...], line: Float) -> Float:
    """Height of every pixel centre above the contact line, px; negative below it."""
    contact = np.interp(np.arange(shape[1]) + 0.5, line[:, 0], line[:, 1])
    height: Float = (contact[None, :] - (np.arange(shape[0]) + 0.5)[:, None]).astype(np.float32)
    return height


def _project(alpha: Float, line: Float, light: Light) -> Float:
    """Throw the curtain on the ground, one affine strip between two vertices of the contact line at a time."""
    out = np.zeros_like(alpha)
    height, width = alpha.shape
    edges = line.copy()
    edges[0, 0], edges[-1, 0] = 0, width  # the blurred silhouette is wider than the object
    for (x0, _), (x1, _), (ax, ay), (bx, by) in zip(edges[:-1], edges[1:], line[:-1], line[1:], strict=True):
        slope = (by - ay) / max(bx - ax, 1e-6)
        matrix = _strip_matrix(slope, ay - slope * ax, light)
        left, right = max(0, math.floor(x0) - 1), min(width, math.ceil(x1) + 1)
        if right <= left or abs(np.linalg.det(matrix[:, :2])) < 0.03:  # lit along its own plane: a line, not an area
            continue
        matrix[:, 2] += matrix[:, :2] @ (left + 0.5, 0.5) - 0.5  # pixel centres, and the strip's own origin
        strip = cv2.warpAffine(np.ascontiguousarray(alpha[:, left:right]), matrix, (width, height))
        np.maximum(out, strip, out=out)
    return out


def _strip_matrix(slope: float, intercept: float, light: Light) -> NDArray[np.float64]:
    """(x, y) to (u, v) over the contact c(x) = slope x + intercept."""
    kx, ky = light.slope
    return np.array(
        [
            [1 + kx * slope, -kx, kx * intercept],
            [(1 - ky) * slope, ky, (1 - ky) * intercept],
        ]
    )


def _touch(alpha: Float, box: Box, line: Float) -> Float:
    """Contact darkening: a soft band, in proportion to the object, where the silhouette reaches the contact line."""
    reach = max(1.0, 0.03 * min(box.width, box.height) + 0.01 * box.width)
    foot = np.where(np.abs(_heights(alpha.shape, line)) <= reach, alpha, 0)
    grown = cv2.dilate(foot, np.ones((3, 3), np.uint8))
    touch: Float = np.clip(1.6 * _blurred(grown, reach), 0, 1)
    return touch


def _lying(alpha: U8, box: Box, light: Light) -> tuple[Float, Float]:
    """A slab: its silhouette extruded along the light; the ground is the picture plane, so nothing is foreshortened."""
    thickness = _SLAB * min(box.width, box.height)
    kx, ky = light.slope
    dx, dy = kx * thickness, -ky / FORESHORTENING * thickness
    sigma = max(0.5, light.size * math.hypot(dx, dy, thickness) / 2)
    hard = alpha.astype(np.float32) / 255
    return _blurred(_extruded(hard, dx, dy), sigma), _blurred(hard, max(1.0, thickness / 2))


def _extruded(hard: Float, dx: float, dy: float) -> Float:
    """The union of all copies shifted by t (dx, dy), 0 <= t <= 1: each doubling covers the shifts so far once more."""
    out, covered = hard, 0.0
    step = 1 / max(2.0, math.hypot(dx, dy))
    while covered < 1:
        step = min(step, 1 - covered)
        shift = np.array([[1, 0, dx * step], [0, 1, dy * step]])
        out = np.maximum(out, cv2.warpAffine(out, shift, out.shape[::-1]))
        covered += step
        step = covered
    return out


def _blurred(picture: NDArray[Any], sigma: float) -> Float:
    blurred: Float = np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_CONSTANT), np.float32)
    return blurred
