"""The triplet's members: one size, one type, and what follows from them."""

import numpy as np
import pytest

from layerkit.toolkit import compose
from layerkit.toolkit.layers import CHANNELS, Layers, object_alpha_u8, visible_mask


def members(height: int = 20, width: int = 30, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    shapes = {name: (height, width) if count == 1 else (height, width, count) for name, count in CHANNELS.items()}
    return {name: rng.integers(0, 256, shape, dtype=np.uint8) for name, shape in shapes.items()}


def test_the_size_is_that_of_every_layer() -> None:
    assert Layers(**members()).size == (20, 30)


@pytest.mark.parametrize("name", list(CHANNELS))
def test_a_layer_of_another_size_or_type_is_named(name: str) -> None:
    small = members() | {name: members(10, 10)[name]}
    with pytest.raises(ValueError, match="must be uint8 of shape"):
        Layers(**small)
    floats = members()
    floats[name] = floats[name] / 255.0
    with pytest.raises(ValueError, match=f"{name} must be uint8 of shape .*, got float64"):
        Layers(**floats)


def test_an_extra_axis_is_refused() -> None:
    with pytest.raises(ValueError, match="mask must be uint8"):
        Layers(**members() | {"mask": members()["mask"][..., None]})


def test_the_image_composed_of_the_layers_recomposes_exactly() -> None:
    parts = members()
    parts["image"] = compose.over_u8(parts["occluder"], compose.over_u8(parts["foreground"], parts["background"]))
    layers = Layers(**parts)
    assert np.array_equal(layers.recompose(), parts["image"])
    assert layers.recomposition_error() == 0
    parts["image"] = parts["image"] ^ np.uint8(1)
    assert Layers(**parts).recomposition_error() == 1


def test_the_object_alpha_is_read_back_from_the_written_layers_within_the_rounding() -> None:
    """A is written to half a level; (A - s)/(1 - s) multiplies that by 1/(1 - s), 6.7 at the strongest shadow."""
    rng = np.random.default_rng(1)
    alpha, shadow = (rng.integers(0, top, (100, 100), dtype=np.uint8) for top in (256, 217))
    foreground = compose.fold_shadow_u8(rng.integers(0, 256, (100, 100, 3), dtype=np.uint8), alpha, shadow)
    back = object_alpha_u8(foreground, shadow)
    assert back.dtype == np.float32
    assert (np.abs(back - alpha) <= 0.5 / (1 - shadow / 255) + 1e-3).all()
    assert np.array_equal(np.rint(back[shadow == 0]), alpha[shadow == 0])


def test_what_is_hidden_by_half_is_no_longer_visible() -> None:
    alpha, occluder = np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8))
    mask = visible_mask(alpha, occluder)
    exact = alpha / 255 * (1 - occluder / 255)
    assert set(np.unique(mask)) == {0, 255}
    assert (mask[exact > 0.502] == 255).all()
    assert not mask[exact < 0.498].any()
