"""From values of cases to rows of the report: means, intervals, counts and groups."""

import json
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from layerkit.benchmarks import results
from layerkit.benchmarks.measures import parse_measure
from layerkit.benchmarks.results import AREAS, breakdowns_of, number, results_of, tables_of, values_of
from layerkit.manifests.suites import SUITES

KEYS = {
    *("suite", "protocol", "model", "metric", "variant", "region", "value"),
    *("ci95", "n", "n_nan", "n_capped", "higher_is_better", "low_n"),
}


class Vectors:
    """A cache of feature vectors."""

    def __init__(self, vectors: dict[str, np.ndarray]) -> None:
        self.get = vectors.get


def test_a_row_is_the_mean_with_its_interval_and_counts(outcome):
    random = np.random.default_rng(0)
    psnr = [*random.normal(25, 3, 28), math.nan, math.inf]
    made = outcome("m", {"psnr": psnr, "ssim": random.random(30)})
    first, second = results_of(made)
    assert set(first) == KEYS
    assert (first["suite"], first["protocol"], first["model"]) == ("demo", SUITES["demo"].protocol, "m")
    assert (first["metric"], first["variant"], first["region"]) == ("psnr", "area", "whole")
    assert first["value"] == pytest.approx(np.mean([*psnr[:28], 100]), abs=1e-6)
    assert (first["n"], first["n_nan"], first["n_capped"], first["low_n"]) == (29, 1, 1, False)
    assert first["higher_is_better"] is True
    for row in (first, second):
        low, high = row["ci95"]
        assert low < row["value"] < high
    assert second["n_capped"] == 0


def test_the_interval_is_as_wide_as_the_mean_is_uncertain(outcome):
    values = np.random.default_rng(1).normal(0.7, 0.1, 400)
    (row,) = results_of(outcome("m", {"ssim": values}))
    error = 1.96 * values.std() / 20
    assert row["ci95"] == pytest.approx([values.mean() - error, values.mean() + error], abs=0.002)


def test_a_measure_without_values_is_null_and_counted(outcome):
    (row,) = results_of(outcome("m", {"psnr@shadow": [math.nan] * 4}))
    assert (row["value"], row["ci95"], row["n"], row["n_nan"]) == (None, [None, None], 0, 4)
    assert "null" in json.dumps(row, allow_nan=False)


def test_groups_are_by_category_and_by_the_area_of_the_mask(outcome):
    made = outcome("m", {"psnr": [10, 20, 30, 40, math.nan, 60], "fid": [0] * 6})  # areas 0.02, 0.12, 0.22 in turn
    groups = {row["group"]: (row["value"], row["n"]) for row in breakdowns_of(made)}
    assert groups == {
        "area 0% to 5%": (25, 2),
        "area 5% to 15%": (20, 1),
        "area 15% to 30%": (45, 2),
        "category coin": ((10 + 30) / 2, 2),
        "category cup": ((20 + 40 + 60) / 3, 3),
    }
    assert {row["metric"] for row in breakdowns_of(made)} == {"psnr"}


def test_every_area_is_in_one_bucket():
    assert (AREAS[0][0], AREAS[-1][1] > 1) == (0, True)
    assert all(one[1] == two[0] for one, two in pairwise(AREAS))


def of_sets(outcome, n: int, width: int, metric: str = "fid", gone: int = 0):
    """An outcome of n cases with random vectors, of which the truths of the last ``gone`` cases lack theirs."""
    random = np.random.default_rng(3)
    name = str(parse_measure(metric))
    truth = random.normal(size=(n, width))
    vectors = {f"p{k}": truth[k] + random.normal(0.2, 0.4, width) for k in range(n)}
    vectors |= {f"t{k}": truth[k] for k in range(n - gone)}
    made = outcome("m", {metric: [0] * n}, features={name: Vectors(vectors)})
    for k, row in enumerate(made.rows):
        row.vectors[name] = [f"p{k}", f"t{k}"]
    return made


@pytest.mark.parametrize("metric", ["fid", "kid"])
def test_distances_have_intervals_and_say_when_samples_are_few(outcome, metric):
    for n, width, low_n in ((24, 30, True), (30, 30, False)):
        (row,) = results_of(of_sets(outcome, n, width, metric))
        assert set(row) == KEYS
        assert row["ci95"][0] < row["value"] < row["ci95"][1]
        assert (row["n"], row["low_n"], row["n_nan"]) == (n, low_n, 0)


def test_inception_s_2048_dimensions_want_as_many_samples(outcome):
    (row,) = results_of(of_sets(outcome, 8, 2048))
    assert row["low_n"] is True
    (row,) = results_of(of_sets(outcome, 6, 2048))
    assert row["value"] is not None
    assert row["ci95"] == [None, None]


def test_a_case_whose_vectors_are_gone_is_counted(outcome):
    made = of_sets(outcome, 12, 4, gone=2)
    (row,) = results_of(made)
    assert (row["n"], row["n_nan"]) == (10, 2)
    preds, target = tables_of(made.measures[0], made)
    assert preds.shape == target.shape == (10, 4)


def test_no_vectors_at_all_are_null(outcome):
    (row,) = results_of(of_sets(outcome, 3, 4, gone=3))
    assert (row["value"], row["n"], row["n_nan"], row["low_n"]) == (None, 0, 3, True)


def test_only_psnr_is_capped(outcome):
    made = outcome("m", {"psnr": [math.inf, 120.0], "edge-gradient": [120.0, 300.0]})
    assert values_of(made.measures[0], made.rows) == [100, 100]
    assert values_of(made.measures[1], made.rows) == [120, 300]
    assert [row["n_capped"] for row in results_of(made)] == [2, 0]


def test_numbers_for_json():
    assert [number(value) for value in (1.23456789, math.nan, math.inf, -math.inf)] == [1.234568, None, None, None]


def test_distances_are_told_by_category_where_it_is_large_enough(outcome, monkeypatch):
    monkeypatch.setattr(results, "LEAST_OF_A_CATEGORY", 15)
    made = of_sets(outcome, 31, 4)  # 16 coins, 15 cups
    found = {row["group"]: (row["value"], row["n"]) for row in breakdowns_of(made)}
    coins = replace(made, rows=made.rows[::2])
    (expected,) = results_of(coins)
    assert set(found) == {"category coin", "category cup"}
    assert found["category coin"] == (expected["value"], 16)
    monkeypatch.setattr(results, "LEAST_OF_A_CATEGORY", 16)
    assert {row["group"] for row in breakdowns_of(made)} == {"category coin"}


@pytest.mark.parametrize(
    ("metric", "n", "is_known"),
    [
        ("u-ids:asuka", 255, False),  # 510 samples have no 512 principal components
        ("u-ids:asuka", 256, True),
        ("p-ids:asuka-1024", 511, False),
        ("u-ids:cross-validated", 4, False),
        ("u-ids:cross-validated", 5, True),
    ],
)
def test_too_few_samples_for_a_discriminative_score_are_no_score_and_no_crash(outcome, metric, n, is_known):
    (row,) = results_of(of_sets(outcome, n, 600, metric))
    assert (row["value"] is not None) is is_known
    assert (row["n"], row["ci95"]) == (n, [None, None])
