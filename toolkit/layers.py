"""The layers of one triplet, as they are written: 8-bit arrays of one size, checked at the door."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .compose import recompose, recomposition_error
from .matte import mask_of

U8 = NDArray[np.uint8]

CHANNELS = {"image": 3, "foreground": 4, "background": 3, "mask": 1, "shadow": 1, "occluder": 4}
"""Channels of each layer; one channel is an (H, W) array."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Layers:
    """The members of a triplet, 8-bit, all (H, W).

    Attributes:
        image: the composite, (H, W, 3).
        foreground: the object with its shadow, straight RGBA, colour zero where clear, (H, W, 4).
        background: the clean scene with every object that lies behind, (H, W, 3).
        mask: 255 where the object alone is visible, else 0, (H, W).
        shadow: attenuation of the background by the object's shadow, 0 = none, (H, W).
        occluder: what of other objects lies in front, straight RGBA, (H, W, 4).
    """

    image: U8
    foreground: U8
    background: U8
    mask: U8
    shadow: U8
    occluder: U8

    def __post_init__(self) -> None:
        size = self.image.shape[:2]
        for field in fields(self):
            layer = getattr(self, field.name)
            channels = CHANNELS[field.name]
            expected = (*size, channels) if channels > 1 else size
            if layer.dtype != np.uint8 or layer.shape != expected:
                raise ValueError(
                    f"{field.name} must be uint8 of shape {expected}, got {layer.dtype} of shape {layer.shape}; "
                    "all layers of a triplet share the size of its image"
                )

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        height, width = self.image.shape[:2]
        return height, width

    def recompose(self) -> U8:
        """over(occluder, over(foreground, background)), 8-bit."""
        return recompose(self.foreground, self.background, self.occluder)

    def recomposition_error(self) -> int:
        """Largest difference between :meth:`recompose` and the image, in levels."""
        return recomposition_error(self.foreground, self.background, self.occluder, self.image)


def object_alpha_u8(foreground: U8, shadow: U8) -> NDArray[np.float32]:
    """Object alpha a = (A - s)/(1 - s) of 8-bit layers, (H, W) float32 in 0..255."""
    total, shade = foreground[..., 3].astype(np.float32), shadow.astype(np.float32)
    alpha: NDArray[np.float32] = np.clip(255 * (total - shade) / (255 - shade), 0, 255)
    return alpha


def joint_alpha(alphas: Iterable[U8], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Alpha of several objects together, 1 - (1 - a)(1 - b) …, as (H, W) float32 in 0..255; zero for none."""
    clear = np.full(shape, 255, np.float32)
    for alpha in alphas:
        clear *= (255 - alpha.astype(np.float32)) / 255
    return 255 - clear


def visible_mask(alpha: NDArray[Any], occluder_alpha: NDArray[Any]) -> U8:
    """The visible object, a (1 - a_O) > 0.5, as 0 or 255; alphas (H, W) in 0..255, the occluder's without shadow."""
    visible = alpha.astype(np.float32) * (255 - occluder_alpha.astype(np.float32)) / 255
    return mask_of(np.rint(visible).astype(np.uint8)).astype(np.uint8) * 255
