"""The promises of a triplet: every sound one keeps them, whatever its alphas and shadows; a broken one is told."""

from dataclasses import replace

import numpy as np
import pytest

from layerkit.toolkit.compose import fold_shadow_u8, over_rgba_u8, recompose
from layerkit.toolkit.invariants import broken_promises, object_alpha_bounds, visible_bounds
from layerkit.toolkit.layers import Layers, visible_mask

# Every pair of an object alpha and a shadow that a build may write: none on the opaque object, none above 0.85.
ALPHA, SHADOW = (grid.astype(np.uint8) for grid in np.meshgrid(np.arange(256), np.arange(218), indexing="ij"))
SHADOW[255] = 0


def object_layer(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """A random object with its shadow, straight RGBA, and its object alpha; mostly clear, mostly opaque, or soft."""
    alpha = np.clip(rng.normal(rng.choice([-80, 128, 330]), 90, ALPHA.shape), 0, 255).astype(np.uint8)
    shadow = np.where(alpha == 255, 0, rng.integers(0, 218, alpha.shape)).astype(np.uint8)
    return fold_shadow_u8(rng.integers(0, 256, (*alpha.shape, 3), dtype=np.uint8), alpha, shadow), alpha


def triplet(seed: int, in_front: int) -> Layers:
    """The grid of alphas and shadows behind some random objects."""
    rng = np.random.default_rng(seed)
    colour, plate = (rng.integers(0, 256, (*ALPHA.shape, 3), dtype=np.uint8) for _ in range(2))
    foreground = fold_shadow_u8(colour, ALPHA, SHADOW)
    occluder, clear = np.zeros_like(foreground), np.full(ALPHA.shape, 255.0)
    for _ in range(in_front):
        layer, alpha = object_layer(rng)
        occluder = over_rgba_u8(layer, occluder)
        clear *= (255 - alpha) / 255
    return Layers(
        image=recompose(foreground, plate, occluder),
        foreground=foreground,
        background=plate,
        mask=visible_mask(ALPHA, 255 - clear),
        shadow=SHADOW,
        occluder=occluder,
    )


def test_the_bounds_hold_every_object_alpha():
    layers = triplet(0, 0)
    least, greatest = object_alpha_bounds(layers.foreground[..., 3], SHADOW)
    assert (least <= ALPHA).all()
    assert (greatest >= ALPHA).all()
    assert (greatest - least)[:, 0].max() <= 1.01  # without a shadow the alpha is what is written
    assert (greatest - least).max() <= 255 / 38 + 0.01


@pytest.mark.parametrize("in_front", [0, 1, 2, 7])
@pytest.mark.parametrize("seed", range(5))
def test_a_sound_triplet_keeps_its_promises(seed: int, in_front: int):
    assert list(broken_promises(triplet(seed, in_front), in_front + 1)) == []


def test_without_an_occluder_or_a_shadow_the_mask_is_known_exactly():
    alpha = np.arange(256, dtype=np.uint8)[None]
    clear = np.zeros_like(alpha)
    must, may = visible_bounds(*object_alpha_bounds(alpha, clear), clear, objects=1)
    np.testing.assert_array_equal(must, alpha > 127)
    np.testing.assert_array_equal(may, alpha > 127)


def edited(layers: Layers, name: str, index: tuple[int, ...], value: int) -> Layers:
    layer = getattr(layers, name).copy()
    layer[index] = value
    return replace(layers, **{name: layer})


@pytest.mark.parametrize(
    ("name", "index", "value", "what"),
    [
        ("foreground", (0, 0, 2), 1, "foreground: expected colour 0 where alpha is 0, got another in 1 pixels"),
        ("occluder", (9, 9, 0), 1, "occluder: expected colour 0 where alpha is 0, got another in 1 pixels"),
        ("shadow", (0, 5), 6, "shadow: expected at most the foreground's alpha, got more in 1 pixels"),
        ("shadow", (255, 0), 1, "shadow: expected none on the opaque object, got some in 1 pixels"),
        ("shadow", (255, 9), 100, "shadow: expected none on the opaque object, got some in 1 pixels"),
        ("shadow", (255, 9), 218, "shadow: expected at most 217, got 218"),
        ("mask", (255, 0), 1, "mask: expected 0 or 255, got other values in 1 pixels"),
        ("mask", (128, 0), 0, "mask: expected the whole visible object, got 0 in 1 of its pixels"),
        ("mask", (127, 0), 255, "mask: expected the object alone, got 1 pixels beside it"),
        ("mask", (0, 217), 255, "mask: expected the object alone, got 1 pixels beside it"),
    ],
)
def test_a_broken_promise_is_told(name: str, index: tuple[int, ...], value: int, what: str):
    assert list(broken_promises(edited(triplet(0, 0), name, index, value), 1)) == [what]


def test_a_mask_may_be_hidden_only_where_something_lies_in_front():
    layers = triplet(3, 2)
    hidden = (ALPHA == 255) & (layers.mask == 0)
    assert (layers.occluder[hidden, 3] > 120).all()
    assert list(broken_promises(replace(layers, occluder=np.zeros_like(layers.occluder)), 3)) != []
