"""Edits of a foreground that was taken apart: moved, scaled, turned, mirrored, recoloured, and put back.

They need no training: what LayerDecomp shows of its layers (Yang et al. 2024, arXiv 2411.17864). The object takes its
shadow along, so the shadow follows a scaling and a shift along the ground, but neither another ground nor a turn or a
mirroring, after which the light no longer comes from where it does in the picture.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import UsageError
from .compose import MAX_SHADOW, over_u8, premultiply_exact, resize_premultiplied, turn, visible_box
from .matte import Box, bounding_box

U8 = NDArray[np.uint8]
Float = NDArray[np.float32]
Anchor = Literal["foot", "centre"]

MAX_SCALE = 8.0
"""More would only show the pixels of an object."""

_MOST = 2**26  # px of an enlarged layer: one gigabyte while it is resized
_RIM = 2  # clear px around a layer that is resampled, so that its edge stays as soft as it was
_OPAQUE = round(MAX_SHADOW * 255)  # no shadow has more alpha
_DARK, _LIT = 8, 24  # largest channel of what is shadow, and of what is not, where alpha would allow either
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # Rec. 601


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """What is done to a foreground, in this order: recolour, mirror, rotate, scale, move, opacity.

    Attributes:
        move: to the right and down, as shares of the canvas' width and height, -1..1; rounded to whole pixels, so that
            nothing is blurred by it.
        scale: factor of width and height, above 0, at most :data:`MAX_SCALE`.
        about: which point of the object's box stays where it is, before it is moved: the middle of its lower edge,
            which keeps it on the ground, or its centre. The box holds what is more opaque than any shadow; all that is
            visible where nothing is.
        mirror: left and right exchanged.
        rotate: degrees counter-clockwise, -180..180.
        hue: degrees by which colours go round the circle, -180..180.
        saturation: factor, 0 (grey) to 4.
        brightness: factor, 0 (black) to 4; a colour that would leave 8 bits keeps its hue.
        tint: 8-bit RGB that white becomes; every other colour becomes darker by its luma. None = no tint.
        opacity: factor of alpha, object and shadow alike, 0..1.

    Raises:
        UsageError: a value out of range.
    """

    move: tuple[float, float] = (0.0, 0.0)
    scale: float = 1.0
    about: Anchor = "foot"
    mirror: bool = False
    rotate: float = 0.0
    hue: float = 0.0
    saturation: float = 1.0
    brightness: float = 1.0
    tint: tuple[int, int, int] | None = None
    opacity: float = 1.0

    def __post_init__(self) -> None:
        pair = len(self.move) == 2 and all(-1 <= share <= 1 for share in self.move)
        _expect(pair, "move", "two shares of width and height in -1..1, not pixels", self.move)
        _expect(0 < self.scale <= MAX_SCALE, "scale", f"a factor above 0, at most {MAX_SCALE:g}", self.scale)
        _expect(self.about in ("foot", "centre"), "about", "foot or centre", self.about)
        for name in ("rotate", "hue"):
            _expect(-180 <= getattr(self, name) <= 180, name, "degrees in -180..180", getattr(self, name))
        for name in ("saturation", "brightness"):
            _expect(0 <= getattr(self, name) <= 4, name, "a factor in 0..4", getattr(self, name))
        colour = self.tint is None or (len(self.tint) == 3 and all(0 <= level <= 255 for level in self.tint))
        _expect(colour, "tint", "three levels in 0..255", self.tint)
        _expect(0 <= self.opacity <= 1, "opacity", "a factor in 0..1", self.opacity)


class _Piece(NamedTuple):
    """What is visible of a layer, premultiplied and exact, and its anchor (x, y) in px from its upper left corner."""

    exact: NDArray[np.uint16]
    anchor: tuple[float, float]


def edited(foreground: U8, edit: Edit) -> U8:
    """An edited foreground on a canvas of the same size; what leaves the canvas is cut off.

    Args:
        foreground: straight 8-bit (H, W, 4), the object with its shadow.
        edit: what is done; the identity gives the same bytes.

    Returns:
        Straight 8-bit (H, W, 4), colour zero where alpha is zero.

    Raises:
        UsageError: not such a layer, or it would be enlarged to more than 64 million pixels.
    """
    _check(foreground, 4, "foreground")
    layer = _with_colour(foreground, edit)
    layer[layer[..., 3] == 0] = 0
    rows, columns = visible_box(layer)
    if layer[rows, columns].size:
        exact = premultiply_exact(layer[rows, columns])
        anchor = _anchor(exact, edit.about)
        shift = edit.move[0] * layer.shape[1], edit.move[1] * layer.shape[0]
        goal = columns.start + anchor[0] + shift[0], rows.start + anchor[1] + shift[1]
        part, (x, y) = _scaled(_turned(_Piece(exact, anchor), edit), edit.scale)
        layer = _on_canvas(part, round(goal[0] - x), round(goal[1] - y), layer.shape)
    return _faded(layer, edit.opacity)


def recomposed(foreground: U8, background: U8) -> U8:
    """A foreground over a background of its size, 8-bit (H, W, 4) and (H, W, 3); see :func:`~.compose.over_u8`.

    Raises:
        UsageError: not such layers, or of different sizes.
    """
    _check(foreground, 4, "foreground")
    _check(background, 3, "background")
    if foreground.shape[:2] != background.shape[:2]:
        raise UsageError(
            f"expected layers of one size, got a foreground of {foreground.shape[:2]} and a background of "
            f"{background.shape[:2]} (height, width); resize one of them"
        )
    return over_u8(foreground, background)


def _expect(holds: bool, name: str, expected: str, got: object) -> None:
    if not holds:
        raise UsageError(f"edit.{name}: expected {expected}, got {got!r}; change it")


def _check(layer: NDArray[Any], channels: int, name: str) -> None:
    if layer.dtype != np.uint8 or layer.ndim != 3 or layer.shape[2] != channels:
        raise UsageError(
            f"{name}: expected an 8-bit layer (H, W, {channels}), got {layer.dtype} {layer.shape}; convert it"
        )


# ---- geometry


def _anchor(exact: NDArray[np.uint16], about: Anchor) -> tuple[float, float]:
    """The point (x, y) of a piece that stays; a premultiplied alpha is in units of 1/255 level."""
    box = bounding_box(exact[..., 3] > 255 * _OPAQUE) or Box(0, 0, *exact.shape[:2])
    return (box.left + box.right) / 2, box.bottom if about == "foot" else (box.top + box.bottom) / 2


def _turned(piece: _Piece, edit: Edit) -> _Piece:
    """Mirrored and rotated, with the anchor of the box that it then has."""
    exact = piece.exact[:, ::-1] if edit.mirror else piece.exact
    exact = turn(_rimmed(exact), edit.rotate) if edit.rotate else exact
    return _Piece(exact, _anchor(exact, edit.about))


def _scaled(piece: _Piece, scale: float) -> tuple[U8, tuple[float, float]]:
    """Straight 8-bit, and the anchor in it."""
    exact, (x, y) = piece
    if scale == 1:
        return resize_premultiplied(np.ascontiguousarray(exact), (exact.shape[0], exact.shape[1])), (x, y)
    exact = _rimmed(exact)
    height, width = exact.shape[:2]
    size = max(1, round(height * scale)), max(1, round(width * scale))
    if size[0] * size[1] > _MOST:
        raise UsageError(
            f"edit.scale: expected an enlarged layer of at most {_MOST} px, got {size[0]} x {size[1]}; scale it less"
        )
    return resize_premultiplied(exact, size), ((x + _RIM) * size[1] / width, (y + _RIM) * size[0] / height)


def _rimmed(exact: NDArray[np.uint16]) -> NDArray[np.uint16]:
    return np.pad(exact, ((_RIM, _RIM), (_RIM, _RIM), (0, 0)))


def _on_canvas(part: U8, left: int, top: int, shape: tuple[int, ...]) -> U8:
    """A clear canvas with a part whose upper left corner lies at (left, top), clipped."""
    canvas = np.zeros(shape, np.uint8)
    across, down = slice(max(0, left), left + part.shape[1]), slice(max(0, top), top + part.shape[0])
    if across.stop > 0 and down.stop > 0:
        place = canvas[down, across]
        rows, columns = down.start - top, across.start - left
        place[:] = part[rows : rows + place.shape[0], columns : columns + place.shape[1]]
    return canvas


# ---- colour


def _with_colour(foreground: U8, edit: Edit) -> U8:
    """Recoloured, alpha untouched; black stays black.

    Every recolouring scales with the colour, f(k C) = k f(C), as far as 8 bits reach. So what a shadow or a soft edge
    has darkened becomes what the recoloured object would be under it, and object and shadow need not be told apart.
    What a network left in its shadow of the object's colour does not come to light: see :func:`_lit`.
    """
    layer = foreground.copy()
    if (edit.tint, edit.hue, edit.saturation, edit.brightness) == (None, 0, 1, 1):
        return layer
    colour = np.ascontiguousarray(foreground[..., :3]).astype(np.float32)
    made = _shifted(colour if edit.tint is None else _tinted(colour, edit.tint), edit)
    layer[..., :3] = np.rint(np.clip(colour + _lit(foreground) * (made - colour), 0, 255))
    return layer


def _tinted(colour: Float, tint: tuple[int, int, int]) -> Float:
    made: Float = (colour @ _LUMA)[..., None] * (np.array(tint, np.float32) / np.float32(255))
    return made


def _shifted(colour: Float, edit: Edit) -> Float:
    """Hue, saturation and brightness in HSV, whose value is the largest channel, 0..255."""
    hue, saturation, value = cv2.split(cv2.cvtColor(colour, cv2.COLOR_RGB2HSV))
    hue = np.mod(hue + np.float32(edit.hue), np.float32(360))
    saturation = np.clip(saturation * np.float32(edit.saturation), 0, 1)
    value = np.minimum(value * np.float32(edit.brightness), 255)
    return np.asarray(cv2.cvtColor(cv2.merge([hue, saturation, value]), cv2.COLOR_HSV2RGB), np.float32)


def _lit(foreground: U8) -> Float:
    """How much of a pixel is recoloured, (H, W, 1): none of what is near-black and no more opaque than a shadow."""
    largest = foreground[..., :3].max(axis=-1).astype(np.float32)
    share = np.clip((largest - _DARK) / (_LIT - _DARK), 0, 1)
    lit: Float = np.where(foreground[..., 3] > _OPAQUE, 1, share).astype(np.float32)[..., None]
    return lit


def _faded(layer: U8, opacity: float) -> U8:
    if opacity < 1:
        layer[..., 3] = np.rint(layer[..., 3] * opacity).astype(np.uint8)
        layer[layer[..., 3] == 0] = 0
    return layer
