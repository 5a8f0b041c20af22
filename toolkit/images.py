"""The codec: bytes of any picture to upright 8-bit sRGB, and 8-bit arrays to PNG and JPEG bytes.

Decoding applies the EXIF orientation once, converts an embedded ICC profile to sRGB, scales 16 bits down by rounding,
and turns grey, palette, CMYK and 1-bit pictures into RGB or RGBA. uint8 lives here and in the shards; see ``compose``
for floats.
"""

import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from zlib_ng import zlib_ng

from ..manifests.errors import BadImage

U8 = NDArray[np.uint8]

MAX_PIXELS = 64_000_000
"""Pictures above this many pixels are refused before they are decoded."""

# What Pillow raises for broken files, by format (SyntaxError is its word for a malformed PNG or GIF chunk).
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error, ImageCms.PyCMSError)
_SIXTEEN_BIT = ("I;16", "I;16B", "I;16L", "I;16N")
_ORIENTATION = 0x0112
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_COLOUR_TYPE = {1: 0, 3: 2, 4: 6}
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))


def decode(data: bytes, *, alpha: bool = False, max_pixels: int = MAX_PIXELS) -> U8:
    """Decode a picture to upright 8-bit sRGB.

    Args:
        data: the whole file.
        alpha: True gives (H, W, 4), opaque where the file has no alpha; False gives (H, W, 3) and drops alpha.
        max_pixels: refuse larger pictures, before decoding.

    Returns:
        A new (H, W, 3 or 4) uint8 array, straight alpha.

    Raises:
        BadImage: ``empty_file``, ``unreadable``, ``too_large`` or ``unsupported_mode``.
    """
    if not data:
        raise BadImage("empty_file", "expected a picture, got 0 bytes")
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"PIL\.")  # odd metadata; and our own cap of pixels is stricter
            return _decode(data, alpha, max_pixels)
    except Image.DecompressionBombError as error:
        raise BadImage("too_large", f"expected at most {max_pixels} pixels: {error}") from error
    except UnidentifiedImageError as error:
        raise BadImage("unreadable", f"expected a picture, got {len(data)} bytes of no known format") from error
    except _BROKEN as error:
        raise BadImage("unreadable", f"the picture is truncated or broken: {error}") from error


def _decode(data: bytes, alpha: bool, max_pixels: int) -> U8:
    image: Image.Image = Image.open(io.BytesIO(data))
    if image.width * image.height > max_pixels:
        raise BadImage("too_large", f"expected at most {max_pixels} pixels, got {image.width}x{image.height}")
    channels = 4 if alpha else 3
    if image.format == "JPEG" and image.mode == "RGB" and _is_plain(image):
        return _with_channels(simplejpeg.decode_jpeg(data), channels)
    if image.format == "PNG" and image.mode not in _SIXTEEN_BIT and _bit_depth(data) == 16:
        image = _from_deep_png(data, image)
    return _with_channels(np.asarray(_to_srgb(ImageOps.exif_transpose(image))), channels)


def _is_plain(image: Image.Image) -> bool:
    return image.getexif().get(_ORIENTATION, 1) == 1 and "icc_profile" not in image.info


def _bit_depth(png: bytes) -> int:
    return png[24] if len(png) > 24 else 8


def _from_deep_png(data: bytes, image: Image.Image) -> Image.Image:
    """16-bit colour PNG to 8-bit by rounding, with its profile and orientation: Pillow would cut off the low byte."""
    deep = _imdecode(data)
    if deep is None:
        raise BadImage("unreadable", "the 16-bit PNG is truncated or broken")
    order = [2, 1, 0, 3][: deep.shape[-1]]  # OpenCV gives blue first, and four channels for grey with alpha
    shallow = Image.fromarray(np.rint(deep[..., order] / np.float32(257)).astype(np.uint8))
    shallow.info["icc_profile"] = image.info.get("icc_profile")
    shallow.getexif()[_ORIENTATION] = image.getexif().get(_ORIENTATION, 1)
    return shallow


def _imdecode(png: bytes) -> NDArray[Any] | None:
    """The stored samples, blue first; None for no bytes and for what OpenCV cannot read."""
    try:
        return cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:  # no bytes, or a header that promises more pixels than OpenCV's own cap
        return None


def _to_srgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to 8-bit RGB or RGBA in sRGB."""
    profile = image.info.get("icc_profile")
    image = _to_8bit(image)
    target = "RGBA" if image.mode == "RGBA" else "RGB"
    if profile and image.mode in ("RGB", "RGBA", "CMYK"):
        return _convert_profile(image, profile, target)
    return image.convert(target)


def _to_8bit(image: Image.Image) -> Image.Image:
    if image.mode in _SIXTEEN_BIT:
        return _from_deep_grey(image)
    if image.mode in ("I", "F"):
        raise BadImage("unsupported_mode", f"expected 8 or 16 bits a channel, got mode {image.mode}; save it as 8-bit")
    if image.mode == "RGBa" or image.mode == "La":
        return image.convert(image.mode.upper()).convert("RGBA")
    if image.mode in ("LA", "PA") or (image.mode in ("P", "L", "RGB", "1") and "transparency" in image.info):
        return image.convert("RGBA")
    return image.convert("RGB") if image.mode in ("P", "1", "L", "HSV", "LAB", "YCbCr") else image


def _from_deep_grey(image: Image.Image) -> Image.Image:
    deep = np.asarray(image)
    grey = np.rint(deep / np.float32(257)).astype(np.uint8)
    clear = deep == image.info.get("transparency", -1)
    return Image.fromarray(np.dstack([grey, grey, grey, np.where(clear, 0, 255).astype(np.uint8)]))


def _convert_profile(image: Image.Image, profile: bytes, target: str) -> Image.Image:
    """Convert to sRGB; a profile of another colour space than the pixels (seen in the wild) is left aside."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if source.profile.xcolor_space.strip() != ("CMYK" if image.mode == "CMYK" else "RGB"):
            return image.convert(target)
        converted = ImageCms.profileToProfile(image, source, _SRGB, outputMode=target)
    except (ImageCms.PyCMSError, OSError):
        return image.convert(target)
    return image.convert(target) if converted is None else converted


