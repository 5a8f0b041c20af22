"""Measures real cast shadows, so that the distributions of synthetic ones rest on figures: a script, not a library.

Run it on a folder of DESOBA strips (Hong et al., "Shadow Generation for Composite Image in Real-World Scenes",
AAAI 2022), pictures of six square panels: composite without the object's shadow, target with it, object mask, its
shadow mask, masks of the other objects and of their shadows::

    python benchmarks/experiments/shadow_statistics.py FOLDER [--json FILE]

Attenuation is s = 1 - target / composite in display values over 255, the s of image = (1 - s) background.
Lengths are pixels of a panel or fractions of the object's height; "contact" is the foot of the object.
The shadow-free texture under a shadow is painted by a retoucher, so that one pixel's s is noisy and regional figures
(5 px means) are given beside it. The masks hold the whole penumbra.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

PANELS = 6
DARKEST = 20 / 255  # below it the ratio of two 8-bit values says nothing
CORE_DEPTH = 3.0  # px from the shadow's border
CONTACT_REACH = 0.08  # heights of the object
SEGMENT = 5  # contour points averaged into one profile, against the noise of the texture
PLATEAU = 0.75  # share of the core's s that a profile must reach: thin limbs never show a full shadow
OFFSETS = np.arange(-4.0, 8.01, 0.25)  # px along the inward normal, 0 at the mask's border
GROUND_FORESHORTENING = 0.35  # sine of the assumed camera pitch; a depth of 1 on the ground shows as this much height
RING = (3.0, 10.0)  # px outside a shadow, where its lit neighbourhood is read
LEAST_PIXELS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The panels of one strip: pictures float32 RGB (H, W, 3) in 0..1 and bool masks (H, W)."""

    composite: np.ndarray
    target: np.ndarray
    object_mask: np.ndarray
    shadow: np.ndarray
    other_objects: np.ndarray
    other_shadows: np.ndarray


def read_strip(path: Path) -> Strip:
    """Split the picture at `path` into its six panels; ValueError if it is unreadable or not six squares wide."""
    strip = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if strip is None or strip.shape[1] != PANELS * strip.shape[0]:
        raise ValueError(f"{path}: expected a strip of six square panels, got {None if strip is None else strip.shape}")
    panels = np.split(strip[..., ::-1].astype(np.float32) / 255, PANELS, axis=1)
    masks = [panel.max(axis=2) > 0.5 for panel in panels[2:]]
    return Strip(
        composite=panels[0],
        target=panels[1],
        object_mask=masks[0],
        shadow=masks[1],
        other_objects=masks[2],
        other_shadows=masks[3],
    )


def signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distance in px to the border of a bool mask (H, W), positive inside and negative outside."""
    inside, outside = (cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, 5) for side in (mask, ~mask))
    return np.asarray(inside - outside)


def attenuation(composite: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Return s = 1 - target / composite (H, W, 3), NaN where the composite is too dark to divide by."""
    lit = composite >= DARKEST
    return np.where(lit, 1 - target / np.where(lit, composite, 1), np.nan)


def regional_attenuation(strip: Strip) -> np.ndarray:
    """Return the attenuation of 5 px means taken inside the shadow alone, (H, W), NaN elsewhere."""
    weight = strip.shadow.astype(np.float32)
    lit, dark = (cv2.blur(picture.mean(axis=2) * weight, (5, 5)) for picture in (strip.composite, strip.target))
    return np.where(strip.shadow & (lit > 0), 1 - dark / np.maximum(lit, 1e-6), np.nan)


def agreement(strip: Strip) -> dict[str, float]:
    """Check that the pair is one picture outside the shadow: count and reach in px of what differs there."""
    differs = np.abs(strip.composite - strip.target).max(axis=2) > 3 / 255
    stray = differs & ~strip.shadow
    return {"stray_px": float(stray.sum()), "stray_reach_px": -signed_distance(strip.shadow)[stray].min(initial=0)}


def strength(strip: Strip) -> dict[str, float]:
    """Percentiles of s in the shadow's core, by pixel and by region, and its median in every channel."""
    core = signed_distance(strip.shadow) >= CORE_DEPTH
    s = attenuation(strip.composite, strip.target)[core]
    regional = regional_attenuation(strip)[core]
    figures = dict(
        zip(("s_p10", "s_p50", "s_p90"), np.nanpercentile(np.nanmedian(s, axis=1), (10, 50, 90)), strict=True)
    )
    figures |= dict(
        zip(("region_p10", "region_p50", "region_p90"), np.nanpercentile(regional, (10, 50, 90)), strict=True)
    )
    channels = {"s": s, "lit": strip.composite[core], "dark": strip.target[core]}
    for name, values in channels.items():
        figures |= dict(
            zip((f"{name}_red", f"{name}_green", f"{name}_blue"), np.nanmedian(values, axis=0), strict=True)
        )
    return figures | {"core_px": float(core.sum())}


