"""The codec against Pillow, OpenCV and bytes built by hand."""

import contextlib
import io
import random
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from layerkit.manifests.errors import BadImage
from layerkit.toolkit.images import decode, decode_member, encode_jpeg, encode_png, read, read_bytes

U8 = np.ndarray
ORIENTATION = 0x0112


def noise(*shape: int, seed: int = 0) -> U8:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def smooth(height: int = 48, width: int = 64) -> U8:
    coarse = noise(5, 7, 3, seed=3)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png16(samples: np.ndarray, clear: tuple[int, ...] | None = None, before_pixels: bytes = b"") -> bytes:
    """A 16-bit PNG (H, W, 1..4) written by hand, since neither reader under test may write it."""
    height, width, channels = samples.shape
    colour_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    transparency = b"" if clear is None else chunk(b"tRNS", struct.pack(f">{len(clear)}H", *clear))
    header = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = [chunk(b"IHDR", header), transparency, before_pixels, chunk(b"IDAT", zlib.compress(rows))]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def reason_of(data: bytes, **options: int) -> str:
    with pytest.raises(BadImage) as caught:
        decode(data, **options)
    assert caught.value.detail in str(caught.value)
    return caught.value.reason


# orientation


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = saved(Image.fromarray(smooth()), kind, exif=exif)
    upright = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
    ours = decode(data)
    assert ours.shape == ((64, 48, 3) if orientation > 4 else (48, 64, 3))
    assert np.abs(ours.astype(int) - upright).max() <= (3 if kind == "JPEG" else 0)


