"""What a run tells: rows, TensorBoard, the plot, and the model card."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from matplotlib import pyplot
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.summary.writer import event_file_writer

from layerkit.manifests.licences import strictest
from layerkit.pipelines.train import Trained
from layerkit.pipelines.training import run_folder
from layerkit.pipelines.training.config import load
from layerkit.pipelines.training.journal import LOG, VALIDATION, Journal, plot, rows_of
from layerkit.pipelines.training.streams import Sources
from layerkit.toolkit.images import read

ROWS = [{"step": k, "loss": 1 / k, "lr": 0.1, "grad_norm": 2.0, "images_per_s": 9.0} for k in range(1, 41)]


def write(run: Path, rows: list[dict[str, Any]], step: int = 0) -> None:
    run.mkdir(exist_ok=True)
    log = Journal(run, step)
    for row in rows:
        log.write(row)
    log.close()


def scalars(run: Path, tag: str) -> list[tuple[int, float]]:
    """As TensorBoard itself reads them."""
    events = EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    return [(event.step, event.value) for event in events.Scalars(tag)]


# ---- rows


def test_rows_come_back_as_they_were_written(tmp_path: Path):
    write(tmp_path / "run", ROWS[:3])
    assert rows_of(tmp_path / "run") == ROWS[:3]
    assert rows_of(tmp_path / "run", VALIDATION) == []
    assert rows_of(tmp_path / "nowhere") == []


def test_a_row_that_was_cut_off_is_passed_over_and_then_gone(tmp_path: Path):
    write(tmp_path / "run", ROWS[:3])
    with (tmp_path / "run" / LOG).open("a") as file:
        file.write(json.dumps(ROWS[3])[:20])
    assert rows_of(tmp_path / "run") == ROWS[:3]
    write(tmp_path / "run", ROWS[3:5], step=3)
    assert rows_of(tmp_path / "run") == ROWS[:5]


def test_rows_after_the_checkpoint_are_forgotten(tmp_path: Path):
    log = Journal(tmp_path, 0)
    for row in ROWS[:6]:
        log.write(row)
        log.write({"step": row["step"], "score": 1.0}, VALIDATION)
    log.close()
    Journal(tmp_path, 4).close()
    assert [row["step"] for row in rows_of(tmp_path)] == [1, 2, 3, 4]
    assert [row["step"] for row in rows_of(tmp_path, VALIDATION)] == [1, 2, 3, 4]


def test_a_silent_journal_writes_nothing(tmp_path: Path):
    log = Journal(tmp_path, 0, silent=True)
    log.write(ROWS[0])
    log.close()
    assert list(tmp_path.iterdir()) == []


# ---- TensorBoard


def test_tensorboard_reads_every_number_of_every_step(finished_run: Path):
    rows = rows_of(finished_run)
    for name in rows[0].keys() - {"step"}:
        expected = [(row["step"], pytest.approx(row[name], rel=1e-5)) for row in rows]
        assert scalars(finished_run, f"train/{name}") == expected
    validated = [(row["step"], pytest.approx(row["alpha_iou"], rel=1e-5)) for row in rows_of(finished_run, VALIDATION)]
    assert scalars(finished_run, "validation/alpha_iou") == validated
    assert [step for step, _ in validated] == [2, 4]
    events = EventAccumulator(str(finished_run / "tensorboard"))
    events.Reload()
    assert [image.step for image in events.Images("samples")] == [2, 4]


def test_tensorboard_forgets_what_came_after_the_checkpoint_and_nothing_else(tmp_path: Path, monkeypatch):
    # Its files of one second are read by the order of their numbers as text; those of two processes never share one.
    monkeypatch.setattr(event_file_writer, "_global_uid", event_file_writer.AtomicCounter(0))
    write(tmp_path, ROWS[:6])
    write(tmp_path, [{"step": 5, "loss": 7.0}], step=4)
    kept = [(row["step"], pytest.approx(row["loss"])) for row in ROWS[:4]]
    assert scalars(tmp_path, "train/loss") == [*kept, (5, 7.0)]


# ---- the plot


def test_the_plot_has_every_loss_and_its_running_mean(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    figures: list[Any] = []
    monkeypatch.setattr(pyplot, "close", figures.append)
    write(tmp_path, [row | {"background": row["loss"] / 2} for row in ROWS])
    plot(tmp_path)
    (axes,) = figures[0].axes
    assert axes.get_yscale() == "log"
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["loss", "background"]
    losses = np.array([row["loss"] for row in ROWS])
    raw, smooth = axes.lines[:2]
    assert np.allclose(raw.get_ydata(), losses)
    means = [losses[max(0, k - 1) : k + 1].mean() for k in range(len(losses))]  # a twentieth of 40 steps is 2
    assert np.allclose(smooth.get_ydata(), means)
    monkeypatch.undo()
    pyplot.close(figures[0])
    assert read(tmp_path / "loss.png").std() > 0


def test_a_run_without_a_step_is_still_plotted(tmp_path: Path):
    plot(tmp_path)
    assert read(tmp_path / "loss.png").ndim == 3


# ---- the model card


def card_of(run: Path) -> tuple[dict[str, Any], str]:
    """The front matter as YAML, and the text."""
    _, front, text = (run / "README.md").read_text().split("---\n", 2)
    return yaml.safe_load(front), text


@pytest.fixture(scope="module")
def on_a_build(tiny_build: Path, short_run: Callable[..., Trained], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("card") / "run"
    short_run(out, "outpaint-and-remove", "data.held_out=0.4", "validate_every=1", steps=2, builds=(tiny_build,))
    return out


def test_the_card_names_system_steps_data_licence_and_scores(on_a_build: Path, tiny_build: Path):
    front, text = card_of(on_a_build)
    assert front["tags"] == ["layer-decomposition", "layerkit", "outpaint-and-remove"]
    assert (front["license"], front["library_name"]) == ("other", "layerkit")
    assert "base_model" not in front
    build = json.loads((tiny_build / ".layerkit" / "run.json").read_bytes())
    licences = pq.read_table(tiny_build / "manifests" / "samples.parquet", columns=["licence"])["licence"].to_pylist()
    for part in (
        "# outpaint-and-remove",
        "2 of 2 steps of 4 samples of\n32 px",
        "![loss](loss.png)",
        f"`demo` (fingerprint `{build['fingerprint'][:12]}`, strictest licence {strictest(licences)})",
        "they share pictures",
        "![held-out samples](samples/000002.png)",
        "layerkit decompose IMAGE",
    ):
        assert part in text, part
    table = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    for row, cells in zip(rows_of(on_a_build, VALIDATION), table[2:], strict=True):
        assert dict(zip(table[0], cells, strict=True)) == {
            name: str(value) if name == "step" else f"{value:.4g}" for name, value in row.items()
        }
    for file in ("loss.png", "samples/000002.png", "config.toml"):
        assert (on_a_build / file).is_file()


def test_the_configuration_says_what_the_run_was_made_with(on_a_build: Path, tiny_build: Path):
    import tomllib

    made = tomllib.loads((on_a_build / "config.toml").read_text())["run"]
    build = json.loads((tiny_build / ".layerkit" / "run.json").read_bytes())
    assert made["data"] == [{"recipe": "demo", "fingerprint": build["fingerprint"]}]
    assert made["trained"] == sum(tensor.numel() for tensor in _weights(on_a_build).values())
    assert set(made["libraries"]) == {"torch", "accelerate", "diffusers", "peft"}


def _weights(run: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return load_file(run / "weights.safetensors")


def test_a_card_without_builds_or_scores_says_so(short_run: Callable[..., Trained], tmp_path: Path):
    short_run(tmp_path / "run", "rgba-vae", "validate_on=0", steps=1)
    _, text = card_of(tmp_path / "run")
    assert "Builds: none; scenes rendered while training." in text
    assert "No triplets were held out." in text
    assert "--set model.rgba_vae=RUN" in text


def test_a_published_base_is_named_with_its_licence():
    made = run_folder.made_with(Sources(rendered=True), 10, 20)
    config = load("outpaint-and-remove")
    front = yaml.safe_load(run_folder.card(config, made, 5, []).split("---\n")[1])
    assert front["base_model"] == "black-forest-labs/FLUX.1-Fill-dev"
    for base in ("black-forest-labs/FLUX.1-Fill-dev", "flux-fill"):
        assert "non-commercial" in run_folder.base_licence(base).lower()
    assert run_folder.base_licence("/some/folder") == "unknown"
    local = dataclasses.replace(config, base="/some/folder")
    assert "base_model" not in run_folder.card(local, made, 5, []).split("---\n")[1]


def test_the_licence_of_a_build_that_does_not_say_is_unknown(tiny_build: Path, tmp_path: Path):
    build = shutil.copytree(tiny_build, tmp_path / "build")
    statistics = build / "manifests" / "stats.json"
    for licences, expected in (
        ({"sample": {"cc0-1.0": 3, "cc-by-nc-4.0": 1}}, strictest(["cc0-1.0", "cc-by-nc-4.0"])),
        ({}, "unknown"),
    ):
        statistics.write_text(json.dumps({"licences": licences}))
        assert run_folder.licence_of(build) == expected
    statistics.unlink()
    assert run_folder.licence_of(build) == "unknown"
