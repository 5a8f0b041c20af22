"""The options of a run: their rates in closed form, their round trip, and what is told of wrong ones."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layerkit.manifests import trainings
from layerkit.manifests.errors import UsageError
from layerkit.pipelines.training.config import TrainConfig, differences, load
from layerkit.toolkit.models.registry import SYSTEMS

PRESETS = [
    (name, presets)
    for name, path in trainings.shipped().items()
    for presets in ([], *([preset] for preset in trainings.load_table(path).get("presets", {})))
]


def scheduled(**keys: Any) -> TrainConfig:
    return load("layerdecomp", ["debug"], **{"steps": 100, "lr": 2.0, "warmup": 10} | keys)


# ---- the learning rate


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_the_rate_rises_in_equal_parts_to_its_highest(schedule: str):
    config = scheduled(schedule=schedule)
    assert [config.rate(step) for step in range(10)] == pytest.approx([0.2 * (k + 1) for k in range(10)])
    assert config.rate(10) == 2.0


@pytest.mark.parametrize(
    ("schedule", "fall"),
    [
        ("constant", lambda part: 1.0),
        ("linear", lambda part: 1 - part),
        ("cosine", lambda part: math.cos(part * math.pi / 2) ** 2),
    ],
)
def test_the_rate_falls_by_its_schedule_to_the_last_step(schedule: str, fall: Callable[[float], float]):
    config = scheduled(schedule=schedule)
    for step in (10, 11, 55, 99):
        assert config.rate(step) == pytest.approx(2.0 * fall((step - 10) / 90))
    assert config.rate(100) == pytest.approx(2.0 * fall(1.0), abs=1e-12)


def test_without_warmup_the_first_step_has_the_highest_rate():
    config = scheduled(schedule="linear", warmup=0)
    assert config.rate(0) == 2.0
    assert scheduled(warmup=1000, steps=20).rate(19) == pytest.approx(2.0 * 20 / 1000)


# ---- recipes


@pytest.mark.parametrize(("name", "presets"), PRESETS)
def test_every_shipped_recipe_is_whole_with_every_preset(name: str, presets: list[str]):
    config = load(name, presets)
    assert config.system == name
    assert config.steps * config.lr > 0
    assert config.batch % config.micro == 0
    assert set(config.model) == set(SYSTEMS[name].options.__dataclass_fields__)


def test_the_papers_samplers_and_ranks_are_the_recipes():
    assert load("layerdecomp").model["steps"] == 50
    assert load("layerdecomp").model["variant"] == "full"
    assert load("outpaint-and-remove").model["rank"] == 256
    ranks = [load("outpaint-and-remove", [preset]).model["rank"] for preset in ("rank-128", "rank-1024")]
    assert ranks == [128, 1024]


def test_the_ablations_change_data_and_model_together():
    found = {
        preset: (config.model["variant"], config.data.effects)
        for preset in ("v0", "v1", "v2", "full")
        for config in [load("layerdecomp", [preset])]
    }
    assert found == {"v0": ("v0", True), "v1": ("v1", False), "v2": ("v2", True), "full": ("full", True)}
    both = load("layerdecomp", ["debug", "v1"])
    assert (both.data.size, both.data.effects, both.model["codec"]) == (32, False, "pixels")


def test_keys_and_settings_replace_what_the_recipe_says():
    config = load("layerdecomp", ["debug"], ["lr=0.5", "data.masks.loose=1.0"], steps=7, seed=None, lr=None)
    assert (config.steps, config.seed, config.lr) == (7, 0, 0.5)
    assert config.data.masks == {"tight": 1.0, "loose": 1.0}
    assert load("layerdecomp", ["debug"], ["lr=0.5"], lr=0.25).lr == 0.25


def test_the_configuration_of_a_run_is_a_recipe_that_gives_it_again(
    finished_run: Path, short_config: Callable[..., TrainConfig]
):
    again = load(str(finished_run / "config.toml"))
    assert again.table() == short_config("layerdecomp", "validate_every=2").table()
    assert load(str(finished_run / "config.toml"), settings=["steps=9"]) == replace(again, steps=9)


# ---- wrong options


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("stepz=1", r"layerdecomp: unknown key 'stepz'; did you mean 'steps'"),
        ("data.sizes=1", r"layerdecomp\.data: unknown key 'sizes'; did you mean 'size'"),
        ("model.varaint='v0'", r"layerdecomp: model: unknown key 'varaint'; did you mean 'variant'"),
        ("model.network.widht=8", r"model\.network: unknown key 'widht'; did you mean 'width'"),
        (
            "system=layer",
            r"system: expected one of rgba-vae, .*text2layer-ae, text2layer, layerdiffuse-vae, .*got 'layer'",
        ),
        ("schedule=exp", r"schedule: expected one of constant, cosine, linear, got 'exp'"),
        ("steps=0", r"steps: expected 1 or more, got 0"),
        ("keep=0", r"keep: expected 1 or more, got 0"),
        ("clip=-1.0", r"clip: expected 0 or more, got -1\.0"),
        ("warmup=-1", r"warmup: expected 0 or more, got -1"),
        ("weight_decay=nan", r"weight_decay: expected 0 or more, got nan"),
        ("lr=0.0", r"expected lr above 0 and ema in 0\.\.1, got 0\.0"),
        ("ema=1.0", r"ema in 0\.\.1, got 0\.003 and 1\.0"),
        ("micro=3", r"batch: expected a multiple of micro \(3\), got 8"),
        ("data.held_out=1.0", r"held_out: expected a share in 0\.\.1, got 1\.0"),
        ("data.pairs=1.5", r"compose and pairs: expected shares that sum to 1 at most"),
        ("data.masks={wrong = 1.0}", r"wrong"),
        ("model.steps=0", r"steps of the sampler: expected 1\.\.1000, got 0"),
        ("lr=fast", r"lr: expected a value of type float, got 'fast'"),
    ],
)
def test_a_wrong_option_is_told_by_its_key(setting: str, message: str):
    with pytest.raises(UsageError, match=message):
        load("layerdecomp", ["debug"], [setting])


def test_a_recipe_without_a_key_is_told(tmp_path: Path):
    (tmp_path / "mine.toml").write_text('system = "layerdecomp"\n[data]\nsize = 32\n')
    with pytest.raises(UsageError, match=r"mine\.toml: the key 'steps' is missing"):
        load(str(tmp_path / "mine.toml"))


# ---- what tells two runs apart


def test_runs_of_the_same_options_do_not_differ():
    config = load("layerdecomp", ["debug"])
    assert differences(config, json.loads(json.dumps(config.table()))) == []
    assert differences(load("outpaint-and-remove"), load("outpaint-and-remove").table()) == []


def test_what_decides_the_weights_is_named_with_both_values():
    there = load("layerdecomp", ["debug"]).table()
    settings = ["seed=1", "model.network.width=128", "data.masks={loose = 1.0}"]
    now = load("layerdecomp", ["debug"], settings)
    assert differences(now, there) == [
        "data.masks.loose: None there, 1.0 now",
        "data.masks.tight: 1.0 there, None now",
        "model.network.width: 64 there, 128 now",
        "seed: 0 there, 1 now",
    ]


def test_what_does_not_decide_the_weights_may_change():
    there = load("layerdecomp", ["debug"]).table()
    settings = ["micro=4", "workers=0", "save_every=1", "validate_every=0", "validate_on=1", "keep=9", "about=other"]
    assert differences(load("layerdecomp", ["debug"], settings), there) == []


def test_the_number_of_steps_may_change_only_if_the_rate_does_not_depend_on_it():
    constant, cosine = (load("layerdecomp", ["debug"], [f"schedule={name}"]) for name in ("constant", "cosine"))
    assert differences(replace(constant, steps=99), constant.table()) == []
    assert differences(replace(cosine, steps=99), cosine.table()) == [
        "steps: 60 there, 99 now, and the schedule cosine depends on it"
    ]
