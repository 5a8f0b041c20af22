"""Runs of the debug presets: seconds each, on rendered scenes unless a test has a build."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from layerkit.pipelines.train import Trained, train
from layerkit.pipelines.training.config import TrainConfig, load
from layerkit.pipelines.training.streams import Sources

SHORT = (
    "schedule='constant'",
    "batch=4",
    "micro=2",
    "workers=0",
    "save_every=2",
    "validate_every=0",
    "validate_on=2",
    "ema=0.9",
)
"""Two micro-batches a step, averaged weights, and ``steps`` that may change when a run is resumed."""


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def needed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[str, ...]]:
    """``needed(name)``: settings without which the debug preset of a recipe cannot run: the runs that it stands on."""
    codec = tmp_path_factory.mktemp("codec") / "run"

    def settings(name: str) -> tuple[str, ...]:
        if name != "text2layer":
            return ()
        if not codec.exists():
            train(load("text2layer-ae", ["debug"], SHORT, steps=1), Sources(rendered=True), codec)
        return (f"model.codec='{codec}'",)

    return settings


@pytest.fixture(scope="session")
def short_config(needed: Callable[[str], tuple[str, ...]]) -> Callable[..., TrainConfig]:
    """``short_config(name, *settings, **keys)``: the debug preset of a recipe, cut short."""

    def make(name: str = "layerdecomp", *settings: str, **keys: Any) -> TrainConfig:
        return load(name, ["debug"], [*SHORT, *needed(name), *settings], **{"steps": 4, **keys})

    return make


@pytest.fixture(scope="session")
def short_run(short_config: Callable[..., TrainConfig]) -> Callable[..., Trained]:
    """``short_run(out, name, *settings, steps=, builds=, **ways)``: train one."""

    def run(
        out: Path, name: str = "layerdecomp", *settings: str, builds: tuple[Path, ...] = (), steps: int = 4, **ways: Any
    ) -> Trained:
        sources = Sources(builds=builds, rendered=not builds)
        return train(short_config(name, *settings, steps=steps), sources, out, **ways)

    return run


@pytest.fixture(scope="session")
def finished_run(short_run: Callable[..., Trained], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A LayerDecomp of four steps, for reading only: copy it before you change it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    short_run(out, "layerdecomp", "validate_every=2")
    return out
