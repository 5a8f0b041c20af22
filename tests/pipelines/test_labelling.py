"""Labelling in a real FiftyOne database: what is shown, in which order, what tags become, and a judge trained on it."""

import json
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.record import NOT_MEASURED
from layerkit.pipelines.browsing import server
from layerkit.pipelines.labelling import label, label_dataset, labels_of
from layerkit.pipelines.labels import Label, evidence, read_labels, samples_of, tars_of, write_labels
from layerkit.pipelines.train_judge import train_judge
from layerkit.toolkit.judges import HEURISTICS, load_judge
from layerkit.toolkit.shards import decode_layers

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(fiftyone, tiny_build):
    return label_dataset(tiny_build, "mask-quality", limit=100)


def tag(dataset, tags: dict[str, list[str]]) -> None:
    for sample in dataset:
        sample.tags = tags.get(sample["key"], [])
        sample.save()


def test_every_sample_is_shown_with_its_mask_and_scores(dataset, tiny_build):
    rows = {row["key"]: row for row in dataset}
    assert rows.keys() == tars_of(tiny_build).keys()
    for key, sample in samples_of(tiny_build, rows):
        image, mask = evidence("mask-quality", decode_layers(sample))
        assert Path(rows[key].filepath).read_bytes() == sample["image.png"]
        overlay = cv2.imread(rows[key]["mask"].mask_path, cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(overlay, mask * np.uint8(255))
        assert rows[key]["judge"] == pytest.approx(HEURISTICS["mask-quality"](image, mask))
        for name, score in json.loads(sample["json"])["scores"].items():
            assert not rows[key].has_field(name) or rows[key][name] == (None if score == NOT_MEASURED else score)
            assert rows[key].has_field(name) or score == NOT_MEASURED


def test_the_least_certain_come_first(dataset):
    doubts = [abs(score - 0.5) for score in dataset.values("judge")]
    assert doubts == sorted(doubts)


def test_media_lie_in_the_cache(dataset, cache_dir):
    assert all(Path(path).is_relative_to(cache_dir / "browse") for path in dataset.values("filepath"))


def test_tags_become_labels_and_contradictory_ones_none(dataset):
    first, second, third, fourth, *_ = dataset.values("key")
    tag(dataset, {first: ["good"], second: ["bad", "later"], third: ["good", "bad"], fourth: ["later"]})
    assert labels_of(dataset) == [
        Label(key=first, role="mask-quality", label="good"),
        Label(key=second, role="mask-quality", label="bad"),
    ]


def test_a_limit_shows_samples_from_all_of_the_build(fiftyone, tiny_build):
    keys, shown = list(tars_of(tiny_build)), label_dataset(tiny_build, "inpaint-quality", limit=3)
    assert set(shown.values("key")) == {keys[2], keys[6], keys[10]}
    for key, sample in samples_of(tiny_build, shown.values("key")):
        row = shown.match({"key": key}).first()
        assert Path(row.filepath).read_bytes() == sample["background.jpg"]
        _, hole = evidence("inpaint-quality", decode_layers(sample))
        assert (cv2.imread(row["mask"].mask_path, cv2.IMREAD_UNCHANGED) > 0).sum() == hole.sum()


def test_what_cannot_be_shown_is_refused(tiny_build, tmp_path):
    with pytest.raises(UsageError, match="--limit: expected 1 or more"):
        label_dataset(tiny_build, "mask-quality", limit=0)
    with pytest.raises(UsageError, match="got 'taste'"):
        label_dataset(tiny_build, "taste")
    with pytest.raises(UsageError, match="build it to its end first"):
        label_dataset(tmp_path, "mask-quality")


def test_what_is_asked_for_wrongly_is_said_before_anything_starts(tiny_build, tmp_path, monkeypatch):
    monkeypatch.setattr(server, "app", lambda port: pytest.fail("nothing is to be started"))
    for build, role in ((tiny_build, "taste"), (tmp_path, "mask-quality")):
        with pytest.raises(UsageError):
            label(build, role, tmp_path / "labels.jsonl")
    assert not (tmp_path / "labels.jsonl").exists()


def test_a_view_for_labels_does_not_outlive_fiftyone(dataset):
    assert not dataset.persistent


def someone(datasets: list, tags: dict[str, list[str]], seen: dict):
    """What stands in for a person before the App, who tags and presses Ctrl-C."""

    def wait() -> None:
        (dataset,) = datasets
        seen.update(zip(dataset.values("key"), dataset.values("tags"), strict=True))
        tag(dataset, tags)

    return wait


def test_a_session_goes_on_with_its_file_and_a_judge_is_trained_on_it(
    fiftyone, tiny_build, judge_weights, tmp_path, monkeypatch
):
    keys, out = list(tars_of(tiny_build)), tmp_path / "labels.jsonl"
    tags = {key: ["bad" if k % 2 else "good"] for k, key in enumerate(keys[1:], 1)} | {keys[-1]: ["good", "bad"]}
    elsewhere, before = (
        Label(key="elsewhere", role="mask-quality", label="good"),
        Label(key=keys[0], role="mask-quality", label="bad", note="half"),
    )
    write_labels(out, [elsewhere, before, Label(key=keys[1], role="inpaint-quality", label="good")])

    @contextmanager
    def app(port: int):
        assert port == 5999
        yield lambda name: datasets.append(fiftyone.load_dataset(name)) or f"http://127.0.0.1:{port}/{name}"
        seen["closed"] = []

    kept, datasets, seen, urls = fiftyone.list_datasets(), [], {}, []
    monkeypatch.setattr(server, "app", app)
    monkeypatch.setattr(server, "wait", someone(datasets, tags | {keys[0]: ["bad"]}, seen))
    outcome = label(tiny_build, "mask-quality", out, limit=100, port=5999, ready=urls.append)
    assert (outcome.shown, outcome.good, outcome.bad) == (12, 5, 6)
    assert outcome.contradictory == (keys[-1],)
    assert seen[keys[0]] == ["bad"], "what the file says is tagged from the start"
    assert "closed" in seen
    assert urls == [f"http://127.0.0.1:5999/{datasets[0].name}"]
    assert fiftyone.list_datasets() == kept, "the view is gone once its labels are written"
    written = read_labels(out)
    assert len(written) == 13
    assert {elsewhere, before, Label(key=keys[1], role="inpaint-quality", label="good")} <= set(written)

    write_labels(out, [one for one in written if one.key != "elsewhere"])
    metrics = train_judge("mask-quality", tiny_build, out, tmp_path / "run", weights=judge_weights)
    assert (metrics.n_train, metrics.n_test) == (9, 2)
    judge = load_judge("mask-quality", str(tmp_path / "run"), judge_weights)
    _, sample = next(samples_of(tiny_build, keys))
    assert 0 < judge(*evidence("mask-quality", decode_layers(sample))) < 1