def test_orientation_also_turns_16_bit_png() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    samples = np.arange(5 * 9 * 3, dtype=np.uint16).reshape(5, 9, 3) * 257
    data = png16(samples, before_pixels=chunk(b"eXIf", exif.tobytes()[6:]))
    assert np.array_equal(decode(data), np.rot90(samples // 257, -1))


def test_photographs_of_one_scene_in_two_orientations(shared_data: Path) -> None:
    for path in sorted((shared_data / "exif_orientation").glob("*.jpg")):
        stored = Image.open(path)
        assert stored.getexif()[ORIENTATION] != 1
        ours = read(path)
        assert ours.shape[0] > ours.shape[1]
        assert np.abs(ours.astype(int) - np.asarray(ImageOps.exif_transpose(stored))).mean() < 1


# colour


@pytest.mark.parametrize("name", ["icc_profile_test.jpg", "icc_profile_test.png"])
def test_an_embedded_profile_is_converted_to_srgb(shared_data: Path, name: str) -> None:
    path = shared_data / "iopaint" / "iopaint" / "tests" / name
    stored = Image.open(path)
    profile = ImageCms.ImageCmsProfile(io.BytesIO(stored.info["icc_profile"]))
    rgb = stored.convert("RGB")
    expected = np.asarray(ImageCms.profileToProfile(rgb, profile, ImageCms.createProfile("sRGB")))
    ours = read(path)
    assert np.abs(ours.astype(int) - expected).max() <= 1
    assert np.abs(ours.astype(int) - np.asarray(rgb)).mean() > 0.5  # so the profile matters here


def test_a_profile_leaves_alpha_alone() -> None:
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    layer = noise(9, 11, 4)
    ours = decode(saved(Image.fromarray(layer), "PNG", icc_profile=srgb), alpha=True)
    assert np.array_equal(ours[..., 3], layer[..., 3])
    assert np.abs(ours.astype(int) - layer).max() <= 1


@pytest.mark.parametrize(
    "profile", [b"not a profile", ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()]
)
def test_a_profile_that_cannot_apply_is_left_aside(profile: bytes) -> None:
    picture = noise(6, 7, 3)
    assert np.array_equal(decode(saved(Image.fromarray(picture), "PNG", icc_profile=profile)), picture)


# depth


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bits_are_rounded_not_cut(channels: int) -> None:
    samples = np.random.default_rng(channels).integers(0, 65536, (31, 29, channels), dtype=np.uint16)
    expected = np.floor(samples / 257 + 0.5).astype(np.uint8)
    ours = decode(png16(samples), alpha=True)
    colour = expected[..., :1] if channels < 3 else expected[..., :3]
    assert np.array_equal(ours[..., :3], np.broadcast_to(colour, (31, 29, 3)))
    assert np.array_equal(ours[..., 3], expected[..., -1] if channels in (2, 4) else np.full((31, 29), 255))


@pytest.mark.parametrize("clear", [(1000,), (1000, 0, 2000)])
def test_the_clear_colour_of_a_16_bit_png_is_clear(clear: tuple[int, ...]) -> None:
    samples = np.random.default_rng(0).choice([0, 1000, 2000], (40, 40, len(clear))).astype(np.uint16)
    ours = decode(png16(samples, clear), alpha=True)
    assert np.array_equal(ours[..., 3] == 0, (samples == clear).all(axis=-1))


def test_a_16_bit_tiff_is_rounded() -> None:
    samples = np.random.default_rng(1).integers(0, 65536, (8, 9), dtype=np.uint16)
    ours = decode(saved(Image.fromarray(samples), "TIFF"))
    assert np.array_equal(ours[..., 1], np.floor(samples / 257 + 0.5))


@pytest.mark.parametrize("mode", ["F", "I"])
def test_32_bit_pictures_are_refused(mode: str) -> None:
    assert reason_of(saved(Image.new(mode, (4, 4)), "TIFF")) == "unsupported_mode"


# modes


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_mode_becomes_what_pillow_makes_of_it(mode: str) -> None:
    image = Image.fromarray(noise(12, 10, 4)).convert("RGB" if mode in ("CMYK", "YCbCr") else "RGBA").convert(mode)
    data = saved(image, "TIFF" if mode in ("CMYK", "YCbCr") else "PNG")
    stored = Image.open(io.BytesIO(data))
    assert np.array_equal(decode(data), np.asarray(stored.convert("RGBA").convert("RGB")))
    assert np.array_equal(decode(data, alpha=True), np.asarray(stored.convert("RGBA")))


@pytest.mark.parametrize(("mode", "clear"), [("P", 3), ("P", bytes(range(0, 250, 10))), ("L", 40), ("RGB", (1, 2, 3))])
def test_a_transparent_colour_becomes_alpha(mode: str, clear: object) -> None:
    image = Image.fromarray(noise(16, 16)).convert(mode)
    image.putpixel((2, 3), clear if isinstance(clear, tuple | int) else 3)
    data = saved(image, "PNG", transparency=clear)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGBA"))
    assert expected[..., 3].min() < 255
    assert np.array_equal(decode(data, alpha=True), expected)


def test_grey_jpeg_and_gif() -> None:
    grey = smooth()[..., 0]
    ours = decode(saved(Image.fromarray(grey), "JPEG", quality=100))
    assert ours.shape == (48, 64, 3)
    assert np.abs(ours.astype(int) - grey[..., None]).max() <= 2
    gif = saved(Image.fromarray(grey), "GIF")
    assert np.array_equal(decode(gif)[..., 0], grey)


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    assert (decode(saved(frames[0], "GIF", save_all=True, append_images=frames[1:])) == (255, 0, 0)).all()


@given(st.integers(1, 20), st.integers(1, 20), st.booleans())
def test_the_result_is_ours_to_write_to(height: int, width: int, alpha: bool) -> None:
    for kind in ("PNG", "JPEG"):
        ours = decode(saved(Image.fromarray(noise(height, width, 3)), kind), alpha=alpha)
        assert ours.shape == (height, width, 4 if alpha else 3)
        assert ours.flags.writeable
        assert ours.flags.c_contiguous
        ours[:] = 0


def test_plain_jpeg_is_decoded_as_pillow_does() -> None:
    data = saved(Image.fromarray(smooth(200, 300)), "JPEG", quality=90)
    assert np.abs(decode(data).astype(int) - np.asarray(Image.open(io.BytesIO(data)))).max() <= 1


def test_odd_pictures_of_pillows_own_tests(shared_data: Path) -> None:
    folder = shared_data / "pillow_oddities" / "Tests" / "images"
    for name in ("l_trns.png", "transparent.gif", "pil123rgba.png"):
        expected = np.asarray(Image.open(folder / name).convert("RGBA"))
        ours = read(folder / name, alpha=True)
        assert np.array_equal(ours[..., 3], expected[..., 3])
        assert np.array_equal(ours, expected)
    cmyk = Image.open(folder / "pil_sample_cmyk.jpg")
    assert np.array_equal(read(folder / "pil_sample_cmyk.jpg"), np.asarray(cmyk.convert("RGB")))
    turned = Image.open(folder / "hopper_orientation_6.jpg")
    assert read(folder / "hopper_orientation_6.jpg").shape[:2] == turned.size
    with pytest.raises(BadImage, match=r"broken\.png"):
        read(folder / "broken.png")


# bad input


def test_no_bytes_and_no_picture() -> None:
    assert reason_of(b"") == "empty_file"
    assert reason_of(b"<html>404 not found</html>") == "unreadable"


@pytest.mark.parametrize("size", [(9000, 9000), (60_000, 60_000)])
def test_a_huge_picture_is_refused_by_its_header(size: tuple[int, int]) -> None:
    header = struct.pack(">IIBBBBB", *size, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(64))) + chunk(b"IEND", b"")
    data = b"\x89PNG\r\n\x1a\n" + body
    assert reason_of(data) == "too_large"
    with pytest.raises(BadImage, match="unreadable"):
        decode_member(data[:-20] if size == (9000, 9000) else data, "png")


def test_the_cap_of_pixels_is_the_callers() -> None:
    data = encode_png(noise(10, 10, 3))
    assert decode(data, max_pixels=100).shape == (10, 10, 3)
    assert reason_of(data, max_pixels=99) == "too_large"


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.95])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(saved(Image.fromarray(noise(90, 80, 3)), "JPEG"), id="jpeg"),
        pytest.param(saved(Image.fromarray(noise(90, 80, 3)), "JPEG", progressive=True), id="progressive"),
        pytest.param(saved(Image.fromarray(noise(90, 80)), "JPEG"), id="grey-jpeg"),
        pytest.param(saved(Image.fromarray(noise(90, 80, 4)), "PNG"), id="png"),
        pytest.param(png16(noise(90, 80, 3).astype(np.uint16) * 200), id="png16"),
        pytest.param(saved(Image.fromarray(noise(90, 80, 3)), "WEBP"), id="webp"),
    ],
)
def test_a_truncated_file_is_refused(data: bytes, share: float) -> None:
    assert reason_of(data[: int(len(data) * share)]) == "unreadable"


