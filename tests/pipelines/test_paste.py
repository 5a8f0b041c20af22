"""Route ``paste``, on pools of the embedded source: what every candidate keeps to, whatever was drawn."""

from dataclasses import replace

import numpy as np
import pytest

from layerkit.pipelines import recipe
from layerkit.pipelines.candidate import Candidate
from layerkit.pipelines.draw import generator
from layerkit.pipelines.filters import Drop
from layerkit.pipelines.ledger import POOLS
from layerkit.pipelines.paste import paste
from layerkit.pipelines.pools import Pixels, Pool, Stock
from layerkit.pipelines.recipe import Placement
from layerkit.toolkit import compose
from layerkit.toolkit.invariants import broken_promises
from layerkit.toolkit.saliency import SpectralResidual

SIZE = 128


@pytest.fixture(scope="module")
def stock(tiny_build, cache_dir):
    from layerkit.pipelines.cache import Cache

    folder = tiny_build / ".layerkit" / POOLS
    pools = {use: Pool(folder / f"paste-{use}.arrow") for use in ("foreground", "background")}
    return Stock(pools, Pixels(Cache(cache_dir)), SpectralResidual())


@pytest.fixture(scope="module")
def demo():
    return recipe.load("demo", {"size": SIZE})


def draw(demo, stock, mix=None, count=40):
    outcomes = [paste(demo, mix or demo.mix[0], stock, generator(demo.fingerprint, slot, 0)) for slot in range(count)]
    return [outcome for outcome in outcomes if isinstance(outcome, Candidate)]


def with_placement(demo, **changes):
    mix = demo.mix[0]
    return replace(mix, placement=replace(mix.placement, **changes))


def test_every_candidate_keeps_the_promises_of_a_triplet(demo, stock):
    candidates = draw(demo, stock)
    assert len(candidates) > 30
    for candidate in candidates:
        layers = candidate.layers
        assert layers.recomposition_error() == 0
        assert candidate.composite_error <= 2
        assert list(broken_promises(layers, candidate.objects)) == []
        assert layers.shadow[layers.foreground[..., 3] > 0].max(initial=0) <= round(compose.MAX_SHADOW * 255)


def test_one_two_and_three_objects_come_and_the_target_lies_in_front_and_behind(demo, stock):
    candidates = draw(demo, stock)
    assert {candidate.objects for candidate in candidates} == {1, 2, 3}
    roles = [{origin.layer for origin in candidate.origins} for candidate in candidates]
    assert any("behind" in role for role in roles)
    assert any("occluder" in role for role in roles)
    for candidate, role in zip(candidates, roles, strict=True):
        assert len(candidate.origins) == candidate.objects + 1
        assert ("occluder" in role) == bool(candidate.layers.occluder.any())


def test_the_float_triplet_equation_gives_the_image_of_a_single_object(demo, stock):
    mix = replace(demo.mix[0], objects=(1, 1))
    for candidate in draw(demo, stock, mix, 10):
        layers = candidate.layers
        shade = layers.shadow / 255
        colour, alpha = compose.object_from(layers.foreground / 255, shade)
        image = compose.triplet_image(colour, alpha, shade, layers.background / 255)
        assert np.abs(image * 255 - layers.image).max() <= 2


def test_no_shadow_when_none_is_certain_and_always_one_when_it_is_ruled_out(demo, stock):
    mix = demo.mix[0]
    without = draw(demo, stock, replace(mix, shadow=replace(mix.shadow, none=1.0)), 12)
    assert all(not candidate.layers.shadow.any() and candidate.choices["light"] == {} for candidate in without)
    single = replace(mix, objects=(1, 1), shadow=replace(mix.shadow, none=0.0))
    assert all(candidate.layers.shadow.any() for candidate in draw(demo, stock, single, 12))


def test_the_shadow_of_the_target_never_lies_on_an_object_behind_it(demo, stock):
    """With the objects behind drawn again without any shadow, the target's shadow leaves their opaque pixels alone."""
    mix = replace(demo.mix[0], objects=(3, 3), shadow=replace(demo.mix[0].shadow, none=0.0))
    seen = 0
    for candidate in draw(demo, stock, mix):
        if any(origin.layer == "behind" for origin in candidate.origins):
            clear = _alpha_behind(candidate, stock)
            seen += int((clear == 255).sum())
            assert not candidate.layers.shadow[clear == 255].any()
    assert seen > 1000


def _alpha_behind(candidate, stock):
    """Joint alpha of the objects behind the target, drawn from the recorded choices."""
    rows = {row.id: row for row in (stock.pools["foreground"][k] for k in range(len(stock.pools["foreground"])))}
    joint = np.zeros((SIZE, SIZE), np.uint8)
    for choice in candidate.choices["objects"][: candidate.choices["target"]]:
        rgba = stock.pixels.of(rows[choice["id"]])["foreground"]
        alpha = compose.resize_rgba(rgba, (choice["height"], choice["width"]))[..., 3]
        alpha = alpha[:, ::-1] if choice["mirror"] else alpha
        top, left = choice["top"], choice["left"]
        rows_in = slice(max(0, top), min(SIZE, top + choice["height"]))
        columns_in = slice(max(0, left), min(SIZE, left + choice["width"]))
        part = alpha[rows_in.start - top : rows_in.stop - top, columns_in.start - left : columns_in.stop - left]
        joint[rows_in, columns_in] = np.maximum(joint[rows_in, columns_in], part)
    return joint


def test_objects_stand_on_the_ground_inside_the_canvas_and_no_larger_than_allowed(demo, stock):
    for candidate in draw(demo, stock, with_placement(demo, scale=(0.3, 0.5), enlarge=100.0)):
        for choice in candidate.choices["objects"]:
            assert 0.29 * SIZE <= max(choice["height"], choice["width"]) <= 0.51 * SIZE
            assert choice["top"] >= 0
            assert choice["top"] + choice["height"] <= SIZE
            beside = max(0, -choice["left"]) + max(0, choice["left"] + choice["width"] - SIZE)
            assert beside <= 0.15 * choice["width"] + 1
        assert candidate.scores["outside"] <= 0.15 + 1 / SIZE


def test_an_asset_is_not_enlarged_beyond_the_limit(demo, stock):
    for candidate in draw(demo, stock, with_placement(demo, scale=(1.0, 1.0), enlarge=0.5)):
        for choice in candidate.choices["objects"]:
            pool = stock.pools["foreground"]
            row = next(pool[k] for k in range(len(pool)) if pool[k].id == choice["id"])
            assert choice["height"] <= max(1, round(0.5 * row.height))


def test_where_no_placement_keeps_to_the_overlap_the_candidate_is_dropped_with_its_reason(demo, stock):
    mix = replace(demo.mix[0], objects=(3, 3), placement=Placement(scale=(0.9, 0.9), enlarge=100, overlap=0.0, tries=2))
    outcome = paste(demo, mix, stock, generator(demo.fingerprint, 0, 0))
    assert isinstance(outcome, Drop)
    assert (outcome.reason, outcome.limit) == ("placement", 2)


def test_the_background_member_decodes_to_the_background_layer(demo, stock):
    from layerkit.toolkit.images import decode_member

    for candidate in draw(demo, stock, count=5):
        assert (decode_member(candidate.background, "jpg") == candidate.layers.background).all()


def test_the_same_generator_gives_the_same_candidate(demo, stock):
    first, second = draw(demo, stock, count=3), draw(demo, stock, count=3)
    for a, b in zip(first, second, strict=True):
        assert (a.layers.image == b.layers.image).all()
        assert a.choices == b.choices
