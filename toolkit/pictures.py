"""Pictures for people: checkerboards, strips, contact sheets."""

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
    panels = (
        layers.image,
        on_checkerboard(layers.foreground),
        layers.background,
        _grey(layers.mask),
        _grey(255 - layers.shadow),
        on_checkerboard(layers.occluder),
    )
    gap = np.full((side, _GAP, 3), 255, np.uint8)
    row: list[U8] = []
    for panel in panels:
        row += [resize(panel, (side, side)), gap]
    return np.concatenate(row[:-1], axis=1)


def contact_sheet(samples: Iterable[tuple[str, Layers]], side: int = 192) -> U8:
    """Strips below one another, each with its key, under a line of titles."""
    rows: list[U8] = []
    for key, layers in samples:
        picture = strip(layers, side)
        if not rows:
            rows.append(_titles(side, picture.shape[1]))
        rows += [_caption(key, picture.shape[1]), picture]
    return np.concatenate(rows) if rows else np.full((side, side, 3), 255, np.uint8)


def _titles(side: int, width: int) -> U8:
    line = np.full((24, width, 3), 255, np.uint8)
    for k, title in enumerate(TITLES):
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
