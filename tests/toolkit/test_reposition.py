"""The steps of a repositioning that need no network, against closed forms and their own inverses."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage import data

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.compose import fold_shadow_u8, over_u8
from layerkit.toolkit.reposition import (
    foot_of,
    harmonised,
    light_of,
    recoloured,
    scale_by_depth,
    scale_by_horizon,
    set_down,
)
from layerkit.toolkit.shadow import Light, cast_shadow


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    y, x = np.mgrid[: shape[0], : shape[1]]
    return (y - centre[0]) ** 2 + (x - centre[1]) ** 2 <= radius**2


def figure(shape: tuple[int, int] = (120, 160)) -> np.ndarray:
    """A placed subject: an opaque upright box with a head."""
    rgba = np.zeros((*shape, 4), np.uint8)
    rgba[40:90, 70:90] = (200, 60, 30, 255)
    rgba[disc(shape, (36, 80), 12)] = (60, 90, 200, 255)
    return rgba


def test_a_subject_stands_on_the_middle_of_its_lower_edge():
    mask = np.zeros((20, 30), bool)
    mask[4:9, 10:16] = True
    assert foot_of(mask) == (13.0, 9.0)
    with pytest.raises(UsageError, match="expected a subject"):
        foot_of(np.zeros((4, 4), bool))


@given(st.floats(5, 50), st.floats(0.5, 30), st.floats(3, 40), st.floats(3, 40))
def test_the_horizon_gives_the_ratio_of_a_pinhole_camera(focal: float, high: float, near: float, far: float):
    """A camera ``high`` above the ground sees a foot at distance z at focal * high / z below the horizon."""
    horizon = 17.0
    source, target = ((50.0, horizon + focal * high / z) for z in (near, far))
    if not 0.2 <= near / far <= 5:
        return
    assert scale_by_horizon(source, target, horizon) == pytest.approx(near / far)


def test_a_foot_above_the_horizon_and_an_absurd_factor_are_refused():
    with pytest.raises(UsageError, match="a row above both feet, 80 and 40 px, got 50 px"):
        scale_by_horizon((0, 80), (0, 40), 50)
    with pytest.raises(UsageError, match=r"a factor in 0.2..5 .* got 0.0333"):
        scale_by_horizon((0, 80), (0, 51), 50)


def test_depth_gives_the_ratio_of_inverse_depths():
    rows = np.linspace(0, 1, 101, dtype=np.float32)  # a level ground up to the horizon: inverse depth goes as the row
    depth = np.repeat(rows[:, None], 40, axis=1)
    assert scale_by_depth(depth, (20, 81), (20, 41)) == pytest.approx(0.5, rel=0.02)
    assert scale_by_depth(depth, (20, 41), (20, 81)) == pytest.approx(2.0, rel=0.02)
    assert scale_by_depth(depth, (20, 101), (-5, 300)) == pytest.approx(1.0)
    with pytest.raises(UsageError, match="--depth: expected a factor"):
        scale_by_depth(depth, (20, 81), (20, 2))


def test_colours_of_a_picture_of_the_subject_are_its_own_again():
    placed, background = figure(), np.ascontiguousarray(data.astronaut()[:120, :160])
    placed[..., 3] = np.where(placed[..., 3] > 0, 200, 0)
    picture = over_u8(placed, background)
    again = recoloured(placed, background, picture)
    assert np.array_equal(again[..., 3], placed[..., 3])
    assert np.abs(over_u8(again, background).astype(int) - picture).max() <= 1
    assert not again[again[..., 3] == 0].any()


def test_harmonising_moves_colours_towards_those_around_and_leaves_alpha():
    placed, background = figure(), np.full((120, 160, 3), (20, 90, 160), np.uint8)
    background[::2] += 20
    made = harmonised(placed, background, 0.6)
    inside = placed[..., 3] > 0
    goal = background[inside].mean(0)
    before, after = (np.abs(one[inside][:, :3].mean(0) - goal).sum() for one in (placed, made))
    assert after < 0.7 * before
    assert np.array_equal(made[..., 3], placed[..., 3])
    assert np.array_equal(harmonised(placed, background, 0.0), placed)


def test_a_shadow_is_folded_into_the_subject():
    light = Light(azimuth=60, elevation=40, size=0.05, strength=0.7, contact=0.2)
    placed, background = figure(), np.full((120, 160, 3), 200, np.uint8)
    cast = set_down(placed, (0, 0), 1).shadow(light, "standing")
    foreground = fold_shadow_u8(placed[..., :3], placed[..., 3], cast)
    assert cast.any()
    expected = np.where(placed[..., 3:] > 0, placed[..., :3], background * (1 - cast[..., None] / 255))
    assert np.abs(over_u8(foreground, background).astype(float) - expected).max() <= 1


@pytest.mark.parametrize(
    ("azimuth", "elevation", "stance"), [(60, 39, "standing"), (150, 31, "standing"), (300, 47, "lying")]
)
def test_the_light_is_found_by_the_shadow_that_it_cast(azimuth: float, elevation: float, stance):
    light = Light(azimuth=azimuth, elevation=elevation, size=0.05, strength=0.6, contact=0.2)
    alpha = np.ascontiguousarray(figure()[..., 3])
    cast = cast_shadow(alpha, light, stance=stance)
    clean = np.full((120, 160, 3), 180, np.uint8)
    image = np.rint(clean * (1 - cast[..., None])).astype(np.uint8)
    found, how = light_of(alpha, cast > 0.3, image, clean)
    assert how == stance
    assert abs(found.strength - 0.6) < 0.15
    again = cast_shadow(alpha, found, stance=how) > 0.3
    assert (again & (cast > 0.3)).sum() / (again | (cast > 0.3)).sum() > 0.7


def test_a_shadow_mask_without_a_pixel_outside_the_subject_tells_no_strength():
    alpha = np.ascontiguousarray(figure()[..., 3])
    grey = np.full((120, 160, 3), 180, np.uint8)
    found, how = light_of(alpha, alpha > 0, grey, grey, ("lying",))
    assert (found.strength, how) == (0.45, "lying")


def test_a_subject_keeps_its_alpha_beyond_the_picture():
    placed = set_down(figure(), (0, 60), 1.0)  # 30 px lower than the picture is high
    assert placed.whole.shape == (150, 160)
    assert np.array_equal(placed.whole[100:150], figure()[40:90, :, 3])
    assert np.array_equal(placed.layer[84:, :, 3], placed.whole[84:120])
    assert np.array_equal(set_down(figure(), (5, -3), 1.0).whole, np.roll(figure(), (-3, 5), (0, 1))[..., 3])
