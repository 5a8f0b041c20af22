"""The door: exit status, what goes to which stream, and JSON."""

import json
import signal
import tarfile

import numpy as np
import pytest

from layerkit import cli
from layerkit.toolkit.images import encode_png, read


@pytest.fixture
def layerkit(monkeypatch, capsys):
    """Run a command line; its exit status, standard output and standard error."""

    def run(*arguments):
        monkeypatch.setattr("sys.argv", ["layerkit", *map(str, arguments)])
        status = 0
        try:
            cli.main()
        except SystemExit as end:
            status = end.code or 0
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


TINY = ("--count", 4, "--size", 64, "--shard-size", 2, "--workers", 1)


def test_build_and_verify_and_build_again(layerkit, tmp_path):
    out = tmp_path / "build"
    status, printed, progress = layerkit("build-triplets", "demo", "--out", out, *TINY)
    assert status == 0
    assert "4 kept of 4 wanted" in printed
    assert str(out / "README.md") in printed
    assert "build" in progress
    assert layerkit("verify", out, "--workers", 1)[:2] == (0, f"{out}: sound\n")
    status, printed, _ = layerkit("build-triplets", "demo", "--out", out, *TINY, "--json")
    funnel = json.loads(printed)
    assert (status, funnel["kept"], funnel["built"], funnel["shards_missing"]) == (0, 4, 0, 0)


def test_faults_are_named_on_standard_output_and_exit_1(layerkit, tmp_path):
    out = tmp_path / "build"
    layerkit("build-triplets", "demo", "--out", out, *TINY)
    tar = next((out / "data").iterdir())
    tar.unlink()
    status, printed, _ = layerkit("verify", out, "--workers", 1)
    assert status == 1
    assert tar.name in printed
    status, printed, _ = layerkit("verify", out, "--workers", 1, "--json")
    assert status == 1
    assert any(tar.name in fault["file"] for fault in json.loads(printed)["faults"])


def test_a_dry_run_estimates_and_leaves_out_alone(layerkit, tmp_path):
    out = tmp_path / "build"
    status, printed, _ = layerkit("build-triplets", "--dry-run", "--out", out, *TINY)
    assert status == 0
    assert "paste: 3 triplets" in printed
    assert not out.exists()
    status, printed, _ = layerkit("build-triplets", "--dry-run", *TINY, "--json")
    estimate = json.loads(printed)
    assert {mix["mix"]: mix["triplets"] for mix in estimate["mixes"]} == {"paste": 3, "cut": 1}
    assert 0 < estimate["gigabytes"] < 0.01
    assert estimate["shards"] == 3


def test_stats_tell_the_yield_and_the_spread(layerkit, tmp_path):
    out = tmp_path / "build"
    layerkit("build-triplets", "demo", "--out", out, *TINY, "--set", "splits.test=0.5")
    status, printed, _ = layerkit("stats", out, "--what-if", "area=0.9")
    assert status == 0
    assert "0 are within these limits" in printed
    assert "saliency_contrast" in printed
    status, printed, _ = layerkit("stats", out, "--json")
    assert sum(mix["kept"] for mix in json.loads(printed)["yields"]) == 4


def test_a_rebuild_from_the_lock_says_that_the_shards_are_equal(layerkit, tmp_path):
    layerkit("build-triplets", "demo", "--out", tmp_path / "one", *TINY)
    lock = tmp_path / "one" / "manifests" / "recipe.lock.toml"
    status, printed, _ = layerkit("build-triplets", lock, "--out", tmp_path / "two", "--workers", 1)
    assert status == 0
    assert "rebuilt   3 shards, byte for byte those of the lock" in printed


MOVE = ("reposition", "x.png", "--mask", "m.png", "--to", "5,5")
DEBUG = ("train", "layerdecomp", "--preset", "debug", "--data", "x", "--out", "y")


