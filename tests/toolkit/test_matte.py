"""Mattes against scipy, brute force and published alphas."""

import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image
from scipy import ndimage

from layerkit.toolkit import matte
from layerkit.toolkit.compose import resize
from layerkit.toolkit.images import read

masks = arrays.arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))


def disc(radius: float, size: int = 101, soft: float = 0) -> np.ndarray:
    """A disc; with ``soft``, an alpha that falls over that many px."""
    y, x = np.mgrid[:size, :size] - size // 2
    distance = radius - np.hypot(y, x)
    return distance > 0 if not soft else np.rint(255 * np.clip(distance / soft + 0.5, 0, 1)).astype(np.uint8)


@given(masks)
def test_the_bounding_box_is_the_smallest(mask: np.ndarray) -> None:
    box = matte.bounding_box(mask)
    if box is None:
        assert not mask.any()
        return
    inside = mask[box.slices]
    assert inside.sum() == mask.sum()
    assert inside.shape == (box.height, box.width)
    assert all(edge.any() for edge in (inside[0], inside[-1], inside[:, 0], inside[:, -1]))


def test_a_box_grows_to_the_border_and_no_further() -> None:
    assert matte.Box(2, 3, 8, 9).grown(4, (10, 11)) == matte.Box(0, 0, 10, 11)
    assert matte.Box(5, 5, 6, 7).grown(1, (20, 20, 3)) == matte.Box(4, 4, 7, 8)


@given(masks)
def test_components_are_those_of_scipy_with_eight_neighbours(mask: np.ndarray) -> None:
    labels, count = ndimage.label(mask, np.ones((3, 3)))
    expected = sorted(ndimage.sum_labels(mask, labels, range(1, count + 1)), reverse=True)
    assert matte.component_areas(mask).tolist() == expected
    assert matte.fragments(mask, 5) == sum(area >= 5 for area in expected)
    kept = matte.without_specks(mask, 0.5)
    limit = 0.5 * max(expected, default=0)
    assert kept.sum() == sum(area for area in expected if area >= limit)
    assert not (kept & ~mask).any()


@given(masks)
def test_the_border_share_counts_every_outermost_pixel_once(mask: np.ndarray) -> None:
    outer = np.ones(mask.shape, bool)
    outer[1:-1, 1:-1] = False
    if min(mask.shape) > 1:
        assert matte.border_share(mask) == pytest.approx((mask & outer).sum() / outer.sum())
    assert 0 <= matte.border_share(mask) <= 1


@pytest.mark.parametrize("band", [1, 3, 8])
def test_the_unknown_band_reaches_as_far_as_it_says(band: int) -> None:
    mask = disc(30)
    known = matte.trimap(mask, band)
    outside, inside = ndimage.distance_transform_edt(~mask), ndimage.distance_transform_edt(mask)
    assert (known[outside > band + 1] == matte.BACKGROUND).all()
    assert (known[inside > band + 1] == matte.FOREGROUND).all()
    assert (known[(outside + inside) < band - 0.5] == matte.UNKNOWN).all()


def test_the_trimap_of_a_full_picture_has_no_band() -> None:
    assert (matte.trimap(np.ones((9, 9), bool), 3) == matte.FOREGROUND).all()
    assert (matte.trimap(np.zeros((9, 9), bool), 3) == matte.BACKGROUND).all()


def test_more_than_half_covered_is_object() -> None:
    assert matte.mask_of(np.array([[0, 127, 128, 255]], np.uint8)).tolist() == [[False, False, True, True]]


# haze and dirt


def test_a_crisp_cut_out_has_no_haze_and_glass_has_it_all() -> None:
    assert matte.haze(disc(40, soft=4)) == 0
    assert matte.haze(disc(40).astype(np.uint8) * 128) > 0.75
    assert matte.haze(np.zeros((20, 20), np.uint8)) == 0


def test_haze_is_the_share_of_the_inside_that_is_half_clear() -> None:
    alpha = np.full((100, 100), 255, np.uint8)
    alpha[20:40, 20:60] = 90
    alpha[[0, -1]], alpha[:, [0, -1]] = 0, 0
    assert matte.haze(alpha) == pytest.approx(20 * 40 / 98**2, rel=1e-6)


def test_cleaning_removes_dirt_and_keeps_the_soft_edge() -> None:
    alpha = disc(30, soft=12)
    dirty = np.maximum(alpha, np.random.default_rng(0).integers(0, matte.DIRT_LOW + 1, alpha.shape, dtype=np.uint8))
    dirty[2:4, 2:4] = 200
    cleaned = matte.clean_alpha(dirty)
    soft = (alpha > matte.DIRT_LOW) & (alpha < matte.DIRT_HIGH)
    assert np.array_equal(cleaned[soft], alpha[soft])
    assert (cleaned[alpha >= matte.DIRT_HIGH] == 255).all()
    assert not cleaned[alpha == 0].any()
    assert np.array_equal(matte.clean_alpha(cleaned), cleaned)


