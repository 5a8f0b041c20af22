"""Checkpoints: written aside and renamed into place, the latest of them found again.

``checkpoints/000100/`` holds what ``accelerate`` saves (trained weights as safetensors, optimiser, random states), the
averaged weights, and ``state.json``: the step, where the data stand, and the options of the run.
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from safetensors.torch import load_file, save_file
from torch import nn

from ...manifests.errors import RunError, UsageError
from ...toolkit.files import sync, write_atomically
from ...toolkit.models.system import System
from .config import TrainConfig, differences

STATE = "state.json"
_FOLDER = "checkpoints"
_TRAINED = "model.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """Where a run stood.

    Attributes:
        step: optimiser steps done.
        data: of :meth:`~.data.Batches.state`.
        config: the table of the run's options.
    """

    step: int
    data: Mapping[str, int | str]
    config: Mapping[str, Any]


def save_trained_only(accelerator: Accelerator) -> None:
    """Make ``accelerate`` save and load what is trained and nothing else; FSDP, which shards it, is left as it is."""

    def before_saving(models: list[nn.Module], states: list[dict[str, Any]], folder: str) -> None:
        if not accelerator.is_main_process:
            return
        for model in models:
            tensors = {
                name: tensor.detach().cpu().contiguous() for name, tensor in _system(accelerator, model).state().items()
            }
            save_file(tensors, Path(folder) / _TRAINED)
            states.pop()

    def before_loading(models: list[nn.Module], folder: str) -> None:
        while models:
            _system(accelerator, models.pop()).load_state_dict(load_file(Path(folder) / _TRAINED), strict=False)

    if accelerator.distributed_type != "FSDP":
        accelerator.register_save_state_pre_hook(before_saving)
        accelerator.register_load_state_pre_hook(before_loading)


def _system(accelerator: Accelerator, model: nn.Module) -> System:
    system: System = accelerator.unwrap_model(model)
    return system


def save(accelerator: Accelerator, run: Path, state: State, keep: int) -> None:
    """Write a checkpoint; older ones than the last ``keep`` go. Every process calls it."""
    final = run / _FOLDER / f"{state.step:06d}"
    aside = final.with_name(f".{final.name}")
    if accelerator.is_main_process:
        shutil.rmtree(aside, ignore_errors=True)
        aside.mkdir(parents=True)
    accelerator.wait_for_everyone()
    accelerator.save_state(str(aside), safe_serialization=True)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        table = {"step": state.step, "data": dict(state.data), "config": dict(state.config)}
        write_atomically(aside / STATE, json.dumps(table, indent=1).encode())
        _settle(aside, final)
        for old in _complete(run)[:-keep]:
            shutil.rmtree(old)


def _settle(aside: Path, final: Path) -> None:
    """Bring a folder to the disk and to its name."""
    for path in (*aside.rglob("*"), aside):
        sync(path)
    shutil.rmtree(final, ignore_errors=True)
    os.replace(aside, final)
    sync(final.parent)


def latest(run: Path) -> tuple[Path, State] | None:
    """The last complete checkpoint of a run; None where there is none.

    Raises:
        RunError: its state cannot be read.
    """
    found = _complete(run)
    if not found:
        return None
    path = found[-1] / STATE
    try:
        state = State(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"{path}: expected the state of a checkpoint: {error}; delete the folder to take the one before"
        ) from error
    return found[-1], state


def expect_same(config: TrainConfig, state: State, run: Path) -> None:
    """Make sure that a run may go on from a checkpoint.

    Raises:
        UsageError: the checkpoint is of other options; names each with both values.
    """
    if different := differences(config, state.config):
        raise UsageError(
            f"{run}: its checkpoint is of another run: {'; '.join(different)}; "
            "resume with the same options, or train anew with another --out"
        )


def _complete(run: Path) -> list[Path]:
    """Folders of finished checkpoints, oldest first."""
    found = [path.parent for path in (run / _FOLDER).glob(f"*/{STATE}") if path.parent.name.isdecimal()]
    return sorted(found, key=lambda folder: int(folder.name))