def test_what_is_trained_is_benched_and_takes_a_picture_apart(layerkit, tmp_path):
    build, run, layers = (tmp_path / name for name in ("build", "run", "layers"))
    layerkit("build-triplets", "demo", "--out", build, *TINY)
    small = ("--steps", 2, "--set", "model.steps=2", "--set", "validate_on=1")
    status, printed, _ = layerkit("train", "layerdecomp", "--preset", "debug", "--data", build, "--out", run, *small)
    assert status == 0
    assert "steps     2 of 2" in printed
    status, printed, _ = layerkit("bench", "--model", run, "--suite", "demo", "--limit", 1, "--out", tmp_path / "bench")
    assert status == 0
    results = json.loads((tmp_path / "bench" / "report.json").read_text())["results"]
    assert {row["model"] for row in results} == {str(run)}
    picture = tmp_path / "photo.png"
    picture.write_bytes(encode_png(np.random.default_rng(0).integers(0, 256, (40, 52, 3), np.uint8)))
    mask = tmp_path / "mask.png"
    mask.write_bytes(encode_png(np.pad(np.full((20, 20), 255, np.uint8), ((10, 10), (16, 16)))))
    status, printed, _ = layerkit("decompose", picture, "--mask", mask, "--model", run, "--out", layers, "--json")
    assert status == 0
    assert json.loads(printed)[0]["foregrounds"] == ["foreground.png"]
    moved = tmp_path / "moved.png"
    status, printed, _ = layerkit("compose", layers / "photo", "--move", "0.1,0", "--tint", "255,0,0", "--out", moved)
    assert (status, printed.strip()) == (0, str(moved))
    assert read(moved).shape == (40, 52, 3)


def test_what_is_trained_draws_layers_that_are_edited_and_scored(layerkit, tmp_path):
    data, codec, run, out = (tmp_path / name for name in ("data", "codec", "run", "out"))
    layerkit("build-triplets", "demo", "--out", data, *TINY)
    few = ("--preset", "debug", "--data", "procedural", "--steps", 1, "--set", "validate_on=1", "--set", "ema=0.0")
    assert layerkit("train", "text2layer-ae", *few[:-2], "--out", codec)[0] == 0
    status, printed, _ = layerkit("train", "text2layer", *few, "--set", f"model.codec='{codec}'", "--out", run)
    assert status == 0
    assert "held_out_loss" in printed
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a red cone\n")
    status, printed, _ = layerkit(
        "generate", "a box", "--prompts", prompts, "--count", 2, "--model", run, "--out", out, "--json"
    )
    rows = json.loads(printed)
    assert status == 0
    assert [row["prompt"] for row in rows] == ["a box", "a box", "a red cone", "a red cone"]
    assert all(row["size"] == [32, 32] for row in rows)
    folder = out / rows[0]["name"]
    written = {path.name for path in folder.iterdir()}
    assert {"foreground.png", "background.png", "blend.png", "mask.png", "strip.png"} <= written
    moved = tmp_path / "moved.png"
    assert layerkit("compose", folder, "--move", "0.2,0", "--out", moved)[0] == 0
    assert read(moved).shape == (32, 32, 3)
    report = tmp_path / "report"
    status, _, _ = layerkit(
        "bench", "--model", run, "--suite", "ll2i", "--root", f"ll2i={data}", "--limit", 1, "--out", report
    )
    assert status == 0
    results = json.loads((report / "report.json").read_text())["results"]
    assert {(row["metric"], row["variant"]) for row in results} == {("mask-iou", "spectral")}
    status, _, error = layerkit("generate", "a box", "--model", codec, "--out", tmp_path / "other")
    assert status == 2
    assert "expected a system that draws layers from text, got text2layer-ae" in error


def test_a_subject_is_moved_and_every_step_is_kept(layerkit, tmp_path):
    image, mask, out = (tmp_path / name for name in ("image.png", "mask.png", "out"))
    picture = np.full((40, 52, 3), 90, np.uint8)
    picture[10:30, 8:24] = (200, 40, 30)
    image.write_bytes(encode_png(picture))
    mask.write_bytes(encode_png(np.pad(np.full((20, 16), 255, np.uint8), ((10, 10), (8, 28)))))
    command = ("reposition", image, "--mask", mask, "--out", out)
    status, printed, _ = layerkit(*command, "--to", "20,2", "--scale", "0.5", "--model", "telea", "--json")
    assert status == 0
    made = json.loads(printed)
    assert (made["move"], made["scale"]) == ([20, 2], 0.5)
    assert {path.name for path in out.iterdir()} == {*made["files"], "strip.png", "reposition.json"}
    status, _, error = layerkit(*command, "--to", "20,2")
    assert (status, "add --overwrite" in error) == (2, True)
    status, printed, _ = layerkit(*command, "--to=-4,0.05", "--shadow", "none", "--overwrite")
    assert status == 0
    assert "moved by -4, 2 px, scale 1 (given)" in printed
    assert not (out / "shadow.png").exists()
    status, _, _ = layerkit(*command, "--to", "4,2", "--own", "--model", "closed-form-matting", "--overwrite")
    assert (status, (out / "shadow.png").exists()) == (0, False)  # its own effects come along


