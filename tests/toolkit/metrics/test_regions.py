"""Regions by name, pasting back, and the box round a mask."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerkit.manifests.errors import UsageError
from layerkit.toolkit.metrics.regions import crop_box, pasted, region_mask


def test_regions_part_the_picture(disc):
    shadow = np.roll(disc, 20, axis=1)
    assert region_mask("whole", disc) is None
    assert (region_mask("mask", disc) == disc).all()
    assert (region_mask("outside", disc) == ~disc).all()
    cast = region_mask("shadow", disc, shadow)
    assert not (cast & disc).any()
    assert ((cast | disc) == (shadow | disc)).all()


def test_regions_that_cannot_be_had(disc):
    with pytest.raises(UsageError, match="region shadow: expected a shadow mask, got none"):
        region_mask("shadow", disc)
    with pytest.raises(UsageError, match=r"\(whole, mask, outside, shadow\), got 'edge'"):
        region_mask("edge", disc)
    with pytest.raises(UsageError, match="shadow and picture of one size"):
        region_mask("shadow", disc, disc[1:])


def test_pasted_keeps_the_target_outside(photo, noisy, disc):
    result = pasted(noisy, photo, disc)
    assert (result[disc] == noisy[disc]).all()
    assert (result[~disc] == photo[~disc]).all()


@given(st.data())
def test_the_box_holds_the_mask_and_has_its_least_size(data):
    height, width, least = (data.draw(st.integers(1, 60)) for _ in range(3))
    mask = np.zeros((height, width), bool)
    for _ in range(data.draw(st.integers(1, 3))):
        mask[data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))] = True
    box = crop_box(mask, least)
    assert box is not None
    assert mask[box.slices].sum() == mask.sum()
    assert 0 <= box.top < box.bottom <= height
    assert 0 <= box.left < box.right <= width
    assert box.height >= min(least, height)
    assert box.width >= min(least, width)


def test_an_empty_mask_has_no_box():
    assert crop_box(np.zeros((5, 5), bool)) is None
