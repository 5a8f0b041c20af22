"""The whole bench: the same bytes however it came to its end, and the true layers of a build score as perfect."""

import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layerkit.benchmarks import run
from layerkit.benchmarks.bench import bench, passed_over
from layerkit.benchmarks.options import BenchOptions
from layerkit.benchmarks.report import Report
from layerkit.benchmarks.reports.samples import read_samples
from layerkit.manifests import suites
from layerkit.manifests.errors import MissingWeights, RunError, UsageError
from layerkit.manifests.suites import SUITES
from layerkit.pipelines.build import build
from layerkit.pipelines.options import BuildOptions
from layerkit.pipelines.recipe import load

FORMS = ("report.json", "report.md", "report.csv", "report.tex", "report.html", "samples.parquet")
LIMIT = 20
MODELS = ("identity", "patchmatch")
PERFECT = """
import numpy as np

from layerkit.toolkit.suites.cases import cases
from layerkit.manifests.suites import find
from layerkit.toolkit.decomposition import Decomposition

truths = {case.image.tobytes(): case for case in cases(find("triplets:build"), {})}


def perfect(image, mask, generator):
    case = truths[image.tobytes()]
    return Decomposition(case.background, case.foreground)
"""


def go(out: Path, *models: str, suite: str = "demo", strict: bool = False, **more: Any) -> Report | None:
    options = BenchOptions(**{"out": out, "cache": out / "cache", "limit": LIMIT} | more)
    return bench(models or MODELS, [suite], options, lambda *told: None, strict=strict)


def command(out: Path) -> list[str]:
    models = [word for model in MODELS for word in ("--model", model)]
    return [
        "layerkit",
        "bench",
        *models,
        "--suite",
        "demo",
        "--limit",
        str(LIMIT),
        "--device",
        "cpu",
        "--out",
        str(out),
    ]


def written(out: Path) -> dict[str, bytes]:
    return {name: (out / name).read_bytes() for name in FORMS}


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    out = tmp_path_factory.mktemp("unbroken") / "out"
    go(out)
    return written(out)