def test_a_run_that_is_asked_to_end_exits_with_1_and_is_gone_on_with(layerkit, tmp_path, monkeypatch):
    from layerkit.pipelines.training.trainer import Trainer

    build, run = tmp_path / "build", tmp_path / "run"
    layerkit("build-triplets", "demo", "--out", build, *TINY)
    command = ("train", "layerdecomp", "--preset", "debug", "--data", build, "--out", run, "--steps", 3)
    command += ("--set", "validate_on=0", "--set", "validate_every=0")
    step = Trainer.step

    def interrupted(self, batches, done):
        row = step(self, batches, done)
        signal.raise_signal(signal.SIGTERM)
        return row

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "step", interrupted)
        status, printed, _ = layerkit(*command)
    assert status == 1
    assert "steps     1 of 3" in printed
    assert "run the same command with --resume" in printed
    status, printed, _ = layerkit(*command, "--resume")
    assert (status, "steps     3 of 3" in printed) == (0, True)


def test_a_dry_run_of_the_published_size_needs_nothing(layerkit):
    rgba = ("--set", "model.rgba_vae=runs/rgba")  # which is still to be trained
    dit = ("--base", "facebook/DiT-XL-2-512", *rgba)
    status, printed, _ = layerkit("train", "layerdecomp", *dit, "--dry-run", "--json")
    assert status == 0
    assert json.loads(printed)["trained"] == pytest.approx(718e6, rel=0.01)
    status, printed, _ = layerkit("train", "outpaint-and-remove", *rgba, "--dry-run", "--json")
    assert status == 0
    plan = json.loads(printed)
    assert plan["trained"] == pytest.approx(1.05e9, rel=0.01)  # LoRA of rank 256, says the paper's own arithmetic
    assert plan["frozen"] > 11.9e9
    assert plan["config"]["steps"] == 7200


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("build-triplets", "demo"), "--out: expected the folder to build in"),
        (("build-triplets", "none", "--out", "x"), "recipe: expected one of demo"),
        (("build-triplets", "--out", "x", "--exclude", "rord"), "--exclude: expected NAME=DIR"),
        (("build-triplets", "--out", "x", "--set", "size"), "--set: expected KEY=VALUE"),
        (("build-triplets", "--out", "x", "--set", "cut.saliensy=u2net"), "did you mean 'saliency'?"),
        (("build-triplets", "--out", "x", "--set", "name.x=1"), "--set: name in name.x is no table"),
        (("build-triplets", "--out", "x", "--address", "auto"), "--address: expected with --launcher ray"),
        (("build-triplets", "--out", "nostore://x"), "a store that fsspec knows, got 'nostore://x'"),
        (("stats", "none"), "expected a build folder, got none"),
        (("stats", "none", "--what-if", "iou=1"), "--what-if: expected FILTER=LOW..HIGH"),
        (("label", "none"), "--out: expected the file for the labels"),
        (("browse", "none"), "expected the folder of a build, a run or a report, got none"),
        (("browse", "s3://bucket/x"), "expected a folder of this machine, got s3://bucket/x"),
        (("browse", "none", "--limit", "0"), "--limit: expected 1 or more samples, got 0"),
        (("browse", "none", "--no-app", "--html", "x.html"), "--no-app, --html: expected one of them, got 2"),
        (("browse", "none", "--root", "x"), "--root: expected NAME=DIR"),
        (("browse", "none", "--export-tags"), "expected the folder of a build, a run or a report, got none"),
        (("train", "mask-quality", "--data", "x", "--out", "y"), "--labels: expected a labels file"),
        (("train", "layerdecomp", "--data", "x"), "--out: expected the folder of the run"),
        (("train", "layerdecomp", "--out", "x"), "--data: expected the folder of a finished build"),
        (("train", "layerdecom", "--data", "x", "--out", "y"), "layerdecomp, layerdiffuse-vae"),
        (
            ("train", "text2layer", "--preset", "debug", "--data", "procedural", "--out", "x"),
            "train one, and add --set",
        ),
        (("generate", "a mug", "--model", "layerfusion"), "--out: expected the folder for the layers"),
        (("generate", "a mug", "--out", "x"), "--model: expected a generator, got nothing"),
        (
            ("generate", "--model", "layerfusion", "--out", "x"),
            'PROMPT: expected what to draw, got nothing; add "a red',
        ),
        (("generate", " ", "--model", "layerfusion", "--out", "x"), "PROMPT: expected what to draw, got nothing"),
        (("generate", "a mug", "--model", "telea", "--out", "x"), "expected a generator (layerdiffuse-sdxl"),
        (("generate", "a mug", "--model", "m", "--out", "x", "--size", "3x"), "--size: expected a side such as 512"),
        (("generate", "a mug", "--model", "m", "--out", "x", "--steps", "0"), "--steps: expected 1 or more, got 0"),
        (("generate", "--model", "m", "--out", "x", "--prompts", "p.txt"), "expected a file of prompts"),
        (
            ("generate", "--model", "m", "--out", "x", "--prompts", "p.txt", "--negative", "blur"),
            "--negative: expected with a PROMPT, got --prompts",
        ),
        (("bench", "--model", "telea", "--suite", "ll2i", "--out", "x"), "expected a generator (layerdiffuse-sdxl"),
        ((*DEBUG, "--preset", "huge"), "--preset: expected one of v0, v1"),
        ((*DEBUG, "--set", "data.sise=64"), "did you mean 'size'?"),
        ((*DEBUG, "--set", "model.variant=v9"), "expected one of v0, v1, v2, full, got 'v9'"),
        (DEBUG, "expected a finished build with data/*.tar, got x"),
        ((*DEBUG, "--labels", "l.jsonl"), "--labels: expected where it says something, got it with layerdecomp"),
        (
            ("train", "mask-quality", "--data", "x", "--out", "y", "--labels", "l", "--dry-run", "--skip-broken"),
            "--dry-run, --skip-broken: expected where it says something, got it with mask-quality",
        ),
        (("decompose", "x.png", "--model", "telea"), "--out: expected the folder for the layers"),
        (("decompose", "x.png", "--model", "telea", "--out", "y"), "got x.png"),
        (("decompose", "x.png", "--model", "none", "--out", "y"), "the folder of a run, predictions:DIR"),
        (("decompose", "x.png", "--model", "telea", "--out", "y", "--fit", "crop"), "--fit: expected one of resize"),
        (("compose", "x"), "--out: expected the picture to write"),
        (("compose", "x", "--out", "y.png", "--move", "1"), "--move: expected 2 numbers with commas"),
        (("compose", "x", "--out", "y.png", "--scale", "0"), "scale: expected a factor above 0"),
        (("compose", "x", "--out", "y.png"), "layerkit decompose or generate wrote"),
        (MOVE, "--out: expected the folder for the pictures"),
        ((*MOVE, "--out", "x", "--shadow", "soft"), "--shadow: expected one of none, cast, paint"),
        ((*MOVE, "--out", "x", "--stance", "flying"), "--stance: expected one of auto, standing, lying"),
        ((*MOVE, "--out", "x", "--light", "60,95,0.5"), "--light: expected an elevation"),
        ((*MOVE, "--out", "x", "--light", "60"), "--light: expected 3 numbers"),
        ((*MOVE, "--out", "x", "--light", "nan,40,0.5"), "--light: expected an azimuth in degrees, got nan"),
        ((*MOVE, "--out", "x", "--light", "60,40,0.5", "--shadow", "none"), "--light: expected with a shadow"),
        ((*MOVE, "--out", "x", "--scale", "0"), "--scale: expected a factor above 0, at most 8, or auto, got 0.0"),
        ((*MOVE, "--out", "x", "--horizon", "0.3"), "--horizon: expected with --scale auto, got scale 1"),
        ((*MOVE, "--out", "x", "--scale", "auto"), "--scale auto: expected --depth with a depth model, or --horizon"),
        ((*MOVE, "--out", "x", "--grow", "-3"), "--grow: expected pixels from 0, got -3"),
        ((*MOVE, "--out", "x", "--amodal", "a.png"), "--amodal: expected --complete with a model that paints"),
        ((*MOVE, "--out", "x", "--complete", "telea"), "--complete: expected --amodal or --shadow paint"),
        (
            (*MOVE, "--out", "x", "--harmonise", "telea"),
            "--harmonise: expected none, colour or a run that harmonises",
        ),
        ((*MOVE, "--out", "x", "--depth", "deep"), "expected a depth model (depth-anything-v2-small), got 'deep'"),
        ((*MOVE, "--out", "x", "--scale", "big"), "--scale: expected a factor such as 0.8, or auto, got 'big'"),
        ((*MOVE, "--out", "x"), "expected a picture, got x.png"),
        (("build-triplets", "--out", "x", "--root", "photos"), "--root: expected NAME=DIR"),
        (("build-triplets", "--out", "x", "--root", "phots=x"), "source: expected one of embedded"),
        (("build-triplets", "--out", "x", "--part", "0/3"), "--part: expected I/N with 1 <= I <= N, got 0/3"),
        (("build-triplets", "--out", "x", "--part", "one"), "--part: expected I/N such as 3/16, got 'one'"),
        (("build-triplets", "--out", "x", "--launcher", "spark"), "--launcher: expected one of local, ray"),
        (("build-triplets", "--out", "x", "--workers", "0"), "--workers: expected 1 or more, got 0"),
        (("build-triplets", "--out", "x", "--allow-licence", "free"), "--allow-licence: expected a class"),
        (("verify", "x"), "expected a build folder, got"),
        (("fetch", "imagenet", "--to", "x"), "fetch: expected one of openimages"),
        (("fetch", "rord"), "--to: expected the folder to download into"),
        (("fetch", "openimages", "--to", "x", "--split", "val"), "--split: expected one of train, validation, test"),
        (("ls", "model"), "metrics, got 'model'"),
        (("bench", "--model", "identity", "--suite", "demo"), "--out: expected the folder for the report"),
        (("bench", "--model", "lamma", "--suite", "demo", "--out", "x"), "expected a model (identity, mean-fill"),
        (("bench", "--model", "brushnet", "--suite", "demo", "--out", "x"), "brushnet is not available"),
        (
            ("bench", "--model", "identity", "--suite", "demos", "--out", "x"),
            "--suite: expected one of demo, rord-tight",
        ),
        (("bench", "--model", "identity", "--suite", "rord", "--out", "x"), "add --root rord=DIR"),
        (("bench", "--model", "identity", "--suite", "triplets:none", "--out", "x"), "expected a folder with build"),
        (
            ("bench", "--model", "identity", "--suite", "demo", "--out", "x", "--on-missing", "no"),
            "--on-missing: expected error or skip, got 'no'",
        ),
        (
            ("bench", "--model", "identity", "--suite", "demo", "--out", "x", "--root", "rord"),
            "--root: expected NAME=DIR",
        ),
        (("compare", "none", "none"), "none"),
    ],
)
def test_wrong_usage_is_one_line_on_standard_error_and_exit_2(layerkit, monkeypatch, tmp_path, arguments, said):
    monkeypatch.chdir(tmp_path)
    status, printed, complaint = layerkit(*arguments)
    assert (status, printed) == (2, "")
    line = complaint.strip().splitlines()[-1]
    assert line.startswith("layerkit: ")
    assert said in line
    assert "Traceback" not in complaint
    assert not (tmp_path / "x").exists()


