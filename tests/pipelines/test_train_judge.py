"""Training a judge: the neuron against scikit-learn, held-out samples told apart, files, determinism, refusals."""

import json
import tomllib
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
import pytest

from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.pipelines.labels import Label, evidence, samples_of, write_labels
from layerkit.pipelines.train_judge import fit, train_judge
from layerkit.toolkit.images import encode_png
from layerkit.toolkit.judges import load_judge
from layerkit.toolkit.shards import TarWriter, decode_layers

SIDE, COUNT = 64, 96


def texture(rng: np.random.Generator, low: int, high: int) -> np.ndarray:
    noise = rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8)
    return cv2.normalize(cv2.GaussianBlur(noise, (0, 0), 1.5), None, low, high, cv2.NORM_MINMAX)


def members(rng: np.random.Generator, good: bool) -> dict[str, bytes]:
    """A bright ellipse before a dark texture; if not good, its mask lacks a half that the background holds."""
    centre, axes = rng.integers(26, 38, 2).tolist(), rng.integers(12, 20, 2).tolist()
    whole = cv2.ellipse(np.zeros((SIDE, SIDE), np.uint8), centre, axes, 0, 0, 360, 255, -1)
    background, colour, mask = texture(rng, 0, 160), texture(rng, 90, 255), whole.copy()
    image = np.where(whole[..., None] > 0, colour, background)
    if not good:
        half = [np.s_[: centre[1]], np.s_[centre[1] :], np.s_[:, : centre[0]], np.s_[:, centre[0] :]][rng.integers(4)]
        mask[half] = 0
        background[half] = image[half]
    foreground = np.dstack([np.where(whole[..., None] > 0, colour, 0), whole])
    layers = {"image": image, "foreground": foreground, "background": background, "mask": mask}
    layers |= {"shadow": np.zeros_like(mask), "occluder": np.zeros_like(foreground)}
    return {f"{name}.png": encode_png(layer) for name, layer in layers.items()}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """What ``train_judge`` reads of a build: two tars and the manifest; every other sample is spoilt."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root, rng = tmp_path_factory.mktemp("build"), np.random.default_rng(5)
    rows = [{"key": f"s-{k:03}", "shard": f"train-{k * 2 // COUNT}.tar"} for k in range(COUNT)]
    (root / "data").mkdir()
    (root / "manifests").mkdir()
    for tar in ("train-0.tar", "train-1.tar"):
        with TarWriter(root / "data" / tar) as writer:
            for k, row in enumerate(rows):
                if row["shard"] == tar:
                    writer.write(row["key"], members(rng, good=k % 2 == 0))
            writer.close()
    pq.write_table(pa.Table.from_pylist(rows), root / "manifests" / "samples.parquet")
    return root


def said(role: str, keys: range = range(COUNT)) -> list[Label]:
    return [Label(key=f"s-{k:03}", role=role, label="bad" if k % 2 else "good") for k in keys]


@pytest.fixture(scope="module")
def labels(tmp_path_factory):
    path = tmp_path_factory.mktemp("labels") / "labels.jsonl"
    write_labels(path, [*said("mask-quality"), *said("inpaint-quality")])
    return path


@pytest.fixture(scope="module")
def run(build, labels, judge_weights, tmp_path_factory):
    """A trained judge of masks, and its metrics."""
    out = tmp_path_factory.mktemp("runs") / "mask"
    return out, train_judge("mask-quality", build, labels, out, weights=judge_weights)


def test_held_out_masks_are_told_apart_by_random_features(run):
    _, metrics = run
    assert (metrics.n_train, metrics.n_test) == (COUNT * 5 // 6, COUNT // 6)
    assert metrics.roc_auc > 0.85
    assert metrics.balanced_accuracy > 0.75
    assert 0 <= metrics.heuristic_roc_auc <= 1


def test_held_out_holes_are_told_apart_by_random_features(build, labels, judge_weights, tmp_path):
    assert train_judge("inpaint-quality", build, labels, tmp_path / "run", weights=judge_weights).roc_auc > 0.85


def test_the_folder_holds_what_was_trained(run, judge_weights):
    out, metrics = run
    assert sorted(path.name for path in out.iterdir()) == [
        "config.toml",
        "head.safetensors",
        "metrics.json",
        "train.jsonl",
    ]
    config = tomllib.loads((out / "config.toml").read_text())
    assert config.pop("revision").startswith("sha256:")
    assert config == {
        "role": "mask-quality",
        "base": "efficientnet-b0",
        "epochs": 100,
        "lr": 0.01,
        "seed": 0,
        "n_train": metrics.n_train,
        "n_test": metrics.n_test,
        "threshold": 0.5,
    }
    steps = [json.loads(line) for line in (out / "train.jsonl").read_text().splitlines()]
    assert [step["step"] for step in steps] == list(range(1, 101))
    assert steps[0]["loss"] == pytest.approx(np.log(2)), "it begins at zero"
    assert steps[-1]["loss"] < 0.3 * steps[0]["loss"]
    assert {"step", "loss", "lr", "accuracy"} == steps[0].keys()
    assert json.loads((out / "metrics.json").read_text()) == asdict(metrics)


def test_the_loaded_judge_says_what_the_metrics_say(run, build, judge_weights):
    out, metrics = run
    judge = load_judge("mask-quality", str(out), judge_weights)
    scores = {}
    for key, sample in samples_of(build, [label.key for label in said("mask-quality")]):
        scores[key] = judge(*evidence("mask-quality", decode_layers(sample)))
    right = [(score >= 0.5) == (int(key[2:]) % 2 == 0) for key, score in scores.items()]
    wrong = round((1 - metrics.accuracy) * metrics.n_test)
    train_accuracy = json.loads((out / "train.jsonl").read_text().splitlines()[-1])["accuracy"]
    assert len(right) - sum(right) == pytest.approx(wrong + (1 - train_accuracy) * metrics.n_train, abs=2)


def test_training_twice_gives_the_same_bytes_and_another_seed_holds_out_others(
    run, build, labels, judge_weights, tmp_path
):
    out, _ = run
    train_judge("mask-quality", build, labels, tmp_path / "again", weights=judge_weights)
    train_judge("mask-quality", build, labels, tmp_path / "other", weights=judge_weights, seed=1)
    for path in out.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    assert (tmp_path / "other" / "head.safetensors").read_bytes() != (out / "head.safetensors").read_bytes()


# ---- the neuron


def blobs(good: int, bad: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    kinds = np.arange(good + bad) < good
    return (rng.standard_normal((good + bad, 5)) + 0.8 * kinds[:, None]).astype(np.float32), kinds


def test_the_neuron_ends_where_balanced_logistic_regression_does():
    from sklearn.linear_model import LogisticRegression

    features, good = blobs(300, 60)
    weight, bias, _ = fit(features, good, epochs=2000, lr=0.02)
    reference = LogisticRegression(class_weight="balanced", C=1e4).fit(features, good)
    np.testing.assert_allclose(weight, reference.coef_[0], atol=0.06)
    assert bias == pytest.approx(reference.intercept_[0], abs=0.06)


def test_scale_and_offset_of_the_features_change_nothing():
    features, good = blobs(40, 40)
    scale, offset = np.array([1e-2, 1, 10, 100, 0.5], np.float32), np.array([0, 3, -20, 5, 1], np.float32)
    weight, bias, _ = fit(features, good, epochs=50, lr=0.05)
    scaled, shifted, _ = fit(features * scale + offset, good, epochs=50, lr=0.05)
    np.testing.assert_allclose((features * scale + offset) @ scaled + shifted, features @ weight + bias, atol=1e-3)


def test_a_feature_that_never_changes_weighs_nothing():
    features, good = blobs(20, 20)
    features[:, 2] = 7
    weight, _, _ = fit(features, good, epochs=50, lr=0.05)
    assert weight[2] == 0


# ---- refusals


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (range(8), r"expected 10 labels of mask-quality or more.*got 4 good and 4 bad; label more samples"),
        (range(0, 40, 2), r"2 good and 2 bad ones among them, got 20 good and 0 bad"),
        (range(90, 110), r"expected keys of samples of .*, 14 of 20 are not: s-096, s-097, s-098"),
    ],
)
def test_labels_that_cannot_be_trained_on_are_refused(build, judge_weights, tmp_path, keys, message):
    write_labels(tmp_path / "labels.jsonl", [*said("mask-quality", keys), *said("inpaint-quality")])
    with pytest.raises(UsageError, match=message):
        train_judge("mask-quality", build, tmp_path / "labels.jsonl", tmp_path / "run", weights=judge_weights)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"role": "taste"}, r"mask-quality, inpaint-quality\), got 'taste'"),
        ({"epochs": 0}, "epochs of 1 or more"),
        ({"lr": 0.0}, "learning rate above 0"),
        ({"test_share": 1.0}, "held-out share between 0 and 1, got 1.0"),
        ({"build": Path("nowhere")}, r"samples\.parquet is missing"),
        ({"labels": Path("nowhere")}, "expected a labels file"),
    ],
)
def test_wrong_arguments_are_refused(build, labels, judge_weights, tmp_path, changes, message):
    given = {
        "role": "mask-quality",
        "build": build,
        "labels": labels,
        "out": tmp_path / "run",
        "weights": judge_weights,
    }
    with pytest.raises(UsageError, match=message):
        train_judge(**given | changes)
    assert not (tmp_path / "run").exists()


def test_an_earlier_run_is_not_overwritten(build, labels, judge_weights, tmp_path):
    with pytest.raises(UsageError, match=rf"--out: expected a folder that does not exist yet, got {tmp_path}"):
        train_judge("mask-quality", build, labels, tmp_path, weights=judge_weights)


def test_without_weights_the_command_that_gets_them_is_named(build, labels, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(MissingWeights, match="hf download google/efficientnet-b0"):
        train_judge("mask-quality", build, labels, tmp_path / "run")
