"""MuLAn: pictures that were taken apart into a background and full-size RGBA layers (Tudosiu et al., CVPR 2024).

An annotation is ``zlib.compress(pickle)`` of a table of masks and differences to a base picture, COCO's or LAION's:

    layer = clip(base * original_image_mask * instance_mask + inpainted_delta, 0, 255)

with the ``instance_alpha`` of each instance beside its colour. ``instances`` are in order from bottom to top. They
carry no shadows, and the background is a model's inpainting. In 8 bits the sum would wrap round; here it is clipped.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from isal import isal_zlib
from numpy.typing import NDArray

from ..manifests.errors import BadImage
from . import images
from .compose import over_u8
from .safe_pickle import Stored, loads

U8 = NDArray[np.uint8]

MAX_BYTES = 1 << 29
"""Annotations that unpack to more bytes are refused; one of 640 x 480 px with three instances has 5 million."""

MAX_INSTANCES = 64
"""Annotations of more are refused: one table named a thousand times is a few bytes, and a thousand full-size layers."""

_LAYER = re.compile(r"(.*layer_)(\d+)\.png")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LayeredPicture:
    """A picture in layers of one size, 8-bit.

    Attributes:
        background: (H, W, 3).
        layers: straight RGBA of the whole canvas, each (H, W, 4), bottom to top; colour under alpha 0 is as stored.
        captions: of the background and of each layer, empty where there is none.
        caption: of the whole picture.
        shadows: attenuation by each layer where it is known apart, 8-bit (H, W); else empty.
    """

    background: U8
    layers: tuple[U8, ...]
    captions: tuple[str, ...]
    caption: str = ""
    shadows: tuple[U8, ...] = ()


def decode_annotation(data: bytes, base: U8, *, max_bytes: int = MAX_BYTES) -> LayeredPicture:
    """Decode a ``.p.zl`` file over its base picture.

    Args:
        data: the whole file.
        base: 8-bit (H, W, 3), in the size in which it was annotated.
        max_bytes: refuse an annotation that unpacks to more.

    Raises:
        BadImage: ``unreadable``, ``unsafe_pickle``, ``too_large``, ``bad_annotation`` for a table that lacks something,
            or ``wrong_size`` for a base picture of another size.
    """
    if base.dtype != np.uint8 or base.ndim != 3 or base.shape[-1] != 3:
        raise ValueError(f"base must be uint8 of shape (H, W, 3), got {base.dtype} of shape {base.shape}")
    annotation = loads(inflate(data, max_bytes))
    background = _Part("background", _item(annotation, "background", "the annotation"))
    instances = _table(_item(annotation, "instances", "the annotation"), "instances")
    if len(instances) > MAX_INSTANCES:
        raise BadImage("too_large", f"expected at most {MAX_INSTANCES} instances, got {len(instances)}")
    parts = [_Part(f"instance {_label(key)}", table) for key, table in instances.items()]
    return LayeredPicture(
        background=background.colour(base),
        layers=tuple(np.asarray(cv2.merge([*cv2.split(part.colour(base)), part.alpha(base)])) for part in parts),
        captions=tuple(part.caption for part in (background, *parts)),
        caption=_caption(annotation.get("image")),
    )


def inflate(data: bytes, max_bytes: int) -> bytes:
    """Unpack a zlib stream, never more than ``max_bytes`` and one of it.

    Raises:
        BadImage: ``unreadable`` or ``too_large``.
    """
    stream = isal_zlib.decompressobj()
    try:
        unpacked: bytes = stream.decompress(data, max_bytes + 1)
    except isal_zlib.error as error:  # type: ignore[misc]  # its stub calls the class an instance
        raise BadImage("unreadable", f"expected a zlib stream, got {len(data)} bytes: {error}") from error
    if len(unpacked) > max_bytes:
        raise BadImage("too_large", f"expected at most {max_bytes} bytes unpacked, got more from {len(data)}")
    if not stream.eof:
        raise BadImage("unreadable", f"expected a whole zlib stream, got {len(data)} bytes that break off")
    return unpacked


@dataclass(frozen=True, slots=True)
class _Part:
    """The background or an instance: its name in messages and its table."""

    name: str
    table: Any

    def colour(self, base: U8) -> U8:
        kept = cv2.multiply(base, self._mask("original_image_mask", base))
        if "instance_mask" in self.table:  # in some releases
            kept = cv2.multiply(kept, self._mask("instance_mask", base))
        delta = self._delta(base)
        return np.asarray(cv2.add(kept.astype(delta.dtype), delta, dtype=cv2.CV_8U), np.uint8)  # add saturates

    def alpha(self, base: U8) -> U8:
        values: NDArray[Any] = self._array("instance_alpha", base, channels=(1,))[..., 0]
        if values.dtype == np.uint8:
            return np.ascontiguousarray(values, np.uint8)
        if not (values.min() >= 0 and values.max() <= 255):  # so that NaN fails
            raise self._bad("instance_alpha", "0..255, or floats in 0..1", values)
        if values.dtype == bool or (values.dtype.kind == "f" and values.max() <= 1):
            values = np.multiply(values, 255, dtype=np.float32)
        return np.asarray(np.rint(values), np.uint8)

    @property
    def caption(self) -> str:
        return _caption(self.table)

    def _mask(self, key: str, base: U8) -> U8:
        """(H, W, 3) of 0 and 1."""
        values = self._array(key, base, channels=(1, 3))
        if values.dtype != bool and not ((values == 0) | (values == 1)).all():
            raise self._bad(key, "0 and 1", values)
        mask = np.ascontiguousarray(values, np.uint8)
        return mask if mask.shape[-1] == 3 else np.asarray(cv2.merge([mask] * 3), np.uint8)

    def _delta(self, base: U8) -> NDArray[Any]:
        """(H, W, 3), as uint8 or int16: what lies beyond ±255 moves no clipped sum."""
        values = self._array("inpainted_delta", base, channels=(3,))
        if values.dtype == np.uint8:
            return np.ascontiguousarray(values)
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise self._bad("inpainted_delta", "finite numbers", values)
        wide = values if values.dtype.kind == "f" else values.astype(np.int64, copy=False)
        return np.asarray(np.rint(np.clip(wide, -255, 255)), np.int16)

    def _array(self, key: str, base: U8, channels: tuple[int, ...]) -> NDArray[Any]:
        """(H, W, C) of the size of ``base``, C among ``channels``."""
        stored = _item(self.table, key, self.name)
        if not isinstance(stored, Stored):
            raise BadImage("bad_annotation", f"{self.name}, {key}: expected an array or picture, got {_kind(stored)}")
        values: NDArray[Any] = stored.array[..., None] if stored.array.ndim == 2 else stored.array
        if values.ndim != 3 or values.shape[-1] not in channels:
            wanted = " or ".join(map(str, channels))
            raise BadImage(
                "bad_annotation",
                f"{self.name}, {key}: expected height, width and {wanted} channels, got the shape {stored.array.shape}",
            )
        if values.shape[:2] != base.shape[:2]:
            raise BadImage("wrong_size", f"{self.name}, {key}: {_sizes(base, values)}, as the base picture is")
        return values

    def _bad(self, key: str, expected: str, values: NDArray[Any]) -> BadImage:
        got = f"{values.dtype} in {values.min()}..{values.max()}"
        return BadImage("bad_annotation", f"{self.name}, {key}: expected {expected}, got {got}")


def _table(value: Any, name: str) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise BadImage("bad_annotation", f"{name}: expected a table, got {_kind(value)}")
    return value


def _item(value: Any, key: str, name: str) -> Any:
    table = _table(value, name)
    if key not in table:
        keys = ", ".join(_label(found) for found in list(table)[:10]) or "none"
        raise BadImage("bad_annotation", f"{name}: expected the key {key}, got the keys {keys}")
    return table[key]


def _caption(table: Any) -> str:
    """LLaVA's caption, or else BLIP-2's."""
    found = [table.get(key) for key in ("llava", "blip2")] if isinstance(table, dict) else []
    return next((text.strip() for text in found if isinstance(text, str) and text.strip()), "")


def _label(key: Any) -> str:
    """A key in a message; a number of thousands of digits would be refused by ``str``."""
    short = isinstance(key, str) or (isinstance(key, int) and abs(key) < 1 << 63)
    return str(key)[:40] if short else _kind(key)


def _kind(value: Any) -> str:
    return type(value).__name__.strip("_").lower()


def _sizes(expected: NDArray[Any], got: NDArray[Any]) -> str:
    """Sizes as width x height, for a message."""
    return "expected {1}x{0}, got {3}x{2}".format(*expected.shape[:2], *got.shape[:2])


def rendered_files(first: Path) -> tuple[Path, ...]:
    """The files of a rendered picture: ``first``, which is ``<id>-layer_0.png``, and its siblings up to a gap."""
    named = _LAYER.fullmatch(first.name)
    if named is None:
        raise ValueError(f"expected a file named *layer_0.png, got {first}")
    files, number = [first], int(named[2]) + 1
    while (path := first.with_name(f"{named[1]}{number}.png")).is_file():
        files.append(path)
        number += 1
    return tuple(files)


def read_rendered(layer_paths: Iterable[Path]) -> LayeredPicture:
    """Read what MuLAn's own script wrote: ``<id>-layer_0.png`` is the background, the others are RGBA layers.

    Args:
        layer_paths: the files in any order; their numbers give the order of the layers, 10 above 9.

    Raises:
        BadImage: ``missing_layer`` where the numbers do not run from 0, ``wrong_size``, or a picture's own fault.
    """
    numbered = sorted((_layer_number(path), path) for path in layer_paths)
    if not numbered or [number for number, _ in numbered] != list(range(len(numbered))):
        found = ", ".join(str(number) for number, _ in numbered) or "none"
        raise BadImage("missing_layer", f"expected layers numbered from 0 without a gap, got {found}")
    background = images.read(numbered[0][1])
    layers = tuple(images.read(path, alpha=True) for _, path in numbered[1:])
    for (_, path), layer in zip(numbered[1:], layers, strict=True):
        if layer.shape[:2] != background.shape[:2]:
            raise BadImage("wrong_size", f"{path}: {_sizes(background, layer)}, as layer 0 is")
    return LayeredPicture(background=background, layers=layers, captions=("",) * len(numbered))


def _layer_number(path: Path) -> int:
    named = _LAYER.fullmatch(path.name)
    if named is None:
        raise BadImage("missing_layer", f"expected files named *layer_<number>.png, got {path}")
    return int(named[2])


def recompose_layers(picture: LayeredPicture) -> U8:
    """Over of all layers on the background, 8-bit (H, W, 3), each step rounded to nearest exactly."""
    image = picture.background
    for layer in picture.layers:
        image = over_u8(layer, image)
    return image
