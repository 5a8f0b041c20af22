"""Colour transfer against its formula in scikit-image's CIE Lab."""

import cv2
import numpy as np
import pytest
from skimage.color import lab2rgb, rgb2lab

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.harmonise import transfer_colour
from layerkit.toolkit.images import read


def noise(seed: int, low: int, high: int, shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(low, high, (7, 8, 3), dtype=np.uint8)
    return cv2.resize(coarse, shape[::-1], interpolation=cv2.INTER_LINEAR)


def soft_disc(shape: tuple[int, int] = (60, 80)) -> np.ndarray:
    rows, columns = np.mgrid[: shape[0], : shape[1]]
    return np.clip((25 - np.hypot(rows - 30, columns - 40)) * 40, 0, 255).astype(np.uint8)


def by_definition(colour, alpha, background, strength) -> np.ndarray:
    lab, goal = rgb2lab(colour / 255), rgb2lab(background / 255).reshape(-1, 3)
    weights = alpha.ravel() / alpha.sum(dtype=float)
    mean = np.average(lab.reshape(-1, 3), axis=0, weights=weights)
    deviation = np.sqrt(np.average((lab.reshape(-1, 3) - mean) ** 2, axis=0, weights=weights))
    ratio = np.clip(goal.std(axis=0) / deviation, 0.5, 2)
    full = goal.mean(axis=0) + ratio * (lab - mean)
    moved = np.rint(lab2rgb((1 - strength) * lab + strength * full) * 255).astype(np.uint8)
    return np.where(alpha[..., None] > 0, moved, colour)


def patch(*colour: int, shape: tuple[int, int] = (20, 30)) -> np.ndarray:
    return np.full((*shape, 3), colour, np.uint8)


@pytest.mark.parametrize("strength", [0.25, 0.5, 1.0])
@pytest.mark.parametrize(("low", "high"), [(60, 120), (20, 200), (100, 110)])
@pytest.mark.filterwarnings("ignore:.*negative Z values")
def test_the_transfer_is_its_formula(strength, low, high):
    colour, alpha, background = noise(0, 70, 180), soft_disc(), noise(1, low, high, (90, 50))
    ours = transfer_colour(colour, alpha, background, strength)
    theirs = by_definition(colour, alpha, background, strength)
    assert ours.dtype == np.uint8
    assert np.abs(ours.astype(int) - theirs).max() <= 1


def test_a_constant_patch_takes_the_colour_of_a_constant_background():
    alpha = np.full((20, 30), 255, np.uint8)
    ours = transfer_colour(patch(200, 40, 90), alpha, patch(30, 120, 60, shape=(9, 9)), 1.0)
    assert np.abs(ours.astype(int) - (30, 120, 60)).max() <= 1


@pytest.mark.parametrize("strength", [0.2, 0.5, 0.8])
def test_greys_move_along_lightness_by_the_strength(strength):
    """A grey of lightness L has the linear light ((L + 16)/116)³ above L = 8."""
    alpha = np.full((20, 30), 255, np.uint8)
    ours = transfer_colour(patch(60, 60, 60), alpha, patch(190, 190, 190), strength)
    lightness = [116 * np.cbrt(((grey / 255 + 0.055) / 1.055) ** 2.4) - 16 for grey in (60, 190)]
    linear = (((1 - strength) * lightness[0] + strength * lightness[1] + 16) / 116) ** 3
    expected = 255 * (1.055 * linear ** (1 / 2.4) - 0.055)
    assert np.abs(ours - expected).max() <= 1


def test_full_strength_gives_the_background_its_statistics():
    colour, alpha, background = noise(0, 80, 160), np.full((60, 80), 255, np.uint8), noise(1, 90, 150)
    ours, goal = (rgb2lab(x / 255).reshape(-1, 3) for x in (transfer_colour(colour, alpha, background, 1), background))
    np.testing.assert_allclose(ours.mean(axis=0), goal.mean(axis=0), atol=0.3)
    np.testing.assert_allclose(ours.std(axis=0), goal.std(axis=0), rtol=0.03)


def test_the_ratio_of_deviations_stays_between_a_half_and_two():
    colour, alpha = noise(0, 100, 140), np.full((60, 80), 255, np.uint8)
    before = rgb2lab(colour / 255).reshape(-1, 3).std(axis=0)
    for background, ratio in ((patch(120, 120, 120), 0.5), (noise(1, 0, 255), 2)):
        after = rgb2lab(transfer_colour(colour, alpha, background, 1) / 255).reshape(-1, 3).std(axis=0)
        np.testing.assert_allclose(after / before, ratio, rtol=0.05)


def test_no_strength_returns_the_bytes():
    colour, alpha = noise(0, 0, 255), soft_disc()
    ours = transfer_colour(colour, alpha, noise(1, 0, 255), 0)
    np.testing.assert_array_equal(ours, colour)
    assert not np.shares_memory(ours, colour)


def test_what_is_clear_neither_counts_nor_changes():
    colour, alpha, background = noise(0, 70, 180), soft_disc(), noise(1, 20, 120)
    kept = colour.copy(), alpha.copy(), background.copy()
    other = colour.copy()
    other[alpha == 0] = 0
    ours, of_other = (transfer_colour(x, alpha, background, 0.7) for x in (colour, other))
    np.testing.assert_array_equal(ours[alpha > 0], of_other[alpha > 0])
    np.testing.assert_array_equal(ours[alpha == 0], colour[alpha == 0])
    assert not of_other[alpha == 0].any()
    for now, before in zip((colour, alpha, background), kept, strict=True):
        np.testing.assert_array_equal(now, before)
    clear = np.zeros_like(alpha)
    np.testing.assert_array_equal(transfer_colour(colour, clear, background, 1), colour)


@pytest.mark.parametrize("strength", [-0.1, 1.5, float("nan")])
def test_a_strength_outside_its_range_is_refused(strength):
    with pytest.raises(UsageError, match=r"strength in 0\.\.1, got"):
        transfer_colour(patch(1, 2, 3), np.zeros((20, 30), np.uint8), patch(1, 2, 3), strength)


def test_a_real_cut_out_comes_closer_to_a_real_background(shared_data):
    photos = [read(path) for path in sorted((shared_data / "kodak").rglob("*.png"))[:3]]
    alpha = cv2.resize(soft_disc(), photos[0].shape[1::-1])
    for background in photos[1:]:
        goal = rgb2lab(background / 255).reshape(-1, 3).mean(axis=0)
        means = []
        for strength in (0, 0.5, 1):
            moved = transfer_colour(photos[0], alpha, background, strength)
            means.append(np.average(rgb2lab(moved / 255).reshape(-1, 3), axis=0, weights=alpha.ravel()))
        far, half, near = (float(np.hypot.reduce(mean - goal)) for mean in means)
        assert near < 0.25 * far
        assert half == pytest.approx((far + near) / 2, rel=0.2)
