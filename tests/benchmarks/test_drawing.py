"""Generators on suites of texts: what they draw against a build's pictures, other models' layers, and masks."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from layerkit.benchmarks import networks
from layerkit.benchmarks.bench import bench
from layerkit.benchmarks.measures import parse_measure
from layerkit.benchmarks.networks import Networks
from layerkit.benchmarks.options import BenchOptions
from layerkit.benchmarks.scoring import picture_pair, score, why_not
from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.manifests.prompts import Prompt
from layerkit.manifests.report_files import file_name
from layerkit.manifests.sources import drawn_pairs
from layerkit.manifests.suites import SUITES
from layerkit.pipelines.build import build
from layerkit.pipelines.options import BuildOptions
from layerkit.pipelines.recipe import load
from layerkit.toolkit.compose import over_u8
from layerkit.toolkit.decomposition import Decomposition
from layerkit.toolkit.images import encode_png, read
from layerkit.toolkit.metrics.layering import on_colour
from layerkit.toolkit.metrics.masks import hard_iou
from layerkit.toolkit.saliency import SpectralResidual
from layerkit.toolkit.suites.cases import Case, Dropped, cases

MODULE = """
import cv2
import numpy as np
from layerkit.toolkit.generation import Generation


class Discs:
    name, revision, licence, has_background = "discs", "1", "CC0-1.0", True
    calls = 0

    def __call__(self, prompts, seeds):
        type(self).calls += len(prompts)
        return [self.drawn(seed) for seed in seeds]

    def drawn(self, seed):
        rng = np.random.default_rng(seed)
        x, y = (int(v) for v in rng.integers(40, 60, 2))
        alpha = cv2.circle(np.zeros((SIDE, SIDE), np.uint8), (x, y), 25, 255, -1)
        colour = np.full((SIDE, SIDE, 3), rng.integers(128, 256, 3), np.uint8)
        ground = rng.integers(0, 90, (SIDE, SIDE, 3), np.uint8)
        return Generation(np.dstack([colour * (alpha > 0)[..., None], alpha]), ground)


class Cuts(Discs):
    has_background = False
"""
MODEL = "python:discs_of_a_bench:Discs"
PROMPT = Prompt("a cup on a table", foreground="a cup")


class Words:
    """A CLIP whose vectors are the mean colour of a picture, and of a text the numbers of its letters."""

    def images(self, pictures: Any) -> np.ndarray:
        return np.array([picture.reshape(-1, 3).mean(0) for picture in pictures], np.float32)

    def texts(self, texts: Any) -> np.ndarray:
        return np.array([[text.count(letter) + 1 for letter in "abc"] for text in texts], np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of twelve triplets, a third of them held out; captions come from the embedded photographs."""
    out = tmp_path_factory.mktemp("ll2i")
    recipe = load("demo", {"count": 12, "size": 96, "shard_size": 6}, ["splits={test=0.34}"])
    build(recipe, BuildOptions(out=out / "build", cache=out / "cache", workers=1), lambda progress: None)
    return out / "build"


@pytest.fixture(autouse=True)
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    def install(side: int) -> None:
        (tmp_path / "discs_of_a_bench.py").write_text(MODULE.replace("SIDE", str(side)))
        sys.modules.pop("discs_of_a_bench", None)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", *sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    install(SUITES["ll2i"].size)
    yield install
    sys.modules.pop("discs_of_a_bench", None)


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Words:
    """Words in the place of every CLIP."""
    path = tmp_path / "some weights"
    path.write_bytes(b"none")

    def located(name: str, folder: Path | None) -> Path:
        if not name.startswith("clip"):
            raise MissingWeights(f"weights {name!r} are not here; run: get them")
        return path

    monkeypatch.setattr(networks, "locate", located)
    monkeypatch.setattr(networks.Clip, "load", classmethod(lambda cls, *told: Words()))
    return Words()


def options(tmp_path: Path, **roots: Path) -> BenchOptions:
    return BenchOptions(out=tmp_path / "report", cache=tmp_path / "cache", roots=roots)