def foot(strip: Strip) -> tuple[np.ndarray, float]:
    """Return the contact point (x, y), mean of the object's lowest pixels, and the object's height in px."""
    rows, columns = np.nonzero(strip.object_mask)
    height = float(rows.max() - rows.min() + 1)
    low = rows > rows.max() - CONTACT_REACH * height
    return np.array([columns[low].mean(), rows[low].mean()]), height


def from_foot(strip: Strip) -> np.ndarray:
    """Distance (H, W) in px of every pixel to the object's contact point."""
    contact, _ = foot(strip)
    y, x = np.indices(strip.shadow.shape)
    return np.asarray(np.hypot(x - contact[0], y - contact[1]))


def geometry(strip: Strip) -> dict[str, float]:
    """Return the length, area and direction of the shadow; 0 degrees is right, 90 up: away from the viewer."""
    contact, height = foot(strip)
    distance = from_foot(strip)
    length = np.percentile(distance[strip.shadow], 98)
    y, x = np.nonzero(strip.shadow & (distance >= 0.95 * length))
    right, up = x.mean() - contact[0], contact[1] - y.mean()
    return {
        "object_height_px": height,
        "length_over_height": length / height,
        "area_ratio": strip.shadow.sum() / strip.object_mask.sum(),
        "image_azimuth_deg": np.degrees(np.arctan2(up, right)),
        "ground_azimuth_deg": np.degrees(np.arctan2(up / GROUND_FORESHORTENING, right)),
    }


def contact_darkening(strip: Strip) -> dict[str, float]:
    """Median regional s within 0.08 object heights of the object over that of the rest; NaN without enough pixels."""
    _, height = foot(strip)
    s = regional_attenuation(strip)
    inside = signed_distance(strip.shadow) >= 2
    near = inside & (-signed_distance(strip.object_mask) <= CONTACT_REACH * height)
    rest = inside & ~near
    enough = near.sum() >= LEAST_PIXELS / 4 and rest.sum() >= LEAST_PIXELS
    ratio = np.nanmedian(s[near]) / np.nanmedian(s[rest]) if enough else np.nan
    return {"contact_ratio": ratio, "contact_px": float(near.sum()), "fade_per_height": fade(s, inside, strip)}


def fade(s: np.ndarray, inside: np.ndarray, strip: Strip) -> float:
    """Slope of s against the distance to the foot in object heights: negative if the shadow pales away from it."""
    distance = from_foot(strip)[inside] / foot(strip)[1]
    return float(np.polyfit(distance, s[inside], 1)[0])