@pytest.mark.slow
def test_a_killed_run_goes_on_to_the_same_bytes(unbroken: dict[str, bytes], tmp_path: Path):
    out = tmp_path / "out"
    process = subprocess.Popen(
        [sys.executable, "-m", *command(out)], cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not any(p.stat().st_size for p in out.glob(".layerkit/*/patchmatch/*.jsonl")):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    (rows,) = out.glob(".layerkit/*/patchmatch/0.jsonl")
    scored = len(rows.read_bytes().splitlines()) - 1
    assert 0 < scored < LIMIT
    with rows.open("ab") as file:
        file.write(b'\n{"id": "cut sho')
    assert not (out / "report.json").exists()
    go(out)
    assert written(out) == unbroken
    lines = rows.read_bytes().splitlines()
    assert sum(line.startswith(b'{"id"') for line in lines) == LIMIT + 1  # none was scored twice


@pytest.mark.slow
def test_processes_write_the_bytes_of_one(unbroken: dict[str, bytes], tmp_path: Path):
    go(tmp_path / "out", workers=2)
    assert written(tmp_path / "out") == unbroken


@pytest.mark.slow
def test_processes_of_torchrun_write_the_bytes_of_one(unbroken: dict[str, bytes], tmp_path: Path):
    """As ``accelerate launch`` starts them on several GPUs; on the CPU it starts one alone without MPI."""
    out = tmp_path / "out"
    launch = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", "-m"]
    ended = subprocess.run([*launch, *command(out)], cwd=tmp_path, capture_output=True, text=True, timeout=200)
    if ended.returncode and "socket" in ended.stderr.lower() and not out.exists():
        pytest.skip(f"torchrun cannot start here: {ended.stderr.splitlines()[-1]}")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("report.html") == 1  # one of them reports
    assert sorted(path.name for path in out.glob(".layerkit/*/identity/*.jsonl")) == ["0.jsonl", "1.jsonl"]
    assert written(out) == unbroken


def test_the_report_is_as_the_design_has_it(unbroken: dict[str, bytes], tmp_path: Path):
    report = json.loads(unbroken["report.json"], parse_constant=pytest.fail)
    assert report["schema"] == 1
    assert {"schema", "results", "skipped", "references", "environment"} <= set(report)
    assert {frozenset(row) for row in report["results"]} == {
        frozenset(
            [
                "suite",
                "protocol",
                "model",
                "metric",
                "variant",
                "region",
                "value",
                "ci95",
                "n",
                "n_nan",
                "n_capped",
                "higher_is_better",
                "low_n",
            ]
        )
    }
    assert {frozenset(row) for row in report["skipped"]} == {frozenset(("model", "suite", "metric", "why"))}
    assert {(row["model"], row["protocol"]) for row in report["results"]} == {
        (model, SUITES["demo"].protocol) for model in MODELS
    }
    assert report["environment"]["limit"] == LIMIT
    assert not any(row["metric"].startswith(("fid", "kid", "lpips")) for row in report["results"])
    (tmp_path / "samples.parquet").write_bytes(unbroken["samples.parquet"])
    samples = read_samples(tmp_path)
    main = {
        model: [row["value"] for row in samples if (row["model"], row["variant"]) == (model, "area") and is_main(row)]
        for model in MODELS
    }
    for row in report["results"]:
        if is_main(row) and row["variant"] == "area":
            assert row["value"] == pytest.approx(sum(main[row["model"]]) / LIMIT, abs=1e-6)


def is_main(row: dict[str, Any]) -> bool:
    return (row["metric"], row["region"]) == ("psnr", "whole")


def test_the_true_layers_of_a_build_are_perfect(tmp_path: Path, cache_dir: Path, monkeypatch: pytest.MonkeyPatch):
    recipe = load("demo", {"count": 8, "size": 64, "shard_size": 4, "seed": 3}, ["splits.test=0.5"])
    build(recipe, BuildOptions(out=tmp_path / "build", cache=cache_dir, workers=1), lambda progress: None)
    (tmp_path / "true_layers.py").write_text(PERFECT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    report = go(tmp_path / "out", "python:true_layers:perfect", suite="triplets:build", limit=None)
    found = {f"{row['metric']}:{row['variant']}@{row['region']}": row for row in report.results}
    n = found["psnr:area@whole"]["n"]
    assert n >= 2
    for name in ("psnr:area@whole", "psnr:area@mask", "psnr:area@outside"):
        assert (found[name]["value"], found[name]["n_capped"]) == (100, n), name
    assert found["recomposition-psnr:area@whole"]["value"] > 75  # one level where an occluder's edge is soft
    for name in ("iou:soft@whole", "iou:hard@whole", "ssim:gaussian@whole"):
        assert found[name]["value"] == 1, name
    for name in ("sad:mmagic@whole", "matting-mse:mmagic@whole", "colour-error:common@whole"):
        assert found[name]["value"] == 0, name
    assert report.dropped == []
    assert report.suites[0]["folder"] == ""
    assert str(tmp_path) not in (tmp_path / "out" / "report.json").read_text()


def test_a_model_without_weights_is_skipped_and_the_others_are_scored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    report = go(tmp_path / "out", "lama", "identity", limit=2)
    assert {row["model"] for row in report.results} == {"identity"}
    (row,) = [row for row in report.skipped if row["metric"] == "*"]
    assert (row["model"], row["suite"]) == ("lama", "demo")
    assert "run: " in row["why"]
    assert "lama" in (tmp_path / "out" / "report.md").read_text()
    assert "skipped" in report.describe("out")
    assert "demo  identity  psnr:area@whole" in report.describe("out")
    with pytest.raises(MissingWeights, match="--strict: lama on demo"):
        go(tmp_path / "out", "lama", limit=2, strict=True)


def test_a_suite_without_its_main_measure_is_told_by_the_first_that_was_taken():
    row = {"suite": "res", "metric": "ssim", "variant": "gaussian", "region": "whole", "ci95": [0.1234, None], "n": 2}
    other = {**row, "metric": "psnr", "variant": "area", "model": "a", "value": 9.0}
    report = Report(
        schema=1,
        results=[{**row, "model": "a", "value": 0.98765}, {**row, "model": "b", "value": None}, other],
        breakdowns=[],
        skipped=[{"model": "a", "suite": "res", "metric": "lpips:alex@whole", "why": "no weights"}],
        dropped=[],
        references=[],
        suites=[{"name": "res", "main": "lpips:alex"}, {"name": "aim-500", "main": "sad"}],
        models=[],
        environment={},
    )
    assert report.describe("out").splitlines() == [
        "res  a  ssim:gaussian@whole  0.9877, n = 2",
        "res  b  ssim:gaussian@whole  -",
        "skipped   1 measures; out/report.md says which, and why",
        "report    out/report.html",
    ]


def test_a_model_is_passed_over_where_a_suite_of_the_other_kind_is_scored_as_well(tmp_path: Path):
    demo, texts = SUITES["demo"], SUITES["ll2i"]
    drawer, remover = tmp_path / "drawer", tmp_path / "remover"
    for folder, system in ((drawer, "text2layer"), (remover, "layerdecomp")):
        folder.mkdir()
        (folder / "config.toml").write_text(f'system = "{system}"')
    for name, fits, other in (
        ("layerfusion", texts, demo),
        (str(drawer), texts, demo),
        ("telea", demo, texts),
        (str(remover), demo, texts),
    ):
        both = (demo, texts)
        assert passed_over(name, fits, both) is None
        (why,) = passed_over(name, other, both).skipped.values()
        assert other.name in why
        assert passed_over(name, other, (other,)) is None  # it is then said to be no such model
    assert passed_over("python:mine:model", texts, (demo, texts)) is None


def test_strict_wants_every_metric_that_applies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    with pytest.raises(MissingWeights, match="--strict: identity on demo, lpips:alex@whole: weights 'alexnet'"):
        go(tmp_path / "out", "identity", limit=2, strict=True)
    free = replace(SUITES["demo"], name="free", metrics=("psnr", "iou"))
    monkeypatch.setitem(suites.SUITES, "free", free)
    report = go(tmp_path / "out", "identity", suite="free", limit=2, strict=True)
    assert [row["why"] for row in report.skipped] == ["the model gives no foreground"]


def test_several_suites_are_one_report_and_must_be_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(suites.SUITES, "small", replace(SUITES["demo"], name="small", size=64))
    options = BenchOptions(out=tmp_path / "out", cache=tmp_path, limit=2)
    report = bench(["identity", "identity"], ["demo", "small", "demo"], options, lambda *told: None, strict=False)
    assert [suite["name"] for suite in report.suites] == ["demo", "small"]
    assert len(report.models) == 1
    for name in ("one", "two"):
        (tmp_path / name / "build").mkdir(parents=True)
    twins = [f"triplets:{tmp_path / name / 'build'}" for name in ("one", "two")]
    with pytest.raises(UsageError, match="expected suites of different names, got triplets:build, triplets:build"):
        bench(["identity"], twins, options, lambda *told: None, strict=False)


def test_a_root_of_no_data_set_is_named(tmp_path: Path):
    with pytest.raises(UsageError, match=r"--root: expected names of aim-500, .*rord, .*got misat"):
        go(tmp_path / "out", "identity", limit=1, roots={"misat": tmp_path})


def test_a_file_in_the_place_of_the_report_is_left_alone(tmp_path: Path):
    (tmp_path / "out").write_text("mine")
    with pytest.raises(UsageError, match="--out: expected a folder, got the file"):
        go(tmp_path / "out", "identity", cache=tmp_path)
    assert (tmp_path / "out").read_text() == "mine"


def test_only_the_first_process_reports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(run, "wait_for_all", lambda of: None)
    with pytest.raises(RunError, match="part 1 is not through"):
        go(tmp_path, "identity", limit=4, part=0, of=2)
    assert go(tmp_path, "identity", limit=4, part=1, of=2) is None
    assert not (tmp_path / "report.json").exists()
    assert {row["n"] for row in go(tmp_path, "identity", limit=4, part=0, of=2).results if is_main(row)} == {4}