def scored(tmp_path: Path, suite: str, model: str = MODEL, **roots: Path) -> dict[str, Any]:
    bench([model], [suite], options(tmp_path, **roots), lambda *told: None, strict=False)
    table: dict[str, Any] = json.loads((tmp_path / "report" / "report.json").read_bytes())
    return table


def by_measure(table: dict[str, Any]) -> dict[str, Any]:
    return {f"{row['metric']}:{row['variant']}@{row['region']}": row for row in table["results"]}


def predicted(tmp_path: Path, suite: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Foreground and background by id, as they lie in the report's folder."""
    found = sorted((tmp_path / "report" / "predictions").rglob("*.foreground.png"))
    return {
        path.name.removesuffix(".foreground.png"): (
            read(path, alpha=True),
            read(path.with_name(path.name.replace("foreground", "background"))),
        )
        for path in found
    }


# ---- measures


def a_case(**more: Any) -> Case:
    rng = np.random.default_rng(0)
    image, alpha = rng.integers(0, 256, (48, 48, 3), np.uint8), np.zeros((48, 48), np.uint8)
    alpha[10:30, 10:30] = 255
    told = {"foreground": np.dstack([image, alpha]), "background": 255 - image, "prompt": PROMPT}
    return Case(
        id="x",
        scene="x",
        category="",
        image=image,
        mask=alpha > 0,
        occluder=None,
        regions={},
        sha256="0",
        **told | more,
    )


def made() -> Decomposition:
    rng = np.random.default_rng(1)
    alpha = cv2.circle(np.zeros((48, 48), np.uint8), (24, 24), 12, 200, -1)
    colour = rng.integers(100, 256, (48, 48, 3), np.uint8) * (alpha > 0)[..., None].astype(np.uint8)
    return Decomposition(rng.integers(0, 60, (48, 48, 3), np.uint8), np.dstack([colour, alpha]))


def test_sets_compare_the_layers_put_together_or_the_foregrounds_on_grey():
    case, drawn = a_case(), made()
    pairs = {
        region: picture_pair(parse_measure(f"fid:clean-fid{region}"), case, drawn)
        for region in ("@composed", "@foreground", "")
    }
    composed = over_u8(drawn.foreground, drawn.background)
    expected = {
        "@composed": (composed, case.image),
        "@foreground": (on_colour(drawn.foreground), on_colour(case.foreground)),
        "": (drawn.background, case.background),
    }
    for region, pair in expected.items():
        assert pairs[region][2] is None
        assert all(np.array_equal(one, other) for one, other in zip(pairs[region][:2], pair, strict=True)), region


def test_the_clip_score_is_of_a_picture_and_its_own_text(clip: Words):
    case, drawn = a_case(), made()
    shown = {
        "@composed": (over_u8(drawn.foreground, drawn.background), PROMPT.prompt),
        "@foreground": (on_colour(drawn.foreground), "a cup"),
        "": (drawn.background, PROMPT.prompt),
    }
    for region, (picture, text) in shown.items():
        one, two = clip.images([picture])[0].astype(float), clip.texts([text])[0].astype(float)
        cosine = one @ two / np.linalg.norm(one) / np.linalg.norm(two)
        found = score(parse_measure(f"clip-score:vit-l-14{region}"), case, drawn, Networks())
        assert found == pytest.approx(100 * cosine, abs=1e-4), region


def test_the_drawn_mask_is_held_against_saliency_and_against_people():
    case, drawn = a_case(human=a_case().mask), made()
    seen = SpectralResidual()(over_u8(drawn.foreground, drawn.background))
    spectral = score(parse_measure("mask-iou:spectral"), case, drawn, Networks())
    alpha = drawn.foreground[..., 3]
    assert spectral == pytest.approx(hard_iou(alpha, np.rint(seen * 255).astype(np.uint8)))
    human = score(parse_measure("mask-iou:human"), case, drawn, Networks())
    both, either = (alpha > 127) & case.mask, (alpha > 127) | case.mask
    assert human == pytest.approx(both.sum() / either.sum())


@pytest.mark.parametrize(
    ("measure", "more", "why"),
    [
        ("clip-score:vit-l-14@composed", {"prompt": None}, "the suite has no captions"),
        ("mask-iou:human", {}, "no mask that people drew was given; .* --root human-masks=DIR"),
        ("fid:first-pool@foreground", {"foreground": None}, "the suite knows no true foreground"),
        ("clip-score:vit-l-14@foreground", {"foreground": None}, "^$"),
    ],
)
def test_what_a_case_lacks_is_said(measure: str, more: dict[str, Any], why: str):
    import re

    assert re.search(why, why_not(parse_measure(measure), a_case(**more), made()))


# ---- suites


def test_ll2i_draws_the_captions_of_what_a_build_holds_out(data: Path, tmp_path: Path, clip: Words):
    table = scored(tmp_path, "ll2i", ll2i=data)
    drawn, truth = predicted(tmp_path, "ll2i"), list(cases(SUITES["ll2i"], {"ll2i": data}))
    assert {file_name(case.id) for case in truth} == set(drawn)
    assert len(drawn) >= 3
    assert all(case.prompt.prompt for case in truth)
    found = by_measure(table)
    ious, cosines = [], []
    for case in truth:
        foreground, background = drawn[file_name(case.id)]
        composed = over_u8(foreground, background)
        ious.append(hard_iou(foreground[..., 3], np.rint(SpectralResidual()(composed) * 255).astype(np.uint8)))
        one, two = clip.images([composed])[0].astype(float), clip.texts([case.prompt.prompt])[0].astype(float)
        cosines.append(100 * one @ two / np.linalg.norm(one) / np.linalg.norm(two))
    assert found["mask-iou:spectral@whole"]["value"] == pytest.approx(np.nanmean(ious), abs=1e-5)
    assert found["clip-score:vit-l-14@composed"]["value"] == pytest.approx(np.mean(cosines), abs=1e-3)
    skipped = {row["metric"]: row["why"] for row in table["skipped"]}
    assert "'inception-torchscript'" in skipped["fid:clean-fid@composed"]
    assert "--root human-masks=DIR" in skipped["mask-iou:human@whole"]
    assert "'birefnet'" in skipped["mask-iou:birefnet@whole"]
    page = (tmp_path / "report" / "report.html").read_text()
    assert "drawn, put together" in page


def test_masks_that_people_drew_are_scored_without_drawing_again(data: Path, tmp_path: Path, clip: Words):
    import importlib

    scored(tmp_path, "ll2i", ll2i=data)
    first = predicted(tmp_path, "ll2i")
    discs = importlib.import_module("discs_of_a_bench").Discs
    before = discs.calls
    (tmp_path / "masks").mkdir()
    some = sorted(first)[:2]
    for name in some:  # a person who misses the lower half
        mask = (first[name][0][..., 3] > 127) & (np.arange(256)[:, None] < 128)
        (tmp_path / "masks" / f"{name}.png").write_bytes(encode_png(mask.astype(np.uint8) * 255))
    table = scored(tmp_path, "ll2i", **{"ll2i": data, "human-masks": tmp_path / "masks"})
    assert discs.calls == before
    row = by_measure(table)["mask-iou:human@whole"]
    expected = []
    for name in some:
        alpha = first[name][0][..., 3] > 127
        expected.append((alpha & (np.arange(256)[:, None] < 128)).sum() / alpha.sum())
    assert row["value"] == pytest.approx(np.mean(expected), abs=1e-5)
    assert row["n"] == 2


def test_pictures_of_prompts_are_named_by_the_numbers_of_lines(tmp_path: Path):
    for name in ("foregrounds", "backgrounds"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "000003.png").touch()
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "a cup"}\n\n{"prompt": "a fern"}\n')
    found = [(pair.id, pair.prompt.prompt, pair.drop.partition(":")[0]) for pair in drawn_pairs.pairs(tmp_path)]
    assert found == [("000001", "a cup", "missing_file"), ("000003", "a fern", "")]


