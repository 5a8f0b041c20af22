"""Names to models: the registry states what is loaded, plugins come in every form, and errors tell the way out."""

import sys

import numpy as np
import pytest

from layerkit.manifests.errors import MissingWeights, RunError, UsageError
from layerkit.manifests.weights import WEIGHTS
from layerkit.toolkit.decomposers import DECOMPOSERS, NOT_AVAILABLE, load

IMAGE = np.random.default_rng(0).integers(0, 256, (12, 16, 3), np.uint8)
MASK = np.eye(12, 16, dtype=bool)
WITHOUT_WEIGHTS = ["identity", "mean-fill", "telea", "navier-stokes", "patchmatch", "closed-form-matting"]


def run(name: str, seed: int = 0):
    return load(name)(IMAGE, MASK, np.random.default_rng(seed), "case")


@pytest.mark.parametrize("name", WITHOUT_WEIGHTS)
def test_what_needs_no_weights_loads_at_once_and_states_its_traits(name):
    model = load(name)
    entry = DECOMPOSERS[name]
    assert model.name == name
    assert model.revision
    assert (model.licence, model.native, model.needs) == (entry.licence, 0, entry.needs)
    assert model(IMAGE, MASK, np.random.default_rng(0)).background.shape == IMAGE.shape


@pytest.mark.parametrize("name", sorted(set(DECOMPOSERS) - set(WITHOUT_WEIGHTS)))
def test_what_lacks_its_weights_says_the_command_that_gets_them(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    with pytest.raises(MissingWeights, match=r"run: (hf download|curl)"):
        load(name, tmp_path, prompt="a cat")
    assert set(DECOMPOSERS[name].licence.split(", ")) <= {row.licence for row in WEIGHTS.values()}


@pytest.mark.parametrize("name", ["sora", "predictions:", "python:", "diffusers:", "telea:3", ""])
def test_an_unknown_name_lists_the_known_ones(name):
    with pytest.raises(UsageError, match=r"identity, mean-fill.*predictions:DIR.*python:MODULE:ATTRIBUTE") as caught:
        load(name)
    assert str(caught.value).endswith(f"got {name!r}")


@pytest.mark.parametrize("name", NOT_AVAILABLE)
def test_what_cannot_be_loaded_is_told_apart_and_has_a_way_round(name):
    assert name not in DECOMPOSERS
    with pytest.raises(UsageError, match=f"{name} is not available: its? .*give --model predictions:DIR"):
        load(name)


def test_pipelines_that_are_not_here(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights, match="run: hf download some/repo"):
        load("diffusers:some/repo")
    with pytest.raises(MissingWeights, match="give a folder that exists"):
        load(f"diffusers:{tmp_path / 'nowhere'}")


# ---- models of one's own

PLUGIN = """
import numpy as np
from layerkit.toolkit.decomposition import Decomposition, Traits

def background(image, mask, generator):
    return np.full_like(image, generator.integers(256))

def both(image, mask, generator):
    return image, np.dstack([image, mask * np.uint8(255)])

def wrapped(image, mask, generator):
    return Decomposition(255 - image)

class Model(Traits):
    def __init__(self):
        super().__init__(name="mine", revision="7", licence="MIT", native=8)
    def __call__(self, image, mask, generator):
        return Decomposition(image // 2)

model = Model()

def factory(strength=2):
    return Model()

def floats(image, mask, generator):
    return image / 255

def two(image, mask):
    return image

number = 3
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """A module in the current folder, forgotten afterwards."""
    (tmp_path / "my_plugin.py").write_text(PLUGIN)
    (tmp_path / "broken_plugin.py").write_text("import a_module_that_is_not_there")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    yield
    sys.modules.pop("my_plugin", None)


@pytest.mark.parametrize("attribute", ["Model", "model", "factory"])
def test_a_decomposer_or_what_makes_one(plugin, attribute):
    model = load(f"python:my_plugin:{attribute}")
    assert (model.name, model.revision, model.licence, model.native) == ("mine", "7", "MIT", 8)
    np.testing.assert_array_equal(run(f"python:my_plugin:{attribute}").background, IMAGE // 2)


def test_plain_functions(plugin):
    model = load("python:my_plugin:background")
    assert model.name == "python:my_plugin:background"
    assert model.revision.startswith("sha256:")
    seeds = [run(model.name, seed).background for seed in (1, 2, 1)]
    np.testing.assert_array_equal(seeds[0], seeds[2])
    assert not np.array_equal(seeds[0], seeds[1])
    layers = run("python:my_plugin:both")
    np.testing.assert_array_equal(layers.foreground[..., 3], MASK * 255)
    np.testing.assert_array_equal(run("python:my_plugin:wrapped").background, 255 - IMAGE)


def test_a_function_that_returns_something_else_is_stopped_at_the_door(plugin):
    with pytest.raises(RunError, match=r"model python:my_plugin:floats, case 'case': background: .*float64"):
        run("python:my_plugin:floats")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("my_plugin", "expected python:MODULE:ATTRIBUTE, got python:my_plugin"),
        ("no_such_plugin:f", "expected a Python module no_such_plugin in"),
        ("my_plugin:absent", r"expected absent in the module my_plugin \(.*my_plugin\.py\)"),
        ("my_plugin:number", "something to call at python:my_plugin:number, got int"),
        ("my_plugin:two", r"function \(image, mask, generator\).*it takes \(image, mask\)"),
    ],
)
def test_a_plugin_that_cannot_be_used(plugin, source, text):
    with pytest.raises(UsageError, match=text):
        load(f"python:{source}")


def test_a_fault_inside_a_plugin_is_not_hidden(plugin):
    with pytest.raises(ModuleNotFoundError, match="a_module_that_is_not_there"):
        load("python:broken_plugin:f")
