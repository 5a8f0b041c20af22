"""The layers of solids: what each covers of a pixel, in which colour, and what light it takes from the ground."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..compose import MAX_SHADOW
from .shapes import Vector, along, columns, dot, picked
from .surfaces import shaded
from .view import View

_TINY = 1e-6


def seen(view: View) -> tuple[Tensor, Tensor]:
    """Colour (B, K, 3, S, S) and alpha (B, K, S, S) of the solids."""
    shape = (len(view.seed), view.layers, view.size * view.size)
    alpha, colour = torch.zeros(shape, device=view.device), torch.zeros((*shape, 3), device=view.device)
    scene, layer, pixel = _near_solids(view).nonzero().unbind(1)
    direction = view.rays(scene, pixel, view.tensor(_grid(view.options.coverage)))
    origin = view.eyes(scene)
    t, o, d = view.meet(scene, layer, origin, direction)
    met = torch.isfinite(t) & (origin[2] + t * direction[2] >= -1e-4)  # what is under the ground is not seen
    count = met.sum(1)
    row, column = met.nonzero().unbind(1)
    point = along(_at(o, row, column), t[row, column], _at(d, row, column))
    sample_colours = torch.zeros((*met.shape, 3), device=view.device)
    sample_colours[row, column] = shaded(view, scene[row], layer[row], point, _at(direction, row, column))
    mean = _ordered_sum(sample_colours) / count.clamp(min=1)[:, None]
    alpha[scene, layer, pixel] = count / met.shape[1] * view.opacity[scene, layer]
    colour[scene, layer, pixel] = mean.clamp(0, 1)
    square = (*shape[:2], view.size, view.size)
    return colour.view(*square, 3).permute(0, 1, 4, 2, 3).contiguous(), alpha.view(square)


def _near_solids(view: View) -> Tensor:
    """Whether a pixel may show a solid, by its bounding sphere, (B, K, P) bool."""
    scene, pixel = view.all_pixels()
    ray = view.rays(scene, pixel, view.tensor([[0.5, 0.5]]))
    x, y, z = (part.view(len(view.seed), 1, -1) for part in ray)
    away = view.centre - view.eye[:, None]  # (B, K, 3)
    length = torch.sqrt(x * x + y * y + z * z)
    depth = (away[..., 0, None] * x + away[..., 1, None] * y + away[..., 2, None] * z) / length
    apart = dot(columns(away), columns(away))[..., None] - depth * depth
    reach = view.radius[..., None] * 1.01 + depth * length / (view.focal * view.focal * view.size)[:, None, None]
    return (apart <= reach * reach) & (view.radius[..., None] > 0)


def cast(view: View, alpha: Tensor) -> Tensor:
    """Attenuation (B, K, S, S) of the ground by each solid, given their alphas."""
    shape = (len(view.seed), view.layers, view.size * view.size)
    shadow = torch.zeros(shape, device=view.device)
    flat, behind = alpha.view(shape), torch.ones((shape[0], shape[2]), device=view.device)
    active = _near_shadows(view)
    scene, pixel = active.any(1).nonzero().unbind(1)
    places = _ground_places(view, scene, pixel)
    clear = torch.ones((len(scene), view.options.light), device=view.device)
    for k in range(view.layers):
        rows = active[scene, k, pixel].nonzero()[:, 0]
        blocked = _blocked(view, scene[rows], k, picked(places, rows))
        weight = _uncovered(view, k, scene, pixel, flat[scene, k, pixel])
        total = _ordered_sum(weight).clamp(min=_TINY)  # nothing is left where the few places miss a sliver
        before = _ordered_sum(weight * clear)
        clear[rows] = clear[rows] * (1 - view.opacity[scene[rows], k][:, None] * blocked)
        hidden, hidden_now = 1 - before / total, 1 - _ordered_sum(weight * clear) / total
        left = (1 - view.strength[scene] * hidden_now) / (1 - view.strength[scene] * hidden)
        shadow[scene, k, pixel] = (1 - left).clamp(0, MAX_SHADOW) * behind[scene, pixel]
        behind = behind * (1 - flat[:, k])
    shadow = torch.where(flat >= 1, 0, shadow)
    return shadow.view(*shape[:2], view.size, view.size)


def _uncovered(view: View, layer: int, scene: Tensor, pixel: Tensor, alpha: Tensor) -> Tensor:
    """How much of each place in pixels a solid leaves to be seen, (A, L); 1 throughout where it covers all or nothing.

    Else the shade under a solid would darken the ground beside its foot.
    """
    weight = torch.ones((len(scene), view.options.light), device=view.device)
    rows = ((alpha > 0) & (alpha < view.opacity[scene, layer])).nonzero()[:, 0]
    there = scene[rows]
    ray = view.rays(there, pixel[rows], view.tensor(_scattered(view.options.light)))
    t, _, _ = view.meet(there, torch.full_like(there, layer), view.eyes(there), ray)
    weight[rows] = 1 - view.opacity[there, layer][:, None] * torch.isfinite(t)
    return weight


def _ground_places(view: View, scene: Tensor, pixel: Tensor) -> Vector:
    """Where on the ground the shadow rays of pixels start, (A, L)."""
    ray = view.rays(scene, pixel, view.tensor(_scattered(view.options.light)))
    eye = view.eyes(scene)
    x, y, _ = along(eye, -eye[2] / ray[2].clamp(max=-_TINY), ray)
    return x, y, torch.zeros_like(x)


def _blocked(view: View, scene: Tensor, layer: int, places: Vector) -> Tensor:
    """Whether rays from places on the ground to their parts of the light's disc meet a solid, (A, L) float."""
    across, up, middle = view.to_light[scene].unbind(1)
    disc = view.tensor(_disc(view.options.light))
    a, b = view.reach[scene][:, None] * disc[:, 0], view.reach[scene][:, None] * disc[:, 1]
    x, y, z = (middle[:, i, None] + a * across[:, i, None] + b * up[:, i, None] for i in range(3))
    t, _, _ = view.meet(scene, torch.full_like(scene, layer), places, (x, y, z))
    return torch.isfinite(t).float()


