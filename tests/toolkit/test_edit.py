"""Edits against shifts, boxes and colours that are known in closed form, and on a photograph with its shadow."""

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerkit.manifests.errors import UsageError
from layerkit.toolkit import compose
from layerkit.toolkit.edit import Edit, edited, recomposed
from layerkit.toolkit.matte import Box, bounding_box
from layerkit.toolkit.shadow import Light, cast_shadow

HEIGHT, WIDTH = 120, 160


def noise(seed: int = 0, height: int = 30, width: int = 40) -> np.ndarray:
    """Every alpha, colour also where it is clear."""
    rng = np.random.default_rng(seed)
    layer = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    layer[..., 3] = np.clip(rng.integers(-100, 356, (height, width)), 0, 255)
    return layer


def block(box: Box, colour: tuple[int, int, int] = (200, 120, 40)) -> np.ndarray:
    layer = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    layer[box.slices] = (*colour, 255)
    return layer


def disc() -> np.ndarray:
    alpha = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.circle(alpha, (70, 60), 20, 255, -1, cv2.LINE_AA)
    layer = np.zeros((HEIGHT, WIDTH, 4), np.uint8)
    layer[alpha > 0, :3] = (200, 120, 40)
    layer[..., 3] = alpha
    return layer


def with_shadow() -> np.ndarray:
    layer = disc()
    shade = cast_shadow(layer[..., 3], Light(azimuth=60, elevation=45, size=0.02, strength=0.6, contact=0.3))
    shade = np.rint(shade * 255).astype(np.uint8)
    return compose.fold_shadow_u8(layer[..., :3], layer[..., 3], shade)


def cleaned(layer: np.ndarray) -> np.ndarray:
    out = layer.copy()
    out[out[..., 3] == 0] = 0
    return out


def opaque_box(layer: np.ndarray) -> Box:
    box = bounding_box(layer[..., 3] > 217)
    assert box is not None
    return box


# ---- identity and shift


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(1, 40))
@settings(deadline=None)
def test_the_identity_gives_the_same_bytes_with_nothing_where_clear(seed, height, width):
    layer = noise(seed, height, width)
    before = layer.copy()
    assert np.array_equal(edited(layer, Edit()), cleaned(layer))
    assert np.array_equal(layer, before)