def test_fetch_prints_the_steps_of_a_manual_data_set(layerkit, tmp_path):
    status, printed, _ = layerkit("fetch", "rord", "--to", tmp_path / "x")
    report = json.loads(layerkit("fetch", "rord", "--to", tmp_path / "x", "--json")[1])
    assert status == 0
    assert report["steps"]
    assert all(step in printed for step in [report["licence"], *report["steps"]])


def test_fetch_names_what_is_missing_and_fails_where_another_run_may_help(layerkit, monkeypatch, tmp_path):
    from layerkit.pipelines import fetch

    rows = [
        fetch.NotFetched(file=f"validation/{reason}.jpg", reason=reason, detail="why")
        for reason in ("not_found", "failed")
    ]
    for missing, expected in ((rows[:1], 0), (rows, 1)):
        result = fetch.FetchReport(
            name="openimages", to="x", licence="l", fetched=3, bytes=2_000_000, missing=tuple(missing)
        )
        monkeypatch.setattr(fetch, "fetch", lambda name, to, result=result, **options: result)
        status, printed, _ = layerkit("fetch", "openimages", "--to", tmp_path)
        assert status == expected
        assert "3 came (2.0 MB), 0 were there" in printed
        assert all(f"{row.file}: {row.reason}, why" in printed for row in missing)


