"""How close the synthetic shadows of route ``paste`` come to exact ones: a script, not a library.

Upright solids on a plane are rendered with their exact soft shadow (:mod:`layerkit.toolkit.procedural`), and the
shadow that :func:`layerkit.toolkit.shadow.cast_shadow` makes of the silhouette and the same light is compared with it
beside the solid::

    python benchmarks/experiments/shadow_oracle.py [--size PX] [--view DEGREES] [--pictures FOLDER]

The camera looks down by the angle whose foreshortening ``cast_shadow`` assumes, from far away (``--view 4``) unless
told otherwise. Printed are, by shape and by light, the correlation of the two, the mean absolute error over the union
of both in units of the light's strength, the IoU of what is darker than half the strength, and the synthetic shadow's
total over the exact one's.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch

from layerkit.toolkit.procedural.scene import render_worlds
from layerkit.toolkit.procedural.world import Camera, SceneOptions, Solid, World, about, stood
from layerkit.toolkit.shadow import FORESHORTENING, Light, cast_shadow

SHAPES = {"box": 0.6, "cylinder": 0.0, "sphere": 0.0, "cone": 0.0}  # and how far it is turned about the vertical
AZIMUTHS = (20, 55, 90, 125, 160, 200, 235, 270, 305, 340)
ELEVATIONS = (30, 45, 60)
SIZES = (0.01, 0.1, 0.3)
STRENGTH = 0.7
LEAST_PIXELS = 40
SHARE = 0.22  # of the picture's side that a solid of height one takes


@dataclass(frozen=True, slots=True)
class Case:
    """A solid under a light, with its exact and its synthetic shadow beside it, (H, W), 0..1 of the strength."""

    shape: str
    light: Light
    picture: np.ndarray
    exact: np.ndarray
    synthetic: np.ndarray
    beside: np.ndarray

    @property
    def visible(self) -> bool:
        """Whether enough of the exact shadow lies beside the solid, rather than hidden behind it, to be judged."""
        return int((self.exact[self.beside] > 0.5).sum()) >= LEAST_PIXELS

    def measures(self) -> tuple[float, float, float, float, float]:
        """Correlation, mean error on the union, IoU at one half, total of the synthetic and of the exact shadow."""
        exact, synthetic = self.exact[self.beside], self.synthetic[self.beside]
        union = np.maximum(exact, synthetic) > 0.05
        a, b = exact > 0.5, synthetic > 0.5
        return (
            float(np.corrcoef(exact, synthetic)[0, 1]),
            float(np.abs(exact - synthetic)[union].mean()),
            float((a & b).sum() / max(1, (a | b).sum())),
            float(synthetic.sum()),
            float(exact.sum()),
        )


def cases(size: int, view: float) -> Iterator[Case]:
    """Every shape under every light."""
    focal = 0.5 / math.tan(math.radians(view) / 2)
    camera = Camera(pitch=math.degrees(math.asin(FORESHORTENING)), view=view, distance=focal / SHARE)
    plane = torch.full((1, 3, size, size), 0.8)
    for (shape, turned), azimuth, elevation, width in itertools.product(SHAPES.items(), AZIMUTHS, ELEVATIONS, SIZES):
        light = Light(azimuth=azimuth, elevation=elevation, size=width, strength=STRENGTH, contact=0.0)
        scale, turn = np.full(3, 0.5), about("z", turned)
        solid = Solid(kind=shape, scale=scale, turn=turn, centre=stood(shape, scale, turn, np.zeros(3)))
        world = World(seed=0, camera=camera, light=light, solids=(solid,))
        scene = render_worlds([world], size, options=SceneOptions(coverage=4, light=64), backgrounds=plane)
        picture, image = scene.layered(0)
        alpha = picture.layers[0][..., 3]
        yield Case(
            shape,
            light,
            image,
            scene.shadow[0, 0].numpy() / STRENGTH,
            cast_shadow(alpha, light) / STRENGTH,
            alpha == 0,
        )


def table(rows: list[tuple[Case, tuple[float, ...]]], name: str, key: str) -> None:
    """Print the means by shape and one property of the light."""
    print(f"\n{'shape':10} {name:>10} {'correlation':>12} {'error':>7} {'IoU':>6} {'total':>7} {'cases':>5}")
    values = sorted({getattr(case.light, key) for case, _ in rows})
    for shape, value in [*itertools.product(SHAPES, values), *(("all", value) for value in values)]:
        found = [m for case, m in rows if shape in (case.shape, "all") and getattr(case.light, key) == value]
        if found:
            print(f"{shape:10} {value:10} {told(found)}")


def told(found: list[tuple[float, ...]]) -> str:
    """Means of the measures as columns."""
    correlation, error, iou, synthetic, exact = np.mean(found, axis=0)
    return f"{correlation:12.3f} {error:7.3f} {iou:6.3f} {synthetic / exact:7.2f} {len(found):5}"


def strip(case: Case) -> np.ndarray:
    """The picture, the exact shadow, the synthetic one, and their difference about grey."""
    grey = [np.repeat((part * 255)[..., None], 3, 2) for part in (case.exact, case.synthetic * case.beside)]
    apart = np.where(case.beside, (case.synthetic - case.exact) * 127 + 128, 128)
    panels = [case.picture, *grey, np.repeat(apart[..., None], 3, 2)]
    return np.concatenate(panels, axis=1).clip(0, 255).astype(np.uint8)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", type=int, default=128, help="side of the pictures, px")
    parser.add_argument("--view", type=float, default=4.0, help="angle of view, degrees")
    parser.add_argument("--pictures", type=Path, help="folder for strips of the best, middle and worst cases")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = [(case, case.measures()) for case in cases(arguments.size, arguments.view) if case.visible]
    print(f"{'all':21} {told([measures for _, measures in rows])}")
    for name, key in (("azimuth", "azimuth"), ("elevation", "elevation"), ("size", "size")):
        table(rows, name, key)
    rows.sort(key=lambda row: row[1][2])
    worst = [
        (case.shape, case.light.azimuth, case.light.elevation, case.light.size, round(m[2], 2)) for case, m in rows
    ]
    print("\nleast IoU:", *worst[:8], sep="\n  ")
    if arguments.pictures:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        picked = np.linspace(0, len(rows) - 1, 12).astype(int)
        sheet = np.concatenate([strip(rows[k][0]) for k in picked])
        cv2.imwrite(str(arguments.pictures / "shadow_oracle.png"), sheet[..., ::-1])


if __name__ == "__main__":
    main()
