"""The papers' recipes at the command line, on small roots of MuLAn, LayerDiffuse and Open Images together."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from layerkit.pipelines import loaders
from layerkit.pipelines.verify import verify
from layerkit.toolkit.models.tiny_sdxl import write_tiny_sdxl

TESTS = Path(__file__).parents[1]


def neighbour(path: str) -> ModuleType:
    """Another file of the tests: they are no package."""
    spec = importlib.util.spec_from_file_location(f"of_{Path(path).stem}", TESTS / path)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


_saliency, _inpaint, _generator = (
    neighbour(f"toolkit/{name}.py") for name in ("test_saliency", "test_inpaint", "models/test_layerdiffuse")
)
tiny_pipeline = _inpaint.tiny_pipeline

pytestmark = pytest.mark.slow

MIXES = {
    "outpaint-and-remove": (
        "mulan-on-openimages",
        "layerdiffuse-on-openimages",
        "openimages-on-openimages",
        "mulan-layers",
        "openimages-cut",
    ),
    "layerdecomp": ("objects", "generated"),
    "text2layer": ("openimages",),
}
SOURCES = {
    "outpaint-and-remove": {"mulan", "layerdiffuse", "openimages"},
    "layerdecomp": {"layerdiffuse", "openimages"},
    "text2layer": {"openimages"},
}
LICENCES = {"mulan": {"cc-by-nc-sa-4.0"}, "layerdiffuse": {"unknown"}, "openimages": {"cc-by-2.0", "unknown"}}

LOOSE = (
    *(f"filters.{name}=[0, 1]" for name in ("border", "haze", "area", "outside", "mask_quality", "inpaint_quality")),
    *(f"filters.{name}=[0, 1000]" for name in ("fragments", "texture", "composite")),
    "placement.inside=0.01",
)

TWO_PASTES = """
[[mix]]
name = "generated"
share = 1
route = "paste"
foregrounds = "layerdiffuse"
backgrounds = "openimages"
"""

GENERATE = """
count = 3
size = 96
[sources."layerdiffuse:generate"]
licence = "cc0-1.0"
[[mix]]
name = "generated"
share = 1
route = "paste"
foregrounds = "layerdiffuse:generate"
backgrounds = "openimages"
objects = [1, 1]
[filters]
side = [8, inf]
border = [0, 1]
haze = [0, 1]
fragments = [0, 10000]
saliency_contrast = [0, 1]
sharpness = [0, inf]
area = [0, 1]
"""

Layerkit = Callable[..., subprocess.CompletedProcess[str]]
Build = Callable[..., Path]


@pytest.fixture(scope="session")
def generator_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sdxl(tmp_path_factory.mktemp("weights"))


@pytest.fixture(scope="module")
def roots(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("roots")
    return neighbour("pipelines/three_sources.py").write_roots(folder, shared_data, side=160, count=24)


@pytest.fixture(scope="module")
def layerkit(cache_dir: Path) -> Layerkit:
    """``layerkit(*arguments, rc=0)``: the command line in a process of its own, with the session's cache."""

    def run(*arguments: object, rc: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "layerkit", *map(str, arguments)]
        done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "200"})
        assert done.returncode == rc, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="module")
