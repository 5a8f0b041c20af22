"""Pictures for people: checkerboards, strips, contact sheets."""

import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from .compose import over_u8, resize
from .layers import Layers

U8 = NDArray[np.uint8]

TITLES = ("image", "foreground", "background", "mask", "shadow", "occluder")
_GAP = 6


def checkerboard(size: tuple[int, int], cell: int = 16) -> U8:
    """A grey checkerboard (H, W, 3), on which transparency shows."""
    rows, columns = np.indices(size) // cell
    return np.repeat(np.where((rows + columns) % 2, 168, 208).astype(np.uint8)[..., None], 3, axis=-1)


def on_checkerboard(rgba: U8) -> U8:
    """A straight (H, W, 4) over a checkerboard."""
    return over_u8(rgba, checkerboard(rgba.shape[:2]))


def strip(layers: Layers, side: int) -> U8:
    """A triplet in one row of squares of ``side`` px, in the order of :data:`TITLES`; shadow is black on white."""
    return _row([_shown(panel) for panel in _panels(layers)], side)


def _panels(layers: Layers) -> list[U8]:
    return [layers.image, layers.foreground, layers.background, layers.mask, 255 - layers.shadow, layers.occluder]


def sheet(titles: Sequence[str], rows: Iterable[tuple[str, Sequence[U8]]], side: int) -> U8:
    """Rows of squares of ``side`` px below one another, each with its caption, under a line of titles.

    Args:
        titles: of the columns.
        rows: caption, and 8-bit pictures: (H, W), (H, W, 3), or (H, W, 4), which are shown on a checkerboard.
        side: of every square, px.
    """
    width = len(titles) * (side + _GAP) - _GAP
    lines = [_titles(titles, side, width)]
    for caption, panels in rows:
        lines += [_caption(caption, width), _row([_shown(panel) for panel in panels], side)]
    return np.concatenate(lines)


def card(text: str, size: tuple[int, int] = (256, 256)) -> U8:
    """A text on grey, (H, W, 3), broken into lines that fit; what does not fit below is left out."""
    picture = np.full((*size, 3), 225, np.uint8)
    for k, line in enumerate(textwrap.wrap(text, size[1] // 8)[: size[0] // 18 - 1]):
        _write(picture, line, (10, 26 + 18 * k), 0.42)
    return picture


def _shown(panel: U8) -> U8:
    if panel.ndim == 2:
        return _grey(panel)
    return on_checkerboard(panel) if panel.shape[-1] == 4 else panel


def _row(panels: Sequence[U8], side: int) -> U8:
    fitted = [_fitted(panel, side) for panel in panels]
    height = max(len(panel) for panel in fitted)
    gap = np.full((height, _GAP, 3), 255, np.uint8)
    row: list[U8] = []
    for panel in fitted:
        row += [_centred(panel, (height, side)), gap]
    return np.concatenate(row[:-1], axis=1)


def _fitted(panel: U8, side: int) -> U8:
    """A picture (H, W, 3) as large as a square of ``side`` px holds it."""
    scale = side / max(panel.shape[:2])
    height, width = (max(1, round(length * scale)) for length in panel.shape[:2])
    return np.asarray(resize(panel, (height, width)), np.uint8)


def _centred(panel: U8, size: tuple[int, int]) -> U8:
    """A picture in the middle of a white canvas (H, W)."""
    canvas = np.full((*size, 3), 255, np.uint8)
    top, left = (size[0] - len(panel)) // 2, (size[1] - panel.shape[1]) // 2
    canvas[top : top + len(panel), left : left + panel.shape[1]] = panel
    return canvas


def contact_sheet(samples: Iterable[tuple[str, Layers]], side: int = 192) -> U8:
    """The members of triplets, one triplet a row with its key, in the order of :data:`TITLES`."""
    return sheet(TITLES, ((key, _panels(layers)) for key, layers in samples), side)


def _titles(titles: Sequence[str], side: int, width: int) -> U8:
    line = np.full((24, width, 3), 255, np.uint8)
    for k, title in enumerate(titles):
        _write(line, title, (k * (side + _GAP) + 4, 17), 0.5)
    return line


def _caption(text: str, width: int) -> U8:
    line = np.full((18, width, 3), 255, np.uint8)
    _write(line, text, (4, 13), 0.38)
    return line


def _write(picture: U8, text: str, at: Sequence[int], scale: float) -> None:
    cv2.putText(picture, text, tuple(at), cv2.FONT_HERSHEY_SIMPLEX, scale, (40, 40, 40), 1, cv2.LINE_AA)


def _grey(layer: NDArray[Any]) -> U8:
    return np.repeat(layer[..., None], 3, axis=-1).astype(np.uint8)
