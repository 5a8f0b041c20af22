"""A run: what is done once, what is done again and only then, and what is told of what could not be done."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from cleanfid.fid import frechet_distance

from layerkit.benchmarks import networks, run
from layerkit.benchmarks.options import BenchOptions, options_of
from layerkit.benchmarks.report import report_of, write_report
from layerkit.benchmarks.results import results_of
from layerkit.benchmarks.run import Outcome, run_model
from layerkit.benchmarks.store import Store
from layerkit.manifests.errors import BadImage, RunError, UsageError
from layerkit.manifests.suites import SUITES
from layerkit.toolkit.decomposition import Decomposition, checked
from layerkit.toolkit.metrics.features import InceptionFeatures
from layerkit.toolkit.metrics.layering import draw_jitter, jittered_recomposition
from layerkit.toolkit.metrics.perceptual import Lpips, lpips_net
from layerkit.toolkit.suites.cases import Case, Dropped, cases

TINY = replace(SUITES["demo"], name="tiny", n=11, size=96)


@dataclass
class Spy:
    """A noisy remover that counts its calls; ``bad`` are mask areas that it cannot do."""

    name: str = "spy"
    revision: str = "1"
    licence: str = "none"
    native: int = 0
    needs: frozenset[str] = frozenset()
    is_random: bool = True
    calls: int = 0
    bad: set[int] = field(default_factory=set)
    foregrounds: set[int] = field(default_factory=set)

    def __call__(self, image: np.ndarray, mask: np.ndarray, generator: np.random.Generator) -> Decomposition:
        self.calls += 1
        area = int(mask.sum())
        if area in self.bad:
            raise BadImage("too_hard", f"an area of {area}")
        made = np.clip(image + generator.integers(-9, 9, image.shape), 0, 255).astype(np.uint8)
        alpha = mask.astype(np.uint8) * 250
        return Decomposition(made, np.dstack([image, alpha]) if area in self.foregrounds else None)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """The model of that name."""
    model, load = Spy(), run.load
    monkeypatch.setattr(
        run, "load", lambda name, *a, **more: checked(model) if name == "spy" else load(name, *a, **more)
    )
    return model


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BenchOptions:
    for name in ("HF_HUB_CACHE", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "no weights"))
    return BenchOptions(out=tmp_path / "out", cache=tmp_path / "cache")


def go(options: BenchOptions, model: str = "spy", **more: Any) -> Outcome:
    return run_model(model, TINY, replace(options, **more), lambda *told: None)


def told(outcome: Outcome) -> str:
    """Everything but the name of the model."""
    rows = [{**row, "model": ""} for row in results_of(outcome)]
    return json.dumps([rows, [(one.id, one.area, one.category) for one in outcome.rows], list(outcome.skipped)])


def tiny_cases(limit: int = 11) -> list[Case]:
    return [case for case in cases(TINY, {}, limit=limit) if isinstance(case, Case)]


def areas(limit: int = 11) -> list[int]:
    return [int(case.mask.sum()) for case in tiny_cases(limit)]


# once


def test_a_finished_run_predicts_nothing_again_and_limits_are_nested(spy: Spy, options: BenchOptions):
    small = go(options, limit=3)
    assert (len(small.rows), spy.calls) == (3, 3)
    whole = go(options)
    assert (len(whole.rows), spy.calls) == (11, 11)
    assert whole.rows[:3] == small.rows
    assert told(go(options)) == told(whole)
    assert told(go(options, limit=3)) == told(small)
    assert spy.calls == 11
    fresh = go(replace(options, out=options.out / "fresh"))
    assert (spy.calls, told(fresh)) == (22, told(whole))


def test_another_seed_or_revision_predicts_again_where_it_matters(spy: Spy, options: BenchOptions):
    first = go(options)
    second = go(options, seed=1)
    assert spy.calls == 22
    assert told(first) != told(second)
    assert [row.id for row in second.rows] == [row.id for row in first.rows]
    assert told(go(options)) == told(first)
    assert spy.calls == 33  # the pictures in the folder are those of the last run, as the rows are
    spy.revision = "2"
    go(options)
    assert spy.calls == 44
    spy.is_random = False
    go(options)
    go(options, seed=5)
    assert spy.calls == 44


def test_a_changed_case_is_predicted_again_alone(spy: Spy, options: BenchOptions, monkeypatch: pytest.MonkeyPatch):
    before = go(options)

    def changed(*a: Any, **more: Any) -> Iterator[Case | Dropped]:
        for number, case in enumerate(cases(*a, **more)):
            darker = replace(case, image=case.image // 2, sha256="new") if number == 4 else case
            yield replace(darker, category="renamed") if number == 5 else darker

    monkeypatch.setattr(run, "cases", changed)
    after = go(options)
    assert spy.calls == 12
    assert [number for number in range(11) if before.rows[number].values != after.rows[number].values] == [4]
    assert after.rows[5].category == "renamed"


def test_a_picture_more_moves_the_others_and_nothing_else(
    spy: Spy, options: BenchOptions, monkeypatch: pytest.MonkeyPatch
):
    def all_but_the_second(*a: Any, **more: Any) -> Iterator[Case | Dropped]:
        return (case for number, case in enumerate(cases(*a, **more)) if number != 1)

    with monkeypatch.context() as patch:
        patch.setattr(run, "cases", all_but_the_second)
        assert len(go(options).rows) == 10
    assert [row.id for row in go(options).rows] == [case.id for case in tiny_cases()]
    assert spy.calls == 11


def test_a_lost_row_or_prediction_is_made_up_for(spy: Spy, options: BenchOptions):
    whole = told(go(options))
    (path,) = options.out.rglob("0.jsonl")
    path.write_bytes(path.read_bytes()[:-100])
    assert told(go(options)) == whole
    assert spy.calls == 11  # the prediction was there
    next((options.out / "predictions").rglob("*.background.png")).unlink()
    next((options.out / "predictions").rglob("*.key")).unlink()
    assert told(go(options)) == whole
    assert spy.calls in (12, 13)  # one case lost its picture, one its key; maybe the same


def test_parts_are_one_run(spy: Spy, options: BenchOptions, monkeypatch: pytest.MonkeyPatch):
    one = told(go(replace(options, out=options.out / "one")))
    monkeypatch.setattr(run, "wait_for_all", lambda of: None)
    with pytest.raises(RunError, match="part 0 is not through"):
        go(options, part=1, of=2)
    assert told(go(options, part=0, of=2)) == one
    assert told(go(options, part=1, of=2)) == one


@pytest.mark.slow
def test_processes_give_the_numbers_of_one(options: BenchOptions):
    one = go(replace(options, out=options.out / "one"), "patchmatch", limit=5)
    two = go(replace(options, out=options.out / "two"), "patchmatch", limit=5, workers=2)
    assert two.rows == one.rows
    assert two.skipped == one.skipped
    assert [row.id for row in two.rows] == [case.id for case in tiny_cases(5)]


# what could not be done


def test_a_case_that_the_model_cannot_do_is_dropped_alone(spy: Spy, options: BenchOptions):
    spy.bad = {areas()[3]}
    outcome = go(options)
    bad = tiny_cases()[3]
    assert outcome.dropped == (Dropped(bad.id, "too_hard", f"an area of {areas()[3]}"),)
    assert [row.id for row in outcome.rows] == [case.id for case in tiny_cases() if case.id != bad.id]
    spy.bad = set()
    assert len(go(options).rows) == 11
    assert spy.calls == 12


def test_nothing_to_score_is_an_error_with_the_first_reason(spy: Spy, options: BenchOptions):
    spy.bad = set(areas())
    with pytest.raises(UsageError, match=r"suite tiny: no case could be scored, 11 were dropped: \S+ too_hard an area"):
        go(options)


def test_a_case_that_cannot_be_read_keeps_its_place(spy: Spy, options: BenchOptions, monkeypatch: pytest.MonkeyPatch):
    def with_a_fault(*a: Any, **more: Any) -> Iterator[Case | Dropped]:
        for number, case in enumerate(cases(*a, **more)):
            yield Dropped(case.id, "unreadable", "noise") if number == 2 else case

    monkeypatch.setattr(run, "cases", with_a_fault)
    outcome = go(options)
    assert [one.reason for one in outcome.dropped] == ["unreadable"]
    assert len(outcome.rows) == 10


def test_a_model_without_its_weights_is_skipped_with_the_command(options: BenchOptions):
    outcome = go(options, "lama")
    assert outcome.rows == ()
    assert "'lama'" in outcome.skipped["*"]
    assert "run: " in outcome.skipped["*"]


def test_what_is_skipped_says_why(spy: Spy, options: BenchOptions):
    skipped = go(options).skipped
    assert skipped["iou:soft@whole"] == "the model gives no foreground"
    assert "'alexnet'" in skipped["lpips:alex@mask"]
    assert "'inception-torchscript'" in skipped["fid:clean-fid+pasted@whole"]
    spy.foregrounds, spy.revision = set(areas()), "2"
    assert "iou:soft@whole" not in go(options).skipped


def test_where_some_have_foregrounds_the_others_are_nan_whatever_the_batches(
    spy: Spy, options: BenchOptions, monkeypatch: pytest.MonkeyPatch
):
    spy.foregrounds = set(areas()[:3])
    outcome = go(options)
    rows = {row["metric"]: row for row in results_of(outcome) if row["variant"] != "hard"}
    assert [rows["iou"][name] for name in ("n", "n_nan")] == [3, 8]
    assert [rows["recomposition-psnr"][name] for name in ("n", "n_nan")] == [3, 8]
    monkeypatch.setattr(run, "_BATCH", 1)
    assert told(go(replace(options, out=options.out / "small"))) == told(outcome)


def test_words_and_processes_that_do_not_go_together(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    given = {"out": tmp_path, "workers": 1}
    with pytest.raises(UsageError, match="--on-missing: expected error or skip, got 'ignore'"):
        options_of("cpu", on_missing="ignore", **given)
    monkeypatch.setenv("WORLD_SIZE", "4")
    monkeypatch.setenv("RANK", "3")
    made = options_of("cpu", on_missing="skip", **given)
    assert (made.of, made.part, made.device) == (4, 3, "cpu")
    with pytest.raises(UsageError, match="--workers: expected 1 in each of 4 processes"):
        options_of("cpu", on_missing="skip", **(given | {"workers": 2}))


# predictions of another program


def written(options: BenchOptions, outcome: Outcome, folder: Path, *without: int) -> Path:
    """The predictions of a run as ``predictions:DIR`` takes them."""
    store = Store(options.out, TINY.protocol, outcome.model, "", "")
    for number, row in enumerate(outcome.rows):
        for layer in ("background", "foreground"):
            if number not in without and (picture := store.picture(row.id, layer)).exists():
                (folder / layer).mkdir(parents=True, exist_ok=True)
                (folder / layer / f"{row.id}.png").write_bytes(picture.read_bytes())
    return folder


def test_a_folder_of_predictions_scores_as_the_model_that_wrote_them(spy: Spy, options: BenchOptions, tmp_path: Path):
    spy.foregrounds = set(areas()[2:])
    outcome = go(options)
    again = go(options, f"predictions:{written(options, outcome, tmp_path / 'dir')}")
    assert told(again) == told(outcome)


def test_a_missing_prediction_is_an_error_or_a_drop(spy: Spy, options: BenchOptions, tmp_path: Path):
    outcome = go(options)
    name = f"predictions:{written(options, outcome, tmp_path / 'dir', 3)}"
    with pytest.raises(UsageError, match=f"named {outcome.rows[3].id} in .*--on-missing skip"):
        go(options, name)
    some = go(options, name, on_missing="skip")
    assert [(one.id, one.reason) for one in some.dropped] == [(outcome.rows[3].id, "no_prediction")]
    assert [row.values for row in some.rows] == [row.values for n, row in enumerate(outcome.rows) if n != 3]


# networks


class Toy:
    """In the place of Inception and CLIP: 12 numbers of a picture; counts the pictures."""

    def __init__(self) -> None:
        self.pictures = 0
        self.matrix = np.random.default_rng(0).normal(size=(48, 12)) / 99

    def __call__(self, batch: Any) -> dict[int, Any]:
        import torch

        small = torch.nn.functional.adaptive_avg_pool2d(batch, 4).reshape(len(batch), -1)
        self.pictures += len(batch)
        return {2048: small.double() @ torch.from_numpy(self.matrix)}

    def images(self, pictures: Sequence[np.ndarray]) -> np.ndarray:
        self.pictures += len(pictures)
        small = np.array([cv2.resize(picture, (4, 4), interpolation=cv2.INTER_AREA) for picture in pictures])
        return (small.reshape(len(small), -1) @ self.matrix).astype(np.float32)


@dataclass
class Loaded:
    inception: Toy
    clip: Toy
    lpips: Any


@pytest.fixture
def weights(options: BenchOptions, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Loaded:
    """Random networks in the place of the published ones, for all names."""
    import torch

    torch.manual_seed(0)
    loaded = Loaded(Toy(), Toy(), lpips_net("alex"))
    path = tmp_path / "some weights"
    path.write_bytes(b"random")
    monkeypatch.setattr(networks, "locate", lambda name, folder: path)
    monkeypatch.setattr(networks, "load_lpips", lambda net, folder, device: Lpips(loaded.lpips))
    monkeypatch.setattr(
        networks, "load_features", lambda recipe, folder, device: InceptionFeatures(loaded.inception, "clean-fid")
    )
    monkeypatch.setattr(networks.Clip, "load", classmethod(lambda cls, *told: loaded.clip))
    return loaded


def values(outcome: Outcome) -> dict[str, dict[str, Any]]:
    return {f"{row['metric']}:{row['variant']}@{row['region']}": row for row in results_of(outcome)}


def test_lpips_and_distances_are_those_of_their_packages(options: BenchOptions, weights: Loaded):
    import torch

    found = values(go(options, "telea"))
    truth = [case.background for case in tiny_cases()]

    def tensor(picture: np.ndarray) -> Any:
        return torch.from_numpy(picture).permute(2, 0, 1)[None] / 127.5 - 1

    store = Store(options.out, TINY.protocol, "telea", "", "")
    kept = [cv2.imread(str(store.picture(case.id, "background")))[..., ::-1].copy() for case in tiny_cases()]
    with torch.inference_mode():
        lpips = [float(weights.lpips(tensor(a), tensor(b))) for a, b in zip(kept, truth, strict=True)]
    assert found["lpips:alex@whole"]["value"] == pytest.approx(np.mean(lpips), abs=1e-6)
    inception = InceptionFeatures(weights.inception, "clean-fid")
    for variant, features in (("clean-fid", inception), ("clip", weights.clip.images)):
        first, second = (features(pictures).astype(np.float64) for pictures in (kept, truth))
        moments = [(table.mean(axis=0), np.cov(table, rowvar=False)) for table in (first, second)]
        expected = frechet_distance(*moments[0], *moments[1])
        assert found[f"fid:{variant}@whole"]["value"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert found[f"fid:{variant}@whole"]["low_n"] is True
    first, second = (inception(pictures).astype(np.float64) for pictures in (kept, truth))

    def kernel(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return (a @ b.T / 12 + 1) ** 3

    n = len(first)
    own = sum((kernel(one, one).sum() - np.trace(kernel(one, one))) / (n * (n - 1)) for one in (first, second))
    assert found["kid:clean-fid@whole"]["value"] == pytest.approx(own - 2 * kernel(first, second).mean(), abs=2e-6)
    low, high = found["fid:clean-fid@whole"]["ci95"]
    assert low < found["fid:clean-fid@whole"]["value"] < high


def test_vectors_are_kept_and_the_truth_is_looked_at_once(options: BenchOptions, weights: Loaded, spy: Spy):
    first = go(options)
    assert weights.inception.pictures == weights.clip.pictures == 33  # predictions, these pasted back, truths
    assert told(go(options)) == told(first)
    assert weights.inception.pictures == 33
    go(options, "identity")  # its prediction is the input, pasted back or not
    assert weights.inception.pictures == 44
    for path in (options.cache / "features").rglob("*.npy"):
        path.unlink()
    assert told(go(options)) == told(first)
    assert (spy.calls, weights.inception.pictures) == (11, 77)


def test_weights_that_come_later_add_their_measures_without_a_prediction(
    spy: Spy, options: BenchOptions, request: pytest.FixtureRequest
):
    before = go(options)
    request.getfixturevalue("weights")
    after = go(options)
    assert spy.calls == 11
    assert set(map(str, after.measures)) - set(map(str, before.measures)) == {
        name for name in before.skipped if name.startswith(("lpips", "fid", "kid"))
    }
    for row, other in zip(before.rows, after.rows, strict=True):
        assert row.values.items() <= other.values.items()


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_few_samples_have_values_or_none_and_no_error(options: BenchOptions, weights: Loaded, limit: int):
    outcome = go(options, "identity", limit=limit)
    found = values(outcome)
    assert found["lpips:alex@whole"]["n"] == limit
    row = found["fid:clean-fid@whole"]
    assert (row["n"], row["value"] is None) == (limit, limit == 1)
    write_report(report_of([outcome], options), [outcome], options)
    json.loads((options.out / "report.json").read_bytes(), parse_constant=pytest.fail)


def test_jittered_foregrounds_are_moved_the_same_way(options: BenchOptions, weights: Loaded, spy: Spy):
    spy.foregrounds = set(areas())
    suite = replace(TINY, metrics=("jitter-fid:clean-fid",), main="jitter-fid:clean-fid")
    outcome = run_model("spy", suite, options, lambda *told: None)
    store = Store(options.out, suite.protocol, "spy", "", "")
    moved = []
    for case in tiny_cases():
        layers = [
            cv2.imread(str(store.picture(case.id, one)), cv2.IMREAD_UNCHANGED) for one in ("foreground", "background")
        ]
        foreground, background = cv2.cvtColor(layers[0], cv2.COLOR_BGRA2RGBA), layers[1][..., ::-1].copy()
        moved.append(jittered_recomposition(foreground, background, draw_jitter(case.id)))
    features = InceptionFeatures(weights.inception, "clean-fid")
    first, second = (features(pictures).astype(float) for pictures in (moved, [case.image for case in tiny_cases()]))
    moments = [(table.mean(axis=0), np.cov(table, rowvar=False)) for table in (first, second)]
    (row,) = results_of(outcome)
    assert row["value"] == pytest.approx(frechet_distance(*moments[0], *moments[1]), rel=1e-4)
