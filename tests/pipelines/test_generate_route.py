"""Route ``generate``: prompts become triplets, by any generator of both layers, and pass the gates of the toolkit."""

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.recipes import shipped
from layerkit.pipelines import assets, loaders
from layerkit.pipelines.recipe import load
from layerkit.pipelines.verify import verify
from layerkit.toolkit import generators
from layerkit.toolkit.models.tiny_sdxl import write_tiny_sdxl
from layerkit.toolkit.shards import decode_layers, read_samples

MODULE = '''
import cv2
import numpy as np
from layerkit.toolkit.compose import over_u8
from layerkit.toolkit.generation import Generation


class Discs:
    """A spotted disc before a striped ground; "far" blends unlike its layers, "nothing" has no object."""

    name, revision, licence, has_background = "discs", "3", "CC0-1.0", True

    def __call__(self, prompts, seeds):
        return [self.drawn(prompt.prompt, seed) for prompt, seed in zip(prompts, seeds, strict=True)]

    def drawn(self, prompt, seed):
        rng = np.random.default_rng(seed)
        x, y = (int(v) for v in rng.integers(36, 60, 2))
        alpha = cv2.circle(np.zeros((96, 96), np.uint8), (x, y), 22, 255, cv2.FILLED, cv2.LINE_AA)
        if prompt == "nothing":
            alpha[:] = 0
        rows, columns = np.mgrid[:96, :96]
        base = rng.integers(150, 250, 3)
        spots = np.where(((rows // 5 + columns // 5) % 2 > 0)[..., None], base, base // 3).astype(np.uint8)
        ground = rng.integers(60, 120, 3) + 20 * np.sin(rows / rng.uniform(3, 9))[..., None]
        background = (ground + rng.normal(0, 6, (96, 96, 3))).clip(0, 255).astype(np.uint8)
        foreground = np.dstack([spots * (alpha > 0)[..., None], alpha])
        blend = over_u8(foreground, background)
        return Generation(foreground, background, 255 - blend if prompt == "far" else blend)


class CutOuts(Discs):
    name, has_background = "cut-outs", False
'''


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    (tmp_path / "discs_of_a_test.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    loaders.layered_generator.cache_clear()
    yield
    loaders.layered_generator.cache_clear()
    sys.modules.pop("discs_of_a_test", None)


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    """Ten prompts, of which one draws nothing and one a blend that is not its layers'."""
    folder = tmp_path / "prompts"
    folder.mkdir()
    rows = [{"prompt": f"a disc of kind {k}", "seed": k} for k in range(8)]
    lines = [json.dumps(row) for row in (*rows, {"prompt": "nothing"}, {"prompt": "far"})]
    (folder / "own.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def built(
    build_demo: Callable[..., Any], prompts: Path, out: Path, generator: str = "Discs", depth: str = "none", **more: Any
) -> Any:
    settings = (f"cut.generator='python:discs_of_a_test:{generator}'", f"cut.depth='{depth}'", "splits={}")
    return build_demo(
        out, recipe="layerfusion", settings=settings, roots={"prompts": prompts}, workers=1, size=64, **more
    )


def test_prompts_become_triplets_that_verify(build_demo: Callable[..., Any], prompts: Path, tmp_path: Path):
    built(build_demo, prompts, tmp_path / "out", count=8)
    assert verify(tmp_path / "out") == []
    rows = pq.read_table(tmp_path / "out" / "manifests" / "samples.parquet").to_pylist()
    assert len(rows) == 8
    for row in rows:
        assert (row["route"], row["mix"]) == ("generate", "layerfusion")
        assert row["caption"].startswith("a disc of kind ")
        assert {layer["dataset"] for layer in row["layers"]} == {"prompts"}
        assert json.loads(row["models"])["foreground.generator"] == "discs@3"
        assert row["scores"]["composite"] < 5  # JPEG backgrounds, resized
    for path in sorted((tmp_path / "out" / "data").glob("*.tar")):
        for _, members in read_samples(path):
            layers = decode_layers(members)
            assert not layers.occluder.any()
            assert not layers.shadow.any()
            assert 0.05 < (layers.mask > 0).mean() < 0.75


def test_a_model_of_depth_that_judged_is_named(
    build_demo: Callable[..., Any], prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    class Flat:
        name, revision = "flat", "7"

        def __call__(self, picture: Any) -> Any:
            return np.zeros(picture.shape[:2], np.float32)

    for module in (loaders, assets):
        monkeypatch.setattr(module, "depth_model", lambda name, weights: Flat())
    built(build_demo, prompts, tmp_path / "out", count=1, depth="depth-anything-v2-small")
    (row,) = pq.read_table(tmp_path / "out" / "manifests" / "samples.parquet").to_pylist()
    assert json.loads(row["models"])["foreground.depth"] == "flat@7"


def test_what_is_drawn_badly_is_refused_with_its_reason(build_demo: Callable[..., Any], prompts: Path, tmp_path: Path):
    built(build_demo, prompts, tmp_path / "out", count=24)
    rejects = pq.read_table(tmp_path / "out" / "manifests" / "rejects.parquet").to_pylist()
    reasons = {row["reason"] for row in rejects}
    assert "no_object" in reasons
    assert "composite" in reasons
    nothing = next(row for row in rejects if row["reason"] == "no_object")
    assert "discs drew no object of 'nothing'" in json.dumps(nothing, default=str)
    captions = {row["caption"] for row in pq.read_table(tmp_path / "out" / "manifests" / "samples.parquet").to_pylist()}
    assert not {"far", "nothing"} & captions


def test_the_same_bytes_come_again(build_demo: Callable[..., Any], prompts: Path, tmp_path: Path):
    digests = []
    for name in ("one", "two"):
        built(build_demo, prompts, tmp_path / name, count=4, cache=tmp_path / f"cache-{name}")
        digests.append([path.read_bytes() for path in sorted((tmp_path / name / "data").glob("*.tar"))])
    assert digests[0] == digests[1]


def test_a_generator_of_cut_outs_is_refused(build_demo: Callable[..., Any], prompts: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"cut\.generator: expected one that draws a background too, got cut-outs"):
        built(build_demo, prompts, tmp_path / "out", "CutOuts", count=2)


def test_the_shipped_recipe_asks_layerfusion():
    assert "layerfusion" in shipped()
    (mix,) = load("layerfusion", {}).mix
    assert (mix.route, mix.photos, mix.cut.generator) == ("generate", "prompts", "layerfusion")
    assert np.isfinite(mix.filters.composite[1])


@pytest.mark.slow
def test_layerfusion_builds_on_an_sdxl_of_random_weights(
    build_demo: Callable[..., Any], prompts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Its pictures are noise, so the gates stand open; that the triplets are sound is seen all the same."""
    weights = write_tiny_sdxl(tmp_path / "weights")
    small = generators.Options(weights=weights, size=(96, 96), steps=2, device="cpu")
    load_generator = generators.load
    monkeypatch.setattr(generators, "load", lambda name, options: load_generator(name, small))
    open_ = ("side", "border", "haze", "fragments", "residual", "saliency_contrast", "composite", "texture")
    limits = ", ".join(f"{name} = [0.0, inf]" for name in (*open_, "area", "sharpness"))
    build_demo(
        tmp_path / "out",
        recipe="layerfusion",
        settings=("splits={}", f"filters={{{limits}, near_duplicate = -1}}"),
        roots={"prompts": prompts},
        workers=1,
        size=64,
        count=4,
        weights=weights,
    )
    assert verify(tmp_path / "out") == []
    rows = pq.read_table(tmp_path / "out" / "manifests" / "samples.parquet").to_pylist()
    assert len(rows) == 4
    assert all(json.loads(row["models"])["foreground.generator"].startswith("layerfusion-sdxl@sha256:") for row in rows)
