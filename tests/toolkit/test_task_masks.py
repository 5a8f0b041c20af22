"""Holes of tasks: never on the object that is to be removed, always on the one to complete; closed forms of shapes."""

import itertools

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage

from layerkit.manifests.errors import UsageError
from layerkit.toolkit import task_masks
from layerkit.toolkit.matte import Box
from layerkit.toolkit.task_masks import CORNERS, GROWN, LEAST, dilated, disc, ellipse, partial, polygon, shifted

BLOBS = st.builds(
    lambda x, y, a, b, turn: cv2.ellipse(
        np.zeros((48, 64), np.uint8), (x, y), (a, b), turn, 0, 360, 1, cv2.FILLED
    ).astype(bool),
    st.integers(0, 63),
    st.integers(0, 47),
    st.integers(1, 40),
    st.integers(1, 30),
    st.integers(0, 180),
)
MASKS = st.one_of(BLOBS, arrays(bool, (9, 13)), arrays(bool, (1, 7)))
SEEDS = st.integers(0, 2**32)
SQUARE = np.ones((GROWN, GROWN), bool)


class Fixed:
    """A generator whose draws are given: the last value stays."""

    def __init__(self, *values: float) -> None:
        self.values = list(values)

    def integers(self, low: int, high: int | None = None) -> float:
        value = self.values.pop(0) if len(self.values) > 1 else self.values[0]
        low, high = (0, low) if high is None else (low, high)
        assert low <= value < high
        return value

    def uniform(self, low: float, high: float) -> float:
        return self.values.pop(0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


@settings(max_examples=200, deadline=None)
@given(MASKS, SEEDS)
def test_a_shifted_hole_is_of_the_objects_shape_and_never_on_it(mask: np.ndarray, seed: int):
    before = mask.copy()
    hole = shifted(mask, rng(seed))
    assert (hole.dtype, hole.shape) == (np.dtype(bool), mask.shape)
    assert (mask == before).all()
    assert not (hole & mask).any()
    assert hole.sum() <= mask.sum()
    assert (hole == shifted(mask, rng(seed))).all()
    if mask.size < 200:
        moves = itertools.product(*(range(-(side // 2), side // 2 + 1) for side in mask.shape))
        moved = (ndimage.shift(mask.astype(np.uint8), move, order=0) > 0 for move in moves)
        assert any((hole == one & ~mask).all() for one in moved)


def test_shifts_are_uniform_over_half_the_picture_each_way():
    mask = np.zeros((9, 13), bool)
    mask[4, 6] = True
    seen = np.zeros((9, 13), int)
    for seed in range(3000):
        seen[shifted(mask, rng(seed))] += 1
    assert seen[4, 6] == 0
    others = seen[~mask]
    assert others.sum() == 3000
    assert others.min() > 0
    assert others.max() < 60  # 3,000 / 116 is 26


def test_a_hole_is_drawn_again_until_it_covers_a_tenth_of_the_object():
    mask = np.zeros((32, 32), bool)
    mask[8:24, 8:24] = True
    for seed in range(200):
        assert shifted(mask, rng(seed)).sum() >= LEAST * mask.sum()
    assert (shifted(mask, Fixed(0, 0, 1, 0, 4, 0)).sum(), mask.sum()) == (4 * 16, 256)


def test_without_a_place_beside_the_object_the_largest_draw_stands():
    mask = np.ones((16, 16), bool)
    assert not shifted(mask, rng()).any()
    mask[0, 0] = False
    assert shifted(mask, rng()).sum() <= 1
    assert not shifted(np.zeros((16, 16), bool), rng()).any()


@settings(max_examples=200, deadline=None)
@given(MASKS, SEEDS)
def test_a_partial_hole_lies_on_the_object_but_for_its_rim(mask: np.ndarray, seed: int):
    before = mask.copy()
    hole = partial(mask, rng(seed))
    assert (hole.dtype, hole.shape) == (np.dtype(bool), mask.shape)
    assert (mask == before).all()
    assert (hole == partial(mask, rng(seed))).all()
    assert hole.any() == (hole & mask).any() == mask.any()
    assert not (hole & ~ndimage.binary_dilation(mask, SQUARE)).any()


@pytest.mark.parametrize("misses", [3, 100])
def test_a_shape_beside_the_object_is_drawn_again_and_at_last_all_of_it_stands(misses: int, monkeypatch):
    mask, left = np.zeros((32, 32), bool), [misses]
    mask[4, 4] = mask[27, 27] = True

    def corner(shape: tuple[int, ...], box: Box, rng: np.random.Generator) -> np.ndarray:
        left[0] -= 1
        return (np.indices(shape).sum(0) < 10) & (left[0] < 0)

    monkeypatch.setattr(task_masks, "SHAPES", (corner,))
    hole = partial(mask, rng())
    assert hole[4, 4]
    assert hole[27, 27] == (misses > task_masks.TRIES)


@settings(max_examples=100, deadline=None)
@given(MASKS, st.sampled_from([1, 3, 5, 9]))
def test_dilation_is_that_of_scipy(mask: np.ndarray, side: int):
    assert (dilated(mask, side) == ndimage.binary_dilation(mask, np.ones((side, side), bool))).all()


@pytest.mark.parametrize("side", [0, -3, 4])
def test_a_square_without_a_middle_is_refused(side: int):
    with pytest.raises(UsageError, match=f"expected an odd side of 1 px or more, got {side}"):
        dilated(np.zeros((4, 4), bool), side)


def test_a_disc_is_what_lies_within_its_radius():
    box = Box(10, 12, 30, 52)
    made = disc((64, 64), box, Fixed(20, 30, 7))
    inside = [[(y - 20) ** 2 + (x - 30) ** 2 <= 49 for x in range(64)] for y in range(64)]
    assert (made == np.array(inside)).all()
    for edge in (4, 20):  # a tenth and half of 40 px
        assert disc((64, 64), box, Fixed(20, 30, edge)).any()
    for beyond in (3, 21):
        with pytest.raises(AssertionError):
            disc((64, 64), box, Fixed(20, 30, beyond))


@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 200.0])
def test_an_ellipse_is_the_unit_disc_stretched_and_turned(degrees: float):
    box = Box(10, 4, 50, 60)  # 40 high, 56 wide
    made = ellipse((64, 64), box, Fixed(31, 33, 20, 12, degrees))
    turn = np.exp(-1j * np.deg2rad(degrees))
    places = (np.arange(64)[None] - 33 + 1j * (np.arange(64)[:, None] - 31)) * turn
    assert (made == ((places.real / 20) ** 2 + (places.imag / 12) ** 2 <= 1)).all()
    assert made.sum() == pytest.approx(np.pi * 20 * 12, rel=0.03)


@settings(max_examples=50, deadline=None)
@given(SEEDS)
def test_a_polygon_holds_its_corners_and_stays_in_the_box(seed: int):
    box = Box(10, 4, 50, 60)
    made = polygon((64, 64), box, rng(seed))
    draws = rng(seed)
    corners = int(draws.integers(CORNERS[0], CORNERS[1] + 1))
    assert 3 <= corners <= 9
    for _ in range(corners):
        row, column = int(draws.integers(10, 50)), int(draws.integers(4, 60))
        assert made[row, column]
    outside = np.ones((64, 64), bool)
    outside[box.slices] = False
    assert not (made & outside).any()


def test_a_triangle_is_half_its_square():
    made = polygon((64, 64), Box(0, 0, 64, 64), Fixed(3, 10, 10, 10, 50, 50, 10))
    expected = [[y >= 10 and x >= 10 and x + y <= 60 for x in range(64)] for y in range(64)]
    assert (made == np.array(expected)).all()
