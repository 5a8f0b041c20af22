"""Route ``cut``, on the embedded photographs taken apart."""

from dataclasses import replace

import numpy as np
import pytest

from layerkit.pipelines import recipe
from layerkit.pipelines.cache import Cache
from layerkit.pipelines.candidate import Candidate
from layerkit.pipelines.cut import cut
from layerkit.pipelines.draw import generator
from layerkit.pipelines.filters import Drop
from layerkit.pipelines.ledger import POOLS
from layerkit.pipelines.pools import Pixels, Pool, Stock
from layerkit.toolkit import compose
from layerkit.toolkit.invariants import broken_promises
from layerkit.toolkit.saliency import SpectralResidual


@pytest.fixture(scope="module")
def stock(tiny_build, cache_dir):
    pool = Pool(tiny_build / ".layerkit" / POOLS / "cut-cut.arrow")
    return Stock({"cut": pool}, Pixels(Cache(cache_dir)), SpectralResidual())


@pytest.fixture(scope="module")
def demo():
    return recipe.load("demo", {"size": 96, "members": {"background": "png"}})


def draw(demo, stock, mix=None, count=12):
    return [cut(demo, mix or demo.mix[1], stock, generator(demo.fingerprint, slot, 0)) for slot in range(count)]


def test_every_candidate_keeps_the_promises_of_a_triplet(demo, stock):
    for candidate in draw(demo, stock):
        assert isinstance(candidate, Candidate)
        layers = candidate.layers
        assert layers.recomposition_error() == 0
        assert candidate.composite_error <= 1
        assert list(broken_promises(layers, candidate.objects)) == []
        assert not layers.shadow.any()
        assert not layers.occluder.any()
        assert 0.003 < candidate.scores["area"] < 0.9


def test_outside_the_hole_the_image_is_the_photograph_and_inside_the_object_too(demo, stock):
    for candidate in draw(demo, stock, count=6):
        row = next(
            stock.pools["cut"][k]
            for k in range(len(stock.pools["cut"]))
            if stock.pools["cut"][k].id == candidate.origins[0].id
        )
        crop = candidate.choices["crop"]
        photo = stock.pixels.of(row)["image"]
        part = photo[crop["top"] : crop["top"] + crop["side"], crop["left"] : crop["left"] + crop["side"]]
        part = compose.resize(part, (96, 96))
        part = part[:, ::-1] if candidate.choices["mirror"] else part
        opaque = candidate.layers.foreground[..., 3] == 255
        assert np.abs(candidate.layers.image[opaque].astype(int) - part[opaque]).mean() < 1
        assert candidate.scores["composite"] == pytest.approx(
            np.abs(candidate.layers.image.astype(int) - part).mean(), abs=1e-4
        )


def test_the_crop_holds_the_object(demo, stock):
    for candidate in draw(demo, stock):
        assert candidate.scores["outside"] <= demo.mix[1].placement.inside
        assert 0 <= candidate.scores["outside"] <= 0.15 + 1e-9


def test_an_object_that_no_square_can_hold_is_dropped_with_its_reason(demo, stock):
    mix = replace(demo.mix[1], placement=replace(demo.mix[1].placement, inside=1.0, tries=1))
    outcomes = draw(demo, stock, mix)
    drops = [outcome for outcome in outcomes if isinstance(outcome, Drop)]
    assert drops  # the saucer is wider than the photograph is high
    assert {drop.reason for drop in drops} == {"placement"}
    assert all("coffee" in drop.detail for drop in drops)
