"""Cut-outs of synthetic pictures with known masks, and of the embedded photographs."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from layerkit.manifests.sources import embedded
from layerkit.toolkit.cutout import object_mask, resize_mask, smoothed
from layerkit.toolkit.images import read
from layerkit.toolkit.matte import Box, border_share


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / (a | b).sum())


def scene(light: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A textured ellipse with a notch on textured ground, and its mask."""
    rng = np.random.default_rng(0)
    mask = np.zeros((160, 200), np.uint8)
    cv2.ellipse(mask, (100, 80), (55, 38), 20, 0, 360, 1, -1)
    cv2.circle(mask, (100, 35), 12, 0, -1)
    figure, ground = ((225, 170, 60), (60, 80, 95)) if light else ((60, 40, 35), (190, 195, 200))
    image = np.where(mask[..., None] > 0, figure, ground) + rng.normal(0, 8, (160, 200, 3))
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), mask > 0


def square(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


BOX = Box(25, 35, 135, 165)


@pytest.mark.parametrize("method", ["grabcut", "threshold"])
@pytest.mark.parametrize("light", [True, False])
def test_an_object_unlike_its_ground_is_cut_out_by_its_box(method: str, light: bool) -> None:
    image, truth = scene(light)
    assert iou(object_mask(image, BOX, method=method), truth) > 0.97


def test_a_rough_outline_leaves_grabcut_only_the_border_to_decide() -> None:
    image, truth = scene()
    contours, _ = cv2.findContours(truth.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    shaken = contours[0][:, 0] + np.random.default_rng(1).normal(0, 1.2, (len(contours[0]), 2))
    found = object_mask(image, BOX, method="grabcut", outlines=[shaken.ravel().tolist()])
    drawn = object_mask(image, BOX, method="outline", outlines=[shaken.ravel().tolist()])
    assert iou(found, truth) > 0.98
    assert iou(found, truth) > iou(drawn, truth)


def test_grabcut_gives_the_same_mask_every_time() -> None:
    image, _ = scene()
    cv2.setRNGSeed(7)
    first = object_mask(image, BOX, method="grabcut")
    cv2.setRNGSeed(8)
    assert np.array_equal(first, object_mask(image, BOX, method="grabcut"))


def test_nothing_outside_the_box_is_taken() -> None:
    image, _ = scene()
    image[5:20, 5:20] = (225, 170, 60)
    for method in ("grabcut", "threshold"):
        mask = object_mask(image, BOX, method=method)
        mask[BOX.slices] = False
        assert not mask.any()


def test_outlines_and_holes_are_drawn_as_they_are() -> None:
    image, _ = scene()
    mask = object_mask(image, BOX, method="outline", outlines=[square(20, 30, 120, 90)], holes=[square(50, 50, 70, 60)])
    expected = np.zeros(image.shape[:2], bool)
    expected[30:91, 20:121] = True
    expected[50:61, 50:71] = False
    assert np.array_equal(mask, expected)


def test_holes_of_a_thresholded_object_are_filled() -> None:
    image, _ = scene()
    image[75:85, 95:105] = (60, 80, 95)
    assert object_mask(image, BOX, method="threshold")[75:85, 95:105].all()


@pytest.mark.slow
def test_every_object_of_the_embedded_photographs_is_cut_out_with_a_sensible_area() -> None:
    seen = 0
    for entry in embedded.index(Path()):
        image = read(entry.path)
        for seed in entry.seeds:
            left, top, width, height = seed.box
            box = Box(top, left, top + height, left + width)
            mask = object_mask(image, box, method=seed.method, outlines=seed.outlines, holes=seed.holes)
            area = mask[box.slices].sum() / (width * height)
            assert 0.25 < area < 0.95, f"{entry.id}/{seed.id}: {area:.2f} of its box"
            assert mask.sum() - mask[box.slices].sum() <= 0.02 * mask.sum(), f"{entry.id}/{seed.id} leaves its box"
            assert border_share(mask) < 0.3
            seen += 1
    assert seen > 8


def test_an_enlarged_mask_loses_its_steps_and_keeps_its_area():
    y, x = np.mgrid[:40, :40]
    disc = np.hypot(y - 20, x - 20) < 14
    large = resize_mask(disc, (160, 160))
    smooth = smoothed(large, 4)
    y, x = np.mgrid[:160, :160]
    (top, left), radius = np.argwhere(large).mean(axis=0), np.sqrt(np.count_nonzero(large) / np.pi)
    true = np.hypot(y - top, x - left) < radius
    assert np.count_nonzero(smooth) == pytest.approx(np.count_nonzero(large), rel=0.01)
    assert np.count_nonzero(smooth ^ true) < 0.8 * np.count_nonzero(large ^ true)
    np.testing.assert_array_equal(smoothed(disc, 1), disc)