def test_debug_shows_the_traceback(layerkit):
    with pytest.raises(cli.UsageError):
        layerkit("--debug", "ls", "nothing")


def test_what_is_excluded_is_told_by_verify_and_dropped_by_bench(layerkit, tmp_path):
    out = tmp_path / "build"
    layerkit("build-triplets", "demo", "--out", out, *TINY)
    rows = json.loads(layerkit("verify", out, "--workers", 1, "--json")[1])
    assert rows["excluded"] == 0
    first, *others = sorted({path.partition(".")[0] for tar in (out / "data").iterdir() for path in names_in(tar)})
    (out / "manifests/exclude.txt").write_text(first)
    assert "excluded  1 samples, by manifests/exclude.txt" in layerkit("verify", out, "--workers", 1)[1]
    (tmp_path / "ids.txt").write_text(others[0])
    wanted = ("--model", "identity", "--suite", f"triplets:{out}", "--out", tmp_path / "report", "--json")
    status, printed, _ = layerkit("bench", *wanted, "--exclude", tmp_path / "ids.txt")
    report = json.loads(printed)
    assert status == 0
    assert {row["id"]: row["reason"] for row in report["dropped"]} == {
        first: "excluded",
        others[0]: "excluded",
    }
    assert {row["n"] for row in report["results"] if row["metric"] == "ssim"} == {2}
    assert layerkit("bench", *wanted, "--exclude", tmp_path / "none.txt")[0] == 2


