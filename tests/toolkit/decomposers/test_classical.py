"""Baselines: they leave what the mask leaves, follow their generator, and rank as they should on a real pair."""

import cv2
import numpy as np
import pytest

from layerkit.manifests.errors import BadImage
from layerkit.toolkit.compose import over_u8
from layerkit.toolkit.decomposers import load
from layerkit.toolkit.decomposers.classical import MeanFill

FILLS = ["mean-fill", "telea", "navier-stokes", "patchmatch"]


def scene(height: int = 72, width: int = 90) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image, its mask and its background: a bright disc on smooth noise."""
    noise = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    background = cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 6), None, 0, 120, cv2.NORM_MINMAX)
    disc = cv2.circle(np.zeros((height, width), np.uint8), (width // 2, height // 2), 15, 1, -1).astype(bool)
    image = background.copy()
    image[disc] = (250, 240, 30)
    return image, disc, background


def run(name: str, image: np.ndarray, mask: np.ndarray, seed: int = 0):
    return load(name)(image, mask, np.random.default_rng(seed), "case")


def psnr(a: np.ndarray, b: np.ndarray, where: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(a[where].astype(float) - b[where]).mean()))


def test_identity_is_the_picture_and_has_no_foreground():
    image, mask, _ = scene()
    result = run("identity", image, mask)
    np.testing.assert_array_equal(result.background, image)
    assert result.background is not image
    assert result.foreground is None
    assert load("identity").needs == frozenset()


@pytest.mark.parametrize("name", FILLS)
def test_fills_change_the_mask_alone_and_better_the_picture_in_it(name):
    image, mask, background = scene()
    before = image.copy()
    result = run(name, image, mask)
    assert result.foreground is None
    np.testing.assert_array_equal(result.background[~mask], image[~mask])
    np.testing.assert_array_equal(image, before)
    assert psnr(result.background, background, mask) > psnr(image, background, mask) + 6


@pytest.mark.parametrize("name", [*FILLS, "closed-form-matting"])
def test_the_generator_decides_and_only_where_the_model_says_so(name):
    image, mask, _ = scene()
    first, other, again = (run(name, image, mask, seed).background for seed in (3, 4, 3))
    np.testing.assert_array_equal(first, again)
    assert load(name).is_random == (not np.array_equal(first, other))


def test_mean_fill_is_the_mean_of_the_ring():
    image = np.zeros((41, 41, 3), np.uint8)
    image[:, :20] = (100, 50, 10)
    hole = np.zeros((41, 41), bool)
    hole[18:23, 18:23] = True
    ring = (
        cv2.dilate(hole.astype(np.uint8), cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (21, 21))).astype(bool) & ~hole
    )
    filled = MeanFill()(image, hole, 0)
    np.testing.assert_array_equal(filled[20, 20], np.rint(image[ring].mean(0)))


@pytest.mark.parametrize("name", [*FILLS, "closed-form-matting"])
def test_nothing_is_removed_under_an_empty_mask_and_a_full_one_is_a_drop(name):
    image, mask, _ = scene(32, 40)
    empty = run(name, image, np.zeros_like(mask))
    np.testing.assert_array_equal(empty.background, image)
    if empty.foreground is not None:
        assert not empty.foreground.any()
    with pytest.raises(BadImage, match="hole_covers_image"):
        run(name, image, np.ones_like(mask))


def test_matting_recomposes_the_picture_and_keeps_far_pixels():
    image, mask, background = scene()
    result = run("closed-form-matting", image, mask)
    alpha = result.foreground[..., 3]
    far = cv2.erode(mask.astype(np.uint8), np.ones((9, 9))) > 0
    np.testing.assert_array_equal(result.foreground[far, :3], image[far])
    assert (alpha[far] == 255).all()
    away = cv2.dilate(mask.astype(np.uint8), np.ones((9, 9))) == 0
    assert (result.foreground[away] == 0).all()
    np.testing.assert_array_equal(result.background[away], image[away])
    error = np.abs(over_u8(result.foreground, result.background).astype(int) - image)
    assert error.mean() < 1
    assert psnr(result.background, background, mask) > 20


def test_telea_beats_the_mean_and_the_mean_beats_nothing_on_a_real_pair(shared_data):
    folder = shared_data / "smarteraser" / "Model_framework" / "visual_examples"
    name = "I-210614_O04019_W01_F0109.jpg"
    image, truth = (cv2.imread(str(folder / kind / name))[..., ::-1].copy() for kind in ("paste", "gt"))
    mask = cv2.imread(str(folder / "mask" / name), cv2.IMREAD_GRAYSCALE) > 127
    truth = cv2.resize(truth, image.shape[1::-1], interpolation=cv2.INTER_AREA)
    mask = cv2.resize(mask.astype(np.uint8), image.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
    scores = [psnr(run(model, image, mask).background, truth, mask) for model in ("telea", "mean-fill", "identity")]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] > scores[2] + 3