# refinement and colour


def blended(alpha: np.ndarray) -> np.ndarray:
    """A red disc with grain over a blue ground."""
    grain = np.random.default_rng(0).normal(0, 3, (*alpha.shape, 1))
    a = alpha[..., None] / 255
    return np.clip(np.rint(a * (220, 60, 40) + (1 - a) * (30, 70, 200) + grain), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(("method", "worst"), [("closed-form", 0.005), ("guided", 0.08)])
def test_refinement_finds_the_soft_edge_of_a_disc(method: str, worst: float) -> None:
    alpha = disc(30, soft=5)
    refined = matte.refine(blended(alpha), alpha > 127, band=5, method=method)
    edge = (alpha > 0) & (alpha < 255)
    assert np.abs(refined.astype(float) - alpha)[edge].mean() / 255 < worst  # the hard mask is 0.25 off


@pytest.mark.parametrize("method", ["closed-form", "guided"])
def test_refinement_changes_nothing_beyond_its_band(method: str) -> None:
    mask = disc(30)
    refined = matte.refine(blended(mask * np.uint8(255)), mask, band=4, method=method)
    known = matte.trimap(mask, 4)
    assert (refined[known == matte.FOREGROUND] == 255).all()
    assert not refined[known == matte.BACKGROUND].any()


def test_masks_without_a_border_are_returned_hard() -> None:
    image = blended(disc(30).astype(np.uint8) * 255)
    assert (matte.refine(image, np.ones(image.shape[:2], bool)) == 255).all()
    assert not matte.refine(image, np.zeros(image.shape[:2], bool)).any()


def test_an_object_thinner_than_the_band_is_still_refined() -> None:
    mask = np.zeros((60, 60), bool)
    mask[28:31, 10:50] = True
    refined = matte.refine(blended(mask * np.uint8(255)), mask, band=6)
    assert refined[29, 15:45].mean() > 100
    assert refined[:15].max() == 0


def test_the_colour_under_a_soft_edge_is_the_objects_own() -> None:
    alpha = disc(30, soft=10)
    colour = matte.estimate_colour(blended(alpha), alpha)
    soft = (alpha > 40) & (alpha < 255)
    assert np.abs(colour[soft].astype(float) - (220, 60, 40)).mean() < 8
    assert np.abs(blended(alpha)[soft].astype(float) - (220, 60, 40)).mean() > 30
    assert np.array_equal(colour[alpha == 255], blended(alpha)[alpha == 255])
    assert not colour[alpha == 0].any()


def test_no_object_has_no_colour() -> None:
    assert not matte.estimate_colour(np.full((9, 9, 3), 50, np.uint8), np.zeros((9, 9), np.uint8)).any()


def test_the_colour_of_the_lemur_recomposes(shared_data: Path) -> None:
    root = shared_data / "pymatting" / "data" / "lemur"
    image = np.asarray(Image.open(root / "lemur.png"))[..., :3]
    alpha = np.asarray(Image.open(root / "lemur_alpha.png"))
    background = np.asarray(Image.open(root / "lemur_background.png"))
    colour = matte.estimate_colour(np.ascontiguousarray(image), alpha)
    ours = colour * (alpha[..., None] / 255) + background * (1 - alpha[..., None] / 255)
    assert np.abs(ours - image).mean() < 0.7  # the estimate that PyMatting ships: 0.55


@pytest.mark.parametrize(("name", "worst"), [("GT01", 0.8), ("GT03", 0.8), ("GT04", 0.75), ("GT06", 0.6)])
def test_refinement_brings_the_hard_mask_of_a_photograph_closer_to_its_true_alpha(
    shared_data: Path, name: str, worst: float
) -> None:
    root = shared_data / "alphamatting" / "Training"
    image, truth = (read(root / folder / f"{name}.png") for folder in ("Images", "GroundTruth"))
    half = image.shape[0] // 2, image.shape[1] // 2
    image, truth = resize(image, half), resize(truth, half)[..., 0]
    refined = matte.refine(image, truth > 127)
    errors = [np.abs(alpha - truth.astype(float)).mean() for alpha in (refined, (truth > 127) * 255)]
    assert errors[0] < worst * errors[1]


def test_what_the_solver_prints_does_not_mix_with_results(monkeypatch, capsys):
    def solve(image, known):
        sys.stdout.write("PERFORMANCE WARNING")
        return known

    monkeypatch.setattr("pymatting.estimate_alpha_cf", solve)
    mask = np.zeros((40, 40), bool)
    mask[10:30, 10:30] = True
    matte.refine(np.full((40, 40, 3), 90, np.uint8), mask)
    assert capsys.readouterr() == ("", "PERFORMANCE WARNING")
