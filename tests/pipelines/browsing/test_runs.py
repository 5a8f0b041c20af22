"""The folder of a run as an exhibit: its sheets by step, with what validation found."""

import json
from pathlib import Path

import numpy as np
import pytest

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.browsing.runs import exhibit
from layerkit.pipelines.train import train
from layerkit.pipelines.training.config import load
from layerkit.pipelines.training.streams import Sources
from layerkit.toolkit.images import encode_png


def run_with(folder: Path, steps: list[int], rows: list[str]) -> Path:
    (folder / "samples").mkdir(parents=True)
    for step in steps:
        (folder / f"samples/{step:07d}.png").write_bytes(encode_png(np.full((20, 30, 3), step, np.uint8)))
    (folder / "validation.jsonl").write_text("\n".join(rows))
    return folder


def test_sheets_carry_the_scores_of_their_step(tmp_path: Path):
    rows = [json.dumps({"step": 10, "alpha_iou": 0.25}), json.dumps({"step": 20, "alpha_iou": 0.5}), '{"step": 3']
    run = run_with(tmp_path / "run", [10, 20, 30], rows)
    (run / "loss.png").write_bytes(encode_png(np.zeros((5, 5, 3), np.uint8)))
    (run / "samples/0000040.png").write_bytes(b"half a pict")
    found = exhibit(run, "run")
    shown = {one.key: one for one in found.samples()}
    assert list(shown) == ["0000010", "0000020", "0000030", "0000040", "loss"]
    assert shown["0000020"].values == {"key": "0000020", "step": 20, "alpha_iou": 0.5}
    assert shown["0000030"].values == {"key": "0000030", "step": 30}
    assert shown["loss"].values == {"key": "loss"}
    assert shown["0000010"].panels["image"].picture.read_bytes() == (run / "samples/0000010.png").read_bytes()
    assert shown["0000040"].panels["image"].picture.read_bytes()[:4] == b"\x89PNG", "a card says what is wrong"
    (run / "samples/0000050.png").write_bytes(encode_png(np.zeros((5, 5, 3), np.uint8)))
    assert exhibit(run, "run").identity != found.identity


def test_a_run_without_pictures_is_refused(tmp_path: Path):
    with pytest.raises(UsageError, match="has not validated yet"):
        exhibit(tmp_path, "run")


def test_a_real_run(tiny_build: Path, tmp_path: Path):
    config = load(
        "layerdecomp", ("debug",), ("data.size=16", "data.held_out=0.5", "validate_every=1", "save_every=2"), steps=2
    )
    train(config, Sources(builds=(tiny_build,)), tmp_path / "run")
    shown = list(exhibit(tmp_path / "run", "run").samples())
    assert [one.values.get("step") for one in shown] == [1, 2, None]
    assert shown[1].values["recomposition_psnr"] > 0
