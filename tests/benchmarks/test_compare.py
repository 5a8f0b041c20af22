import json
import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from layerkit.benchmarks import compare_sets
from layerkit.benchmarks.compare import Finding, compare
from layerkit.benchmarks.reports.comparison import render_page
from layerkit.benchmarks.store import Row
from layerkit.manifests.errors import MissingWeights, UsageError
from layerkit.manifests.suites import SUITES
from layerkit.toolkit.metrics.distributions import fid, kid

N = 24


@pytest.fixture
def scores() -> dict[str, dict[str, list[float]]]:
    rng = np.random.default_rng(3)
    base = rng.normal(20, 3, N)
    return {
        "good": {"psnr": list(base + 1 + rng.normal(0, 0.5, N)), "rmse": list(9 + rng.normal(0, 1, N))},
        "poor": {"psnr": list(base), "rmse": list(9 + rng.normal(0, 1, N))},
    }


@pytest.fixture
def report(written, outcome, scores, tmp_path) -> Path:
    return written(tmp_path / "report", *(outcome(name, values) for name, values in scores.items()))


def by_metric(findings: tuple[Finding, ...]) -> dict[str, Finding]:
    return {one.metric: one for one in findings}


def test_means_differences_and_wins_are_those_of_numpy(report, scores):
    found = by_metric(compare(f"{report}:good", f"{report}:poor").findings)["psnr"]
    first, second = (np.array(scores[name]["psnr"]) for name in ("good", "poor"))
    assert found.first == pytest.approx(first.mean(), abs=1e-6)
    assert found.difference == pytest.approx((first - second).mean(), abs=1e-6)
    assert found.win_rate == pytest.approx((first > second).mean())
    assert found.samples == pytest.approx(first - second)
    assert (found.n, found.is_main, found.better) == (N, True, "first")
    assert found.ci95[0] < found.difference < found.ci95[1]


def test_p_values_are_those_of_scipy_corrected_by_holm(report, scores):
    found = by_metric(compare(f"{report}:good", f"{report}:poor").findings)
    for name, one in found.items():
        first, second = (np.array(scores[model][name]) for model in ("good", "poor"))
        expected = stats.permutation_test(
            (first, second),
            lambda a, b, axis: np.mean(a - b, axis=axis),
            permutation_type="samples",
            n_resamples=20_000,
            vectorized=True,
            random_state=1,
        ).pvalue
        assert one.p == pytest.approx(expected, abs=0.015)
    small, large = sorted(one.p for one in found.values())
    assert sorted(one.p_holm for one in found.values()) == pytest.approx([2 * small, max(2 * small, large)])
    assert found["rmse"].better == "undecided"


def test_the_other_way_round_is_the_mirror_image(report):
    one, two = (compare(f"{report}:{a}", f"{report}:{b}").findings for a, b in (("good", "poor"), ("poor", "good")))
    for first, second in zip(one, two, strict=True):
        assert first.difference == pytest.approx(-second.difference)
        assert first.win_rate == pytest.approx(1 - second.win_rate)
        assert first.p == second.p
    assert by_metric(two)["psnr"].better == "second"


def test_a_low_value_wins_where_lower_is_better(written, outcome, tmp_path):
    models = [outcome(name, {"rmse": [value + k % 2 for k in range(N)]}) for name, value in (("a", 1.0), ("b", 5.0))]
    folder = written(tmp_path / "r", *models)
    (found,) = compare(f"{folder}:a", f"{folder}:b").findings
    assert (found.better, found.win_rate, found.difference) == ("first", 1, -4)


def test_a_model_against_itself_is_undecided(report):
    for one in compare(f"{report}:good", f"{report}:good").findings:
        assert (one.difference, one.ci95, one.p, one.win_rate, one.better) == (0, (0, 0), 1, 0.5, "undecided")


def test_only_samples_that_both_have_count(written, outcome, tmp_path):
    first = outcome("a", {"psnr": [10.0, math.nan, 30.0, 50.0]})
    second = outcome("b", {"psnr": [20.0, 20.0, 20.0]})
    one, two = written(tmp_path / "a", first), written(tmp_path / "b", second)
    found = compare(one, two)
    assert [(test.n, test.difference) for test in found.findings] == [(2, 0)]
    assert found.notes == ("suite demo: compared on the 3 samples of 4 and 3 that both have",)


def test_measures_and_suites_of_one_alone_are_noted(written, outcome, tmp_path):
    other = replace(SUITES["demo"], name="other")
    one = written(tmp_path / "a", outcome("a", {"psnr": [1.0], "ssim": [0.5]}), outcome("a", {"psnr": [1.0]}, other))
    two = written(tmp_path / "b", outcome("b", {"psnr": [2.0]}))
    assert compare(one, two).notes == (
        "suite other: only one of the two was scored on it",
        "suite demo: only one of the two has ssim:gaussian@whole",
    )


def test_another_protocol_is_refused_with_what_differs(written, outcome, tmp_path):
    changed = replace(SUITES["demo"], size=512, dilate=4)
    one = written(tmp_path / "a", outcome("a", {"psnr": [1.0]}))
    two = written(tmp_path / "b", outcome("b", {"psnr": [1.0]}, changed))
    with pytest.raises(
        UsageError, match=r"suite demo: expected one protocol, got .*; size: 256 and 512; dilate: 0 and 4;"
    ):
        compare(one, two)