def names_in(tar):
    with tarfile.open(tar) as archive:
        return archive.getnames()


def test_a_page_of_a_build_needs_no_fiftyone(layerkit, tmp_path):
    layerkit("build-triplets", "demo", "--out", tmp_path / "build", *TINY)
    status, printed, _ = layerkit("browse", tmp_path / "build", "--limit", 2, "--html", tmp_path / "page.html")
    assert (status, printed) == (0, f"page      {tmp_path / 'page.html'}\n")
    assert (tmp_path / "page.html").read_text().count("<article") == 2
    status, _, error = layerkit("browse", tmp_path / "build", "--html", tmp_path / "page.html")
    assert status == 2
    assert "add --overwrite" in error


@pytest.mark.parametrize("table", ["recipes", "sources", "weights", "suites", "models", "generators", "metrics"])
def test_ls_prints_a_table_or_json(layerkit, table):
    status, printed, _ = layerkit("ls", table)
    rows = json.loads(layerkit("ls", table, "--json")[1])
    assert status == 0
    assert all(row["name"] in printed for row in rows)
    assert len(printed.splitlines()) == len(rows) + 1


def test_bench_and_compare(layerkit, tmp_path):
    out = tmp_path / "report"
    models = ("--model", "identity", "--model", "telea")
    bench = ("bench", *models, "--suite", "demo", "--limit", 4, "--device", "cpu", "--out", out)
    status, printed, progress = layerkit(*bench)
    assert status == 0
    assert "demo  telea  psnr:area@whole" in printed
    assert f"report    {out}/report.html" in printed
    assert "demo identity" in progress
    assert all((out / f"report.{form}").stat().st_size for form in ("json", "md", "html", "tex", "csv"))
    status, printed, _ = layerkit(*bench, "--json")
    assert (status, json.loads(printed)) == (0, json.loads((out / "report.json").read_bytes()))
    page = tmp_path / "page.html"
    status, printed, _ = layerkit("compare", f"{out}:identity", f"{out}:telea", "--html", page)
    assert status == 0
    assert "second" in printed
    assert "</html>" in page.read_text()
    findings = json.loads(layerkit("compare", f"{out}:identity", f"{out}:telea", "--json")[1])["findings"]
    assert {row["n"] for row in findings if row["metric"] == "ssim"} == {4}


def test_missing_weights_are_told_and_an_error_with_strict(layerkit, monkeypatch, tmp_path):
    for name in ("HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    bench = (
        "bench",
        "--model",
        "identity",
        "--suite",
        "demo",
        "--limit",
        1,
        "--device",
        "cpu",
        "--out",
        tmp_path / "x",
    )
    status, printed, _ = layerkit(*bench)
    assert status == 0
    assert "skipped" in printed
    status, _, complaint = layerkit(*bench, "--strict")
    assert status == 2
    assert "layerkit: --strict: identity on demo, lpips:alex@whole" in complaint
    assert "run: " in complaint


def test_the_slice_of_a_slurm_array_is_read_from_the_environment(layerkit, monkeypatch, tmp_path):
    for name, value in (("ID", "7"), ("MIN", "6"), ("COUNT", "2")):
        monkeypatch.setenv(f"SLURM_ARRAY_TASK_{name}", value)
    status, printed, _ = layerkit("build-triplets", "demo", "--out", tmp_path / "b", *TINY)
    assert status == 0
    assert "the run that ends last writes card and manifests" in printed
    assert [tar.name for tar in (tmp_path / "b" / "data").iterdir()] == ["train-paste-000001.tar"]


def test_version_is_the_packages(layerkit):
    import layerkit as package

    assert layerkit("--version")[1].strip() == package.__version__
