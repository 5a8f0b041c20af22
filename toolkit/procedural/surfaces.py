"""What is seen of a surface: the ground and its sky, and the solids' colours in the light."""

import torch
from torch import Tensor

from .shapes import Vector, along, columns, dot, normal, picked, turned_back, unit
from .textures import checker, fractal, photograph, random
from .view import View
from .world import KINDS, TEXTURES

_GROUND_DETAIL = 5.0  # cells of the ground's noise per unit
_GRAIN = 0.04  # range of the ground's grain: without it rendered ground looks out of focus
_TINY = 1e-6


def plate_of(view: View) -> Tensor:
    """Rendered ground and sky, (B, 3, S, S)."""
    scene, pixel = view.all_pixels()
    ray = view.rays(scene, pixel, view.tensor([[0.5, 0.5]]))
    eye, below = view.eyes(scene), ray[2] < -_TINY
    t = torch.where(below, -eye[2] / torch.where(below, ray[2], -1.0), 0)
    footprint = t / (view.size * view.focal[scene])[:, None] * torch.sqrt(dot(ray, ray)) / ray[2].abs().clamp(_TINY)
    point = along(eye, t, ray)
    scaled = (point[0] * _GROUND_DETAIL, point[1] * _GROUND_DETAIL, torch.zeros_like(t))
    share = fractal(scaled, view.seed[scene][:, None], footprint * _GROUND_DETAIL)
    above = ((view.horizon[scene] - (pixel // view.size)) / view.horizon[scene].clamp(min=1)).clamp(0, 1)[:, None]
    covered = view.ground_share(scene, pixel)[:, None]
    grain = random(pixel, torch.zeros_like(pixel), torch.zeros_like(pixel), view.seed[scene]) - 0.5
    ground = (_blended(view.ground[scene], share) + _GRAIN * grain[:, None, None]).clamp(0, 1)
    pixels = covered[..., None] * ground + (1 - covered[..., None]) * _blended(view.sky[scene], above)
    return pixels.view(-1, view.size, view.size, 3).permute(0, 3, 1, 2).contiguous()


def shaded(view: View, scene: Tensor, layer: Tensor, point: Vector, ray: Vector) -> Tensor:
    """Colours (M, 3) at points (M,) of solids in their own coordinates: Lambert, ambient light and a highlight."""
    own = view.own[scene, layer]
    n: Vector = (torch.zeros_like(point[0]), torch.zeros_like(point[0]), torch.zeros_like(point[0]))
    for code, rows in view.by_kind(scene, layer):
        found = normal(KINDS[code], picked(point, rows), columns(view.form[scene[rows], layer[rows]]))
        for part, value in zip(n, found, strict=True):
            part[rows] = value
    n = unit(turned_back(own, n))
    light, strength = columns(view.to_light[scene, 2]), view.strength[scene]
    back = unit((-ray[0], -ray[1], -ray[2]))
    half = unit((light[0] + back[0], light[1] + back[1], light[2] + back[2]))
    facing = dot(n, light).clamp(min=0)
    glint = dot(n, half).clamp(min=0)
    for _ in range(5):  # to the 32nd power
        glint = glint * glint
    ambient = (1 - strength) * (0.8 + 0.2 * n[2])
    lit = ambient + strength * facing / light[2].clamp(min=0.5)
    highlight = view.gloss[scene, layer] * strength * glint * (facing > 0)
    return _albedo(view, scene, layer, point) * lit[:, None] + highlight[:, None]


def _albedo(view: View, scene: Tensor, layer: Tensor, point: Vector) -> Tensor:
    """(M, 3) by each solid's texture."""
    texture, paint = view.texture[scene, layer], view.paint[scene, layer]
    rate = view.pattern[scene, layer]
    x, y, z = (value * rate for value in point)
    seed = view.seed[scene] * 8 + layer
    out = paint[:, 0].clone()
    for name in ("noise", "checker", "photo"):
        rows = (texture == TEXTURES.index(name)).nonzero()[:, 0]
        if not len(rows):
            continue
        there = picked((x, y, z), rows)
        if name == "photo" and view.photos is not None:
            out[rows] = torch.stack(photograph(view.photos, seed[rows], picked(point, rows)), -1)
        else:
            still = torch.zeros_like(there[0])
            share = checker(there) if name == "checker" else fractal(there, seed[rows], still)
            out[rows] = _blended(paint[rows], share[:, None])[:, 0]
    return out


def _blended(pair: Tensor, share: Tensor) -> Tensor:
    """(A, 2, 3) colours by (A, N) shares to (A, N, 3)."""
    return pair[:, None, 0] + share[..., None] * (pair[:, None, 1] - pair[:, None, 0])
