"""PSNR and SSIM against scikit-image and torchmetrics, masked forms against closed ones, and what is refused."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage import metrics

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.metrics.pixels import mse, psnr, psnr_all_pixels, rmse, ssim, ssim_map

REFERENCE = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}


@pytest.fixture(params=["noise", "blur", "dark", "other", "one level", "constant"])
def pair(request, photo, noisy):
    random = np.random.default_rng(1).integers(0, 256, photo.shape, dtype=np.uint8)
    flat = np.full_like(photo, 130)
    return {
        "noise": (noisy, photo),
        "blur": (np.roll(photo, 2, axis=1), photo),
        "dark": (photo // 16, noisy // 16),
        "other": (random, photo),
        "one level": (flat + 1, flat),
        "constant": (flat, photo),
    }[request.param]


def test_agrees_with_scikit_image(pair):
    assert mse(*pair) == pytest.approx(metrics.mean_squared_error(*pair), rel=1e-12)
    assert psnr(*pair) == pytest.approx(metrics.peak_signal_noise_ratio(*pair, data_range=255), abs=1e-9)
    gaussian = metrics.structural_similarity(*pair, channel_axis=-1, data_range=255, **REFERENCE)
    assert ssim(*pair) == pytest.approx(gaussian, abs=5e-7)
    uniform = metrics.structural_similarity(*pair, channel_axis=-1, data_range=255)
    assert ssim(*pair, window="uniform") == pytest.approx(uniform, abs=1e-10)


def test_psnr_agrees_with_torchmetrics_per_picture(photo, noisy):
    import torch
    from torchmetrics.functional.image import peak_signal_noise_ratio

    pictures = [
        torch.from_numpy(np.stack(side)).permute(0, 3, 1, 2) / 255 for side in ([noisy, photo], [photo, photo // 2])
    ]
    theirs = peak_signal_noise_ratio(*pictures, data_range=1.0, dim=(1, 2, 3), reduction="none")
    ours = [psnr(noisy, photo), psnr(photo, photo // 2)]
    assert ours == pytest.approx(theirs.tolist(), abs=1e-4)


def test_ssim_map_is_scikit_images_without_its_border(photo, noisy):
    _, full = metrics.structural_similarity(noisy, photo, channel_axis=-1, data_range=255, full=True, **REFERENCE)
    assert np.abs(ssim_map(noisy, photo) - full[5:-5, 5:-5]).max() < 5e-5


def test_equal_pictures(photo):
    assert psnr(photo, photo) == math.inf
    assert rmse(photo, photo) == 0
    assert ssim(photo, photo) == 1
    assert ssim(photo, photo, window="uniform") == 1


def test_constant_pictures_have_closed_forms():
    dark, light = np.full((16, 16, 3), 100, np.uint8), np.full((16, 16, 3), 110, np.uint8)
    assert rmse(dark, light) == 10
    assert psnr(dark, light) == pytest.approx(20 * math.log10(25.5))
    luminance = (2 * 100 * 110 + 2.55**2) / (100**2 + 110**2 + 2.55**2)
    assert ssim(dark, light) == pytest.approx(luminance, abs=1e-6)


def test_a_mask_of_ones_changes_nothing(photo, noisy):
    ones = np.ones(photo.shape[:2], bool)
    for metric in (mse, rmse, psnr, ssim):
        assert metric(noisy, photo, ones) == pytest.approx(metric(noisy, photo), rel=1e-12)
    assert psnr_all_pixels(noisy, photo, ones) == pytest.approx(psnr(noisy, photo), rel=1e-12)


def test_only_the_mask_counts(photo, noisy, disc):
    outside = photo.copy()
    outside[~disc] ^= 0x55
    assert psnr(outside, photo, disc) == math.inf
    assert psnr(noisy, outside, disc) == psnr(noisy, photo, disc)
    error = (noisy[disc].astype(float) - photo[disc]) ** 2
    assert mse(noisy, photo, disc) == pytest.approx(error.mean(), rel=1e-12)
    scores = ssim_map(noisy, photo)
    assert ssim(noisy, photo, disc) == pytest.approx(scores[disc[5:-5, 5:-5]].mean(dtype=float), rel=1e-12)


def test_both_masked_forms_differ_by_the_area(photo, noisy, disc):
    zeroed = [np.where(disc[..., None], picture, 0).astype(np.uint8) for picture in (noisy, photo)]
    everywhere = psnr_all_pixels(noisy, photo, disc)
    assert everywhere == pytest.approx(metrics.peak_signal_noise_ratio(*zeroed, data_range=255), abs=1e-9)
    assert everywhere - psnr(noisy, photo, disc) == pytest.approx(10 * math.log10(1 / disc.mean()))


def test_an_empty_mask_has_no_value(photo, noisy):
    empty = np.zeros(photo.shape[:2], bool)
    for metric in (mse, rmse, psnr, ssim, psnr_all_pixels):
        assert math.isnan(metric(noisy, photo, empty))
        assert math.isnan(metric(photo, photo, empty))


def test_grey_ssim_is_scikit_images_of_the_unrounded_luma(photo, noisy, disc):
    luma = [picture @ np.array([0.2989, 0.587, 0.114]) / 255 for picture in (noisy, photo)]
    value, scores = metrics.structural_similarity(*luma, data_range=1.0, full=True)
    assert ssim(noisy, photo, window="uniform", grey=True) == pytest.approx(value, abs=1e-9)
    inside = scores[3:-3, 3:-3][disc[3:-3, 3:-3]].mean()
    assert ssim(noisy, photo, disc, window="uniform", grey=True) == pytest.approx(inside, abs=1e-9)


def test_an_ssim_mask_where_no_window_fits_has_no_value(photo):
    border = np.zeros(photo.shape[:2], bool)
    border[:5] = True
    assert math.isnan(ssim(photo, photo, border))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(11, 40), st.integers(11, 40))
def test_symmetry_and_flips(seed, height, width):
    random = np.random.default_rng(seed)
    first, second = random.integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    mask = random.random((height, width)) < 0.5
    for metric in (psnr, ssim):
        value = metric(first, second, mask)
        assert metric(second, first, mask) == pytest.approx(value, rel=1e-5, nan_ok=True)
        flipped = metric(first[:, ::-1], second[:, ::-1], mask[:, ::-1])
        assert flipped == pytest.approx(value, rel=1e-4, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("metric", [mse, psnr, ssim])
def test_what_is_refused_is_said(metric, photo):
    with pytest.raises(UsageError, match=r"preds: expected uint8 .* got float64 .* in 0\.\..*; round"):
        metric(photo / 255, photo)
    with pytest.raises(UsageError, match=r"target: expected uint8 of shape \(H, W, 3\).*\(96, 112, 4\)"):
        metric(photo, np.dstack([photo, photo[..., 0]]))
    with pytest.raises(UsageError, match=r"of one size, got \(96, 112\) and \(95, 112\)"):
        metric(photo, photo[1:])
    with pytest.raises(UsageError, match=r"mask: expected bool of shape \(H, W\), got uint8"):
        metric(photo, photo, np.ones(photo.shape[:2], np.uint8))
    with pytest.raises(UsageError, match="expected mask and picture of one size"):
        metric(photo, photo, np.ones((4, 4), bool))


def test_ssim_refuses_small_pictures_and_unknown_windows(photo):
    with pytest.raises(UsageError, match=r"at least 11 px for this SSIM, got \(10, 112\)"):
        ssim(photo[:10], photo[:10])
    with pytest.raises(UsageError, match=r"\(gaussian, uniform\), got 'box'"):
        ssim(photo, photo, window="box")
