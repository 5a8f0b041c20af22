"""Recomposition, moved foregrounds, colours under alpha and LayerD's distance."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.compose import recompose
from layerkit.toolkit.metrics import layering
from layerkit.toolkit.metrics.layering import (
    Jitter,
    colour_error,
    draw_jitter,
    jittered,
    jittered_recomposition,
    layer_cost,
    layer_distance,
    on_colour,
    premultiplied_error,
    recomposition_psnr,
)
from layerkit.toolkit.metrics.pixels import psnr

STILL = Jitter(0, 0, 1)


@pytest.fixture
def foreground(photo, disc):
    alpha = np.where(disc, 255, 0).astype(np.uint8)
    alpha[disc & (np.arange(disc.shape[1]) % 3 == 0)] = 100
    return np.dstack([photo[::-1], alpha])


def with_hidden_colour(rgba, colour):
    changed = rgba.copy()
    changed[rgba[..., 3] == 0, :3] = colour
    return changed


def test_true_layers_recompose_exactly(foreground, photo):
    image = recompose(foreground, photo)
    assert recomposition_psnr(foreground, photo, image) == math.inf
    assert recomposition_psnr(foreground, photo, photo) == psnr(image, photo)


def test_hidden_colour_has_no_influence(foreground, photo, noisy):
    other = np.dstack([noisy, np.roll(foreground[..., 3], 4, axis=1)])
    for colour in ((255, 0, 0), (1, 2, 3)):
        hidden, hidden_other = with_hidden_colour(foreground, colour), with_hidden_colour(other, colour)
        move = Jitter(0.1, -0.2, 0.8)
        moved = jittered_recomposition(hidden, photo, move)
        assert (moved == jittered_recomposition(foreground, photo, move)).all()
        assert recomposition_psnr(hidden, photo, noisy) == recomposition_psnr(foreground, photo, noisy)
        for metric in (colour_error, premultiplied_error, layer_cost):
            assert metric(hidden, hidden_other) == metric(foreground, other)


def test_a_foreground_on_a_colour_shows_it_where_it_is_clear(foreground):
    flat = on_colour(with_hidden_colour(foreground, (200, 0, 0)))
    assert (flat[foreground[..., 3] == 0] == 128).all()
    opaque = foreground[..., 3] == 255
    assert (on_colour(foreground, (9, 8, 7))[opaque] == foreground[opaque, :3]).all()


def test_jitter_is_a_function_of_key_and_seed():
    assert draw_jitter("a", 3) == draw_jitter("a", 3)
    assert len({draw_jitter(key, seed) for key in "ab" for seed in (0, 1)}) == 4
    moves = np.array([draw_jitter(str(key)) for key in range(2000)])
    assert moves.min(axis=0) == pytest.approx([-0.3, -0.3, 0.5], abs=5e-3)
    assert moves.max(axis=0) == pytest.approx([0.3, 0.3, 1.5], abs=5e-3)
    assert moves.mean(axis=0) == pytest.approx([0, 0, 1], abs=0.02)


def test_the_drawn_move_never_changes():
    """Published numbers depend on it."""
    assert draw_jitter("sample-0") == pytest.approx((-0.1267931222, 0.1376440925, 1.0609413543), abs=1e-10)


def test_jittered_shifts_and_scales(foreground):
    height, width = foreground.shape[:2]
    assert (jittered(foreground, STILL)[..., 3] == foreground[..., 3]).all()
    shifted = jittered(foreground, Jitter(7 / width, -5 / height, 1))
    assert (shifted[:-5, 7:, 3] == foreground[5:, :-7, 3]).all()
    assert not shifted[:, :7].any()
    for scale in (0.5, 1.5):
        area = jittered(foreground, Jitter(0, 0, scale))[..., 3].sum() / foreground[..., 3].sum()
        assert area == pytest.approx(scale**2, rel=0.03)


@settings(max_examples=30, deadline=None)
@given(st.floats(-1.5, 1.5), st.floats(-1.5, 1.5), st.floats(0.01, 2))
def test_every_move_stays_on_the_canvas(right, down, scale):
    rgba = np.full((11, 17, 4), 255, np.uint8)
    assert jittered(rgba, Jitter(right, down, scale)).shape == rgba.shape


def test_colour_error_counts_what_both_show(foreground):
    brighter = foreground.copy()
    brighter[..., :3] //= 2
    base = brighter.copy()
    base[..., :3] += 10
    assert colour_error(base, brighter) == pytest.approx(10)
    thinner = base.copy()
    thinner[..., 3] //= 2
    assert colour_error(thinner, brighter) == pytest.approx(10), "alpha is for the matting metrics"
    assert premultiplied_error(thinner, brighter) > 10


def test_premultiplied_error_of_a_constant():
    first, second = np.full((6, 6, 4), 200, np.uint8), np.full((6, 6, 4), 200, np.uint8)
    second[..., 3] = 100
    assert premultiplied_error(first, second) == pytest.approx(200 * 100 / 255)


def test_nothing_visible_has_no_value(foreground, photo):
    clear = np.zeros_like(foreground)
    assert math.isnan(colour_error(clear, foreground))
    assert math.isnan(premultiplied_error(clear, clear))
    assert math.isnan(layer_cost(foreground, clear))
    assert math.isnan(layer_distance((foreground, photo), (clear, photo)))


def warped(costs):
    """Cheapest path of dynamic time warping through a 2×2 table of costs, and its mean."""
    paths = {
        "diagonal": [costs[0][0], costs[1][1]],
        "over": [costs[0][0], costs[0][1], costs[1][1]],
        "under": [costs[0][0], costs[1][0], costs[1][1]],
    }
    return np.mean(min(paths.values(), key=sum))


def test_layer_distance_is_layerds_for_two_layers(foreground, photo, noisy):
    predicted = np.dstack([noisy, np.roll(foreground[..., 3], 3, axis=0)])
    preds, target = (predicted, noisy), (foreground, photo)
    opaque = layering._opaque
    costs = [[layer_cost(p, t) for t in (foreground, opaque(photo))] for p in (predicted, opaque(noisy))]
    assert layer_distance(preds, target) == pytest.approx(warped(costs))
    assert layer_distance(target, target) == 0


def test_layer_cost_of_a_constant():
    first, second = np.full((4, 4, 4), 255, np.uint8), np.full((4, 4, 4), 255, np.uint8)
    second[..., :3] = 0
    second[:2, :, 3] = 0
    assert layer_cost(first, second) == pytest.approx((1 + 1 - 0.5) / 2)


def test_what_is_refused_is_said(foreground, photo):
    with pytest.raises(UsageError, match=r"foreground: expected uint8 of shape \(H, W, 4\)"):
        recomposition_psnr(photo, photo, photo)
    with pytest.raises(UsageError, match="foreground and background of one size"):
        recomposition_psnr(foreground, photo[1:], photo)
    with pytest.raises(UsageError, match="preds: expected uint8"):
        colour_error(photo, foreground)
