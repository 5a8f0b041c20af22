"""Surfaces of procedural scenes: value noise, checkers, photographs, the rendered ground and its sky.

Like :mod:`.shapes`, exact arithmetic alone: a value does not depend on what is computed beside it.
"""

import torch
from torch import Tensor

from .shapes import Vector

_OCTAVES = 3
_GAIN = 0.65  # of an octave over the one before


def value_noise(point: Vector, seed: Tensor) -> Tensor:
    """Smooth noise, 0..1, with a period of no grid cell: random values at whole coordinates, joined by smoothsteps.

    Args:
        point: each of three tensors, float32.
        seed: int64, of a shape that broadcasts to the point's.
    """
    cells = [value.floor() for value in point]
    x, y, z = (_smooth(value - cell) for value, cell in zip(point, cells, strict=True))
    i, j, k = (cell.long() for cell in cells)
    rows = []
    for dz in (0, 1):
        for dy in (0, 1):
            ends = (random(i, j + dy, k + dz, seed), random(i + 1, j + dy, k + dz, seed))
            rows.append(_mixed(*ends, x))
    return _mixed(_mixed(rows[0], rows[1], y), _mixed(rows[2], rows[3], y), z)


def _smooth(t: Tensor) -> Tensor:
    return t * t * (3 - 2 * t)


def _mixed(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    return a + share * (b - a)


def random(i: Tensor, j: Tensor, k: Tensor, seed: Tensor) -> Tensor:
    """A hash of whole numbers (int64), 0..1."""
    h = (i * 374761393 + j * 668265263 + k * 1440662683 + seed * 2147483647) & 0x7FFFFFFF
    h = ((h ^ (h >> 13)) * 1274126177) & 0x7FFFFFFF
    h = ((h ^ (h >> 15)) * 668265263) & 0x7FFFFFFF
    return (h >> 7).float() / (1 << 24)


def fractal(point: Vector, seed: Tensor, footprint: Tensor) -> Tensor:
    """Octaves of :func:`value_noise`, about 0.5, each faded out where a pixel's ``footprint`` cannot hold it."""
    total = torch.full_like(point[0], 0.5)
    for octave in range(_OCTAVES):
        rate = float(2**octave)
        weight = (1 - footprint * rate).clamp(0, 1) * (_GAIN**octave)
        x, y, z = (value * rate for value in point)
        total = total + weight * (value_noise((x, y, z), seed + octave) - 0.5)
    return total.clamp(0, 1)


def checker(point: Vector) -> Tensor:
    """0 or 1 in cubes of side one."""
    whole = point[0].floor() + point[1].floor() + point[2].floor()
    return whole - 2 * (whole / 2).floor()


def photograph(photos: Tensor, which: Tensor, point: Vector) -> Vector:
    """Texels of the photographs (P, 3, h, w), number ``which`` modulo P, laid around a solid and repeated mirrored."""
    count, _, height, width = photos.shape
    column = (_folded(point[0] + point[1] * 0.5) * (width - 1)).round().long()
    row = (_folded(0.5 - point[2] * 0.5) * (height - 1)).round().long()
    number = (which % count).expand_as(row)
    return photos[number, 0, row, column], photos[number, 1, row, column], photos[number, 2, row, column]


def _folded(value: Tensor) -> Tensor:
    """A triangle wave of period 2: 0..1 as it is, 1..2 back again."""
    return 1 - (value - 2 * (value / 2).floor() - 1).abs()