def test_a_mask_of_people_that_cannot_be_read_drops_its_case_and_names_it(data: Path, tmp_path: Path):
    (tmp_path / "masks").mkdir()
    first, *others = cases(SUITES["ll2i"], {"ll2i": data})
    (tmp_path / "masks" / f"{file_name(first.id)}.png").write_bytes(b"no picture")
    found = list(cases(SUITES["ll2i"], {"ll2i": data, "human-masks": tmp_path / "masks"}))
    (dropped,) = (case for case in found if isinstance(case, Dropped))
    assert dropped.id == first.id
    assert str(tmp_path / "masks") in dropped.detail
    assert len(found) == len(others) + 1


def test_layerfusion_compares_each_layer_with_other_models(
    tmp_path: Path, clip: Words, module: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
):
    side = SUITES["layerfusion"].size
    module(side)
    root = tmp_path / "drawn"
    for name in ("foregrounds", "backgrounds"):
        (root / name).mkdir(parents=True)
    prompts = ['{"prompt": "a cup", "background": "cab"}', '{"prompt": "a fern"}', '{"prompt": "a lamp"}']
    (root / "prompts.jsonl").write_text("\n".join(prompts))
    rng = np.random.default_rng(0)
    for number in (1, 2):
        alpha = cv2.circle(np.zeros((side, side), np.uint8), (400, 500), 380, 255, -1)
        colour = np.full((side, side, 3), rng.integers(0, 256, 3), np.uint8)
        (root / "foregrounds" / f"{number:06d}.png").write_bytes(encode_png(np.dstack([colour, alpha])))
        (root / "backgrounds" / f"{number:06d}.png").write_bytes(encode_png(colour))
    table = scored(tmp_path, "layerfusion", layerfusion=root)
    found = by_measure(table)
    (dropped,) = table["dropped"]
    assert (dropped["id"], dropped["reason"]) == ("000003", "missing_file")
    drawn = predicted(tmp_path, "layerfusion")
    one, two = (clip.images([drawn[file_name(id_)][1]])[0].astype(float) for id_ in ("000001", "000002"))
    texts = clip.texts(["cab", "a fern"]).astype(float)
    cosines = [100 * a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip((one, two), texts, strict=True)]
    assert found["clip-score:vit-bigg-14@whole"]["value"] == pytest.approx(np.mean(cosines), abs=1e-3)
    assert found["clip-score:vit-bigg-14@foreground"]["n"] == 2
    skipped = {row["metric"] for row in table["skipped"]}
    assert {"kid:torch-fidelity@foreground", "fid:first-pool@foreground", "fid:first-pool@whole"} <= skipped
    published = {(row["method"], row["metric"]) for row in table["references"]}
    assert ("LayerFusion", "clip-score") in published


