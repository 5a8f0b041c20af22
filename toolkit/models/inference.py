"""A picture of any size, taken apart by a system that was trained at one size.

``resize`` shows the system the whole picture at about the area that it was trained at, and brings the layers back.
``tile`` shows it squares of the picture at full resolution and blends them: detail is kept, but an object larger than a
tile is seen in parts, each without the rest, and a fill knows only its own tile.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...manifests.errors import RunError, UsageError
from ..compose import premultiply_exact, resize, resize_premultiplied, resize_rgba, to_u8
from ..decomposition import U8, Bool, Decomposition
from ..matte import Box, mask_of
from .system import System

Float = NDArray[np.float32]

_LONGEST = 4  # times the trained side: a picture that is longer still is squeezed, or its area would explode


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How a picture is fitted to a system.

    Attributes:
        side: what the system was trained at, px.
        way: ``resize``: the whole picture, aspect kept, sides rounded to the system's multiple, area about ``side``
            squared. ``tile``: overlapping squares of ``side`` px, of which only those run that the mask is near.
        keep: where the background is the input's, bit for bit. ``none``: nowhere, it is as predicted. ``mask``: outside
            the mask, so that a shadow stays in it as well. ``alpha``: where neither the mask nor the predicted
            foreground's alpha is near; a system whose foreground has a faint haze everywhere keeps little.
        overlap: least share of its side by which a tile lies over the next, 0..0.5.
        margin: how near the mask must be for a tile to run, as a share of its side, at least 0: shadows fall beside it.
        grow: how far beyond mask and alpha ``alpha`` takes the predicted background, px.
        feather: over how many px more it passes to the input.

    Raises:
        UsageError: a value out of range.
    """

    side: int
    way: Literal["resize", "tile"] = "resize"
    keep: Literal["none", "mask", "alpha"] = "none"
    overlap: float = 0.25
    margin: float = 0.25
    grow: int = 4
    feather: int = 8

    def __post_init__(self) -> None:
        _expect(self.side >= 1, "side", "a side of 1 px or more", self.side)
        _expect(self.way in ("resize", "tile"), "way", "resize or tile", self.way)
        _expect(self.keep in ("none", "mask", "alpha"), "keep", "none, mask or alpha", self.keep)
        _expect(0 <= self.overlap <= 0.5, "overlap", "a share in 0..0.5", self.overlap)
        _expect(0 <= self.margin < math.inf, "margin", "a share of 0 or more", self.margin)
        _expect(self.grow >= 0, "grow", "0 px or more", self.grow)
        _expect(self.feather >= 0, "feather", "0 px or more", self.feather)


