"""Builds from rendered scenes: exact soft shadows by route ``layers``, solids and scenes for route ``paste``."""

import hashlib
import json

import numpy as np
import pytest

from layerkit.manifests.sources import procedural
from layerkit.pipelines import recipe
from layerkit.pipelines.build import build
from layerkit.pipelines.options import BuildOptions
from layerkit.pipelines.verify import verify
from layerkit.toolkit.procedural.scene import render
from layerkit.toolkit.shards import decode_layers, decode_record, read_samples

RECIPE = """
count = 12
size = 64
shard_size = 6
[members]
background = "png"
[[mix]]
name = "solids"
share = 3
route = "layers"
photos = "procedural"
[mix.placement]
mirror = 0
[mix.filters]
haze = [0, 1]
side = [16, inf]
[[mix]]
name = "pasted"
share = 1
route = "paste"
foregrounds = "procedural"
backgrounds = "procedural"
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory, cache_dir):
    folder = tmp_path_factory.mktemp("procedural")
    (folder / "own.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(procedural, "COUNT", 12)
        options = BuildOptions(out=folder / "build", cache=cache_dir)
        funnel = build(recipe.load(str(folder / "own.toml"), {}), options, lambda progress: None)
    samples = {"solids": [], "pasted": []}
    for tar in sorted((folder / "build" / "data").glob("*.tar")):
        samples[tar.name.split("-")[1]] += [
            (decode_record(sample), decode_layers(sample)) for _, sample in read_samples(tar)
        ]
    return folder / "build", funnel, samples


def test_the_build_is_whole_and_sound(built):
    out, funnel, samples = built
    assert funnel.kept == 12
    assert (len(samples["solids"]), len(samples["pasted"])) == (9, 3)
    assert verify(out) == []


def test_the_record_names_seed_renderer_and_licence(built):
    _, _, samples = built
    for record, _ in samples["solids"]:
        origin = record.layers[0]
        assert origin.dataset == "procedural"
        assert origin.sha256 == hashlib.sha256(origin.id.split("/")[0].encode()).hexdigest()
        assert record.licence == "cc0-1.0"
        assert record.models["foreground.generator"] == "procedural@1"
        assert record.caption.startswith("a rendered ")


def test_a_sample_of_route_layers_has_the_rendered_shadow(built):
    """The crop of the scene's own shadow, but for the resize."""
    _, _, samples = built
    shaded = 0
    for record, layers in samples["solids"]:
        choices = json.loads(record.choices)
        crop, target = choices["crop"], choices["layer"]
        scene = render([int(record.layers[0].id.split("/")[0])], 128)
        part = scene.shadow[
            0, target, crop["top"] : crop["top"] + crop["side"], crop["left"] : crop["left"] + crop["side"]
        ]
        whole = np.kron(part.numpy(), np.ones((64, 64))).reshape(crop["side"] * 64, crop["side"] * 64)
        exact = whole.reshape(64, crop["side"], 64, crop["side"]).mean((1, 3)) * 255  # by area
        bare = layers.foreground[..., 3] == layers.shadow  # beside the solid
        assert np.abs(exact - layers.shadow)[bare].mean() < 2.5
        shaded += layers.shadow.max() > 40
        assert layers.recomposition_error() == 0
    assert shaded >= 4


def test_solids_alone_are_pasted_with_a_shadow_of_the_pasting(built):
    _, _, samples = built
    for record, layers in samples["pasted"]:
        assert {origin.dataset for origin in record.layers} == {"procedural"}
        assert layers.mask.any()
    assert any(layers.shadow.any() for _, layers in samples["pasted"])
