"""Colours that do not belong: each change against its closed form, and nothing outside the mask."""

import colorsys

import pytest
import torch

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.models.recolour import Changes, RecolourOptions, draw_changes, recoloured


@pytest.fixture(autouse=True)
def one_thread_and_seed():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def scene(count: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    image, mask = torch.rand(count, 3, 8, 12), torch.zeros(count, 1, 8, 12)
    mask[:, :, 2:6, 3:9] = 1
    return image, mask


def changes(count: int = 2, **values: object) -> Changes:
    plain = {"gamma": 1.0, "cast": (1.0, 1.0, 1.0), "saturation": 1.0, "hue": 0.0} | values
    return Changes(**{name: torch.tensor([value] * count) for name, value in plain.items()})


def test_no_change_is_the_picture():
    image, mask = scene()
    torch.testing.assert_close(recoloured(image, mask, changes()), image, atol=1e-6, rtol=0)


def test_outside_the_mask_nothing_changes_and_inside_it_stays_in_range():
    image, mask = scene(16)
    drawn = draw_changes(RecolourOptions(), 16, torch.Generator().manual_seed(1))
    made = recoloured(image, mask, drawn)
    outside = (mask == 0).expand_as(image)
    assert torch.equal(made[outside], image[outside])
    assert (made.min() >= 0) & (made.max() <= 1)
    moved = (made - image).abs().sum((1, 2, 3)) / mask.sum((1, 2, 3))
    assert moved.min() > 0.05
    empty = recoloured(image, torch.zeros_like(mask), drawn)
    assert torch.equal(empty, image)


def test_curve_and_cast_are_powers_and_factors():
    image, mask = scene()
    made = recoloured(image, torch.ones_like(mask), changes(gamma=2.0, cast=(0.5, 1.0, 2.0)))
    expected = (image**2 * torch.tensor([0.5, 1.0, 2.0]).view(3, 1, 1)).clamp(max=1)
    torch.testing.assert_close(made, expected, atol=1e-6, rtol=0)


def test_a_third_of_a_turn_exchanges_the_channels_and_a_hue_turns_as_in_hsv():
    image, mask = scene()
    made = recoloured(image, torch.ones_like(mask), changes(hue=120.0))
    torch.testing.assert_close(made, image.roll(1, 1), atol=1e-6, rtol=0)
    red = torch.tensor([0.6, 0.3, 0.3]).view(1, 3, 1, 1)
    turned = recoloured(red, torch.ones(1, 1, 1, 1), changes(1, hue=60.0)).flatten().tolist()
    assert colorsys.rgb_to_hsv(*turned)[0] == pytest.approx(1 / 6, abs=1e-3)


def test_without_saturation_a_colour_is_its_luma_and_grey_stays_grey():
    image, mask = scene()
    luma = (image * torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)).sum(1, keepdim=True).expand_as(image)
    torch.testing.assert_close(recoloured(image, torch.ones_like(mask), changes(saturation=0.0)), luma)
    grey = torch.full_like(image, 0.4)
    turned = recoloured(grey, torch.ones_like(mask), changes(saturation=1.4, hue=77.0))
    torch.testing.assert_close(turned, grey, atol=1e-6, rtol=0)


def test_changes_are_drawn_within_their_ranges_by_the_seed():
    options = RecolourOptions(gamma=(0.5, 0.6), cast=(1.0, 1.0), brightness=(2.0, 3.0), hue=(10.0, 20.0))
    first, again, other = (draw_changes(options, 500, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1))
    for name, (least, most) in {"gamma": (0.5, 0.6), "cast": (2, 3), "saturation": (0.5, 1.5), "hue": (10, 20)}.items():
        values = getattr(first, name)
        assert least <= values.min() < least + 0.1 * (most - least)
        assert most >= values.max() > most - 0.1 * (most - least)
        assert torch.equal(values, getattr(again, name))
        assert not torch.equal(values, getattr(other, name))
    assert (first.cast[:, 0] == first.cast[:, 1]).all()


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"gamma": (0.0, 1.0)}, "gamma: expected exponents above 0"),
        ({"cast": (1.2, 0.8)}, r"cast: expected least and greatest.* got 1\.2, 0\.8"),
        ({"saturation": (-1.0, 1.0)}, "saturation: expected least and greatest, not below 0"),
        ({"hue": (0.0, float("nan"))}, "hue: expected"),
    ],
)
def test_ranges_that_are_none_are_refused(values: dict[str, tuple[float, float]], told: str):
    with pytest.raises(UsageError, match=told):
        RecolourOptions(**values)
