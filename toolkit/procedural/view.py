"""A chunk of worlds as tensors, the rays through their pictures, and where the rays meet their solids."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .shapes import Vector, columns, enter, picked, turned
from .world import KINDS, TEXTURES, SceneOptions, World


class View:
    """A chunk of worlds as tensors, (B,) or (B, K), and the rays through their pictures, (B, P) with P pixels."""

    def __init__(
        self,
        worlds: Sequence[World],
        layers: int,
        size: int,
        options: SceneOptions,
        device: torch.device,
        photos: Tensor | None,
    ) -> None:
        self.size, self.options, self.device, self.layers = size, options, device, layers
        self.photos = None if photos is None else photos.to(device)
        self._read_cameras(worlds)
        self._read_lights(worlds)
        self._read_solids(worlds)

    def tensor(self, rows: Any) -> Tensor:
        """Numbers as float32 on the device."""
        return torch.from_numpy(np.asarray(rows, np.float32)).to(self.device)

    def _read_cameras(self, worlds: Sequence[World]) -> None:
        self.eye = self.tensor([world.camera.position for world in worlds])
        self.axes = self.tensor([world.camera.axes() for world in worlds])  # (B, 3, 3): right, down, forward
        self.focal = self.tensor([world.camera.focal for world in worlds])
        self.horizon = self.tensor([world.camera.horizon * self.size for world in worlds])
        self.seed = torch.tensor([world.seed for world in worlds], device=self.device)
        self.ground = self.tensor([world.ground for world in worlds])
        self.sky = self.tensor([world.sky for world in worlds])

    def _read_lights(self, worlds: Sequence[World]) -> None:
        lights = [world.light for world in worlds]
        self.strength = self.tensor([light.strength if light else 0.0 for light in lights])
        self.reach = self.tensor([np.tan(light.size / 2) if light else 0.0 for light in lights])
        self.to_light = self.tensor(
            [_light_axes(light.azimuth, light.elevation) if light else np.eye(3) for light in lights]
        )

    def _read_solids(self, worlds: Sequence[World]) -> None:
        def rows(read: Any, empty: Any) -> Tensor:
            table = [[read(one) for one in world.solids] for world in worlds]
            return self.tensor([row + [empty] * (self.layers - len(row)) for row in table])

        self.own = rows(lambda one: one.turn.T / one.scale[:, None], np.eye(3))  # world to own coordinates
        self.centre = rows(lambda one: one.centre, np.zeros(3))
        self.radius = rows(lambda one: one.radius, -1.0)
        self.form = rows(lambda one: one.form, np.zeros(3))
        self.paint = rows(lambda one: (one.colour, one.accent), np.zeros((2, 3)))
        self.pattern = rows(lambda one: one.pattern, 1.0)
        self.gloss = rows(lambda one: one.gloss, 0.0)
        self.opacity = rows(lambda one: one.opacity, 0.0)
        self.kind = rows(lambda one: KINDS.index(one.kind), -1).long()
        self.texture = rows(lambda one: TEXTURES.index(one.texture), 0).long()

    def rays(self, scene: Tensor, pixel: Tensor, offsets: Tensor) -> Vector:
        """Directions through places in pixels: (A,) scene and pixel numbers, (N, 2) offsets in 0..1 to (A, N)."""
        u = ((pixel % self.size)[:, None] + offsets[:, 0]) / self.size - 0.5
        v = ((pixel // self.size)[:, None] + offsets[:, 1]) / self.size - 0.5
        right, down, forward = self.axes[scene].unbind(1)
        focal = self.focal[scene]
        x, y, z = (u * right[:, i, None] + v * down[:, i, None] + (focal * forward[:, i])[:, None] for i in range(3))
        return x, y, z

    def all_pixels(self) -> tuple[Tensor, Tensor]:
        """Scene and pixel numbers of every pixel, (B P,)."""
        total = self.size * self.size
        number = torch.arange(len(self.seed) * total, device=self.device)
        return number // total, number % total

    def eyes(self, scene: Tensor) -> Vector:
        """Where the rays of scenes start, each (A, 1)."""
        x, y, z = self.eye[scene].unbind(1)
        return x[:, None], y[:, None], z[:, None]

    def meet(self, scene: Tensor, layer: Tensor, origin: Vector, direction: Vector) -> tuple[Tensor, Vector, Vector]:
        """First t >= 0 of rays, (A, N), at solids, (A,); and origin and direction in the solids' own coordinates."""
        centre, own = self.centre[scene, layer], self.own[scene, layer]
        shifted = (origin[0] - centre[:, 0, None], origin[1] - centre[:, 1, None], origin[2] - centre[:, 2, None])
        o, d = turned(own, shifted), turned(own, direction)
        t = torch.full_like(d[0], torch.inf)
        for code, rows in self.by_kind(scene, layer):
            form = columns(self.form[scene[rows], layer[rows], None])
            t[rows] = enter(KINDS[code], picked(o, rows), picked(d, rows), form)
        return t, o, d

    def by_kind(self, scene: Tensor, layer: Tensor) -> list[tuple[int, Tensor]]:
        """Rows of each kind of solid that occurs."""
        kinds = self.kind[scene, layer]
        found = [(code, (kinds == code).nonzero()[:, 0]) for code in range(len(KINDS))]
        return [(code, rows) for code, rows in found if len(rows)]

    def ground_share(self, scene: Tensor, pixel: Tensor) -> Tensor:
        """Share of each pixel that lies below the horizon, (A,)."""
        return ((pixel // self.size + 1) - self.horizon[scene]).clamp(0, 1)


def _light_axes(azimuth: float, elevation: float) -> NDArray[np.float64]:
    """Unit vectors across, up and towards the light, as rows; ``azimuth`` is where shadows fall, see ``Light``."""
    turn, rise = np.radians(azimuth), np.radians(elevation)
    towards = np.array([-np.cos(turn) * np.cos(rise), -np.sin(turn) * np.cos(rise), np.sin(rise)])
    across = np.array([-np.sin(turn), np.cos(turn), 0.0])
    return np.stack([across, np.cross(towards, across), towards])