def _near_shadows(view: View) -> Tensor:
    """Whether a solid may hide a part of the light from a pixel's ground, by its bounding sphere, (B, K, P)."""
    scene, pixel = view.all_pixels()
    corners = view.tensor([[0.5, 0.5], [0.0, 0.0], [1.0, 1.0]])
    ray = view.rays(scene, pixel, corners)
    eye = view.eyes(scene)
    t = -eye[2] / ray[2].clamp(max=-_TINY)
    x, y, _ = along(eye, t, ray)
    print_x, print_y = (x - x[:, :1]).abs().amax(1), (y - y[:, :1]).abs().amax(1)
    footprint = (print_x + print_y).view(len(view.seed), 1, -1)
    ground = (view.ground_share(scene, pixel) >= 1) & (view.strength[scene] > 0)
    px, py = (value[:, 0].view(len(view.seed), 1, -1) for value in (x, y))
    gap = (view.centre[..., 0, None] - px, view.centre[..., 1, None] - py, view.centre[..., 2, None])
    light = view.to_light[:, 2]
    depth = gap[0] * light[:, 0, None, None] + gap[1] * light[:, 1, None, None] + gap[2] * light[:, 2, None, None]
    reach = view.radius[..., None] * 1.01 + footprint
    apart = dot(gap, gap) - depth * depth
    wide = reach + view.reach[:, None, None] * (depth.clamp(min=0) + reach)
    near = (apart <= wide * wide) & (depth > -reach) & (view.radius[..., None] > 0)
    return near & ground.view(len(view.seed), 1, -1)


def _grid(side: int) -> NDArray[np.float64]:
    """Side x side places in a pixel, each in its own cell, row and column of the finer grid, (N, 2)."""
    i, j = np.divmod(np.arange(side * side), side)
    return np.stack([(i + (j + 0.5) / side) / side, (j + (i + 0.5) / side) / side], axis=1)


def _scattered(count: int) -> NDArray[np.float64]:
    """``count`` places in a pixel, (N, 2): the additive recurrence of the plastic number (Roberts 2018)."""
    plastic = 1.32471795724474602596
    steps: NDArray[np.float64] = np.arange(count)[:, None] * np.array([1 / plastic, 1 / plastic**2])
    return (0.5 + steps) % 1


def _disc(count: int) -> NDArray[np.float64]:
    """``count`` places in the unit disc, each for an equal area, (N, 2): Vogel's spiral."""
    radius, turn = np.sqrt((np.arange(count) + 0.5) / count), np.arange(count) * np.pi * (3 - np.sqrt(5))
    return np.stack([radius * np.cos(turn), radius * np.sin(turn)], axis=1)


def _at(v: Vector, row: Tensor, column: Tensor) -> Vector:
    x, y, z = (part[row, column if part.shape[1] > 1 else 0] for part in v)
    return x, y, z


def _ordered_sum(values: Tensor) -> Tensor:
    """Sum over the second axis, first to last: a reduction's own order depends on the shape."""
    total = values[:, 0]
    for k in range(1, values.shape[1]):
        total = total + values[:, k]
    return total