def build(layerkit: Layerkit, roots: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Build:
    """``build(recipe, *arguments)``: a build of the three roots in a new folder."""

    def run(recipe: str, *arguments: object, count: int = 60, roots: Mapping[str, Path] = roots) -> Path:
        out = tmp_path_factory.mktemp("built") / "out"
        places = [word for name, folder in roots.items() for word in ("--root", f"{name}={folder}")]
        size = ("--count", count, "--size", 96, "--shard-size", 6, "--workers", 1)
        layerkit("build-triplets", recipe, "--out", out, *size, *places, *arguments)
        return out

    return run


@pytest.fixture(scope="module", params=MIXES)
def recipe(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def built(recipe: str, build: Build) -> Path:
    """Every recipe as it is shipped; the first one also with splits that 60 triplets suffice for."""
    splits = ("--set", "splits.val=0.1", "--set", "splits.test=0.1") if recipe == "outpaint-and-remove" else ()
    return build(recipe, *splits)


def samples(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "manifests" / "samples.parquet").to_pylist()


def rejects(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "manifests" / "rejects.parquet").to_pylist()


def statistics(out: Path) -> dict[str, Any]:
    return json.loads((out / "manifests" / "stats.json").read_bytes())


def recipe_of(out: Path) -> dict[str, Any]:
    return json.loads((out / ".layerkit" / "run.json").read_bytes())["recipe"]


# as they are shipped


def test_sixty_are_kept_by_every_mix_and_verify_clean(recipe: str, built: Path, layerkit: Layerkit):
    rows = samples(built)
    assert len(rows) == 60
    assert {row["mix"] for row in rows} == set(MIXES[recipe])
    assert layerkit("verify", built, "--workers", 1).stdout == f"{built}: sound\n"


def test_each_layer_says_where_it_is_from_and_under_what_licence(recipe: str, built: Path):
    told = defaultdict(set)
    for row in samples(built):
        licences = [layer["licence"] for layer in row["layers"]]
        assert row["licence"] == next(one for one in ("unknown", "cc-by-nc-sa-4.0", "cc-by-2.0") if one in licences)
        for layer in row["layers"]:
            told[layer["dataset"]].add(layer["licence"])
            assert re.fullmatch("[0-9a-f]{64}", layer["sha256"])
            assert layer["author"] == ("Wen, L." if layer["licence"] == "cc-by-2.0" else "")
    assert set(told) == SOURCES[recipe]
    assert all(licences <= LICENCES[source] for source, licences in told.items())
    assert "cc-by-2.0" in told["openimages"]


def test_the_card_has_counts_funnel_and_licences_a_layer(recipe: str, built: Path):
    text, found = (built / "README.md").read_text(), statistics(built)
    assert "60 triplets for image layer decomposition, 96 x 96 px" in text
    for mix in MIXES[recipe]:
        assert re.search(
            rf"^\| {mix} \| (paste|cut|layers) \| .* \| {found['mixes'][mix]['kept']} \|", text, re.MULTILINE
        )
    assert f"Of {found['funnel']['candidates']} candidates for 60 places:" in text
    assert {"truncated", "unknown_occluded"} <= found["funnel"]["sources_dropped"].keys()
    for reason, number in found["funnel"]["sources_dropped"].items():
        assert f"| {reason} | {number} |" in text
    for layer, licences in found["licences"].items():
        assert all(f"| {layer} | {licence} | {number} |" in text for licence, number in licences.items())
    assert {"foreground", "background", "sample"} <= found["licences"].keys()
    assert "| openimages | Wen, L. | cc-by-2.0 | https://land/" in text


def test_no_file_is_in_two_splits(recipe: str, built: Path):
    files = defaultdict(set)
    for row in samples(built):
        files[row["split"]] |= {layer["sha256"] for layer in row["layers"]}
    assert recipe != "outpaint-and-remove" or set(files) == {"train", "val", "test"}
    assert sum(map(len, files.values())) == len(set().union(*files.values()))


def test_each_class_of_licence_is_a_configuration_that_loads(
    recipe: str, built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    front = yaml.safe_load((built / "README.md").read_text().split("---\n")[1])
    classes = [one["config_name"] for one in front["configs"]]
    assert {"default", "open"} <= set(classes)
    sizes = {}
    for name in classes:
        rows = datasets.load_dataset(str(built), name=name, cache_dir=str(tmp_path / "cache"))
        records = [record for split in rows.values() for record in split["json"]]
        licences = {record["licence"] for record in records}
        assert name != "open" or licences == {"cc-by-2.0"}
        assert name != "non-commercial" or licences == {"cc-by-2.0", "cc-by-nc-sa-4.0"}
        sizes[name] = len(records)
    assert sizes["default"] == 60
    assert recipe != "outpaint-and-remove" or sizes["open"] < sizes["non-commercial"] < 60


def test_other_limits_give_another_yield(recipe: str, built: Path, layerkit: Layerkit):
    told = layerkit("stats", built, "--what-if", "saliency_iou=0.6").stdout
    found = re.findall(r"^(.+): (\d+) candidates, (\d+) kept; (\d+) are within these limits", told, re.MULTILINE)
    assert [mix for mix, *_ in found] == list(MIXES[recipe])
    assert sum(int(kept) for _, _, kept, _ in found) == len(samples(built))
    assert sum(int(passing) for *_, passing in found) == sum(
        row["scores"]["saliency_iou"] >= 0.6 for row in samples(built)
    )


def test_what_cannot_serve_is_refused_with_its_reason(built: Path, recipe: str):
    reasons = defaultdict(set)
    for row in rejects(built):
        reasons[row["reason"]].add(row["source"] if "source" in row else row["mix"])
    assert {"truncated", "unknown_occluded"} <= reasons.keys()
    if recipe == "outpaint-and-remove":
        assert {"missing_base_image", "missing_file"} <= reasons.keys()


# with other settings


def test_only_open_licences_are_let_in_where_asked(build: Build, roots: dict[str, Path]):
    own = roots["openimages"].parent / "open.toml"
    own.write_text(TWO_PASTES, encoding="utf-8")
    licensed = build(own, "--allow-licence", "open", "--set", "sources.layerdiffuse.licence=cc0-1.0", count=6)
    told = {layer["licence"] for row in samples(licensed) for layer in row["layers"]}
    assert told == {"cc-by-2.0", "cc0-1.0"}
    refused = {(row["mix"], row["detail"]) for row in rejects(licensed) if row["reason"] == "licence"}
    assert ("generated", "unknown is not among --allow-licence") in refused  # the background that nobody licensed


def test_a_recipe_that_needs_refused_sources_says_so(layerkit: Layerkit, roots: dict[str, Path], tmp_path: Path):
    places = [word for name, folder in roots.items() for word in ("--root", f"{name}={folder}")]
    for mix, source, licence in (("mulan-on", "mulan", "cc-by-nc-sa-4.0"), ("generated", "layerdiffuse", "unknown")):
        recipe = "outpaint-and-remove" if source == "mulan" else "layerdecomp"
        arguments = ("--out", tmp_path / source, "--size", 96, "--allow-licence", "open", "--workers", 1)
        told = layerkit("build-triplets", recipe, *arguments, *places, rc=2).stderr
        assert f"mix '{mix}" in told
        assert f"foreground from '{source}': nothing is usable" in told
        assert "'licence': " in told
        assert f"{licence} is not among --allow-licence" in told


def test_a_benchmark_keeps_its_pictures_out(build: Build, roots: dict[str, Path], tmp_path: Path):
    picture = next(layer for row in samples(build("text2layer", count=4)) for layer in row["layers"])
    (tmp_path / "bench").mkdir()
    shutil.copy(roots["openimages"] / f"{picture['id'].rpartition('/')[0]}.jpg", tmp_path / "bench" / "copy.jpg")
    out = build("text2layer", "--exclude", f"bench={tmp_path / 'bench'}", count=4)
    leaked = [row for row in rejects(out) if row["reason"] == "leak"]
    assert leaked
    assert all(row["detail"] == "is bench:copy.jpg" for row in leaked)
    assert picture["sha256"] not in {layer["sha256"] for row in samples(out) for layer in row["layers"]}
    assert f"| bench | 1 | {len(leaked)} | 0 |" in (out / "README.md").read_text()


@pytest.mark.parametrize(
    ("settings", "models"),
    [
        (
            ("cut.mask=saliency", "cut.matting=none", "cut.inpainting=telea", *LOOSE),
            {"foreground.matting": "", "foreground.segmentation": "threshold@", "background.inpainting": "telea@"},
        ),
        (
            ("cut.matting=guided", "cut.inpainting=navier-stokes", "filters.saliency_contrast=[0, 1]"),
            {"foreground.matting": "guided@", "background.inpainting": "navier-stokes@"},
        ),
    ],
)
def test_other_ways_to_take_apart_are_recorded(
    build: Build, layerkit: Layerkit, settings: tuple[str, ...], models: dict[str, str]
):
    out = build("text2layer", *(word for setting in settings for word in ("--set", setting)), count=4)
    rows = samples(out)
    assert rows
    for row in rows:
        assert all(json.loads(row["models"])[role].startswith(name) for role, name in models.items())
        assert all(bool(json.loads(row["models"])[role]) == bool(name) for role, name in models.items())
    layerkit("verify", out, "--workers", 1)


def test_text2layers_own_way_runs_on_its_kinds_of_weights(
    build: Build,
    layerkit: Layerkit,
    roots: dict[str, Path],
    tmp_path: Path,
    tiny_pipeline: Path,
    generator_weights: Path,
):
    pytest.importorskip("onnxruntime")
    from diffusers import AutoencoderKL, StableDiffusionInpaintPipeline

    _saliency.red_channel_model(tmp_path / "birefnet.onnx", 2.0, -1.0)
    # the pipeline works at 512 px, so its latents have to be an eighth as large as the real one's are
    vae = AutoencoderKL.from_pretrained(generator_weights / "layerdiffuse-sdxl-base" / "vae")
    whole = StableDiffusionInpaintPipeline.from_pretrained(tiny_pipeline, vae=vae, safety_checker=None)
    whole.save_pretrained(tmp_path / "sd-inpaint", safe_serialization=True)
    few = openimages_part(roots["openimages"], tmp_path / "few", 4)
    words = ("cut.mask=saliency", "cut.threshold=0.4", "cut.saliency=birefnet", "cut.matting=none")
    settings = (*words, "cut.inpainting=sd-inpaint", *LOOSE)
    options = [word for setting in settings for word in ("--set", setting)]
    out = build("text2layer", *options, "--weights", tmp_path, count=3, roots={"openimages": few})
    rows = samples(out)
    assert len(rows) == 3
    for row in rows:
        models = json.loads(row["models"])
        assert re.fullmatch("sd-inpaint@sha256:[0-9a-f]{16}", models["background.inpainting"])
        assert re.fullmatch("birefnet@sha256:[0-9a-f]{16}", models["saliency"])
        assert models["foreground.matting"] == ""
    layerkit("verify", out, "--workers", 1)


def test_turned_and_harmonised_objects_are_recorded(build: Build, layerkit: Layerkit):
    settings = ("--set", "placement.rotate=20", "--set", "harmonise=[0.3, 0.8]")
    out = build("layerdecomp", *settings, count=10)
    told = [json.loads(row["choices"])["objects"] for row in samples(out)]
    angles = [one["angle"] for objects in told for one in objects]
    strengths = [one["harmonise"] for objects in told for one in objects]
    assert len(set(angles)) > 5
    assert all(-20 <= angle <= 20 for angle in angles)
    assert min(strengths) >= 0.3
    assert max(strengths) <= 0.8
    layerkit("verify", out, "--workers", 1)


def test_prompts_become_cut_outs_once(
    build_demo: Build, roots: dict[str, Path], tmp_path: Path, generator_weights: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "a.txt").write_text("a cat\n", encoding="utf-8")
    (tmp_path / "prompts" / "b.jsonl").write_text('{"prompt": "two dogs", "seed": 5}\n', encoding="utf-8")
    (tmp_path / "own.toml").write_text(GENERATE, encoding="utf-8")
    tiny, calls = _generator.tiny(generator_weights), []  # 48 x 32 px: the real size takes minutes even with it

    class Counting:
        name, revision = tiny.name, tiny.revision

        def __call__(self, prompt: str, seed: int, negative: str) -> Any:
            calls.append(prompt)
            return tiny(prompt, seed, negative)

    monkeypatch.setattr(loaders, "load_generator", lambda name, weights: Counting())
    loaders.cutout_generator.cache_clear()
    places = {"layerdiffuse:generate": tmp_path / "prompts", "openimages": roots["openimages"]}
    given = {"recipe": str(tmp_path / "own.toml"), "roots": places, "count": 3, "size": 96}
    build_demo(tmp_path / "first", **given)
    assert sorted(calls) == ["a cat", "two dogs"]
    for row in samples(tmp_path / "first"):
        assert json.loads(row["models"])["foreground.generator"] == f"{tiny.name}@{tiny.revision}"
        assert row["caption"].partition(";")[0] in {"a cat", "two dogs"}
        assert row["layers"][0]["dataset"] == "layerdiffuse:generate"
        assert row["layers"][0]["licence"] == "cc0-1.0"
    assert verify(tmp_path / "first") == []
    build_demo(tmp_path / "again", seed=1, **given)
    assert len(calls) == 2
    assert len(samples(tmp_path / "first")) == len(samples(tmp_path / "again")) == 3
    loaders.cutout_generator.cache_clear()


def openimages_part(root: Path, folder: Path, count: int) -> Path:
    """The first pictures of the validation split alone, without tables."""
    (folder / "validation").mkdir(parents=True)
    for path in sorted((root / "validation").iterdir())[:count]:
        shutil.copy(path, folder / "validation")
    return folder
