import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.mask_augment import (
    AREA,
    POLICIES,
    augment,
    box,
    check_weights,
    eroded,
    loose,
    partly_wrong,
    polygonal,
    tight,
)

EQUAL = dict.fromkeys(POLICIES, 1.0)
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


def disc(size: int = 96, radius: int = 24) -> np.ndarray:
    y, x = np.mgrid[:size, :size] - size // 2
    return x * x + y * y <= radius * radius


def horseshoe() -> np.ndarray:
    mask = np.zeros((64, 64), bool)
    mask[10:50, 10:20] = mask[10:50, 40:50] = mask[10:20, 10:50] = True
    return mask


@settings(max_examples=300, deadline=None)
@given(MASKS, SEEDS, st.sampled_from(sorted(POLICIES)))
def test_bounds_hold_for_any_mask(mask: np.ndarray, seed: int, policy: str):
    before = mask.copy()
    out, name = augment(mask, np.random.default_rng(seed), {policy: 1.0})
    assert out.dtype == bool
    assert out.shape == mask.shape
    assert out is not mask
    assert (mask == before).all()
    assert name in (policy, "tight")
    area = mask.sum()
    if 0 < area < mask.size:
        assert 0 < out.sum() < mask.size
        assert AREA[0] * area <= out.sum() <= AREA[1] * area
    if name == "tight":
        assert (out == mask).all()


@settings(max_examples=50, deadline=None)
@given(MASKS, SEEDS)
def test_the_seed_decides(mask: np.ndarray, seed: int):
    first, second = (augment(mask, np.random.default_rng(seed), EQUAL) for _ in range(2))
    assert first[1] == second[1]
    assert (first[0] == second[0]).all()


@settings(max_examples=100, deadline=None)
@given(BLOBS, SEEDS)
def test_policies_nest_as_their_names_say(mask: np.ndarray, seed: int):
    if not 0 < mask.sum() < mask.size:
        return
    rng = np.random.default_rng(seed)
    assert (tight(mask, rng) == mask).all()
    assert (loose(mask, rng) >= mask).all()
    assert (loose(mask, rng) != mask).any()
    inner = eroded(mask, rng)
    assert (inner <= mask).all()
    assert inner.any()
    around = box(mask, rng)
    assert (around >= mask).all()
    assert polygonal(mask, rng).any()
    rows, columns = np.nonzero(mask)
    assert around.sum() == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)


def test_loose_is_a_dilation_by_a_disc():
    mask = np.zeros((65, 65), bool)
    mask[32, 32] = True  # the smallest object: the radius is 1 px
    assert (loose(mask, np.random.default_rng(0)) == disc(65, 1)[:65, :65]).all()
    sizes = [loose(disc(), np.random.default_rng(seed)).sum() for seed in range(200)]
    radii = np.sqrt(np.array(sizes) / np.pi) - 24
    assert radii.min() < 2
    assert 9 < radii.max() < 0.25 * np.sqrt(disc().sum()) + 0.5


def test_a_hull_fills_the_gap_and_a_simple_outline_has_few_corners():
    made = [polygonal(horseshoe(), np.random.default_rng(seed)) for seed in range(20)]
    assert any(one[35, 30] for one in made)
    assert not all(one[35, 30] for one in made)


def test_partly_wrong_bites_adds_and_does_both():
    mask = disc()
    made = [partly_wrong(mask, np.random.default_rng(seed)) for seed in range(40)]
    kinds = {(bool((one < mask).any()), bool((one > mask).any())) for one in made}
    assert {(True, False), (False, True), (True, True)} <= kinds
    assert all((one == mask).mean() > 0.5 for one in made)


def test_policies_come_by_weight():
    rng = np.random.default_rng(0)
    names = [augment(disc(), rng, {"tight": 1, "loose": 3})[1] for _ in range(400)]
    assert 0.68 < names.count("loose") / 400 < 0.82


@pytest.mark.parametrize("weights", [{}, {"tight": 0.0}, {"tight": -1.0, "box": 2.0}, {"box": float("nan")}])
def test_weights_that_cannot_be_drawn_by_are_refused(weights: dict[str, float]):
    with pytest.raises(UsageError, match="weights of 0 and more"):
        check_weights(weights)


def test_an_unknown_policy_is_named():
    with pytest.raises(UsageError, match=r"tight, loose.*got fuzzy"):
        check_weights({"fuzzy": 1.0})
    check_weights(EQUAL)
