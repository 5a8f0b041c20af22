"""Predictions of other programs: found by name, read bit for bit, and never guessed at."""

import cv2
import numpy as np
import pytest
from PIL import Image

from layerkit.manifests.errors import BadImage, RunError, UsageError
from layerkit.toolkit.decomposers import load

RNG = np.random.default_rng(0)
IMAGE = RNG.integers(0, 256, (20, 30, 3), np.uint8)
MASK = np.ones((20, 30), bool)
BACKGROUND = RNG.integers(0, 256, (20, 30, 3), np.uint8)
FOREGROUND = RNG.integers(0, 256, (20, 30, 4), np.uint8)


def save(pixels: np.ndarray, *parts: object) -> None:
    path = parts[0].joinpath(*map(str, parts[1:]))
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def find(folder, case="a", **options):
    return load(f"predictions:{folder}", **options)(IMAGE, MASK, np.random.default_rng(0), case)


@pytest.mark.parametrize("inside", [(), ("background",)])
@pytest.mark.parametrize("case", ["a", "0007.12", "scene/frame 1"])
def test_lossless_pictures_round_trip_bit_for_bit(tmp_path, inside, case):
    save(BACKGROUND, tmp_path, *inside, f"{case}.png")
    save(FOREGROUND, tmp_path, "foreground", f"{case}.png")
    found = find(tmp_path, case)
    np.testing.assert_array_equal(found.background, BACKGROUND)
    np.testing.assert_array_equal(found.foreground, FOREGROUND)


@pytest.mark.parametrize("suffix", [".webp", ".bmp", ".TIFF", ".png"])
def test_any_format_will_do_and_a_remover_has_no_foreground(tmp_path, suffix):
    Image.fromarray(BACKGROUND).save(tmp_path / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    found = find(tmp_path)
    np.testing.assert_array_equal(found.background, BACKGROUND)
    assert found.foreground is None


def test_a_missing_case_is_an_error_or_a_drop(tmp_path):
    save(BACKGROUND, tmp_path, "b.png")
    with pytest.raises(UsageError, match=r"picture named a in .*; add it, or give --on-missing skip"):
        find(tmp_path)
    with pytest.raises(BadImage, match="picture named a") as caught:
        find(tmp_path, on_missing="skip")
    assert caught.value.reason == "no_prediction"


def test_another_size_is_an_error_with_the_file_unless_resizing_is_allowed(tmp_path):
    save(np.kron(BACKGROUND, np.ones((2, 2, 1), np.uint8)), tmp_path, "a.png")
    with pytest.raises(UsageError, match=r"expected 30x20 px.*got 60x40 \(.*a\.png\); or allow resizing"):
        find(tmp_path)
    np.testing.assert_array_equal(find(tmp_path, resize=True).background, BACKGROUND)


def test_colour_under_transparency_does_not_bleed_when_resized(tmp_path):
    cutout = np.zeros((40, 60, 4), np.uint8)
    cutout[..., 1] = 255  # green that is nowhere visible
    cutout[7:33, 11:47] = (200, 10, 90, 255)
    save(BACKGROUND, tmp_path, "a.png")
    save(cutout, tmp_path, "foreground", "a.png")
    small = find(tmp_path, resize=True).foreground
    seen = small[..., 3] > 0
    assert 0 < (small[..., 3][seen] < 255).mean() < 0.5
    assert np.abs(small[seen][:, :3].astype(int) - (200, 10, 90)).max() <= 1


def test_a_background_must_be_opaque(tmp_path):
    save(FOREGROUND, tmp_path, "a.png")
    with pytest.raises(RunError, match=r"opaque background, .*a\.png has alpha; put cut-outs in .*foreground"):
        find(tmp_path)
    save(np.dstack([BACKGROUND, np.full((20, 30), 255, np.uint8)]), tmp_path, "a.png")
    np.testing.assert_array_equal(find(tmp_path).background, BACKGROUND)


def test_folders_that_cannot_be_used(tmp_path):
    with pytest.raises(UsageError, match=r"folder of predictions, got .*nowhere"):
        load(f"predictions:{tmp_path / 'nowhere'}")
    with pytest.raises(UsageError, match=r"expected pictures \(.*\.png.*found none"):
        load(f"predictions:{tmp_path}")
    save(BACKGROUND, tmp_path, "a.png")
    save(BACKGROUND, tmp_path, "a.jpg")
    with pytest.raises(UsageError, match=r"one picture for case a, got .*a\.jpg and .*a\.png"):
        load(f"predictions:{tmp_path}")
    (tmp_path / "a.jpg").unlink()
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(BadImage, match=r"unreadable: .*a\.png"):
        find(tmp_path)


def test_the_revision_is_the_content(tmp_path):
    save(BACKGROUND, tmp_path, "a.png")
    first = load(f"predictions:{tmp_path}").revision
    save(cv2.flip(BACKGROUND, 1), tmp_path, "a.png")
    assert load(f"predictions:{tmp_path}").revision != first