def test_reports_without_a_common_suite_are_refused(written, outcome, tmp_path):
    one = written(tmp_path / "a", outcome("a", {"psnr": [1.0]}))
    two = written(tmp_path / "b", outcome("b", {"psnr": [1.0]}, replace(SUITES["demo"], name="other")))
    with pytest.raises(UsageError, match=r"expected reports of a common suite, got demo in .* and other in"):
        compare(one, two)


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ("{0}", "expected FOLDER:MODEL with one of good, poor, got no model"),
        ("{0}:best", "expected FOLDER:MODEL with one of good, poor, got best"),
        ("{0}/none", "no such folder"),
        ("{0}/..", "expected the folder of a report"),
    ],
)
def test_what_is_no_model_of_a_report_is_refused(report, asked, what):
    with pytest.raises(UsageError, match=what):
        compare(asked.format(report), f"{report}:good")


def test_folders_and_models_may_hold_colons(written, outcome, tmp_path):
    folder = written(tmp_path / "a:b", outcome("python:mine:Model", {"psnr": [1.0]}))
    assert compare(folder, f"{folder}:python:mine:Model").findings[0].n == 1


class Vectors:
    """A cache of feature vectors by name."""

    def __init__(self, vectors: dict[str, np.ndarray]) -> None:
        self._vectors = vectors

    def get(self, name: str) -> np.ndarray | None:
        return self._vectors.get(name)


MEASURES = ("fid:clean-fid@whole", "kid:clean-fid@whole", "kid:subsets@whole")


@pytest.fixture
def sets(written, outcome, tmp_path, monkeypatch) -> tuple[Path, dict[str, np.ndarray]]:
    """A report of two models whose vectors are in the cache: ``a`` is near to the truth, ``b`` is not."""
    rng = np.random.default_rng(0)
    target = rng.normal(size=(N, 6))
    tables = {"t": target, "a": target + rng.normal(0, 0.1, (N, 6)), "b": target + rng.normal(1, 1, (N, 6))}
    vectors = {f"{name}{k}": row for name, rows in tables.items() for k, row in enumerate(rows)}
    monkeypatch.setattr(compare_sets, "feature_cache", lambda *told: Vectors(vectors))
    made = []
    for model in "ab":
        one = outcome(model, {"psnr": [1.0] * N})
        rows = [
            replace(row, vectors={name: [f"{model}{k}", f"t{k}"] for name in MEASURES})
            for k, row in enumerate(one.rows)
        ]
        made.append(replace(one, rows=tuple(rows)))
    return written(tmp_path / "sets", *made), vectors | tables


def test_distances_of_sets_are_compared_from_the_cache(sets, tmp_path):
    folder, known = sets
    found = compare(f"{folder}:a", f"{folder}:b", cache=tmp_path)
    findings = by_metric(found.findings)
    for name, distance in (("fid", fid), ("kid", kid)):
        expected = distance(known["a"], known["t"]) - distance(known["b"], known["t"])
        assert findings[name].difference == pytest.approx(expected, abs=1e-6)
        assert (findings[name].p, findings[name].win_rate, findings[name].n) == (None, None, N)
        assert findings[name].better == "first"
    assert found.notes == ("suite demo: kid:subsets@whole is not compared: no interval is known for it",)


def test_distances_are_left_out_where_the_vectors_are_gone(sets, tmp_path, monkeypatch):
    folder, _ = sets

    def notes(cache: Path | None) -> str:
        return " ".join(compare(f"{folder}:a", f"{folder}:b", cache=cache).notes)

    assert "fid:clean-fid@whole is not compared: no cache of feature vectors was given" in notes(None)
    monkeypatch.setattr(compare_sets, "feature_cache", lambda *told: Vectors({}))
    assert "fid:clean-fid@whole is not compared: its feature vectors are not in the cache" in notes(tmp_path)

    def missing(*told: object) -> None:
        raise MissingWeights("get them")

    monkeypatch.setattr(compare_sets, "feature_cache", missing)
    assert "fid:clean-fid@whole is not compared: get them" in notes(tmp_path)


def test_distances_to_different_pictures_are_left_out(written, outcome, tmp_path, monkeypatch):
    monkeypatch.setattr(compare_sets, "feature_cache", lambda *told: Vectors({}))
    folders = []
    for model in "ab":
        one = outcome(model, {"psnr": [1.0] * 3})
        rows: tuple[Row, ...] = tuple(replace(row, vectors={MEASURES[0]: ["x", f"{model}-truth"]}) for row in one.rows)
        folders.append(written(tmp_path / model, replace(one, rows=rows)))
    (note,) = compare(*folders, cache=tmp_path).notes
    assert note.endswith("the two were scored against different pictures")


def test_text_json_and_page_agree(report):
    found = compare(f"{report}:good", f"{report}:poor")
    told = json.loads(json.dumps(asdict(found), allow_nan=False))
    assert [row["difference"] for row in told["findings"]] == [one.difference for one in found.findings]
    assert told["findings"][0]["better"] == "first"
    page, text = render_page(found), found.describe()
    for one in found.findings:
        value = one.column.text(one.difference)
        assert value in text
        assert f"<td>{value}</td>" in page
    assert page.count("<svg") == 2
    assert render_page(found) == page


def test_hostile_names_stay_text(written, outcome, tmp_path):
    folder = written(tmp_path / "r", outcome("<script>x</script>", {"psnr": [1.0]}))
    page = render_page(compare(folder, folder))
    assert page.count("<script") == 1