def border_points(strip: Strip) -> list[np.ndarray]:
    """Return runs of (SEGMENT, 2) neighbouring points x, y of the shadow's border that look on open ground."""
    blocked = strip.object_mask | strip.other_objects | strip.other_shadows
    open_ground = signed_distance(blocked) < -4
    contours, _ = cv2.findContours(strip.shadow.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    runs = [line[i : i + SEGMENT, 0] for line in contours for i in range(0, len(line) - SEGMENT + 1, SEGMENT)]
    return [run for run in runs if open_ground[run[:, 1], run[:, 0]].all()]


def profile(picture: np.ndarray, points: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Mean of a one-channel picture (H, W) over `points` at every offset along their normals."""
    where = points[:, None, :] + OFFSETS[None, :, None] * normals[:, None, :]
    sampled = cv2.remap(picture, where[..., 0].astype(np.float32), where[..., 1].astype(np.float32), cv2.INTER_LINEAR)
    return np.asarray(sampled.mean(axis=0))


def rise(s: np.ndarray, core: float) -> float:
    """10-90 % width in px of a profile of s over OFFSETS; NaN if it does not reach PLATEAU of the core's s."""
    plateau = np.percentile(s[OFFSETS >= 0], 90)
    if plateau < PLATEAU * core:
        return float("nan")
    high = int(np.argmax(s >= 0.9 * plateau))
    low = int(np.max(np.nonzero(s[: high + 1] <= 0.1 * plateau)[0], initial=-1))
    if low < 0:
        return float("nan")
    return float(OFFSETS[high] - OFFSETS[low])


def border_widths(strip: Strip, target: np.ndarray) -> np.ndarray:
    """Rows (distance to the foot, 10-90 % width), both in px, of `target`'s shadow at every open stretch of border."""
    depth = cv2.GaussianBlur(signed_distance(strip.shadow), (0, 0), 1.5)
    slope = np.dstack([cv2.Sobel(depth, cv2.CV_32F, 1, 0), cv2.Sobel(depth, cv2.CV_32F, 0, 1)])
    inward = slope / np.maximum(np.linalg.norm(slope, axis=2, keepdims=True), 1e-6)
    lit, dark, far = strip.composite.mean(axis=2), target.mean(axis=2), from_foot(strip)
    core = strength(strip)["region_p50"]
    rows = []
    for points in border_points(strip):
        normals = inward[points[:, 1], points[:, 0]]
        s = 1 - profile(dark, points, normals) / np.maximum(profile(lit, points, normals), DARKEST)
        rows.append((far[points[:, 1], points[:, 0]].mean(), rise(s, core)))
    found = np.array(rows).reshape(-1, 2)
    return np.asarray(found[np.isfinite(found[:, 1])])


def typical_slope(x: np.ndarray, y: np.ndarray) -> float:
    """Median slope of y over x between all pairs of points (Theil-Sen), which a few bad profiles cannot tilt."""
    i, j = np.triu_indices(len(x), 1)
    apart = np.abs(x[j] - x[i]) > 1
    return float(np.median((y[j] - y[i])[apart] / (x[j] - x[i])[apart])) if apart.any() else float("nan")


def penumbra(strip: Strip) -> dict[str, float]:
    """Return 10-90 % widths of the border near and far from the foot, and their growth in px per px from it.

    `floor_px` is the width of a hard shadow in the same mask: what the method and the pixel grid blur by themselves;
    it is taken off in quadrature from the widths given in heights, which keep the blur of the photograph.
    """
    s = strength(strip)["region_p50"]
    hard = strip.composite * (1 - s * strip.shadow[..., None].astype(np.float32))
    floor = float(np.median(border_widths(strip, hard)[:, 1]))
    distance, width = border_widths(strip, strip.target).T
    near = distance <= np.median(distance)
    at = {"near": float(np.median(width[near])), "far": float(np.median(width[~near]))}
    figures = {f"{end}_px": value for end, value in at.items()}
    figures |= {f"{end}_over_height": max(value**2 - floor**2, 0) ** 0.5 / foot(strip)[1] for end, value in at.items()}
    return figures | {"border_n": len(width), "floor_px": floor, "growth": typical_slope(distance, width)}


def ring_attenuation(strip: Strip, shadow: np.ndarray) -> np.ndarray | None:
    """Return a rough s per channel (3,), the core's median against the lit ring's, or None if either is too small."""
    depth = signed_distance(shadow)
    taken = strip.object_mask | strip.other_objects | strip.shadow | strip.other_shadows
    ring = (depth <= -RING[0]) & (depth >= -RING[1]) & ~taken
    core = (depth >= 2) & ~strip.object_mask & ~strip.other_objects
    if min(ring.sum(), core.sum()) < LEAST_PIXELS:
        return None
    lit = np.median(strip.target[ring], axis=0)
    return np.asarray(1 - np.median(strip.target[core], axis=0) / lit) if lit.min() > DARKEST else None


def other_shadows(strip: Strip) -> list[list[float]]:
    """Return rough attenuations by channel of the shadows already in the scene, one row a connected region."""
    count, labels = cv2.connectedComponents(strip.other_shadows.astype(np.uint8))
    found = [ring_attenuation(strip, labels == label) for label in range(1, count)]
    return [[float(value) for value in row] for row in found if row is not None]


def measure(strip: Strip) -> dict[str, float]:
    """Return all figures of the foreground's shadow; `ring_s` is the rough estimate that `other_shadows` relies on."""
    ring = ring_attenuation(strip, strip.shadow)
    figures = agreement(strip) | strength(strip) | geometry(strip) | contact_darkening(strip) | penumbra(strip)
    figures["ring_s"] = float("nan") if ring is None else float(np.median(ring))
    return {name: round(float(value), 4) for name, value in figures.items()}


def table(measured: dict[str, dict[str, float]], others: dict[str, list[list[float]]]) -> str:
    """Return the figures as text, one row a figure, one column a strip and their mean and standard deviation last."""
    names = list(measured)
    lines = [f"{'':<20}" + "".join(f"{name:>10}" for name in (*names, "mean", "std"))]
    for figure in measured[names[0]]:
        values = [measured[name][figure] for name in names]
        cells = (*values, float(np.nanmean(values)), float(np.nanstd(values)))
        lines.append(f"{figure:<20}" + "".join(f"{cell:>10.3f}" for cell in cells))
    rough = [f"{name}: " + " ".join(f"({r:.2f} {g:.2f} {b:.2f})" for r, g, b in others[name]) for name in names]
    return "\n".join([*lines, "other shadows, rough s (r g b)", *rough, ""])


def main() -> None:
    """Measure the strips of a folder and write the table to standard output."""
    parser = argparse.ArgumentParser(description="Measure the cast shadows in a folder of DESOBA strips.")
    parser.add_argument("folder", type=Path, help="folder with strips of six square panels (*.png)")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    strips = {path.stem: read_strip(path) for path in sorted(options.folder.glob("*.png"))}
    if not strips:
        parser.error(f"no *.png in {options.folder}: name the folder that holds the strips")
    measured = {name: measure(strip) for name, strip in strips.items()}
    others = {name: other_shadows(strip) for name, strip in strips.items()}
    sys.stdout.write(table(measured, others))
    if options.json:
        options.json.write_text(json.dumps({"strips": measured, "other_shadows": others}, indent=1))


if __name__ == "__main__":
    main()
