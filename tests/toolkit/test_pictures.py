import numpy as np

from layerkit.toolkit import pictures
from layerkit.toolkit.layers import Layers


def triplet(size: int = 40) -> Layers:
    rng = np.random.default_rng(0)
    foreground = np.zeros((size, size, 4), np.uint8)
    foreground[10:20, 10:20] = (200, 10, 10, 255)
    return Layers(
        image=rng.integers(0, 256, (size, size, 3), np.uint8),
        foreground=foreground,
        background=np.full((size, size, 3), 90, np.uint8),
        mask=np.zeros((size, size), np.uint8),
        shadow=np.full((size, size), 255, np.uint8),
        occluder=np.zeros((size, size, 4), np.uint8),
    )


def test_a_clear_layer_shows_the_checkerboard_and_an_opaque_pixel_its_own_colour():
    shown = pictures.on_checkerboard(triplet().foreground)
    assert (shown[10:20, 10:20] == (200, 10, 10)).all()
    board = pictures.checkerboard((40, 40))
    assert (shown[25:, 25:] == board[25:, 25:]).all()
    assert len(np.unique(board)) == 2


def test_a_strip_shows_the_six_layers_in_the_order_of_the_titles():
    layers = triplet()
    strip = pictures.strip(layers, 40)
    assert strip.shape == (40, 6 * 40 + 5 * 6, 3)
    panels = [strip[:, k * 46 : k * 46 + 40] for k in range(6)]
    assert (panels[0] == layers.image).all()
    assert (panels[2] == layers.background).all()
    assert not panels[3].any()
    assert not panels[4].any()  # full attenuation is black


def test_a_contact_sheet_has_a_row_a_sample_and_an_empty_one_is_still_a_picture():
    one = pictures.contact_sheet([("a", triplet())], side=32)
    three = pictures.contact_sheet([(str(k), triplet()) for k in range(3)], side=32)
    assert three.shape[0] - one.shape[0] == 2 * (32 + 18)
    assert pictures.contact_sheet([], side=32).ndim == 3
