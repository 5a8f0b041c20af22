"""What a plan counts, against systems that are really built and operations that are counted by hand."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from diffusers import SD3Transformer2DModel
from torch import Tensor, nn

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.training.config import TrainConfig, load
from layerkit.pipelines.training.dry_run import plan
from layerkit.pipelines.training.trainer import made_system
from layerkit.toolkit.models import registry
from layerkit.toolkit.models.registry import Entry
from layerkit.toolkit.models.system import Origin, System, Triplets

SIZE, WIDE, OUT = 8, 40, 24


@dataclasses.dataclass(frozen=True, kw_only=True)
class ToyOptions:
    pass


class Toy(System):
    """Two linear layers and one that is frozen and not used."""

    multiple = 4

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(3 * SIZE * SIZE, WIDE, bias=False)
        self.second = nn.Linear(WIDE, OUT, bias=False)
        self.frozen = nn.Linear(5, 7, bias=False).requires_grad_(False)

    def forward(self, batch: Triplets, generator: torch.Generator, step: int) -> dict[str, Tensor]:
        return {"loss": self.second(self.first(batch.image.flatten(1))).square().mean()}


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> Callable[..., TrainConfig]:
    """A recipe of ``Toy``."""
    monkeypatch.setitem(registry.SYSTEMS, "toy", Entry(options=ToyOptions, build=lambda options, origin: Toy()))

    def make(**changes: Any) -> TrainConfig:
        config = load("layerdecomp", ["debug"], [f"data.size={SIZE}"])
        return dataclasses.replace(config, system="toy", model={}, **{"batch": 6, "micro": 3} | changes)

    return make


def test_operations_and_memory_of_linear_layers_are_their_closed_form(toy: Callable[..., TrainConfig]):
    """Forward 2 m n k; backward the same for the weights, and again for the input of all layers but the first."""
    found, inputs, micro = plan(toy()), 3 * SIZE * SIZE, 3
    first, second = 2 * micro * inputs * WIDE, 2 * micro * WIDE * OUT
    assert found.flops == 2 * (2 * first + 3 * second)  # two micro-batches make the batch
    assert found.trained == inputs * WIDE + WIDE * OUT
    assert found.parts == {"first.weight": inputs * WIDE, "second.weight": WIDE * OUT}
    assert found.frozen == 35
    assert found.weights == 4 * (found.trained + 35)
    assert found.optimiser == 3 * 4 * found.trained  # gradient and both moments
    assert found.activations == 4 * micro * (inputs + WIDE + OUT)  # what each layer, and the square, was given


def test_averaged_weights_take_their_memory_and_micro_batches_no_operations(toy: Callable[..., TrainConfig]):
    plain, averaged, small = plan(toy()), plan(toy(ema=0.9)), plan(toy(micro=1))
    assert averaged.weights - plain.weights == 4 * plain.trained
    assert small.flops == plain.flops
    assert 3 * small.activations == plain.activations


def test_a_size_that_does_not_fit_is_refused(toy: Callable[..., TrainConfig]):
    config = toy()
    with pytest.raises(UsageError, match=r"data\.size: expected a multiple of 4 for these networks, got 6"):
        plan(dataclasses.replace(config, data=dataclasses.replace(config.data, size=6)))


@pytest.mark.parametrize("name", registry.SYSTEMS)
def test_parameters_are_those_of_the_system_that_is_built(name: str, needed: Callable[[str], tuple[str, ...]]):
    config = load(name, ["debug"], needed(name))
    _, system = made_system(config, Origin(base=config.base))
    found = plan(config)
    trained = sum(parameter.numel() for parameter in system.trained().values())
    assert found.trained == sum(found.parts.values()) == trained
    assert found.frozen == sum(parameter.numel() for parameter in system.parameters()) - trained
    assert found.flops > 0
    assert found.activations > 0


@pytest.mark.parametrize(
    ("name", "presets"),
    [
        ("layerdecomp", []),
        ("layerdecomp", ["v0"]),
        ("layerdecomp", ["small"]),
        ("rgba-vae", []),
        ("seele", []),
        ("text2layer", []),
        ("text2layer", ["512"]),
        ("layerdiffuse-vae", []),
        ("asuka-decoder", []),
        ("asuka-decoder", ["plain"]),
        ("asuka-mae", []),
        pytest.param("asuka", [], marks=pytest.mark.slow),
        pytest.param("asuka", ["flux"], marks=pytest.mark.slow),
        pytest.param("outpaint-and-remove", [], marks=pytest.mark.slow),
    ],
)
def test_a_shipped_recipe_is_planned_without_any_weights(
    name: str, presets: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def read(*_: Any, **__: Any) -> None:
        raise AssertionError("weights were read")

    for module, function in ((safetensors.torch, "load_file"), (torch, "load")):
        monkeypatch.setattr(module, function, read)
    for variable in ("HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "none"))
    config = load(name, presets)
    found = plan(config)
    assert found.trained > 10**5
    assert found.config["batch"] == config.batch
    told = found.describe(tmp_path)
    assert f"trained      {found.trained / 1e6:,.1f} M parameters" in told
    assert f"for {config.batch} samples" in told
    assert json.loads(json.dumps(dataclasses.asdict(found)))["flops"] == found.flops


def test_seele_trains_the_papers_prompts_and_lora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """50 x 1024 a task, of which the paper prints 0.5 million, and 5.12 million of LoRA."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "none"))
    parts = plan(load("seele", settings=["micro=1", "data.size=64"])).parts
    prompts = dict.fromkeys(("prompts.remove", "prompts.complete", "prompts.harmonise"), 51_200)
    assert parts == {**prompts, "LoRA": 5_116_928}
    assert plan(load("seele", ["remove"], ["micro=1", "data.size=64"])).parts == {"prompts.remove": 51_200}


def test_a_base_is_planned_by_its_configuration(tmp_path: Path):
    sizes = {"num_layers": 1, "num_attention_heads": 2, "attention_head_dim": 8, "joint_attention_dim": 8}
    base = SD3Transformer2DModel(
        **sizes, sample_size=16, in_channels=4, out_channels=4, pooled_projection_dim=8, caption_projection_dim=16
    )
    base.save_config(tmp_path)
    settings = ["model.codec='vae'", f"base='{tmp_path}'", "data.size=64"]
    found = plan(load("layerdecomp", ["debug"], settings))
    types = 4 * 16  # an embedding a map
    assert found.trained == sum(parameter.numel() for parameter in base.parameters()) + types
    assert json.loads(found.config["model"]["backbone"])["num_layers"] == 1


def test_checkpointing_keeps_less_and_computes_more():
    plain, lean = (plan(load("layerdecomp", ["small"], [f"checkpointing={value}"])) for value in ("false", "true"))
    assert lean.activations < plain.activations
    assert lean.flops > plain.flops
    assert lean.trained == plain.trained
