"""What a build refused: candidates drawn again to the bit, pictures of sources, and cards where there is none."""

import json
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.browsing.exhibit import Exhibit, Shown
from layerkit.pipelines.browsing.rejects import exhibit, spread
from layerkit.pipelines.candidate import Candidate
from layerkit.pipelines.ledger import BuildFolder
from layerkit.pipelines.plan import plan
from layerkit.pipelines.run_file import read_run, recipe_of
from layerkit.pipelines.shard import ShardJob
from layerkit.toolkit.shards import decode_layers, read_samples

STRICT = ("filters.saliency_contrast=[0.6, 1]", "filters.area=[0.02, 0.2]")


@pytest.fixture(scope="module")
def strict_build(build_demo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build whose filters refuse much."""
    out = tmp_path_factory.mktemp("strict") / "build"
    build_demo(out, settings=STRICT)
    return out


def job_of(build: Path, cache: Path) -> ShardJob:
    folder = BuildFolder(build.resolve())
    run = read_run(folder)
    return ShardJob(recipe=recipe_of(run, folder), fingerprint=run["fingerprint"], folder=folder, cache=cache)


def rows_of(build: Path) -> list[dict]:
    return pq.read_table(build / "manifests/rejects.parquet").to_pylist()


def made(build: Path, count: int = 1000) -> tuple[Exhibit, list[Shown]]:
    found = exhibit(build, "r", count=count)
    assert found is not None
    return found, list(found.samples())


def test_a_kept_sample_is_drawn_again_to_the_bit(strict_build: Path, cache_dir: Path):
    job = job_of(strict_build, cache_dir)
    shards = {shard.tar: shard for shard in plan(job.recipe)}
    for tar in (strict_build / "data").glob("*.tar"):
        for _, sample in read_samples(tar):
            choices = json.loads(json.loads(sample["json"])["choices"])
            drawn = job.redraw(shards[tar.name], choices["slot"], choices["attempt"])
            assert isinstance(drawn, Candidate)
            for name in ("image", "foreground", "background", "mask", "shadow", "occluder"):
                np.testing.assert_array_equal(getattr(drawn.layers, name), getattr(decode_layers(sample), name))


def test_every_reject_is_shown_with_reason_and_scores(strict_build: Path):
    rows = rows_of(strict_build)
    assert Counter(row["stage"] for row in rows).keys() == {"source", "sample"}
    found, shown = made(strict_build)
    assert (found.total, len(shown)) == (len(rows), len(rows))
    assert len({one.key for one in shown}) == len(rows)
    for row, one in zip(rows, shown, strict=True):
        for name in ("stage", "mix", "reason", "value", "limit"):
            assert one.values[name] == row[name]
        assert one.values["missed_by"] == pytest.approx(abs(row["value"] - row["limit"]) / abs(row["limit"]))
        if row["reason"] in row["scores"]:
            assert one.values[row["reason"]] == row["scores"][row["reason"]]


def test_a_refused_candidate_is_the_picture_that_was_refused(strict_build: Path, cache_dir: Path):
    job, (_, shown) = job_of(strict_build, cache_dir), made(strict_build)
    rows = [row for row in rows_of(strict_build) if row["stage"] == "sample"]
    pictures = [one for one in shown if one.values["stage"] == "sample"]
    for row, one in zip(rows, pictures, strict=True):
        shard = next(s for s in plan(job.recipe) if s.first <= row["slot"] < s.first + s.count)
        drawn = job.redraw(shard, row["slot"], row["attempt"])
        assert isinstance(drawn, Candidate)
        assert drawn.name == row["id"]
        for name, score in drawn.scores.items():
            assert row["scores"][name] == pytest.approx(score, abs=1e-6), "the same candidate measures the same"
        picture = np.asarray(Image.open(one.panels["image"].picture))
        np.testing.assert_array_equal(picture, drawn.layers.image)
        assert np.asarray(Image.open(one.panels["foreground"].picture)).shape[-1] == 4


def test_a_refused_source_shows_its_picture(strict_build: Path):
    _, shown = made(strict_build)
    for row, one in zip(rows_of(strict_build), shown, strict=True):
        if row["stage"] == "source":
            picture = np.asarray(Image.open(one.panels["image"].picture).convert("RGB")).astype(int)
            source = np.asarray(Image.open(row["path"]).convert("RGB")).astype(int)
            assert picture.shape == source.shape
            assert np.abs(picture - source).mean() < 3


def test_where_it_cannot_be_drawn_again_a_card_says_so(strict_build: Path, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("LAYERKIT_CACHE", str(tmp_path / "empty"))
    _, shown = made(strict_build)
    drawn = [one for one in shown if one.values["stage"] == "sample"]
    assert drawn
    assert all(one.panels.keys() == {"image"} for one in drawn), "the cache with the cut-outs is gone"
    shutil.copytree(strict_build, tmp_path / "build")
    shutil.rmtree(tmp_path / "build/.layerkit/pools")
    _, shown = made(tmp_path / "build")
    assert all(one.panels.keys() == {"image"} for one in shown if one.values["stage"] == "sample")
    (tmp_path / "build/manifests/rejects.parquet").unlink()
    _, shown = made(tmp_path / "build")
    assert {one.values["stage"] for one in shown} == {"sample"}, "what sources refused stood with the pools"


def test_rejects_are_shown_before_the_build_is_finished(strict_build: Path, tmp_path: Path):
    found, shown = made(strict_build, count=7)
    copied = Path(shutil.copytree(strict_build, tmp_path / "build"))
    (copied / "manifests/rejects.parquet").unlink()
    unfinished, others = made(copied, count=7)
    assert [one.values for one in others] == [one.values for one in shown]
    assert unfinished.identity == found.identity


def test_few_are_taken_from_every_reason(strict_build: Path):
    reasons = Counter(row["reason"] for row in rows_of(strict_build))
    found, shown = made(strict_build, count=len(reasons))
    assert Counter(one.values["reason"] for one in shown) == dict.fromkeys(reasons, 1)
    assert {view.name for view in found.views} == {"just missed", *(f"reason {reason}" for reason in reasons)}


@given(st.dictionaries(st.text(max_size=2), st.integers(1, 20), max_size=5), st.integers(0, 60))
def test_a_spread_is_fair(sizes: dict[str, int], count: int):
    numbers = iter(range(1000))
    places = {name: [next(numbers) for _ in range(size)] for name, size in sizes.items()}
    chosen = spread(places, count)
    assert len(chosen) == len(set(chosen)) == min(count, sum(sizes.values()))
    shares = {name: len(set(places[name]) & set(chosen)) for name in places}
    for name, share in shares.items():
        assert share == sizes[name] or share >= max(shares.values()) - 1, "who has more gives up first"


def test_nothing_asked_or_refused_is_nothing(strict_build: Path, build_demo, tmp_path: Path):
    assert exhibit(strict_build, "r", count=0) is None
    with pytest.raises(UsageError, match="--rejects: expected 0 or more, got -1"):
        exhibit(strict_build, "r", count=-1)
    with pytest.raises(UsageError, match="expected a build folder"):
        exhibit(tmp_path, "r", count=5)