def test_the_identity_holds_for_every_colour_at_every_alpha():
    colour, alpha = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    layer = np.dstack([colour, 255 - colour, colour // 2, alpha])
    assert np.array_equal(edited(layer, Edit()), cleaned(layer))


@given(st.integers(-40, 40), st.integers(-30, 30), st.sampled_from(["foot", "centre"]))
@settings(deadline=None)
def test_a_move_by_whole_pixels_is_a_shift_that_is_clipped(dx, dy, about):
    layer = noise(1)
    expected = np.zeros_like(layer)
    for y in range(30):
        for x in range(40):
            if 0 <= y + dy < 30 and 0 <= x + dx < 40:
                expected[y + dy, x + dx] = layer[y, x]
    assert np.array_equal(edited(layer, Edit(move=(dx / 40, dy / 30), about=about)), cleaned(expected))


@pytest.mark.parametrize("move", [(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, -1)])
def test_what_leaves_the_canvas_is_clear(move):
    assert not edited(noise(2), Edit(move=move)).any()
    assert not edited(with_shadow(), Edit(move=move, rotate=20, scale=0.5)).any()


def test_a_clear_layer_stays_clear():
    layer = noise()
    layer[..., 3] = 0
    assert not edited(layer, Edit(scale=2, rotate=30, hue=20, move=(0.1, 0))).any()


@given(st.floats(-1, 1), st.floats(-1, 1), st.floats(0.1, 2), st.floats(-180, 180), st.booleans(), st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_a_recomposition_differs_from_the_background_only_under_the_layer(dx, dy, scale, rotate, mirror, opacity):
    rng = np.random.default_rng(0)
    background = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    edit = Edit(move=(dx, dy), scale=scale, rotate=rotate, mirror=mirror, opacity=opacity)
    layer = edited(with_shadow(), edit)
    assert layer.shape == (HEIGHT, WIDTH, 4)
    assert not layer[layer[..., 3] == 0].any()
    clear = layer[..., 3] == 0
    assert np.array_equal(recomposed(layer, background)[clear], background[clear])


# ---- scale, mirror, rotate


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0])
@pytest.mark.parametrize("layer", [disc(), with_shadow(), block(Box(50, 60, 80, 81))], ids=["disc", "shadow", "block"])
def test_a_scaling_scales_the_box_and_keeps_the_foot_on_the_ground(layer, scale):
    before, after = opaque_box(layer), opaque_box(edited(layer, Edit(scale=scale)))
    assert abs(after.bottom - before.bottom) <= 1
    assert abs((after.left + after.right) - (before.left + before.right)) <= 2
    assert abs(after.width - scale * before.width) <= 2
    assert abs(after.height - scale * before.height) <= 2


def test_a_scaling_about_the_centre_keeps_the_centre():
    before, after = opaque_box(disc()), opaque_box(edited(disc(), Edit(scale=2, about="centre")))
    assert abs((after.left + after.right) - (before.left + before.right)) <= 2
    assert abs((after.top + after.bottom) - (before.top + before.bottom)) <= 2


@pytest.mark.parametrize("edit", [Edit(scale=2), Edit(scale=0.4), Edit(rotate=33), Edit(rotate=-70, scale=1.3)])
def test_resampling_brings_no_colour_to_the_edge(edit):
    layer = disc()
    layer[layer[..., 3] == 0, :3] = (0, 255, 0)  # what hides under alpha 0 must not be seen
    colours = edited(layer, edit)
    colours = colours[colours[..., 3] > 0][:, :3].astype(int)
    assert np.abs(colours - (200, 120, 40)).max() <= 1


def test_a_mirrored_layer_is_exact_and_its_foot_stays():
    layer = block(Box(50, 60, 80, 81))
    layer[50:60, 60:65] = (10, 20, 30, 255)
    expected = layer.copy()
    expected[50:80, 60:81] = layer[50:80, 60:81][:, ::-1]
    assert np.array_equal(edited(layer, Edit(mirror=True)), expected)
    assert np.array_equal(edited(expected, Edit(mirror=True)), layer)


def test_a_quarter_turn_exchanges_width_and_height_above_the_same_foot():
    before = Box(50, 60, 90, 80)
    after = opaque_box(edited(block(before), Edit(rotate=90)))
    assert abs(after.bottom - before.bottom) <= 1
    assert abs(after.left + after.right - before.left - before.right) <= 2
    assert abs(after.width - before.height) <= 1
    assert abs(after.height - before.width) <= 1


def test_a_turn_is_counter_clockwise():
    layer = block(Box(30, 60, 90, 80))
    layer[30:40, 60:80, :3] = (255, 0, 0)  # its top
    turned = edited(layer, Edit(rotate=90, about="centre"))
    red = bounding_box((turned[..., 0] > 230) & (turned[..., 3] > 217))
    whole = opaque_box(turned)
    assert red is not None
    assert red.right < whole.left + whole.width / 2


def test_a_layer_without_an_opaque_part_is_held_by_all_that_is_visible():
    layer = disc()
    layer[..., 3] //= 3
    before, after = compose.visible_box(layer), compose.visible_box(edited(layer, Edit(scale=1.5)))
    assert abs(after[0].stop - before[0].stop) <= 1
    assert abs((after[0].stop - after[0].start) - 1.5 * (before[0].stop - before[0].start)) <= 2
    assert abs((after[1].start + after[1].stop) - (before[1].start + before[1].stop)) <= 2


# ---- colour

COLOURS = [
    Edit(hue=120),
    Edit(saturation=0),
    Edit(saturation=3),
    Edit(brightness=3),
    Edit(brightness=0.3),
    Edit(tint=(255, 0, 0)),
    Edit(tint=(20, 60, 250), hue=-30, saturation=2, brightness=2),
]


@pytest.mark.parametrize("edit", COLOURS)
def test_recolouring_leaves_alpha_alone_and_black_black(edit):
    layer = with_shadow()
    made = edited(layer, edit)
    assert np.array_equal(made[..., 3], layer[..., 3])
    black = (layer[..., :3] == 0).all(axis=-1)
    assert black.any()
    assert not made[black, :3].any()
    assert not np.array_equal(made, layer)


@pytest.mark.parametrize("edit", COLOURS)
def test_the_dirt_that_a_network_leaves_in_a_shadow_is_not_brought_to_light(edit):
    layer = np.zeros((20, 20, 4), np.uint8)
    layer[...] = (8, 5, 4, 150)
    assert np.array_equal(edited(layer, edit), layer)
    layer[..., 3] = 255  # an opaque object may be as dark, and is recoloured
    assert not np.array_equal(edited(layer, edit), layer)


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (Edit(hue=120), (0, 200, 0)),
        (Edit(hue=-120), (0, 0, 200)),
        (Edit(hue=180), (0, 200, 200)),
        (Edit(saturation=0), (200, 200, 200)),
        (Edit(brightness=0.5), (100, 0, 0)),
        (Edit(brightness=4), (255, 0, 0)),
        (Edit(tint=(255, 255, 255)), (60, 60, 60)),
        (Edit(tint=(0, 255, 0)), (0, 60, 0)),
    ],
)
def test_pure_red_becomes_what_it_should(edit, expected):
    made = edited(block(Box(5, 5, 20, 20), (200, 0, 0)), edit)
    assert (made[5:20, 5:20, :3] == expected).all()


