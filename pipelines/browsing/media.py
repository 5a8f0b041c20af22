"""The pictures of an exhibit, taken out of tars and reports into the cache once, with small ones for a grid."""

import hashlib
import math
import os
import shutil
from collections.abc import Collection
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ...manifests.report_files import file_name
from ...toolkit.compose import resize
from ...toolkit.files import cache_folder
from ...toolkit.images import encode_jpeg, encode_png
from ...toolkit.pictures import card, on_checkerboard
from .exhibit import Overlay, Panel

U8 = NDArray[np.uint8]

LARGE = 512
"""Side of a square with as many pixels as a picture in a grid has at most, px."""

_QUALITY = 88


class Media:
    """The folder of one exhibit's pictures; ``edition`` names what they were made of, and changes with it.

    Pictures of another edition stay until :meth:`sweep`, so that who looks at them meanwhile is not left without.
    """

    def __init__(self, exhibit: str) -> None:
        self.root = cache_folder() / "browse" / exhibit

    def folder(self, edition: str) -> "Folder":
        """Where the pictures of an edition lie."""
        return Folder(self.root / edition)

    def sweep(self, editions: Collection[str]) -> None:
        """Delete all pictures but those of these editions."""
        for path in self.root.iterdir() if self.root.is_dir() else ():
            if path.name not in editions:
                shutil.rmtree(path, ignore_errors=True)

    def clear(self) -> None:
        """Delete all pictures."""
        shutil.rmtree(self.root, ignore_errors=True)


class Folder:
    """Files that are written once: one that is there is taken for what it should be."""

    def __init__(self, root: Path) -> None:
        self._root = root
        root.mkdir(parents=True, exist_ok=True)

    def keep(self, key: str, name: str, data: bytes) -> Path:
        """A file with these bytes, seen whole or not at all."""
        path = self._root / f"{file_name(key)}.{name}"
        if not path.exists():
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            partial.write_bytes(data)
            os.replace(partial, path)
        return path

    def panel(
        self,
        key: str,
        name: str,
        picture: U8,
        *,
        data: tuple[str, bytes] | None = None,
        overlays: dict[str, Overlay] | None = None,
    ) -> Panel:
        """A picture with what goes with it.

        Args:
            key: of the sample.
            name: of the panel.
            picture: 8-bit (H, W, 3), or straight (H, W, 4).
            data: ending and bytes of its file, where it is encoded already; else it becomes a PNG.
            overlays: field to what is laid over it.
        """
        ending, encoded = data or ("png", encode_png(picture))
        path = self.keep(key, f"{name}.{ending}", encoded)
        height, width = picture.shape[:2]
        is_plain = picture.shape[-1] == 3 and height * width <= LARGE**2
        small = path if is_plain else self.keep(key, f"{name}.small.jpg", encode_jpeg(thumbnail(picture), _QUALITY))
        return Panel(picture=path, thumbnail=small, size=(width, height), overlays=overlays or {})

    def card(self, key: str, text: str) -> Panel:
        """A picture that says in words why there is none."""
        return self.panel(key, f"card-{hashlib.sha256(text.encode()).hexdigest()[:8]}", card(text))

    def overlay(self, key: str, name: str, channel: U8 | bytes, *, heat: bool, brightest: int = 255) -> Overlay:
        """A channel (H, W) that is laid over pictures, or the bytes of its PNG."""
        data = channel if isinstance(channel, bytes) else encode_png(channel)
        path = self.keep(key, f"{name}.overlay.png", data)
        return Overlay(kind="heat" if heat else "mask", path=path, brightest=brightest)


def thumbnail(picture: U8, side: float = LARGE) -> U8:
    """A picture (H, W, 3) of ``side`` x ``side`` pixels at most, in its own shape; straight RGBA on a checkerboard."""
    height, width = picture.shape[:2]
    scale = min(1.0, side / math.sqrt(height * width))
    height, width = (max(1, round(length * scale)) for length in (height, width))
    opaque = on_checkerboard(picture) if picture.shape[-1] == 4 else picture
    return np.ascontiguousarray(resize(opaque, (height, width)), np.uint8) if scale < 1 else opaque
