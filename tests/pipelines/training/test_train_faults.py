"""What goes wrong in a run: it is named, and what was there before stays."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from layerkit.manifests.errors import MissingWeights, RunError, ShardError, UsageError
from layerkit.pipelines.options import Progress
from layerkit.pipelines.train import Trained
from layerkit.pipelines.training import checkpoints, trainer
from layerkit.pipelines.training.config import TrainConfig
from layerkit.pipelines.training.data import index
from layerkit.pipelines.training.streams import Sources, validated_on
from layerkit.toolkit.models.layerdecomp import LayerDecomp

ShortRun = Callable[..., Trained]


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fail_at(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[dict[str, Any]], Any]) -> None:
    """Let a LayerDecomp's losses be acted on in one step."""
    forward = LayerDecomp.forward

    def broken(self: LayerDecomp, batch: Any, generator: torch.Generator, done: int) -> Any:
        losses = forward(self, batch, generator, done)
        return act(losses) if done + 1 == step else losses

    monkeypatch.setattr(LayerDecomp, "forward", broken)


def raising(error: Exception) -> Callable[[dict[str, Any]], Any]:
    def act(losses: dict[str, Any]) -> Any:
        raise error

    return act


@pytest.fixture
def damaged_build(tiny_build: Path, tmp_path: Path) -> Path:
    """A build whose first shard breaks off in the middle."""
    build = shutil.copytree(tiny_build, tmp_path / "damaged")
    shard = min((build / "data").glob("train-*.tar"))
    shard.write_bytes(shard.read_bytes()[: shard.stat().st_size // 2])
    return build


# ---- numbers and memory


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_ends_the_run_at_its_last_checkpoint(
    value: float, short_run: ShortRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fail_at(monkeypatch, 4, lambda losses: losses | {"loss": losses["loss"] * value, "foreground": torch.tensor(value)})
    with pytest.raises(RunError) as told:
        short_run(tmp_path / "run", "layerdecomp", steps=6)
    for part in ("step 4:", f"loss {value}", f"foreground {value}", "now 0.003", "checkpoint of step 2 stays"):
        assert part in str(told.value), part
    assert "background" not in str(told.value)
    assert checkpoints.latest(tmp_path / "run")[1].step == 2
    assert len((tmp_path / "run" / "train.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_running_out_of_memory_says_what_to_set(
    error: Exception, short_run: ShortRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    fail_at(monkeypatch, 3, raising(error))
    with pytest.raises(RunError, match=r"step 3: memory ran out .* step 2 stays: go on with --resume --set micro=1,"):
        short_run(tmp_path / "run")
    with pytest.raises(RunError, match=r"there is no checkpoint yet: go on with --resume --set checkpointing=true$"):
        short_run(tmp_path / "new", "layerdecomp", "micro=1", "save_every=9")
    with pytest.raises(RunError, match=r"micro=3,"):  # 4 would not divide the batch
        short_run(tmp_path / "nine", "layerdecomp", "batch=9", "micro=9")


def test_memory_may_run_out_in_the_optimisers_first_step_too(
    short_run: ShortRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def step(*_: Any, **__: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(torch.optim.AdamW, "step", step)
    with pytest.raises(RunError, match="step 1: memory ran out"):
        short_run(tmp_path / "run")


def test_another_error_is_not_taken_for_memory(short_run: ShortRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fail_at(monkeypatch, 1, raising(RuntimeError("shapes do not fit")))
    with pytest.raises(RuntimeError, match=r"^shapes do not fit$"):
        short_run(tmp_path / "run")


# ---- data


def test_a_broken_shard_ends_the_run_or_is_left_out(damaged_build: Path, short_run: ShortRun, tmp_path: Path):
    with pytest.raises(ShardError, match=r"train-.*\.tar: the archive breaks off"):
        short_run(tmp_path / "run", builds=(damaged_build,))
    assert not (tmp_path / "run").exists()
    ended = short_run(tmp_path / "run", "layerdecomp", "data.held_out=0.5", builds=(damaged_build,), skip_broken=True)
    assert ended.steps == 4
    assert ended.scores


def test_a_broken_sample_that_is_held_out_is_left_out(
    tiny_build: Path, short_run: ShortRun, short_config: Callable[..., TrainConfig], tmp_path: Path
):
    build, options = (
        shutil.copytree(tiny_build, tmp_path / "build"),
        short_config("layerdecomp", "data.held_out=0.5").data,
    )
    first, *others = (sample.key for sample in validated_on(options, Sources(builds=(build,)), 0, 99))
    for shard in (build / "data").glob("train-*.tar"):
        data = bytearray(shard.read_bytes())
        for offset, length, _ in (places[0] for key, places in index(shard) if key == first):
            data[offset : offset + length] = bytes(length)
        shard.write_bytes(data)
    with pytest.raises(ShardError, match=f"{first}: unreadable"):
        short_run(tmp_path / "run", "layerdecomp", "data.held_out=0.5", builds=(build,))
    kept = validated_on(options, Sources(builds=(build,)), 0, 99, skip_broken=True)
    assert [sample.key for sample in kept] == others
    ended = short_run(tmp_path / "run", "layerdecomp", "data.held_out=0.5", builds=(build,), skip_broken=True)
    assert ended.scores


def test_a_folder_without_a_build_is_refused(short_run: ShortRun, tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"expected a finished build with data/\*\.tar, got .*empty"):
        short_run(tmp_path / "run", builds=(tmp_path / "empty",))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("layerdecomp", ("model.variant=v1",), r"data\.effects: expected false for this variant .*, got True"),
        ("layerdecomp", ("data.effects=false",), r"data\.effects: expected true .* add --set data\.effects=true"),
        ("layerdecomp", ("data.size=34",), r"data\.size: expected a multiple of 4 for these networks, got 34"),
        ("outpaint-and-remove", ("data.size=30",), r"data\.size: expected a multiple of 4 .*, got 30"),
        ("rgba-vae", ("data.size=31",), r"data\.size: expected a multiple of 2 .*, got 31"),
        ("layerdecomp", ("batch=6", "micro=4"), r"batch: expected a multiple of micro \(4\), got 6"),
        ("layerdecomp", ("model.codec='vae'",), r"--set model\.rgba_vae=RUN, or train on pixels"),
        ("rgba-vae", ("model.scratch=''",), r"expected --base with its folder .* --set model\.scratch=debug"),
        ("layerdiffuse-vae", ("data.size=36",), r"data\.size: expected a multiple of 8 .*, got 36"),
        (
            "layerdiffuse-vae",
            ("model.scratch=''",),
            r"frozen VAE: expected --base .* --set model\.scratch=untrained-tiny",
        ),
    ],
)
def test_options_that_do_not_fit_say_what_would(
    name: str, settings: tuple[str, ...], message: str, short_run: ShortRun, tmp_path: Path
):
    with pytest.raises(UsageError, match=message):
        short_run(tmp_path / "run", name, *settings)
    assert not (tmp_path / "run").exists()


# ---- the folder


def test_a_folder_with_something_else_is_left_alone(short_run: ShortRun, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    (tmp_path / "judge").mkdir()
    (tmp_path / "judge" / "config.toml").write_text("backbone = 'efficientnet-b0'\n")  # of another program
    (tmp_path / "file").write_text("")
    for name in ("mine", "judge", "file"):
        for ways in ({}, {"resume": True}, {"overwrite": True}):
            with pytest.raises(UsageError, match="holds something else"):
                short_run(tmp_path / name, **ways)
    assert contents(tmp_path) == {
        "mine/thesis.txt": b"years of work",
        "judge/config.toml": b"backbone = 'efficientnet-b0'\n",
        "file": b"",
    }


def test_a_run_is_gone_on_with_or_overwritten_only_when_that_is_said(
    finished_run: Path, short_run: ShortRun, tmp_path: Path
):
    out = shutil.copytree(finished_run, tmp_path / "run")
    with pytest.raises(UsageError, match="add --resume to go on with it, or --overwrite to delete it"):
        short_run(out)
    assert contents(out) == contents(finished_run)
    short_run(out, "layerdecomp", "save_every=9", steps=1, overwrite=True)
    assert [path.name for path in (out / "checkpoints").iterdir()] == ["000001"]
    assert sorted(path.name for path in (out / "samples").iterdir()) == ["000001.png"]
    assert len((out / "train.jsonl").read_text().splitlines()) == 1


def test_a_start_that_fails_leaves_the_run_that_was_to_be_overwritten(
    finished_run: Path, short_run: ShortRun, short_config: Callable[..., TrainConfig], tmp_path: Path
):
    out = shutil.copytree(finished_run, tmp_path / "run")
    with pytest.raises(MissingWeights):
        short_run(out, "layerdecomp", f"base='{tmp_path}/none'", overwrite=True)
    with pytest.raises(UsageError):
        short_run(out, builds=(tmp_path / "none",), overwrite=True)
    assert contents(out) == contents(finished_run)


def test_a_new_folder_may_be_resumed(finished_run: Path, short_run: ShortRun, tmp_path: Path):
    """So that one command starts a run and goes on with it, as job schedulers want."""
    short_run(tmp_path / "run", "layerdecomp", "validate_every=2", resume=True)
    assert (tmp_path / "run" / "weights.safetensors").read_bytes() == (
        finished_run / "weights.safetensors"
    ).read_bytes()


# ---- checkpoints


def test_a_checkpoint_half_written_is_not_taken(finished_run: Path, short_run: ShortRun, tmp_path: Path):
    out = shutil.copytree(finished_run, tmp_path / "run")
    folder = out / "checkpoints"
    shutil.copytree(folder / "000004", folder / ".000010")  # not yet renamed
    shutil.copytree(folder / "000004", folder / "000012")
    (folder / "000012" / "state.json").unlink()
    (folder / "notes").mkdir()
    found, state = checkpoints.latest(out)
    assert (found.name, state.step) == ("000004", 4)
    assert checkpoints.latest(tmp_path) is None
    seen: list[Progress] = []
    short_run(out, "layerdecomp", "validate_every=2", steps=10, resume=True, report=seen.append)
    assert [progress.done for progress in seen] == [5, 6, 7, 8, 9, 10]
    assert checkpoints.latest(out)[0].name == "000010"
    assert not (folder / ".000010").exists()


def test_an_unreadable_state_is_named(finished_run: Path, tmp_path: Path):
    out = shutil.copytree(finished_run, tmp_path / "run")
    state = out / "checkpoints" / "000004" / "state.json"
    for text in ("{", "[]", json.dumps({"step": 4})):
        state.write_text(text)
        with pytest.raises(RunError, match=r"000004/state\.json: .* delete the folder to take the one before"):
            checkpoints.latest(out)
    shutil.rmtree(state.parent)
    assert checkpoints.latest(out)[0].name == "000002"


def test_only_the_last_checkpoints_are_kept(short_run: ShortRun, tmp_path: Path):
    short_run(tmp_path / "run", "layerdecomp", "save_every=1", "keep=2", steps=4)
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["000003", "000004"]


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path):
    for step in (999_000, 1_000_000):
        folder = tmp_path / "checkpoints" / f"{step:06d}"
        folder.mkdir(parents=True)
        (folder / "state.json").write_text(json.dumps({"step": step, "data": {}, "config": {}}))
    assert checkpoints.latest(tmp_path)[1].step == 1_000_000


def test_a_checkpoint_holds_nothing_that_is_frozen(short_run: ShortRun, tmp_path: Path):
    from safetensors.torch import load_file

    out = tmp_path / "run"
    short_run(out, "outpaint-and-remove", steps=1)
    held = load_file(checkpoints.latest(out)[0] / "model.safetensors")
    config, system = trainer.made_system(*_config_and_origin(out))
    assert held.keys() == system.trained().keys() == load_file(out / "weights.safetensors").keys()
    assert len(held) < len(list(system.parameters()))
    assert config.model["rank"] == 16


def _config_and_origin(run: Path) -> tuple[TrainConfig, Any]:
    from layerkit.pipelines.training.config import load
    from layerkit.toolkit.models.system import Origin

    config = load(str(run / "config.toml"))
    return config, Origin(base=config.base)