def test_the_last_byte_of_a_jpeg_counts() -> None:
    data = saved(Image.fromarray(smooth()), "JPEG")
    assert reason_of(data[:-2]) == "unreadable"


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "WEBP", "BMP"])
def test_damaged_bytes_decode_or_are_refused_but_never_crash(kind: str) -> None:
    image, chance = Image.fromarray(smooth()), random.Random(kind)
    whole = saved(image.convert("P") if kind == "GIF" else image, kind)
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            data[chance.randrange(min(len(data), 900))] = chance.randrange(256)
        with contextlib.suppress(BadImage):
            assert decode(bytes(data)).dtype == np.uint8


def test_a_file_that_cannot_be_read_is_a_bad_picture(tmp_path: Path) -> None:
    with pytest.raises(BadImage, match="unreadable"):
        read_bytes(tmp_path / "missing.png")
    (tmp_path / "empty.png").write_bytes(b"")
    with pytest.raises(BadImage, match=r"empty_file: .*empty\.png"):
        read(tmp_path / "empty.png")


# encoding


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (33, 17), (64, 64)])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_is_read_back_bit_for_bit_by_pillow_opencv_and_ourselves(shape: tuple[int, int], channels: int) -> None:
    picture = noise(*shape, channels)[..., 0] if channels == 1 else noise(*shape, channels)
    data = encode_png(picture)
    image = Image.open(io.BytesIO(data))
    image.verify()
    assert image.mode == {1: "L", 3: "RGB", 4: "RGBA"}[channels]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), picture)
    theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    swap = {1: slice(None), 3: [2, 1, 0], 4: [2, 1, 0, 3]}[channels]
    assert np.array_equal(theirs, picture if channels == 1 else picture[..., swap])
    assert np.array_equal(decode_member(data, "png"), picture)


def test_png_takes_views_and_gives_equal_bytes_for_equal_pixels() -> None:
    picture = noise(20, 30, 4)
    view = picture[::-1, ::2]
    assert np.array_equal(decode_member(encode_png(view), "png"), view)
    assert encode_png(view) == encode_png(view.copy())


@pytest.mark.parametrize("picture", [np.zeros((4, 4, 2), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_png_refuses_other_forms(picture: np.ndarray) -> None:
    with pytest.raises(ValueError, match="expected uint8 with 1, 3 or 4 channels"):
        encode_png(picture)


def test_jpeg_keeps_full_chroma() -> None:
    data = encode_jpeg(smooth(), 90)
    sampling = [(wide, high) for _, wide, high, _ in Image.open(io.BytesIO(data)).layer]
    assert sampling == [(1, 1)] * 3
    red = np.zeros((32, 32, 3), np.uint8)
    red[:, ::2] = (255, 0, 0)  # one pixel stripes: gone with subsampled chroma
    assert np.abs(decode(encode_jpeg(red, 95)).astype(int) - red).mean() < 6


def test_a_broken_member_is_a_bad_picture() -> None:
    layer = noise(50, 40, 4)
    for kind, data in (("png", encode_png(layer)), ("jpg", encode_jpeg(layer[..., :3].copy()))):
        for damaged in (b"", data[: len(data) // 2], b"hello"):
            with pytest.raises(BadImage, match="unreadable"):
                decode_member(damaged, kind)
    damaged = bytearray(encode_png(layer))
    damaged[len(damaged) // 2] ^= 0x55
    with pytest.raises(BadImage, match="unreadable"):
        decode_member(bytes(damaged), "png")


@pytest.mark.parametrize("shape", [(37, 53), (64, 64, 3), (40, 31, 4)])
def test_png_bytes_are_those_of_every_zlib(shape: tuple[int, ...]) -> None:
    """The stream equals the standard library's for the same filtered rows: no writer's own heuristics are in it."""
    rng = np.random.default_rng(3)
    picture = np.repeat(rng.integers(0, 256, (shape[0], 1, *shape[2:]), np.uint8), shape[1], axis=1)
    picture[::3] = rng.integers(0, 256, picture[::3].shape, np.uint8)
    rows = picture.reshape(shape[0], -1)
    above = np.vstack([np.zeros_like(rows[:1]), rows[:-1]])
    filtered = np.hstack([np.full((shape[0], 1), 2, np.uint8), rows - above]).tobytes()
    stream = zlib.compressobj(1, zlib.DEFLATED, 15, 9, zlib.Z_RLE)
    expected = stream.compress(filtered) + stream.flush()
    assert expected in encode_png(picture)
