"""The cache of pictures: files as they came, small ones beside them, and what is no longer shown swept away."""

import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from layerkit.pipelines.browsing.media import LARGE, Media, thumbnail
from layerkit.toolkit.images import encode_jpeg


@pytest.fixture
def media(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Media:
    monkeypatch.setenv("LAYERKIT_CACHE", str(tmp_path))
    return Media("exhibit-1")


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


def test_alpha_is_kept_and_lies_on_a_checkerboard_in_the_small_picture(media: Media):
    rgba = noise(40, 30, 4)
    rgba[:20, :, 3] = 0
    panel = media.folder("e").panel("a key", "foreground", rgba)
    np.testing.assert_array_equal(np.asarray(Image.open(panel.picture)), rgba)
    assert panel.size == (30, 40)
    small = np.asarray(Image.open(panel.thumbnail))
    assert small.shape == (40, 30, 3)
    assert {*np.unique(np.round(small[2:14, 2:14].mean() / 10))} <= {17.0, 21.0}, "one grey square"
    assert abs(float(small[:16, :16].mean()) - float(small[:16, 16:].mean())) > 30, "beside another"


def test_bytes_that_are_there_already_are_the_file(media: Media):
    picture = noise(20, 20, 3)
    data = encode_jpeg(picture, 80)
    panel = media.folder("e").panel("k", "background", picture, data=("jpg", data))
    assert panel.picture.read_bytes() == data
    assert panel.thumbnail == panel.picture, "small and opaque: it is its own small picture"


def test_large_pictures_get_a_small_one_of_their_shape(media: Media):
    panel = media.folder("e").panel("k", "image", noise(LARGE, 4 * LARGE, 3))
    assert Image.open(panel.thumbnail).size == (2 * LARGE, LARGE // 2)
    assert Image.open(panel.picture).size == (4 * LARGE, LARGE)


def test_a_small_picture_is_the_mean_of_the_areas_that_its_pixels_cover():
    picture = noise(64, 32, 3)
    expected = picture.reshape(16, 4, 8, 4, 3).astype(float).mean(axis=(1, 3))
    assert np.abs(thumbnail(picture, math.sqrt(16 * 8)) - expected).max() <= 0.51
    assert thumbnail(picture, 64) is picture


def test_a_file_is_written_once(media: Media):
    folder = media.folder("e")
    first = folder.keep("k", "x.png", b"one")
    assert folder.keep("k", "x.png", b"two").read_bytes() == b"one"
    assert sorted(path.name for path in first.parent.iterdir()) == [first.name], "nothing half made is left"


def test_keys_cannot_lead_elsewhere_nor_meet(media: Media):
    folder = media.folder("e")
    paths = [folder.keep(key, "x.png", key.encode()) for key in ("../../a", "a/b", "a-b", "A-b", "ä" * 300)]
    assert {path.parent for path in paths} == {media.root / "e"}
    assert len(set(paths)) == len(paths)


def test_other_editions_are_swept_and_all_of_it_can_be_cleared(media: Media):
    for edition in ("old", "new"):
        media.folder(edition).keep("k", "x.png", b"x")
    media.sweep(["new"])
    assert [path.name for path in media.root.iterdir()] == ["new"]
    media.clear()
    assert not media.root.exists()
    media.sweep([])


def test_a_card_says_its_words_in_ink(media: Media):
    panel = media.folder("e").card("k", "the shard is truncated; build again")
    grey = cv2.imread(str(panel.picture), cv2.IMREAD_GRAYSCALE)
    assert grey.min() < 90 < 200 < np.median(grey)
    other = media.folder("e").card("k", "something else")
    assert other.picture != panel.picture


def test_overlays_have_one_channel(media: Media):
    folder, mask = media.folder("e"), noise(8, 9)
    overlay = folder.overlay("k", "mask", mask, heat=False)
    np.testing.assert_array_equal(cv2.imread(str(overlay.path), cv2.IMREAD_UNCHANGED), mask)
    assert (overlay.kind, folder.overlay("k", "d", mask, heat=True, brightest=32).brightest) == ("mask", 32)
