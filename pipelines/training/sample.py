"""What a training sample is, how layers are looked at to make one, and streams of them.

A stream has no state. ``stream[k]`` is the same whoever asks, and when; so any number of ranks and workers read one
and the same order, no sample comes twice, and to resume is to go on counting.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from functools import cached_property, lru_cache
from typing import Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from ...manifests.errors import ShardError, UsageError
from ...toolkit import compose
from ...toolkit.layers import object_alpha_u8
from ...toolkit.mask_augment import augment, check_weights
from ...toolkit.matte import Box, bounding_box
from ..draw import generator

U8 = NDArray[np.uint8]

LAYERS = ("image", "foreground", "background", "mask")
"""The layers that training sees."""

READ = (*LAYERS, "occluder")
"""The layers that it reads."""

_CLOSEST = 0.6  # least side of a random crop, as a share of the picture's shorter side


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Sample:
    """One sample, 8-bit, all (S, S).

    Attributes:
        image: (S, S, 3).
        foreground: the object with its effects, straight RGBA, (S, S, 4); zero where it is not known.
        background: (S, S, 3).
        mask: of the visible object, made imperfect by policy, 0 or 255, (S, S).
        has_foreground: whether ``foreground`` is the truth.
        key: unique in its build.
        caption: what the picture shows, or empty.
    """

    image: U8
    foreground: U8
    background: U8
    mask: U8
    has_foreground: bool
    key: str
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Batch:
    """Samples stacked: uint8 tensors, channel-first with channels-last strides, for scaling to 0..1 on the device.

    Attributes:
        image: (B, 3, S, S).
        foreground: straight RGBA, (B, 4, S, S); zero where ``has_foreground`` is False.
        background: (B, 3, S, S).
        mask: 0 or 255, (B, 1, S, S).
        has_foreground: bool (B,).
        keys: of the samples.
        captions: of the samples.
    """

    image: torch.Tensor
    foreground: torch.Tensor
    background: torch.Tensor
    mask: torch.Tensor
    has_foreground: torch.Tensor
    keys: tuple[str, ...]
    captions: tuple[str, ...]


def collate(samples: Sequence[Sample]) -> Batch:
    """Samples of one size to a batch."""
    return Batch(
        image=_stacked([sample.image for sample in samples]),
        foreground=_stacked([sample.foreground for sample in samples]),
        background=_stacked([sample.background for sample in samples]),
        mask=_stacked([sample.mask[..., None] for sample in samples]),
        has_foreground=torch.tensor([sample.has_foreground for sample in samples]),
        keys=tuple(sample.key for sample in samples),
        captions=tuple(sample.caption for sample in samples),
    )


def _stacked(layers: Sequence[U8]) -> torch.Tensor:
    """(S, S, C) arrays to a (B, C, S, S) tensor; the pixels stay where they are."""
    return torch.from_numpy(np.stack(layers)).permute(0, 3, 1, 2)


class Stream(Protocol):
    """An endless sequence of samples; several threads may ask at once."""

    @property
    def size(self) -> int:
        """Side of its samples, px."""

    @property
    def identity(self) -> str:
        """A hash of everything that decides its samples."""

    def __getitem__(self, number: int) -> Sample:
        """The sample of that number, 0 and up.

        Raises:
            ShardError: it cannot be read.
        """


@dataclass(frozen=True, slots=True, kw_only=True)
class View:
    """How a sample is looked at, the same way in all its layers.

    Attributes:
        size: side of the sample, px. Larger pictures are shrunk, see :func:`~layerkit.toolkit.compose.resize`; the
            composite is shrunk as a camera would, so at soft edges it is near to, not equal to, the shrunken layers'.
        crop: take a random square around the object, of 0.6 up to all of the shorter side, but not below ``size``;
            False takes the largest.
        flip: share of samples that are mirrored.
        masks: weights of :data:`~layerkit.toolkit.mask_augment.POLICIES`.
        effects: False takes the shadow out of the foreground, though the image shows it: LayerDecomp's ablation.
        amodal: keep of the foreground what others hide, as Outpaint-and-Remove's triplets do. Otherwise it is what the
            image shows of it, and recomposes to that, as LayerDecomp's consistency loss wants. What hides it stands in
            the background either way, for whoever takes an object away leaves the others.
    """

    size: int
    crop: bool = True
    flip: float = 0.5
    masks: Mapping[str, float] = field(default_factory=lambda: {"tight": 1.0})
    effects: bool = True
    amodal: bool = False

    def __post_init__(self) -> None:
        check_weights(self.masks)

    @property
    def layers(self) -> tuple[str, ...]:
        """The layers that it needs: :data:`READ`, and ``shadow`` where that is taken out."""
        return READ if self.effects else (*READ, "shadow")

    def __call__(
        self, layers: Mapping[str, U8], key: str, rng: np.random.Generator, *, known: bool = True, caption: str = ""
    ) -> Sample:
        """Crop, shrink and mirror full-size ``layers``, named as in :attr:`layers`; ``known`` is ``has_foreground``."""
        if not self.effects:
            layers = {**layers, "foreground": object_alone(layers["foreground"], layers["shadow"])}
        layers = with_occluder_behind(layers, amodal=self.amodal)
        square = self._square(layers["mask"], key, rng)
        flip = bool(rng.random() < self.flip)
        seen = {name: self._look(layers[name][square], flip) for name in LAYERS}
        covered = seen["mask"] > 127
        if not covered.any():
            covered = seen["mask"] > 0  # a speck that no pixel holds half of
        seen["mask"] = augment(covered, rng, self.masks)[0].astype(np.uint8) * 255
        return Sample(**seen, has_foreground=known, key=key, caption=caption)

    def _square(self, mask: U8, key: str, rng: np.random.Generator) -> tuple[slice, slice]:
        shorter = min(mask.shape)
        if shorter < self.size:
            raise ShardError(f"{key}: expected at least {self.size} px a side, got {shorter}; leave it out")
        least = max(self.size, round(_CLOSEST * shorter)) if self.crop else shorter
        side = int(rng.integers(least, shorter + 1))
        box = bounding_box(mask) or Box(0, 0, *mask.shape)
        top = self._start(box.top, box.bottom, side, mask.shape[0], rng)
        left = self._start(box.left, box.right, side, mask.shape[1], rng)
        return slice(top, top + side), slice(left, left + side)

    def _start(self, first: int, last: int, side: int, length: int, rng: np.random.Generator) -> int:
        """Where a window of ``side`` begins so that it holds first..last, or lies within where it cannot."""
        low, high = sorted((max(0, last - side), min(first, length - side)))
        return int(rng.integers(low, high + 1)) if self.crop else (low + high) // 2

    def _look(self, layer: U8, flip: bool) -> U8:
        size = (self.size, self.size)
        if layer.shape[:2] != size:
            rgba = layer.ndim == 3 and layer.shape[-1] == 4
            layer = compose.resize_rgba(layer, size) if rgba else compose.resize(layer, size)
        return np.asarray(cv2.flip(layer, 1), np.uint8) if flip else np.ascontiguousarray(layer)


def object_alone(foreground: U8, shadow: U8) -> U8:
    """The object without its shadow, straight (H, W, 4): alpha (A - s) / (1 - s), colour C A over that."""
    alpha = object_alpha_u8(foreground, shadow)
    total = foreground[..., 3:].astype(np.float32)
    colour = foreground[..., :3] * np.divide(
        total, alpha[..., None], out=np.zeros_like(total), where=alpha[..., None] > 0
    )
    straight: U8 = np.rint(np.clip(np.dstack([colour, alpha]), 0, 255)).astype(np.uint8)
    straight[straight[..., 3] == 0] = 0
    return straight


def with_occluder_behind(layers: Mapping[str, U8], *, amodal: bool) -> Mapping[str, U8]:
    """The layers with what lies in front of the object moved into the background; the image stays.

    The foreground becomes what is seen of it: alpha A (1 - a_O), with the occluder's alpha a_O above the darkest shadow
    alone, and the colour that recomposes to the image: the occluder's shadow darkens it.
    """
    occluder = layers["occluder"]
    if not occluder[..., 3].any():
        return layers
    background = compose.over_u8(occluder, layers["background"])
    foreground = layers["foreground"] if amodal else _seen(layers, background)
    return {**layers, "background": background, "foreground": foreground}


def _seen(layers: Mapping[str, U8], background: U8) -> U8:
    """The foreground where the occluder is clear; elsewhere, in the box of it alone, what is seen of it."""
    box = compose.visible_box(layers["occluder"])
    foreground, front = layers["foreground"][box], layers["occluder"][box][..., 3]
    touched = (front > 0) & (foreground[..., 3] > 0)
    if not touched.any():
        return layers["foreground"]
    hidden = front.astype(np.float32) / 255
    alpha = foreground[..., 3].astype(np.float32) / 255 * np.clip((1 - hidden) / (1 - compose.MAX_SHADOW), 0, 1)
    image, behind = (picture[box].astype(np.float32) / 255 for picture in (layers["image"], background))
    seen = compose.to_u8(np.dstack([compose.unblend(image, alpha, behind), alpha]))
    seen[seen[..., 3] == 0] = 0
    whole = layers["foreground"].copy()
    whole[box] = np.where(touched[..., None], seen, foreground)
    return whole


def turn(number: int, count: int, seed: int, shuffle: bool) -> tuple[int, int]:
    """Epoch and index of sample ``number`` of a finite set: an epoch is all ``count`` once, in an order of its own."""
    epoch, position = divmod(number, count)
    return epoch, int(_order(seed, epoch, count)[position]) if shuffle else position


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    return generator(str(seed), "order", epoch).permutation(count)


def identity_of(kind: str, seed: int, view: View, names: Sequence[str]) -> str:
    """A hash for :attr:`Stream.identity`."""
    text = json.dumps([kind, seed, asdict(view), list(names)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class Mixed:
    """Several streams as one, each with its exact share of any stretch of it.

    Sample k is one of the first stream where floor((k + 1) s) exceeds floor(k s), of the others by the same rule
    otherwise: the nearest whole number to every share, with nothing to remember.

    Args:
        parts: stream and share, relative to the others' shares.

    Raises:
        UsageError: no part, a share that is not above 0, or streams of different sizes.
    """

    def __init__(self, parts: Sequence[tuple[Stream, float]]) -> None:
        shares = [Fraction(share).limit_denominator(10**6) for _, share in parts]
        if not parts or min(shares) <= 0:
            raise UsageError(f"expected shares above 0, got {[share for _, share in parts]}")
        sizes = sorted({stream.size for stream, _ in parts})
        if len(sizes) > 1:
            raise UsageError(f"expected streams of one size, got {sizes}")
        self._parts = [(stream, shares[k] / sum(shares[k:])) for k, (stream, _) in enumerate(parts)]

    @property
    def size(self) -> int:
        """Side of the samples, px."""
        return self._parts[0][0].size

    @cached_property
    def identity(self) -> str:
        """See :class:`Stream`."""
        text = json.dumps([(stream.identity, str(share)) for stream, share in self._parts])
        return hashlib.sha256(text.encode()).hexdigest()

    def __getitem__(self, number: int) -> Sample:
        """See :class:`Stream`."""
        part, own = self._find(number)
        return self._parts[part][0][own]

    def _find(self, number: int) -> tuple[int, int]:
        """Which part sample ``number`` is of, and its number in that part."""
        for part, (_, share) in enumerate(self._parts):
            taken = number * share.numerator // share.denominator
            if (number + 1) * share.numerator // share.denominator > taken:
                return part, taken
            number -= taken
        raise AssertionError("the last share is 1")
