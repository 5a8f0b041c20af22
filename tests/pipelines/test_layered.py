"""Routes ``cut``, on the embedded photographs taken apart, and ``layers``, on MULAN annotations made here."""

import json
import pickle
import zlib
from dataclasses import replace

import cv2
import numpy as np
import pytest
from PIL import Image

from layerkit.pipelines import recipe
from layerkit.pipelines.build import build
from layerkit.pipelines.cache import Cache
from layerkit.pipelines.candidate import Candidate
from layerkit.pipelines.draw import generator
from layerkit.pipelines.filters import Drop
from layerkit.pipelines.layered import take_out
from layerkit.pipelines.ledger import POOLS
from layerkit.pipelines.options import BuildOptions
from layerkit.pipelines.pools import Pixels, Pool, Stock
from layerkit.pipelines.verify import verify
from layerkit.toolkit import compose
from layerkit.toolkit.invariants import broken_promises
from layerkit.toolkit.saliency import SpectralResidual
from layerkit.toolkit.shards import decode_layers, decode_record, read_samples


@pytest.fixture(scope="module")
def stock(tiny_build, cache_dir):
    pool = Pool(tiny_build / ".layerkit" / POOLS / "cut-cut.arrow")
    return Stock({"cut": pool}, Pixels(Cache(cache_dir)), SpectralResidual())


@pytest.fixture(scope="module")
def demo():
    return recipe.load("demo", {"size": 96, "members": {"background": "png"}})


def draw(demo, stock, mix=None, count=12):
    return [take_out(demo, mix or demo.mix[1], stock, generator(demo.fingerprint, slot, 0)) for slot in range(count)]


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


# --- layers ---


def annotation(base: np.ndarray, background: np.ndarray, layers: list[np.ndarray]) -> bytes:
    """A MULAN annotation that gives these layers over this base: nothing is kept of the base, all is in the deltas."""
    nothing = np.zeros((*base.shape[:2], 1), np.uint8)
    table = {
        "captioning": {},
        "image": {"llava": "a scene", "blip2": ""},
        "background": {
            "llava": "ground",
            "blip2": "",
            "original_image_mask": nothing,
            "inpainted_delta": background.astype(np.int16),
        },
        "instances": {
            k: {
                "blip2": f"thing {k}",
                "original_image_mask": nothing,
                "inpainted_delta": layer[..., :3].astype(np.int16),
                "instance_alpha": Image.fromarray(layer[..., 3]),
            }
            for k, layer in enumerate(layers)
        },
    }
    return zlib.compress(pickle.dumps(table))


def disc(centre: tuple[int, int], radius: int, colour: tuple[int, int, int]) -> np.ndarray:
    layer = np.zeros((120, 160, 4), np.uint8)
    layer[..., :3] = colour
    alpha = np.zeros((120, 160), np.uint8)
    cv2.circle(alpha, centre, radius, 255, -1, cv2.LINE_AA)
    layer[..., 3] = alpha
    return layer


@pytest.fixture(scope="module")
def mulan(tmp_path_factory):
    """A MULAN folder of one picture: a noisy ground and three discs, the middle one partly under the last."""
    root = tmp_path_factory.mktemp("mulan")
    background = np.random.default_rng(0).integers(60, 120, (120, 160, 3), np.uint8)
    layers = [disc((50, 60), 25, (200, 30, 30)), disc((80, 60), 25, (30, 200, 30)), disc((100, 70), 15, (30, 30, 220))]
    picture = background
    for layer in layers:
        picture = compose.over_u8(layer, picture)
    (root / "train2017").mkdir()
    Image.fromarray(picture).save(root / "train2017" / "000000000007.jpg", format="png")  # lossless under COCO's name
    (root / "000000000007.p.zl").write_bytes(annotation(picture, background, layers))
    (root / "000000000009.p.zl").write_bytes(annotation(picture, background, layers))  # its base is not there
    return root


LAYERS = """
count = 24
size = 64
shard_size = 6
[members]
background = "png"
[filters]
side = [8, inf]
sharpness = [0, inf]
saliency_contrast = [0, 1]
near_duplicate = -1
[[mix]]
name = "layers"
share = 1
route = "layers"
photos = "mulan"
[[mix]]
name = "paste"
share = 1
route = "paste"
foregrounds = "mulan"
backgrounds = "embedded"
"""


@pytest.fixture(scope="module")
def build_of_layers(mulan, tmp_path_factory, cache_dir):
    folder = tmp_path_factory.mktemp("layers")
    (folder / "own.toml").write_text(LAYERS)
    loaded = recipe.load(str(folder / "own.toml"), {})
    options = BuildOptions(out=folder / "build", roots={"mulan": mulan}, cache=cache_dir)
    return folder / "build", build(loaded, options, lambda progress: None)


def test_a_build_from_layers_verifies_and_refuses_what_has_no_base(build_of_layers):
    out, funnel = build_of_layers
    assert verify(out) == []
    assert funnel.kept == 24
    assert funnel.sources_dropped["missing_base_image"] == 2  # once for each route
    assert funnel.sources_kept["layers layers"] == 3
    assert funnel.sources_kept["paste foregrounds"] == 3


def test_any_layer_is_taken_out_and_the_others_lie_behind_and_in_front(build_of_layers):
    out, _ = build_of_layers
    seen = set()
    for tar in sorted((out / "data").glob("train-layers-*.tar")):
        for _, sample in read_samples(tar):
            record, layers = decode_record(sample), decode_layers(sample)
            target = json.loads(record.choices)["layer"]
            seen.add(target)
            roles = [origin.layer for origin in record.layers]
            assert roles.count("behind") == target
            assert roles.count("occluder") == 2 - target
            colour = layers.foreground[layers.foreground[..., 3] == 255][:, :3]
            assert (colour.argmax(axis=1) == target).all()
            assert record.caption == f"thing {target}"
            assert record.licence == "cc-by-nc-sa-4.0"
            assert record.scores["composite"] < 2  # the layers recompose to the photograph, but for the resize
    assert seen == {0, 1, 2}
