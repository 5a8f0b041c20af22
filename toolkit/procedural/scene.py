"""Rendered scenes with exact layers: solids on a ground plane under a disc of light, without end.

:func:`render` makes the scenes of seeds, :func:`render_worlds` those of worlds made by hand. A scene is kept in layers,
farthest first, each a solid with the shadow it throws on the ground; :meth:`Scene.triplets` takes one of them out. With
the light's visible share V_k on the ground once the solids 1..k stand, and the light's strength m, the ground receives
E_k = 1 - m (1 - V_k), and

    s_k = (1 - E_k / E_(k-1)) (1 - joint alpha of the solids farther away)

is the attenuation by solid k: so the shadows of all together multiply to the exact joint one, also where they overlap.
V is counted by casting rays at the disc, each from its own place in what solid k leaves to be seen of the pixel; a
translucent solid takes its opacity of a ray. Alpha is opacity times the pixel's covered share, counted by N x N
samples. Shadows fall on the ground alone, not on other solids, and where a solid farther away covers a part of the
pixel they are averaged with it; with one solid the picture is what a renderer would give, and with several the layers
are its definition. Colours are display values.

On a CPU the bytes of a seed do not depend on the scenes beside it; on a GPU they are equal within rounding.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .. import compose
from ..mulan import LayeredPicture
from .solids import cast, seen
from .surfaces import plate_of
from .view import View
from .world import SceneOptions, World, draw_world

U8 = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Triplets:
    """One layer taken out of each scene; float32 in 0..1, (B, channels, S, S).

    Attributes:
        image: over(occluder, over(foreground, background)), 3 channels.
        foreground: the solid with its shadow, straight RGBA.
        background: the ground with every solid farther away and its shadow, 3 channels.
        occluder: the nearer solids with their shadows, straight RGBA.
        mask: 1 where the solid is visible, a (1 - a_O) > 0.5, else 0, 1 channel.
        shadow: attenuation by the solid, 0..0.85, 1 channel.
    """

    image: Tensor
    foreground: Tensor
    background: Tensor
    occluder: Tensor
    mask: Tensor
    shadow: Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Scene:
    """B rendered scenes of K layers, farthest first; scenes of fewer solids end with empty layers. float32, 0..1.

    Attributes:
        plate: the ground (and sky, or photograph) alone, (B, 3, S, S).
        colour: of the solids, (B, K, 3, S, S); zero where alpha is.
        alpha: of the solids without their shadows, (B, K, S, S).
        shadow: attenuation by each solid, (B, K, S, S), 0..0.85; zero where its own solid is opaque.
        count: number of solids of each scene.
        worlds: what was rendered.
    """

    plate: Tensor
    colour: Tensor
    alpha: Tensor
    shadow: Tensor
    count: tuple[int, ...]
    worlds: tuple[World, ...]

    def triplets(self, target: Sequence[int]) -> Triplets:
        """Take the solid ``target[b]`` out of every scene b.

        Raises:
            ValueError: a scene has no such solid.
        """
        if len(target) != len(self.count) or any(not 0 <= t < n for t, n in zip(target, self.count, strict=True)):
            raise ValueError(f"target: expected a solid of each scene, which have {self.count}, got {tuple(target)}")
        chosen = torch.tensor(target, device=self.plate.device).view(-1, 1, 1, 1)
        background, foreground = self.plate, torch.zeros_like(_with_alpha(self.plate))
        occluder, image = foreground, self.plate
        solid, hidden, shadow = (torch.zeros_like(self.plate[:, :1]) for _ in range(3))
        for k in range(self.alpha.shape[1]):
            alpha, shade = self.alpha[:, k, None], self.shadow[:, k, None]
            layer = _folded(self.colour[:, k], alpha, shade)
            image = _over(layer, image)
            background = torch.where(chosen > k, _over(layer, background), background)
            foreground = torch.where(chosen == k, layer, foreground)
            occluder = torch.where(chosen < k, _over_clear(layer, occluder), occluder)
            solid, shadow = torch.where(chosen == k, alpha, solid), torch.where(chosen == k, shade, shadow)
            hidden = torch.where(chosen < k, 1 - (1 - hidden) * (1 - alpha), hidden)
        mask = (solid * (1 - hidden) > 0.5).float()
        return Triplets(
            image=image, foreground=foreground, background=background, occluder=occluder, mask=mask, shadow=shadow
        )

    def layered(self, index: int) -> tuple[LayeredPicture, U8]:
        """One scene in 8 bits: its layers, the shadows apart, and the picture that they make together."""
        plate, solids, shadows = _u8(self.plate[index]), [], []
        image = plate
        for k in range(self.count[index]):
            solid = _u8(torch.cat([self.colour[index, k], self.alpha[index, k, None]]))
            solid[solid[..., 3] == 0] = 0
            shade = _u8(self.shadow[index, k, None])[..., 0] * (solid[..., 3] < 255)
            image = compose.over_u8(compose.fold_shadow_u8(solid[..., :3], solid[..., 3], shade), image)
            solids.append(solid)
            shadows.append(shade)
        captions = ("", *(solid.caption for solid in self.worlds[index].solids))
        return LayeredPicture(background=plate, layers=tuple(solids), captions=captions, shadows=tuple(shadows)), image


def render(
    seeds: Sequence[int],
    size: int,
    *,
    options: SceneOptions | None = None,
    backgrounds: Tensor | None = None,
    photos: Tensor | None = None,
    device: str | torch.device = "cpu",
    batch: int = 16,
) -> Scene:
    """Render the scenes of seeds.

    Args:
        seeds: one a scene, 0 to 2**63 - 1.
        size: side S of the pictures, px.
        options: distributions and sample counts; the default is :class:`SceneOptions`' own.
        backgrounds: photographs to stand on, (B, 3, S, S), 0..1; None renders ground and sky.
        photos: photographs for textures, (P, 3, h, w), 0..1.
        device: where to render.
        batch: scenes at a time; decides memory and speed, no pixel.
    """
    options = options or SceneOptions()
    worlds = [draw_world(seed, options, photos=photos is not None) for seed in seeds]
    return render_worlds(
        worlds, size, options=options, backgrounds=backgrounds, photos=photos, device=device, batch=batch
    )


@torch.no_grad()
def render_worlds(
    worlds: Sequence[World],
    size: int,
    *,
    options: SceneOptions | None = None,
    backgrounds: Tensor | None = None,
    photos: Tensor | None = None,
    device: str | torch.device = "cpu",
    batch: int = 16,
) -> Scene:
    """Render worlds; see :func:`render`. Of the options only ``coverage`` and ``light`` are looked at.

    Raises:
        ValueError: no world, or backgrounds of another number or size.
    """
    if not worlds or (backgrounds is not None and backgrounds.shape != (len(worlds), 3, size, size)):
        got = None if backgrounds is None else tuple(backgrounds.shape)
        raise ValueError(f"expected worlds, and backgrounds of shape {(len(worlds), 3, size, size)}, got {got}")
    layers = max(1, *(len(world.solids) for world in worlds))
    parts = []
    for first in range(0, len(worlds), batch):
        some = worlds[first : first + batch]
        plate = None if backgrounds is None else backgrounds[first : first + batch].to(device)
        view = View(some, layers, size, options or SceneOptions(), torch.device(device), photos)
        plate = plate_of(view) if plate is None else plate
        colour, alpha = seen(view)
        parts.append((plate, colour, alpha, cast(view, alpha)))
    plate, colour, alpha, shadow = (torch.cat(part) for part in zip(*parts, strict=True))
    return Scene(
        plate=plate,
        colour=colour,
        alpha=alpha,
        shadow=shadow,
        count=tuple(len(world.solids) for world in worlds),
        worlds=tuple(worlds),
    )


def _with_alpha(rgb: Tensor) -> Tensor:
    return torch.cat([rgb, rgb[:, :1]], 1)


def _folded(colour: Tensor, alpha: Tensor, shadow: Tensor) -> Tensor:
    """:func:`layerkit.toolkit.compose.foreground_from`, channels first."""
    total = 1 - (1 - alpha) * (1 - shadow)
    share = torch.where(total > 0, alpha / total.clamp(min=1e-12), 0)
    return torch.cat([colour * share, total], 1)


def _over(top: Tensor, bottom: Tensor) -> Tensor:
    return top[:, 3:] * top[:, :3] + (1 - top[:, 3:]) * bottom


def _over_clear(top: Tensor, bottom: Tensor) -> Tensor:
    """Straight RGBA over straight RGBA."""
    under = (1 - top[:, 3:]) * bottom[:, 3:]
    total = top[:, 3:] + under
    mixed = top[:, 3:] * top[:, :3] + under * bottom[:, :3]
    return torch.cat([torch.where(total > 0, mixed / total.clamp(min=1e-12), 0), total], 1)


def _u8(picture: Tensor) -> U8:
    return compose.to_u8(picture.permute(1, 2, 0).cpu().numpy())
