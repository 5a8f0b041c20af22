"""A run that was broken off and resumed is one that was not, and two processes train as one."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.options import Progress
from layerkit.pipelines.train import Trained
from layerkit.pipelines.training import checkpoints, journal
from layerkit.toolkit.models.registry import load_run

ShortRun = Callable[..., Trained]
WEIGHTS = {
    "layerdecomp": "weights.safetensors",
    "outpaint-and-remove": "weights.safetensors",
    "seele": "weights.safetensors",
    "rgba-vae": "vae/diffusion_pytorch_model.safetensors",
    "text2layer-ae": "weights.safetensors",
    "text2layer": "weights.safetensors",
    "asuka-mae": "weights.safetensors",
    "asuka": "weights.safetensors",
    "layerdiffuse-vae": "vae_transparent_decoder.safetensors",
    "asuka-decoder": "weights.safetensors",
}
COMMAND = ("-m", "layerkit", "train", "layerdecomp", "--data", "procedural", "--preset", "debug")


class Broken(Exception):
    pass


def at_step(step: int, act: Callable[[], Any]) -> Callable[[Progress], None]:
    """A report that does something after a step."""

    def report(progress: Progress) -> None:
        if progress.done == step:
            act()

    return report


def break_off() -> None:
    raise Broken


def timeless(run: Path) -> list[dict[str, float]]:
    """The rows of the log without the speed."""
    return [{k: v for k, v in row.items() if k != "images_per_s"} for row in journal.rows_of(run)]


@pytest.mark.parametrize("name", WEIGHTS)
def test_a_run_that_broke_off_and_went_on_is_the_run_that_did_not(name: str, short_run: ShortRun, tmp_path: Path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    short_run(whole, name, steps=6)
    with pytest.raises(Broken):  # a step after the checkpoint, which is then done again
        short_run(broken, name, steps=6, report=at_step(5, break_off))
    assert [row["step"] for row in journal.rows_of(broken)] == [1, 2, 3, 4, 5]
    assert (broken / WEIGHTS[name]).read_bytes() != (whole / WEIGHTS[name]).read_bytes()
    seen: list[int] = []
    ended = short_run(broken, name, steps=6, resume=True, report=lambda progress: seen.append(progress.done))
    assert seen == [5, 6]
    assert ended.steps == 6
    assert (broken / WEIGHTS[name]).read_bytes() == (whole / WEIGHTS[name]).read_bytes()
    assert timeless(broken) == timeless(whole)
    assert [row["step"] for row in timeless(whole)] == [1, 2, 3, 4, 5, 6]
    assert journal.rows_of(broken, journal.VALIDATION) == journal.rows_of(whole, journal.VALIDATION)


def test_a_longer_run_goes_on_from_a_shorter_one(short_run: ShortRun, tmp_path: Path):
    """With read-ahead threads, which were further than the checkpoint, and micro-batches of another size at the end."""
    whole, pieced = tmp_path / "whole", tmp_path / "pieced"
    short_run(whole, "layerdecomp", "workers=2", steps=5)
    short_run(pieced, "layerdecomp", "workers=2", steps=3)
    short_run(pieced, "layerdecomp", "workers=1", steps=5, resume=True)
    assert (pieced / WEIGHTS["layerdecomp"]).read_bytes() == (whole / WEIGHTS["layerdecomp"]).read_bytes()
    assert timeless(pieced) == timeless(whole)
    short_run(pieced, "layerdecomp", "micro=4", steps=6, resume=True)
    assert checkpoints.latest(pieced)[1].data["samples"] == 6 * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_run_after_the_step_in_work_with_a_checkpoint(
    number: signal.Signals, finished_run: Path, short_run: ShortRun, tmp_path: Path
):
    out, before = tmp_path / "run", signal.getsignal(number)
    settings = ("layerdecomp", "validate_every=2")
    ended = short_run(out, *settings, report=at_step(3, lambda: os.kill(os.getpid(), number)))
    assert (ended.steps, ended.of) == (3, 4)
    assert "--resume" in ended.describe(out)
    assert checkpoints.latest(out)[0].name == "000003"
    assert signal.getsignal(number) is before
    assert short_run(out, *settings, resume=True).steps == 4
    assert (out / "weights.safetensors").read_bytes() == (finished_run / "weights.safetensors").read_bytes()


def test_weights_and_scores_are_there_whenever_the_run_was_killed(
    finished_run: Path, short_run: ShortRun, tmp_path: Path
):
    """Killed between the last checkpoint and the weights, a run has no step left to do, but something to write."""
    out = shutil.copytree(finished_run, tmp_path / "run")
    for name in ("weights.safetensors", "README.md", "loss.png"):
        (out / name).unlink()
    with (out / journal.VALIDATION).open("a") as file:
        file.write('{"step": 5, "background_psnr": -1.0}\n')  # of steps that a checkpoint was not written for
    ended = short_run(out, "layerdecomp", "validate_every=2", resume=True)
    assert (ended.steps, ended.loss) == (4, None)
    assert ended.scores == {
        k: v for k, v in journal.rows_of(finished_run, journal.VALIDATION)[-1].items() if k != "step"
    }
    for name in ("weights.safetensors", "README.md"):
        assert (out / name).read_bytes() == (finished_run / name).read_bytes()
    assert (out / "loss.png").is_file()


def test_averaged_weights_are_saved_and_the_trained_ones_are_gone_on_with(finished_run: Path):
    folder, _ = checkpoints.latest(finished_run)
    trained, saved = load_file(folder / "model.safetensors"), load_file(finished_run / "weights.safetensors")
    averaged = torch.load(folder / "custom_checkpoint_0.pkl", weights_only=True)["shadow_params"]
    assert trained.keys() == saved.keys()
    names = list(load_run(finished_run)[0].trained())
    assert all(torch.equal(saved[name], tensor) for name, tensor in zip(names, averaged, strict=True))
    assert any(not torch.equal(saved[name], trained[name]) for name in names)


def test_other_options_are_refused_by_name_with_both_values(finished_run: Path, short_run: ShortRun):
    before = {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()}
    with pytest.raises(UsageError) as told:
        short_run(finished_run, "layerdecomp", "lr=0.5", "model.network.depth=1", resume=True)
    assert "lr: 0.003 there, 0.5 now" in str(told.value)
    assert "model.network.depth: 2 there, 1 now" in str(told.value)
    with pytest.raises(UsageError, match="system: 'layerdecomp' there, 'rgba-vae' now"):
        short_run(finished_run, "rgba-vae", resume=True)
    with pytest.raises(UsageError, match="schedule: 'constant' there, 'linear' now; steps: 4 there, 9 now"):
        short_run(finished_run, "layerdecomp", "schedule='linear'", steps=9, resume=True)
    assert {path: path.read_bytes() for path in finished_run.rglob("*") if path.is_file()} == before


def test_other_data_are_refused(finished_run: Path, tiny_build: Path, short_run: ShortRun):
    with pytest.raises(UsageError, match="expected the data, seed, size and masks of the checkpoint"):
        short_run(finished_run, "layerdecomp", "validate_every=2", builds=(tiny_build,), resume=True)


# ---- processes


def command(out: Path, *settings: str) -> list[str]:
    chosen = ("schedule='constant'", "batch=4", "workers=0", "validate_every=0", "validate_on=2", *settings)
    return [*COMMAND, *(word for setting in chosen for word in ("--set", setting)), "--out", str(out)]


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_weights(short_run: ShortRun, tmp_path: Path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    process = subprocess.Popen(
        [sys.executable, *command(killed, "micro=2", "ema=0.9", "steps=16", "save_every=4")],
        cwd=tmp_path,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not (killed / "checkpoints" / "000004").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    with (killed / "train.jsonl").open("a") as file:
        file.write('{"step": 15, "lo')
    for out, ways in ((killed, {"resume": True}), (whole, {})):
        short_run(out, "layerdecomp", "save_every=4", steps=16, **ways)
    assert (killed / "weights.safetensors").read_bytes() == (whole / "weights.safetensors").read_bytes()
    assert timeless(killed) == timeless(whole)


@pytest.mark.slow
def test_two_processes_train_as_one(short_run: ShortRun, tmp_path: Path):
    """Samples and noise are keyed by what they are for, so the gradient is the same but for the order of its sums."""
    one, two = tmp_path / "one", tmp_path / "two"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    words = [*launch, *command(two, "micro=1", "ema=0.9", "steps=4", "save_every=2")]
    ended = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if ended.returncode and "socket" in ended.stderr.lower() and not two.exists():
        pytest.skip(f"torchrun cannot start here: {ended.stderr.splitlines()[-1]}")
    assert ended.returncode == 0, ended.stderr
    short_run(one, "layerdecomp", "micro=1", steps=4)
    rows, expected = timeless(two), timeless(one)
    assert len(rows) == len(expected) == 4
    for row, other in zip(rows, expected, strict=True):
        assert row == pytest.approx(other, rel=1e-4)
    weights, others = load_file(two / "weights.safetensors"), load_file(one / "weights.safetensors")
    begun = load_run(one)[0].trained()
    assert weights.keys() == others.keys() == begun.keys()
    for name, tensor in weights.items():
        torch.testing.assert_close(tensor, others[name], rtol=1e-3, atol=1e-4)
    assert sorted(path.name for path in (two / "checkpoints").iterdir()) == ["000002", "000004"]
    state = json.loads((two / "checkpoints" / "000004" / "state.json").read_text())
    assert state["data"]["samples"] == 16
    resumed = short_run(two, "layerdecomp", "micro=2", steps=5, resume=True)  # one process goes on with it
    assert resumed.steps == 5