@given(st.integers(0, 99), st.floats(-180, 180), st.floats(0, 4), st.floats(0, 1), st.booleans())
@settings(deadline=None)
def test_a_shadow_over_a_recoloured_object_is_a_recoloured_object_under_a_shadow(seed, hue, saturation, dim, tint):
    """f(k C) = k f(C): what foreground_from does to the colour commutes with every recolouring that stays in gamut."""
    rng = np.random.default_rng(seed)
    colour = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    half = np.dstack([colour // 2, np.full((8, 8), 255, np.uint8)])
    whole = np.dstack([colour // 2 * 2, np.full((8, 8), 255, np.uint8)])
    edit = Edit(hue=hue, saturation=saturation, brightness=dim, tint=(250, 100, 30) if tint else None)
    difference = edited(whole, edit)[..., :3].astype(float) - 2 * edited(half, edit)[..., :3].astype(float)
    assert np.abs(difference).max() <= 1.5 + 1e-6


def test_opacity_thins_object_and_shadow_alike():
    layer = with_shadow()
    made = edited(layer, Edit(opacity=0.5))
    assert np.array_equal(made[..., 3], np.rint(layer[..., 3] * 0.5).astype(np.uint8))
    seen = made[..., 3] > 0
    assert np.array_equal(made[seen, :3], layer[seen, :3])
    assert not edited(layer, Edit(opacity=0)).any()


# ---- a photograph


def test_a_photographed_cut_out_is_scaled_and_moved_without_a_fringe():
    from layerkit.toolkit.suites.demo import scenes

    (scene,) = scenes(seed=3, count=1, size=192)
    foreground, background = scene.layers.foreground, scene.layers.background
    assert np.array_equal(recomposed(edited(foreground, Edit()), background), scene.layers.image)
    made = edited(foreground, Edit(move=(0.2, 0.05), scale=0.8))
    before, after = (layer[layer[..., 3] > 0][:, :3].astype(int) for layer in (foreground, made))
    assert len(after) > 0.5 * len(before)
    # Shrinking averages: no colour is brighter or darker, in any channel, than those that it was made of.
    assert (after.max(axis=0) <= before.max(axis=0) + 1).all()
    assert (after.min(axis=0) >= before.min(axis=0) - 1).all()


# ---- errors


@pytest.mark.parametrize(
    "wrong",
    [
        {"move": (1.1, 0)},
        {"move": (30, 0)},
        {"move": (float("nan"), 0)},
        {"move": (0.1,)},
        {"scale": 0},
        {"scale": 8.1},
        {"about": "head"},
        {"rotate": 181},
        {"hue": -200},
        {"saturation": -1},
        {"brightness": 5},
        {"tint": (1, 2)},
        {"tint": (1, 2, 256)},
        {"opacity": 1.01},
    ],
)
def test_an_edit_out_of_range_is_refused(wrong):
    with pytest.raises(UsageError, match=f"edit.{next(iter(wrong))}: expected .*, got .*; "):
        Edit(**wrong)


def test_layers_of_another_form_are_refused():
    layer, background = disc(), np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    with pytest.raises(UsageError, match=r"foreground: expected an 8-bit layer \(H, W, 4\)"):
        edited(background, Edit())
    with pytest.raises(UsageError, match="got float64"):
        edited(layer / 255, Edit())
    with pytest.raises(UsageError, match="background: expected"):
        recomposed(layer, layer)
    with pytest.raises(UsageError, match="expected layers of one size"):
        recomposed(layer, background[:-1])


def test_an_enlargement_that_would_fill_the_memory_is_refused():
    layer = np.zeros((1100, 1100, 4), np.uint8)
    layer[..., 3] = 255
    with pytest.raises(UsageError, match=r"edit.scale: .* got 8832 x 8832; scale it less"):
        edited(layer, Edit(scale=8))
