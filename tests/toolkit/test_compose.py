"""Compositing against float64, Pillow, the triplet equation and published pictures."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from layerkit.toolkit import compose

U8 = np.ndarray


def rgba_of(rng: np.random.Generator, height: int = 40, width: int = 50) -> U8:
    """Random straight RGBA with plenty of clear and opaque pixels."""
    layer = rng.integers(0, 256, (height, width, 4), dtype=np.uint8)
    layer[..., 3] = np.clip(rng.integers(-120, 376, (height, width)), 0, 255)
    return layer


def smooth(rng: np.random.Generator, *shape: int) -> np.ndarray:
    coarse = rng.random((6, 8, *shape[2:])).astype(np.float32)
    return np.clip(cv2.resize(coarse, shape[1::-1], interpolation=cv2.INTER_CUBIC), 0, 1).astype(np.float64)


def read(path: Path) -> U8:
    return np.asarray(Image.open(path))


# over


@pytest.mark.parametrize("alpha", [range(0, 256, 3), range(1, 256, 3), range(2, 256, 3)])
def test_over_u8_is_the_rounded_float64_value_for_every_alpha_top_and_bottom(alpha: range) -> None:
    top, bottom = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    for a in alpha:
        layer = np.dstack([top, top, top, np.full_like(top, a)])
        exact = (a * top.astype(np.float64) + (255 - a) * bottom.astype(np.float64)) / 255
        ours = compose.over_u8(layer, np.dstack([bottom] * 3))
        assert np.array_equal(ours[..., 0], np.rint(exact))
        assert np.array_equal(ours[..., 0], ours[..., 2])


def test_over_u8_on_an_opaque_picture_is_pillows_alpha_composite_bit_for_bit() -> None:
    rng = np.random.default_rng(0)
    top, bottom = rgba_of(rng, 300, 300), rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    pillow = Image.alpha_composite(
        Image.fromarray(np.dstack([bottom, np.full((300, 300), 255, np.uint8)])), Image.fromarray(top)
    )
    assert np.array_equal(compose.over_u8(top, bottom), np.asarray(pillow)[..., :3])


def test_over_u8_takes_heights_that_are_no_multiple_of_its_row_block() -> None:
    rng = np.random.default_rng(1)
    for height in (1, 63, 64, 65, 130):
        top, bottom = rgba_of(rng, height, 7), rng.integers(0, 256, (height, 7, 3), dtype=np.uint8)
        exact = compose.over(top / 255.0, bottom / 255.0) * 255
        assert np.array_equal(compose.over_u8(top, bottom), np.rint(np.round(exact, 9)))


def test_over_of_three_layers_is_associative() -> None:
    rng = np.random.default_rng(2)
    a, b, c = (rgba_of(rng) / 255.0 for _ in range(3))
    left = compose.premultiply(compose.over(compose.over(a, b), c))
    right = compose.premultiply(compose.over(a, compose.over(b, c)))
    assert np.allclose(left, right, atol=1e-12)


def test_over_on_an_opaque_layer_equals_over_on_its_colour() -> None:
    rng = np.random.default_rng(3)
    top, bottom = rgba_of(rng) / 255.0, rng.random((40, 50, 3))
    layered = compose.over(top, np.concatenate([bottom, np.ones((40, 50, 1))], axis=-1))
    assert np.allclose(layered[..., 3], 1)
    assert np.allclose(layered[..., :3], compose.over(top, bottom), atol=1e-12)


def test_over_rgba_u8_is_the_rounded_float64_value_and_clear_where_both_are() -> None:
    rng = np.random.default_rng(4)
    top, bottom = rgba_of(rng), rgba_of(rng)
    ours = compose.over_rgba_u8(top, bottom)
    exact = compose.over(top / 255.0, bottom / 255.0) * 255
    assert np.abs(ours - exact).max() <= 0.501
    assert not ours[(top[..., 3] == 0) & (bottom[..., 3] == 0)].any()


def test_a_layer_of_the_wrong_form_is_refused_by_name() -> None:
    rgb = np.zeros((4, 4, 3), np.uint8)
    with pytest.raises(ValueError, match=r"top must be uint8 of shape \(H, W, 4\), got uint8 of shape \(4, 4, 3\)"):
        compose.over_u8(rgb, rgb)
    with pytest.raises(ValueError, match="bottom must be uint8"):
        compose.over_u8(np.zeros((4, 4, 4), np.uint8), rgb.astype(np.float32))


def test_premultiply_round_trips_where_something_is_visible() -> None:
    layer = rgba_of(np.random.default_rng(5)) / 255.0
    back = compose.unpremultiply(compose.premultiply(layer))
    visible = layer[..., 3] > 0
    assert np.allclose(back[visible], layer[visible], atol=1e-12)
    assert not back[~visible].any()


# the triplet


@given(st.integers(0, 2**32 - 1), st.floats(0, 0.85))
def test_object_from_undoes_foreground_from(seed: int, strongest: float) -> None:
    rng = np.random.default_rng(seed)
    colour, alpha, shadow = rng.random((9, 7, 3)), rng.random((9, 7)).round(1), rng.random((9, 7)) * strongest
    foreground = compose.foreground_from(colour, alpha, shadow)
    colour_back, alpha_back = compose.object_from(foreground, shadow)
    assert np.allclose(alpha_back, alpha, atol=1e-9)
    assert np.allclose(colour_back[alpha > 0], colour[alpha > 0], atol=1e-9)


def test_foreground_over_background_is_the_triplet_equation() -> None:
    rng = np.random.default_rng(6)
    colour, background = rng.random((30, 30, 3)), rng.random((30, 30, 3))
    alpha, shadow = rng.random((30, 30)), rng.random((30, 30)) * compose.MAX_SHADOW
    image = compose.triplet_image(colour, alpha, shadow, background)
    assert np.allclose(compose.over(compose.foreground_from(colour, alpha, shadow), background), image, atol=1e-12)


def test_a_shadow_without_an_object_is_a_black_layer() -> None:
    colour = np.full((2, 2, 3), 0.7)
    foreground = compose.foreground_from(colour, np.zeros((2, 2)), np.array([[0, 0.25], [0.5, 0.85]]))
    assert not foreground[..., :3].any()
    assert np.allclose(foreground[..., 3], [[0, 0.25], [0.5, 0.85]])


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("occluded", [False, True])
def test_the_8_bit_triplet_stays_within_two_levels_of_the_equation(seed: int, occluded: bool) -> None:
    """Independent noise a pixel: every combination of colour, alpha, shadow, background and occluder."""
    rng = np.random.default_rng(seed)
    colour, background = (rng.integers(0, 256, (200, 200, 3), dtype=np.uint8) for _ in range(2))
    alpha = np.clip(rng.integers(-80, 336, (200, 200)), 0, 255).astype(np.uint8)
    shadow = rng.integers(0, int(255 * compose.MAX_SHADOW) + 1, (200, 200), dtype=np.uint8)
    occluder = rgba_of(rng, 200, 200) if occluded else None
    ours = compose.recompose(compose.fold_shadow_u8(colour, alpha, shadow), background, occluder)
    front = None if occluder is None else occluder / 255.0
    exact = compose.triplet_image(colour / 255.0, alpha / 255.0, shadow / 255.0, background / 255.0, front)
    assert np.abs(ours - 255 * exact).max() <= 2


def test_recomposition_error_is_the_largest_difference() -> None:
    rng = np.random.default_rng(7)
    foreground, background = rgba_of(rng), rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = compose.recompose(foreground, background)
    assert compose.recomposition_error(foreground, background, None, image) == 0
    image[3, 4, 1] ^= 64
    assert compose.recomposition_error(foreground, background, None, image) == 64


def test_a_clear_occluder_changes_nothing() -> None:
    rng = np.random.default_rng(8)
    foreground, background = rgba_of(rng), rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
    clear = np.zeros_like(foreground)
    assert np.array_equal(
        compose.recompose(foreground, background, clear), compose.recompose(foreground, background, None)
    )


@given(st.integers(0, 2**32 - 1))
def test_unblend_undoes_over(seed: int) -> None:
    rng = np.random.default_rng(seed)
    colour, background, alpha = rng.random((6, 5, 3)), rng.random((6, 5, 3)), rng.uniform(0.05, 1, (6, 5))
    image = compose.over(np.concatenate([colour, alpha[..., None]], axis=-1), background)
    assert np.allclose(compose.unblend(image, alpha, background), colour, atol=1e-9)


def test_unblend_is_zero_where_nothing_covers() -> None:
    assert not compose.unblend(np.ones((2, 2, 3)), np.zeros((2, 2)), np.ones((2, 2, 3))).any()


# published pictures


def test_the_quadruple_of_mmediting_recomposes(shared_data: Path) -> None:
    root = shared_data / "mmediting_comp" / "tests" / "data"
    merged = read(root / "merged" / "GT05.jpg").astype(np.float64)
    colour, alpha = read(root / "fg" / "GT05.jpg"), read(root / "alpha" / "GT05.jpg")
    background = read(root / "bg" / "GT26r.jpg")
    ours = compose.over_u8(np.dstack([colour, alpha]), background)
    assert np.abs(ours - merged).mean() < 0.17


def test_the_lemur_of_pymatting_recomposes(shared_data: Path) -> None:
    root = shared_data / "pymatting" / "data" / "lemur"
    layers = {name: read(root / f"lemur{name}.png") for name in ("", "_alpha", "_foreground", "_background")}
    ours = compose.over_u8(np.dstack([layers["_foreground"], layers["_alpha"]]), layers["_background"])
    assert np.abs(ours.astype(float) - layers[""][..., :3]).mean() < 0.57


# padding


def test_pad_colour_fills_what_is_hidden_much_as_layerdiffuse_does(shared_data: Path) -> None:
    layer = read(shared_data / "layerdiffuse_cli/imgs/inputs/pad_ip.png")
    theirs = read(shared_data / "layerdiffuse_cli/imgs/outputs/padded_rgb.png")
    padded = compose.pad_colour(layer)
    visible = layer[..., 3] > 0
    hidden = theirs[~visible].astype(float)
    assert np.abs(padded[~visible, :3] - hidden).mean() < 20  # 18; the stored colour is 71 away
    assert np.abs(layer[~visible, :3] - hidden).mean() > 60
    assert np.array_equal(padded[..., 3], layer[..., 3])
    assert np.array_equal(padded[visible], layer[visible])
    seen = layer[visible, :3]
    assert (padded[~visible, :3] >= seen.min(axis=0)).all()
    assert (padded[~visible, :3] <= seen.max(axis=0)).all()


def test_pad_colour_of_one_colour_is_that_colour_everywhere() -> None:
    rng = np.random.default_rng(9)
    for shape in [(1, 1), (1, 9), (37, 1), (64, 64), (63, 101)]:
        layer = rng.integers(0, 256, (*shape, 4), dtype=np.uint8)
        layer[..., 3] = rng.random(shape) < 0.05
        layer[shape[0] // 2, shape[1] // 2, 3] = 200
        layer[layer[..., 3] > 0, :3] = (10, 200, 90)
        assert (compose.pad_colour(layer)[..., :3] == (10, 200, 90)).all()


def test_pad_colour_takes_the_colour_of_the_nearer_side() -> None:
    layer = np.zeros((64, 128, 4), np.uint8)
    layer[:, :8], layer[:, -8:] = (255, 0, 0, 255), (0, 0, 255, 255)
    padded = compose.pad_colour(layer)
    assert (padded[:, 16, 0] > 200).all()
    assert (padded[:, 111, 2] > 200).all()


def test_pad_colour_leaves_an_empty_layer_alone() -> None:
    layer = np.zeros((5, 5, 4), np.uint8)
    layer[..., 1] = 77
    assert np.array_equal(compose.pad_colour(layer), layer)


# resizing


def as_premultiplied(layer: U8) -> np.ndarray:
    return layer[..., :3] * (layer[..., 3:] / 255.0)


@pytest.mark.parametrize("factor", [2, 3, 4, 8])
def test_resize_rgba_equals_pillows_premultiplied_box_within_a_level(factor: int) -> None:
    rng = np.random.default_rng(factor)
    layer = rgba_of(rng, 24 * factor, 30 * factor)
    ours = compose.resize_rgba(layer, (24, 30))
    box = Image.fromarray(layer).convert("RGBa").resize((30, 24), Image.Resampling.BOX)
    theirs = np.asarray(box)  # stays premultiplied; rounded on the way in and on the way out, so up to a level high
    assert np.abs(ours[..., 3].astype(int) - theirs[..., 3]).max() <= 1
    assert np.abs(as_premultiplied(ours) - theirs[..., :3]).max() < 2
    exact = as_premultiplied(layer).reshape(24, factor, 30, factor, 3).mean(axis=(1, 3))
    assert np.abs(as_premultiplied(ours) - exact).max() < 1


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_resize_rgba_lets_no_hidden_colour_into_the_picture(
    seed: int, before: tuple[int, int], after: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    layer = rgba_of(rng, *before)
    layer[rng.random(before) < 0.4, 3] = 0
    clean = layer.copy()
    clean[layer[..., 3] == 0, :3] = 0
    assert np.array_equal(compose.resize_rgba(layer, after), compose.resize_rgba(clean, after))


@given(
    st.integers(0, 2**32 - 1),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.tuples(st.integers(1, 80), st.integers(1, 80)),
)
def test_resize_rgba_of_one_colour_keeps_it_at_every_alpha(
    seed: int, before: tuple[int, int], after: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    layer = rgba_of(rng, *before)
    layer[..., :3] = (200, 100, 30)
    resized = compose.resize_rgba(layer, after)
    visible = resized[..., 3] > 0
    assert resized.shape == (*after, 4)
    assert (np.abs(resized[visible, :3].astype(int) - (200, 100, 30)) <= 1).all()
    assert not resized[~visible].any()


def test_resize_averages_the_side_that_shrinks_even_where_the_other_grows() -> None:
    stripes = np.tile(np.array([0, 200], np.uint8), (8, 64))  # 128 columns, one pixel wide each
    assert np.abs(compose.resize(stripes, (32, 8)).astype(int) - 100).max() <= 1


def test_resize_to_the_same_size_changes_nothing() -> None:
    picture = np.random.default_rng(10).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    assert np.array_equal(compose.resize(picture, (7, 9)), picture)


def test_to_u8_rounds_and_clips() -> None:
    assert compose.to_u8(np.array([-0.2, 0, 0.4999 / 255, 0.501 / 255, 1, 1.3])).tolist() == [0, 0, 0, 1, 255, 255]
