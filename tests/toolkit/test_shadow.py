"""Cast shadows against closed forms, and against the brute-force average of hard shadows over an area light."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.compose import MAX_SHADOW
from layerkit.toolkit.matte import Box, bounding_box
from layerkit.toolkit.shadow import FORESHORTENING, Light, ShadowOptions, cast_shadow, contact_line, draw_light

SUN = Light(azimuth=60, elevation=45, size=0.006, strength=0.8, contact=0)
WALL = Box(120, 150, 260, 230)
CANVAS = 384

lights = st.builds(
    Light,
    azimuth=st.floats(0, 360),
    elevation=st.floats(10, 80),
    size=st.floats(0.005, 0.5),
    strength=st.floats(0, MAX_SHADOW),
    contact=st.floats(0, 1.2),
)


def block(box: Box, size: int = CANVAS) -> np.ndarray:
    alpha = np.zeros((size, size), np.uint8)
    alpha[box.slices] = 255
    return alpha


def disc(size: int = 200, radius: int = 40) -> np.ndarray:
    alpha = np.zeros((size, size), np.uint8)
    cv2.circle(alpha, (size // 2, size // 2), radius, 255, -1, cv2.LINE_AA)
    return alpha


def averaged_hard_shadows(box: Box, light: Light, size: int = CANVAS, samples: int = 200) -> np.ndarray:
    """Umbra 0..1 of an upright rectangle: a point of the ground is dark for every point of the lamp that is hidden.

    Every sample is a direction on a disc of angular diameter ``light.size``; its hard shadow is solved for a pixel
    (u, v) by h = (c - v)/ky, x = u - kx h: no blur and no warp.
    """
    elevation, azimuth = math.radians(light.elevation), math.radians(light.azimuth)
    towards = np.array(
        [-math.cos(elevation) * math.cos(azimuth), -math.cos(elevation) * math.sin(azimuth), math.sin(elevation)]
    )
    across = np.cross(towards, [0, 0, 1]) / math.cos(elevation)
    along = np.cross(towards, across)
    v, u = (np.mgrid[: 2 * size, : 2 * size] + 0.5) / 2
    umbra = np.zeros_like(u)
    for k in range(samples):  # a sunflower covers the disc evenly
        radius, turn = math.tan(light.size / 2 * math.sqrt((k + 0.5) / samples)), k * math.pi * (3 - math.sqrt(5))
        x, y, z = towards + radius * (math.cos(turn) * across + math.sin(turn) * along)
        kx, ky = -x / z, -y / z * FORESHORTENING
        height = (box.bottom - v) / ky
        foot = u - kx * height
        umbra += (height >= 0) & (height <= box.height) & (foot >= box.left) & (foot <= box.right)
    return (umbra / samples).reshape(size, 2, size, 2).mean(axis=(1, 3))


def edge_width(profile: np.ndarray) -> float:
    """Distance between the 10 % and the 90 % crossing of a falling edge, px."""
    falling = profile[::-1] / profile.max()
    positions = np.arange(falling.size)
    return float(np.interp(0.9, falling, positions) - np.interp(0.1, falling, positions))


# what holds of every shadow


@settings(deadline=None, max_examples=40)
@given(lights, st.sampled_from(["standing", "lying"]), st.sampled_from([100, 150]))
def test_a_shadow_never_lies_on_the_object_and_can_be_undone(light: Light, stance: str, size: int) -> None:
    alpha = disc(size, 24)
    shadow = cast_shadow(alpha, light, stance=stance)
    assert shadow.shape == alpha.shape
    assert shadow.dtype == np.float32
    assert not shadow[alpha == 255].any()
    assert shadow.min() >= 0
    assert shadow.max() <= MAX_SHADOW + 1e-6


@pytest.mark.parametrize("stance", ["standing", "lying"])
@pytest.mark.parametrize("value", [0, 100])
def test_nothing_solid_throws_nothing(stance: str, value: int) -> None:
    assert not cast_shadow(np.full((61, 47), value, np.uint8), SUN, stance=stance).any()


@pytest.mark.parametrize("stance", ["standing", "lying"])
def test_a_light_without_strength_throws_nothing(stance: str) -> None:
    assert not cast_shadow(disc(), replace(SUN, strength=0, contact=1), stance=stance).any()


@pytest.mark.parametrize("stance", ["standing", "lying"])
@pytest.mark.parametrize("azimuth", [40, 75, 200, 290])
@pytest.mark.parametrize("size", [96, 200])
def test_the_mirrored_scene_has_the_mirrored_shadow(stance: str, azimuth: float, size: int) -> None:
    alpha = np.zeros((size, size), np.uint8)
    cv2.ellipse(alpha, (size // 2, size // 2), (size // 6, size // 4), 25, 0, 360, 255, -1, cv2.LINE_AA)
    light = Light(azimuth=azimuth, elevation=40, size=0.1, strength=0.7, contact=0.5)
    mirrored = cast_shadow(alpha[:, ::-1].copy(), replace(light, azimuth=180 - azimuth), stance=stance)
    difference = np.abs(cast_shadow(alpha, light, stance=stance) - mirrored[:, ::-1])
    assert difference.mean() < 2e-3
    assert np.quantile(difference, 0.999) < 0.1


# geometry of a standing object


@pytest.mark.parametrize("elevation", [30, 45, 60])
@pytest.mark.parametrize("azimuth", [30, 60, 120, 150, 240, 300])
def test_a_pole_throws_its_tip_where_the_closed_form_says(azimuth: float, elevation: float) -> None:
    pole = Box(180, 210, 260, 218)
    light = replace(SUN, azimuth=azimuth, elevation=elevation)
    dark = np.argwhere(cast_shadow(block(pole, 440), light) > 0.5 * light.strength)
    reach = pole.height / math.tan(math.radians(elevation))
    tip_x = 214 + reach * math.cos(math.radians(azimuth))
    tip_y = 260 - reach * math.sin(math.radians(azimuth)) * FORESHORTENING
    furthest = dark[np.abs(dark[:, 1] + 0.5 - 214).argmax()] + 0.5
    assert abs(furthest[1] - tip_x) < 7  # half the pole, and a pixel of the half resolution
    assert abs(furthest[0] - tip_y) < 4


@pytest.mark.parametrize("azimuth", [30, 50, 130, 150, 210, 230, 310, 330])
def test_the_shadow_lies_in_the_direction_of_the_azimuth(azimuth: float) -> None:
    pole = Box(180, 214, 260, 220)
    rows, columns = np.nonzero(cast_shadow(block(pole, 440), replace(SUN, azimuth=azimuth)) > 0.2)
    seen = math.degrees(math.atan2((260 - rows.mean() - 0.5) / FORESHORTENING, columns.mean() + 0.5 - 217)) % 360
    assert abs(seen - azimuth) < 6


def test_a_lower_light_throws_a_longer_shadow() -> None:
    lengths = []
    for elevation in (70, 55, 40, 25):
        dark = cast_shadow(block(WALL), replace(SUN, azimuth=300, elevation=elevation)) > 0.4
        box = bounding_box(dark)
        assert box is not None
        lengths.append(box.bottom - WALL.bottom)
    expected = [
        WALL.height * FORESHORTENING * math.sin(math.radians(60)) / math.tan(math.radians(e)) for e in (70, 55, 40, 25)
    ]
    assert np.allclose(lengths, np.minimum(expected, CANVAS - WALL.bottom), atol=2)


@pytest.mark.parametrize("size", [0.006, 0.2])
@pytest.mark.parametrize("azimuth", [225, 270, 315])
def test_a_shadow_towards_the_viewer_starts_at_the_contact_of_every_column(azimuth: float, size: float) -> None:
    shadow = cast_shadow(block(WALL), replace(SUN, azimuth=azimuth, size=size))
    lean = math.ceil(1 / (abs(math.tan(math.radians(azimuth))) * FORESHORTENING)) + 1 if azimuth != 270 else 1
    under = shadow[WALL.bottom, WALL.left + lean : WALL.right - lean]
    assert under.min() > 0.5 * SUN.strength


@pytest.mark.parametrize(("azimuth", "column"), [(45, WALL.right), (135, WALL.left - 1)])
def test_a_shadow_away_from_the_viewer_leaves_no_gap_beside_the_foot(azimuth: float, column: int) -> None:
    shadow = cast_shadow(block(WALL), replace(SUN, azimuth=azimuth))
    assert shadow[WALL.bottom - 4 : WALL.bottom, column].max() > 0.5 * SUN.strength
    assert not shadow[WALL.bottom + 2 :].any()


@pytest.mark.parametrize("azimuth", [60, 240])
def test_the_round_foot_of_a_disc_touches_its_shadow(azimuth: float) -> None:
    alpha = disc()
    ring = (cv2.dilate(alpha, np.ones((5, 5), np.uint8)) > 0) & (alpha == 0)
    foot = ring & (np.arange(200)[:, None] > 132)
    shadow = cast_shadow(alpha, replace(SUN, azimuth=azimuth, contact=1))
    assert (shadow[foot] > 0.1).mean() > 0.8


def test_contact_darkens_the_foot_alone() -> None:
    plain, dark = (cast_shadow(block(WALL), replace(SUN, contact=share)) for share in (0, 1))
    added = dark - plain
    assert added.min() >= -1e-6
    assert added[WALL.bottom : WALL.bottom + 2, WALL.left + 5 : WALL.right - 5].min() > 0.1
    assert not added[: WALL.top].any()


def test_an_arch_stands_on_a_line_that_bridges_its_legs() -> None:
    alpha = block(WALL)
    alpha[WALL.top + 40 : WALL.bottom, WALL.left + 15 : WALL.right - 15] = 0
    line = contact_line(alpha, WALL)
    assert (line[:, 1] == WALL.bottom).all()
    assert (line[0, 0], line[-1, 0]) == (WALL.left, WALL.right)
    shadow = cast_shadow(alpha, replace(SUN, azimuth=270, elevation=45))
    below = shadow[WALL.bottom + 2 : WALL.bottom + 20]
    assert below[:, WALL.left + 3 : WALL.left + 12].min() > 0.7
    assert below[:, WALL.left + 20 : WALL.right - 20].max() < 0.05  # light falls through


def test_the_contact_line_climbs_a_quarter_of_the_width_at_most() -> None:
    alpha = np.zeros((200, 200), np.uint8)
    cv2.fillPoly(alpha, [np.array([[20, 20], [180, 20], [100, 180]])], 255)  # stands on its tip
    box = bounding_box(alpha)
    assert box is not None
    line = contact_line(alpha, box)
    assert line[:, 1].max() == box.bottom
    assert line[:, 1].min() >= box.bottom - 0.25 * box.width - 1
    assert (np.diff(line[:, 0]) > 0).all()


@pytest.mark.parametrize(
    "box", [Box(0, 0, 30, 30), Box(170, 180, 200, 200), Box(0, 0, 200, 200), Box(99, 99, 100, 100)]
)
def test_an_object_at_the_border_is_no_error(box: Box) -> None:
    for azimuth in (45, 225):
        for stance in ("standing", "lying"):
            shadow = cast_shadow(block(box, 200), replace(SUN, azimuth=azimuth), stance=stance)
            assert np.isfinite(shadow).all()


# penumbra


def test_the_penumbra_widens_with_the_distance_from_the_contact() -> None:
    """The marginal of a disc of diameter w falls from 90 % to 10 % over 0.687 w; w = size x h / sin(elevation)."""
    light = replace(SUN, azimuth=270, elevation=35, size=0.25)
    shadow = cast_shadow(block(WALL), light)
    fall = FORESHORTENING / math.tan(math.radians(35))
    widths = []
    for height in (40, 100):
        row = shadow[WALL.bottom + round(height * fall), (WALL.left + WALL.right) // 2 : WALL.right + 60]
        widths.append(edge_width(row))
        expected = 0.687 * light.size * height / math.sin(math.radians(35))
        assert abs(widths[-1] - expected) < 0.2 * expected
    assert widths[1] / widths[0] == pytest.approx(2.5, rel=0.15)


@pytest.mark.parametrize("size", [0.012, 0.1, 0.3])
@pytest.mark.parametrize("elevation", [30, 45])
@pytest.mark.parametrize("azimuth", [60, 120, 240, 300])
def test_the_shadow_is_the_average_of_hard_shadows(azimuth: float, elevation: float, size: float) -> None:
    light = replace(SUN, azimuth=azimuth, elevation=elevation, size=size)
    ground = block(WALL) == 0
    ours = cast_shadow(block(WALL), light)[ground] / light.strength
    exact = averaged_hard_shadows(WALL, light)[ground]
    dark = np.maximum(ours, exact) > 0.02
    assert np.corrcoef(ours, exact)[0, 1] > 0.97
    assert np.abs(ours - exact)[dark].mean() < 0.08


@pytest.mark.parametrize(("size", "least"), [(0.012, 0.97), (0.1, 0.97), (0.3, 0.88)])
def test_a_shadow_along_the_picture_plane_is_the_average_to_first_order_only(size: float, least: float) -> None:
    """15 degrees off the plane a wide lamp turns the shadow about its foot, which a blur of the silhouette lacks."""
    light = replace(SUN, azimuth=15, elevation=30, size=size)
    ground = block(WALL) == 0
    ours, exact = cast_shadow(block(WALL), light)[ground] / light.strength, averaged_hard_shadows(WALL, light)[ground]
    assert np.corrcoef(ours, exact)[0, 1] > least
    assert ours.sum() == pytest.approx(exact.sum(), rel=0.1)


# lying


def test_a_lying_object_is_rimmed_on_the_side_away_from_the_light() -> None:
    alpha = disc()
    shadow = cast_shadow(alpha, replace(SUN, azimuth=0, elevation=35, size=0.02), stance="lying")
    row = shadow[100]
    assert row[142] > 0.5 * SUN.strength
    assert row[57] < 0.1
    assert not shadow[:, 155:].any()
    assert not shadow[:40].any()


def test_a_lying_object_touches_the_ground_all_around() -> None:
    alpha = disc()
    ring = (cv2.dilate(alpha, np.ones((3, 3), np.uint8)) > 0) & (alpha == 0)
    assert cast_shadow(alpha, replace(SUN, contact=0.6), stance="lying")[ring].min() > 0.05


# drawing lights


def test_lights_keep_within_the_options() -> None:
    options = ShadowOptions()
    rng = np.random.default_rng(0)
    drawn = [draw_light(rng, options) for _ in range(4000)]
    lit = [light for light in drawn if light is not None]
    assert 1 - len(lit) / 4000 == pytest.approx(options.none, abs=0.02)
    assert np.mean([light.azimuth < 180 for light in lit]) == pytest.approx(options.away, abs=0.03)
    for light in lit:
        assert 12 <= light.azimuth % 180 <= 168
        assert options.elevation[0] <= light.elevation <= options.elevation[1]
        assert 0 < light.strength <= MAX_SHADOW
        assert min(options.size[2], options.soft_size[0]) <= light.size <= max(options.size[3], options.soft_size[1])


def test_a_drawn_light_depends_on_the_generator_alone() -> None:
    first, second = (draw_light(np.random.default_rng(5), ShadowOptions(none=0)) for _ in range(2))
    assert first == second


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"none": 1.5}, r"shadow\.none: a probability lies in 0\.\.1, got 1\.5"),
        ({"elevation": (0.0, 50.0)}, r"shadow\.elevation"),
        ({"elevation": (50.0, 20.0)}, r"shadow\.elevation"),
        ({"strength": (0.7, 0.1, 0.3, 0.95)}, r"shadow\.strength: at most 0\.85"),
    ],
)
def test_impossible_options_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        ShadowOptions(**options)