def test_what_cannot_be_scored_is_told(data: Path, tmp_path: Path):
    with pytest.raises(UsageError, match=r"add --root ll2i=DIR"):
        scored(tmp_path, "ll2i")
    with pytest.raises(UsageError, match=r"--root human-masks: expected a folder of masks .*, got .*absent"):
        scored(tmp_path, "ll2i", **{"ll2i": data, "human-masks": tmp_path / "absent"})
    both = options(tmp_path, **{"ll2i": data, "human-masks": tmp_path})
    with pytest.raises(UsageError, match=r"--root human-masks: expected one --model, .*, got python:.*:Discs, other; "):
        bench([MODEL, "other"], ["ll2i"], both, lambda *told: None, strict=False)
    with pytest.raises(UsageError, match="expected a generator that draws a background too for ll2i, got python"):
        scored(tmp_path, "ll2i", "python:discs_of_a_bench:Cuts", ll2i=data)
    with pytest.raises(UsageError, match=r"expected a generator \(.*got 'telea'"):
        scored(tmp_path, "ll2i", "telea", ll2i=data)
    (tmp_path / "layers" / "foregrounds").mkdir(parents=True)
    with pytest.raises(
        UsageError, match=r"expected prompts\.jsonl beside foregrounds/ and backgrounds/, backgrounds/ is"
    ):
        scored(tmp_path, "layerfusion", layerfusion=tmp_path / "layers")
