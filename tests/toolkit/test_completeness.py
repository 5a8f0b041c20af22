"""Completeness of drawn scenes, whose hidden share of the outline is known, and of real masks cut in two."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.completeness import by_depth, by_geometry

SIZE = 240
ROWS = np.arange(SIZE)[:, None]
MIRRORS = {
    "left-right": lambda picture: picture[:, ::-1],
    "upside down": lambda picture: picture[::-1],
    "transposed": lambda picture: picture.T,
}


def disc(row: float, column: float, radius: float, factor: int = 1) -> np.ndarray:
    rows, columns = (np.mgrid[: SIZE * factor, : SIZE * factor] + 0.5) / factor - 0.5
    return np.hypot(rows - row, columns - column) < radius


def box(top: int, left: int, bottom: int, right: int, factor: int = 1) -> np.ndarray:
    inside = np.zeros((SIZE, SIZE), bool)
    inside[top:bottom, left:right] = True
    return inside.repeat(factor, axis=0).repeat(factor, axis=1)


def seen(*planes: tuple[np.ndarray, float], blur: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """Visible mask of the first object, and the depth map of all over a far background at 0.1."""
    mask, inverse = planes[0]
    depth = np.full(mask.shape, 0.1, np.float32)
    for other, its_inverse in sorted(planes, key=lambda plane: plane[1]):
        depth[other] = its_inverse
    return mask & (depth == np.float32(inverse)), cv2.GaussianBlur(depth, (0, 0), blur)


SQUARE, DISC = box(60, 60, 160, 160), disc(110, 160, 35)


# ---- by depth


def test_an_object_in_front_is_whole_and_the_one_behind_is_not():
    square, depth = seen((SQUARE, 0.4), (DISC, 0.7))
    hidden = np.pi * 35  # half of the disc's outline lies on the square
    assert by_depth(square, depth) == pytest.approx(1 - hidden / (4 * 100 - 70 + hidden), abs=0.05)
    in_front, depth = seen((DISC, 0.7), (SQUARE, 0.4))
    assert by_depth(in_front, depth) == 1
    assert by_depth(SQUARE, seen((SQUARE, 0.8), (DISC, 0.7))[1]) == 1


def test_an_object_beside_a_nearer_one_is_whole():
    square, depth = seen((SQUARE, 0.4), (disc(110, 210, 25), 0.9))
    assert by_depth(square, depth) == 1


def test_the_rim_of_a_hole_through_which_something_nearer_shows_is_hidden():
    square, depth = seen((SQUARE, 0.4), (disc(110, 110, 25), 0.9))
    assert by_depth(square, depth) == pytest.approx(400 / (400 + 2 * np.pi * 25), abs=0.05)


def test_the_ground_before_a_standing_object_does_not_hide_it():
    ground = np.linspace(0, 1, SIZE, dtype=np.float32)[:, None].repeat(SIZE, axis=1)
    figure = box(60, 100, 190, 140)
    depth = np.where(figure, ground[189, 0], ground)  # upright, as near as its foot
    assert by_depth(figure, depth) == 1
    assert by_depth(figure, depth, margin=0) == pytest.approx(1 - 40 / 340, abs=0.02)


def test_the_border_of_the_picture_cuts_off():
    half = disc(0, 120, 60)
    depth = np.where(half, 0.8, 0.1).astype(np.float32)
    assert by_depth(half, depth) == pytest.approx(np.pi / (np.pi + 2), abs=0.05)
    everything = np.ones((SIZE, SIZE), bool)
    assert by_depth(everything, depth) == by_geometry(everything) == 0


def test_noise_in_the_depth_does_not_hide():
    square, depth = seen((SQUARE, 0.5))
    noisy = depth + np.random.default_rng(0).normal(0, 0.02, depth.shape).astype(np.float32)
    assert by_depth(square, noisy) > 0.99


@pytest.mark.parametrize("mirror", MIRRORS)
def test_by_depth_does_not_change_in_a_mirror(mirror):
    square, depth = seen((SQUARE, 0.4), (disc(100, 165, 40), 0.7))
    turned = [np.ascontiguousarray(MIRRORS[mirror](picture)) for picture in (square, depth)]
    assert by_depth(*turned) == pytest.approx(by_depth(square, depth), abs=0.01)


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_by_depth_does_not_change_with_scale(factor):
    scenes = [seen((box(60, 60, 160, 160, k), 0.4), (disc(100, 165, 40, k), 0.7), blur=0.8 * k) for k in (1, factor)]
    small, large = (by_depth(*scene) for scene in scenes)
    assert large == pytest.approx(small, abs=0.02)


def test_a_depth_map_of_another_shape_is_refused():
    with pytest.raises(UsageError, match=r"mask's shape \(240, 240\), got \(120, 240\)"):
        by_depth(SQUARE, np.zeros((120, 240), np.float32))


# ---- by geometry


@pytest.mark.parametrize("radius", [3, 5, 8, 13, 20, 40, 80, 110])
def test_a_disc_is_whole_at_every_size(radius):
    assert by_geometry(disc(119.5, 120.2, radius)) == 1


@pytest.mark.parametrize("radius", [20, 40, 80])
def test_half_a_disc_misses_its_chord(radius):
    half = disc(120, 120, radius) & (ROWS < 120)
    pixels = np.sqrt(8) * radius  # of the arc: an 8-connected quarter has radius * sqrt(2)
    assert by_geometry(half) == pytest.approx(pixels / (pixels + 2 * radius), abs=0.03)


def test_a_square_crop_of_a_disc_scores_low():
    crop = disc(120, 120, 80) & box(60, 60, 180, 180)
    assert by_geometry(crop) < 0.35


def test_a_disc_over_the_border_is_cut_off():
    assert by_geometry(disc(0, 120, 60)) == pytest.approx(np.sqrt(8) / (np.sqrt(8) + 2), abs=0.03)
    assert 0.85 < by_geometry(disc(15, 120, 15.2)) < 1, "it touches with a few pixels"


@pytest.mark.parametrize("degrees", [2, 5, 10, 45])
def test_a_box_that_does_not_lie_exactly_along_the_axes_is_whole(degrees):
    turn = cv2.getRotationMatrix2D((120, 120), degrees, 1)
    house = cv2.warpAffine(box(60, 80, 170, 160).astype(np.uint8), turn, (SIZE, SIZE))
    assert by_geometry(house > 0) > 0.7


def test_short_straight_pieces_are_no_cut():
    stairs = np.zeros((SIZE, SIZE), bool)
    for k in range(10):
        stairs[20 + 20 * k : 40 + 20 * k, 20 : 40 + 20 * k] = True
    corner = 1 - 400 / 800  # the two legs of the triangle are cut, the stairs are not
    assert by_geometry(stairs) == pytest.approx(corner, abs=0.03)


@pytest.mark.parametrize("mirror", MIRRORS)
@pytest.mark.parametrize("factor", [2, 4])
def test_by_geometry_does_not_change_in_a_mirror_or_with_scale(mirror, factor):
    small, large = (disc(120, 120, 80, k) & box(0, 70, 170, 240, k) for k in (1, factor))
    assert by_geometry(MIRRORS[mirror](large)) == by_geometry(large)
    assert by_geometry(large) == pytest.approx(by_geometry(small), abs=0.02)


def test_nothing_is_not_whole():
    nothing = np.zeros((SIZE, SIZE), bool)
    assert by_geometry(nothing) == by_depth(nothing, np.zeros((SIZE, SIZE), np.float32)) == 0


def real_masks(shared_data: Path) -> list[np.ndarray]:
    files = sorted((shared_data / "ecssd").rglob("ground_truth_mask/*.png"))
    if len(files) < 20:
        pytest.skip("ECSSD masks are not here (../shared/data/ecssd)")
    return [cv2.imread(str(file), 0) > 127 for file in files]


def test_real_objects_are_whole_until_they_are_cut(shared_data):
    masks = real_masks(shared_data)
    lower, right = [], []
    for mask in masks:
        rows, columns = np.nonzero(mask)
        lower.append(mask & (np.arange(mask.shape[0]) < int(np.quantile(rows, 0.7)))[:, None])
        right.append(mask & (np.arange(mask.shape[1]) > int(np.quantile(columns, 0.2))))
    whole = np.array([by_geometry(mask) for mask in masks])
    assert np.mean(whole > 0.95) > 0.85
    for cut in (lower, right):
        assert np.mean([by_geometry(mask) for mask in cut] < whole - 0.05) > 0.9


def test_a_real_matte_behind_a_drawn_occluder(shared_data):
    for mask in real_masks(shared_data)[:10]:
        rows, columns = np.nonzero(mask)
        depth = np.where(mask, 0.5, 0.2).astype(np.float32)
        whole = by_depth(mask, depth)
        cover = np.zeros(mask.shape, np.uint8)
        cv2.circle(cover, (int(columns.mean()), int(rows.max())), int(np.sqrt(mask.sum()) / 2), 1, -1)
        depth[cover > 0] = 0.9
        assert by_depth(mask & (cover == 0), depth) < whole - 0.03