def _expect(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise UsageError(f"fit.{name}: expected {expected}, got {got!r}; change it")


def decompose_picture(system: System, image: U8, mask: Bool, generator: np.random.Generator, fit: Fit) -> Decomposition:
    """Take the object under a mask apart from a picture of any size.

    The system runs where its parameters lie, in evaluation mode, and is left in the mode it was in.

    Args:
        system: trained.
        image: (H, W, 3), 8-bit.
        mask: bool (H, W). Where it is empty nothing runs: the background is the picture, the foreground clear.
        generator: the seed of the system's own generator is drawn from it, once a picture.
        fit: see :class:`Fit`. Without resizing, with one tile or none, and with ``keep="none"`` the result is what the
            system gives, rounded to 8 bits.

    Returns:
        The layers, (H, W); colour is zero where alpha is zero. No foreground where the system makes none.

    Raises:
        UsageError: picture or mask is not of this form, or tiles are no multiple of what the system takes.
        RunError: the system gave values that are not finite.
    """
    _check(image, mask)
    draws = torch.Generator().manual_seed(int(generator.integers(2**63)))
    if not mask.any():
        return Decomposition(image.copy(), np.zeros((*mask.shape, 4), np.uint8))
    with _evaluating(system), torch.no_grad():
        made = (_tiled if fit.way == "tile" else _resized)(system, image, mask, draws, fit)
    return replace(made, background=_kept(made, image, mask, fit))


def _check(image: U8, mask: Bool) -> None:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or not image.size:
        raise UsageError(
            f"expected an 8-bit picture (H, W, 3) with pixels, got {image.dtype} {image.shape}; convert it"
        )
    if mask.dtype != bool or mask.shape != image.shape[:2]:
        raise UsageError(
            f"expected a bool mask {image.shape[:2]}, as the picture is, got {mask.dtype} {mask.shape}; resize it, "
            "or compare it with a level"
        )


@contextmanager
def _evaluating(system: System) -> Iterator[None]:
    """Evaluation mode; every module's own mode comes back, for frozen parts may be in another than the rest."""
    modes = [(module, module.training) for module in system.modules()]
    system.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _layers(system: System, image: U8, mask: Bool, draws: torch.Generator) -> Decomposition:
    """What the system makes of one picture whose sides it takes."""
    device = next((parameter.device for parameter in system.parameters()), torch.device("cpu"))
    picture = torch.from_numpy(np.array(image, np.float32, order="C")).permute(2, 0, 1)[None] / 255
    where = torch.from_numpy(np.array(mask, np.float32, order="C"))[None, None]
    background, foreground = system.decompose(picture.to(device), where.to(device), draws)
    if foreground is None:
        return Decomposition(pictures(background)[0])
    return Decomposition(pictures(background)[0], pictures(foreground)[0])


def pictures(batch: Tensor) -> list[U8]:
    """(N, C, H, W) in 0..1 as 8-bit (H, W, C) each; of four channels the colour is zero where alpha is.

    Raises:
        RunError: a value is not finite.
    """
    levels = batch.permute(0, 2, 3, 1).float().cpu().numpy()
    if not np.isfinite(levels).all():
        raise RunError("expected finite pixels of the system, got NaN or infinity; run it in float32, or train it anew")
    made = [np.ascontiguousarray(to_u8(one)) for one in levels]
    for one in made:
        if one.shape[2] == 4:
            one[one[..., 3] == 0] = 0
    return made


# ---- resize


def working_size(shape: tuple[int, ...], side: int, multiple: int) -> tuple[int, int]:
    """The (height, width) at which a picture is shown: aspect kept, area about ``side`` squared, ``multiple`` px steps.

    No side is longer than four times ``side``, at the cost of the aspect.

    Args:
        shape: (H, W), px.
        side: trained at, px.
        multiple: what sides must be a multiple of, px.
    """
    scale = side / math.sqrt(shape[0] * shape[1])
    height, width = (min(extent * scale, _LONGEST * side) for extent in shape)
    return max(1, round(height / multiple)) * multiple, max(1, round(width / multiple)) * multiple


def _resized(system: System, image: U8, mask: Bool, draws: torch.Generator, fit: Fit) -> Decomposition:
    shape = image.shape[0], image.shape[1]
    size = working_size(shape, fit.side, system.multiple)
    made = _layers(system, resize(image, size), _resized_mask(mask, size), draws)
    foreground = None if made.foreground is None else resize_rgba(made.foreground, shape)
    return Decomposition(resize(made.background, shape), foreground)


def _resized_mask(mask: Bool, size: tuple[int, int]) -> Bool:
    """The mask where it covers more than half of a pixel; where that leaves nothing of it, every pixel it touches."""
    small = mask_of(resize(mask.astype(np.uint8) * 255, size))
    if not small.any():
        rows, columns = np.nonzero(mask)
        small[rows * size[0] // mask.shape[0], columns * size[1] // mask.shape[1]] = True
    return small


# ---- tile


def tiles(shape: tuple[int, ...], side: int, overlap: float) -> list[Box]:
    """The squares that cover an array, row by row, evenly spread, neighbours ``overlap`` of a side or more in common.

    Args:
        shape: (H, W), px, each at least ``side``.
        side: of a tile, px.
        overlap: share of a side, 0..0.5.
    """
    rows, columns = (_starts(extent, side, overlap) for extent in shape)
    return [Box(top, left, top + side, left + side) for top in rows for left in columns]


def _starts(extent: int, side: int, overlap: float) -> list[int]:
    stride = max(1, math.floor(side * (1 - overlap)))
    steps = math.ceil((extent - side) / stride)
    return [round(k * (extent - side) / max(steps, 1)) for k in range(steps + 1)]


def _tiled(system: System, image: U8, mask: Bool, draws: torch.Generator, fit: Fit) -> Decomposition:
    if fit.side % system.multiple:
        raise UsageError(
            f"fit.side: expected tiles of a multiple of {system.multiple} px, got {fit.side}; "
            f"try {max(1, round(fit.side / system.multiple)) * system.multiple}"
        )
    picture, where = _padded(image, fit.side), _padded(mask, fit.side)
    boxes, margin = tiles(where.shape, fit.side, fit.overlap), round(fit.margin * fit.side)
    made = []
    for box in boxes:
        part = Decomposition(picture[box.slices])
        if where[box.grown(margin, where.shape).slices].any():
            part = _layers(system, part.background, where[box.slices], draws)
        made.append(part)
    whole = _blended(boxes, made, fit)
    height, width = mask.shape
    foreground = None if whole.foreground is None else np.ascontiguousarray(whole.foreground[:height, :width])
    return Decomposition(np.ascontiguousarray(whole.background[:height, :width]), foreground)


def _padded(picture: NDArray[Any], side: int) -> NDArray[Any]:
    """A picture or mask, reflected below and to the right where it is smaller than a tile."""
    missing = [(0, max(0, side - extent)) for extent in picture.shape[:2]]
    return np.pad(picture, missing + [(0, 0)] * (picture.ndim - 2), mode="symmetric")


def _blended(boxes: Sequence[Box], made: Sequence[Decomposition], fit: Fit) -> Decomposition:
    """Tiles as one: of 8-bit values, so that the mean is exact where they agree; the foreground premultiplied."""
    background = np.rint(_mean(boxes, (part.background for part in made), 3, fit)).astype(np.uint8)
    if all(part.foreground is None for part in made):
        return Decomposition(background)
    clear = np.zeros((fit.side, fit.side, 4), np.uint8)
    layers = [clear if part.foreground is None else part.foreground for part in made]
    exact = np.rint(_mean(boxes, map(premultiply_exact, layers), 4, fit)).astype(np.uint16)
    return Decomposition(background, resize_premultiplied(exact, (exact.shape[0], exact.shape[1])))


def _mean(boxes: Sequence[Box], parts: Iterable[NDArray[Any]], channels: int, fit: Fit) -> Float:
    """Mean of the tiles that cover a pixel, weighted by how far it lies from their edges."""
    window = _window(fit.side, round(fit.side * fit.overlap))[..., None]
    shape = boxes[-1].bottom, boxes[-1].right
    total, weight = np.zeros((*shape, channels), np.float32), np.zeros((*shape, 1), np.float32)
    for box, part in zip(boxes, parts, strict=True):
        total[box.slices] += window * part
        weight[box.slices] += window
    return total / weight


def _window(side: int, ramp: int) -> Float:
    """Weights (side, side) above 0: 1 inside, a squared sine over ``ramp`` px at the edges, whose overlap sums to 1."""
    edge = np.sin(np.pi / 2 * (np.arange(ramp) + 0.5) / max(ramp, 1)) ** 2
    line = np.ones(side)
    line[:ramp] *= edge
    line[side - ramp :] *= edge[::-1]
    return np.outer(line, line).astype(np.float32)


# ---- what is kept of the input


def _kept(made: Decomposition, image: U8, mask: Bool, fit: Fit) -> U8:
    """The background with the input in the places that :class:`Fit` says."""
    if fit.keep == "none":
        return made.background
    if fit.keep == "mask":
        return np.where(mask[..., None], made.background, image)
    touched = mask if made.foreground is None else mask | (made.foreground[..., 3] > 0)
    share = _share(touched, fit.grow, fit.feather)[..., None]
    # Where the share is 0 the sum is the input itself, so nothing is lost by the rounding.
    return np.rint(image + share * (made.background.astype(np.float32) - image)).astype(np.uint8)


def _share(touched: Bool, grow: int, feather: int) -> Float:
    """1 up to ``grow`` px from what is touched, which must be something, falling to 0 over ``feather`` px more."""
    distance = cv2.distanceTransform((~touched).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    share: Float = np.clip((grow + feather + 1 - distance) / np.float32(feather + 1), 0, 1)
    return share