def _with_channels(picture: U8, channels: int) -> U8:
    if picture.shape[-1] == channels:
        return np.array(picture, copy=not picture.flags.writeable or not picture.flags.c_contiguous)
    if channels == 3:
        return np.ascontiguousarray(picture[..., :3])
    opaque = np.full((*picture.shape[:2], 1), 255, np.uint8)
    return np.concatenate([picture, opaque], axis=-1)


def read_bytes(path: Path, span: tuple[int, int] | None = None) -> bytes:
    """The file's bytes, or ``span`` = (offset, length) of them, as of a picture inside a tar.

    A file that cannot be read is a :class:`BadImage`, for it is one bad input among many.
    """
    try:
        if span is None:
            return path.read_bytes()
        with path.open("rb") as file:
            file.seek(span[0])
            return file.read(span[1])
    except OSError as error:
        raise BadImage("unreadable", f"expected a readable picture file, got {path}: {error.strerror}") from error


def read(path: Path, *, alpha: bool = False, max_pixels: int = MAX_PIXELS) -> U8:
    """:func:`decode` of a file; the error names it."""
    try:
        return decode(read_bytes(path), alpha=alpha, max_pixels=max_pixels)
    except BadImage as error:
        raise BadImage(error.reason, f"{path}: {error.detail}") from error


def encode_png(picture: U8) -> bytes:
    """8-bit (H, W), (H, W, 3) or (H, W, 4) to PNG: the Up filter, runs and dynamic Huffman codes (zlib's ``Z_RLE``).

    The bytes are a function of the pixels alone: runs need no hash table, so every zlib writes the same ones, on every
    processor (a test compares zlib-ng with the standard library). ISA-L's level 1 takes half the time for 6 % fewer
    bytes, but about one picture in 50,000 comes out in other bytes in another process (``benchmarks/RESULTS.md``).
    """
    rows = np.ascontiguousarray(picture if picture.ndim == 3 else picture[..., None])
    height, width, channels = rows.shape
    if rows.dtype != np.uint8 or channels not in _PNG_COLOUR_TYPE:
        raise ValueError(f"expected uint8 with 1, 3 or 4 channels, got {rows.dtype} of shape {picture.shape}")
    flat = rows.reshape(height, width * channels)
    filtered = np.empty((height, 1 + width * channels), np.uint8)
    filtered[:, 0] = 2
    filtered[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, _PNG_COLOUR_TYPE[channels], 0, 0, 0)
    deflate = zlib_ng.compressobj(1, zlib_ng.DEFLATED, zlib_ng.MAX_WBITS, 9, zlib_ng.Z_RLE)
    pixels = deflate.compress(filtered.data) + deflate.flush()
    return b"".join([_PNG_SIGNATURE, _chunk(b"IHDR", header), _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")])


def _chunk(kind: bytes, body: bytes) -> bytes:
    crc = zlib_ng.crc32(body, zlib_ng.crc32(kind))
    return b"".join([struct.pack(">I", len(body)), kind, body, struct.pack(">I", crc)])


def encode_jpeg(picture: U8, quality: int = 95) -> bytes:
    """8-bit (H, W, 3) to JPEG without chroma subsampling (4:4:4)."""
    rows = np.ascontiguousarray(picture)
    data: bytes = simplejpeg.encode_jpeg(rows, quality=quality, colorspace="RGB", colorsubsampling="444")
    return data


def decode_member(data: bytes, kind: str) -> NDArray[Any]:
    """Decode a member that layerkit wrote itself: ``kind`` is ``png`` or ``jpg``. No profiles, no orientation: fast.

    Returns:
        (H, W), (H, W, 3) or (H, W, 4) uint8, alpha kept.

    Raises:
        BadImage: ``unreadable``.
    """
    if kind == "jpg":
        try:
            pixels: U8 = simplejpeg.decode_jpeg(data)
            return pixels
        except ValueError as error:
            raise BadImage("unreadable", f"expected a JPEG member, got {len(data)} bytes: {error}") from error
    picture = _imdecode(data)
    if picture is None:
        raise BadImage("unreadable", f"expected a PNG member, got {len(data)} bytes")
    if picture.ndim == 2:
        return picture
    return cv2.cvtColor(picture, cv2.COLOR_BGR2RGB if picture.shape[-1] == 3 else cv2.COLOR_BGRA2RGBA)
