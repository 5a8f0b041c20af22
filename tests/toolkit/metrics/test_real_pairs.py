"""Real removal and shadow pairs: scikit-image's numbers, and the two readings of PSNR in a shadow."""

import numpy as np
import pytest
from skimage import metrics

from layerkit.toolkit import images
from layerkit.toolkit.metrics.pixels import mse, psnr, psnr_all_pixels, ssim
from layerkit.toolkit.metrics.regions import region_mask
from layerkit.toolkit.metrics.seams import edge_gradient


def test_identity_on_removal_pairs(shared_data):
    folder = shared_data / "smarteraser" / "Model_framework" / "visual_examples"
    stems = sorted(path.stem for path in (folder / "gt").iterdir())
    assert stems
    for stem in stems:
        parts = [next((folder / name).glob(f"{stem}.*")) for name in ("paste", "gt", "mask")]
        image, background, mask = (images.read(path) for path in parts)
        mask = mask[..., 0] > 127
        assert psnr(image, background) == pytest.approx(
            metrics.peak_signal_noise_ratio(background, image, data_range=255), abs=1e-9
        )
        options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "channel_axis": -1}
        theirs = metrics.structural_similarity(image, background, data_range=255, **options)
        assert ssim(image, background) == pytest.approx(theirs, abs=5e-7)
        inside, outside = (mse(image, background, region_mask(name, mask)) for name in ("mask", "outside"))
        share = mask.mean()
        assert share * inside + (1 - share) * outside == pytest.approx(mse(image, background))
        assert inside > outside
        assert edge_gradient(image, background, mask) > edge_gradient(background, background, mask) == 0


def test_both_readings_of_psnr_in_a_shadow(shared_data):
    """A shadow left in place scores 26 dB over all pixels, on average of the three, and 8 dB by its area."""
    strips = sorted((shared_data / "desoba" / "data_processing" / "Visualization_Examples").glob("*.png"))
    values = []
    for strip in map(images.read, strips):
        without, target, object_mask, shadow = (strip[:, 256 * k : 256 * (k + 1)] for k in range(4))
        cast = region_mask("shadow", object_mask[..., 0] > 127, shadow[..., 0] > 127)
        values.append((psnr_all_pixels(without, target, cast), psnr(without, target, cast)))
        assert psnr(without, target, ~cast) > 40
    assert np.mean(values, axis=0) == pytest.approx((26.2, 8.2), abs=0.1)
