import math

import numpy as np
import pyarrow.parquet as pq
import pytest

from layerkit.benchmarks.reports.samples import read_samples, write_samples
from layerkit.manifests.errors import UsageError
from layerkit.manifests.report_files import SAMPLES


def test_what_is_written_is_read(outcome, tmp_path):
    made = outcome("telea", {"psnr": [20.0, math.inf], "psnr@shadow": [math.nan, 15.0]})
    write_samples(tmp_path / SAMPLES, [made])
    rows = read_samples(tmp_path)
    assert [(row["region"], row["id"]) for row in rows] == [
        ("whole", "case-00"),
        ("whole", "case-01"),
        ("shadow", "case-00"),
        ("shadow", "case-01"),
    ]
    assert [row["value"] for row in rows[:2]] == [20, 100]  # infinite PSNR is capped, as in the mean
    assert math.isnan(rows[2]["value"])
    assert rows[3]["value"] == 15
    assert rows[0] | {"value": 0} == {
        "suite": "demo",
        "protocol": made.suite.protocol,
        "model": "telea",
        "id": "case-00",
        "scene": "",
        "category": "coin",
        "metric": "psnr",
        "variant": "area",
        "region": "whole",
        "area": 0.02,
        "value": 0,
    }


def test_nan_is_null(outcome, tmp_path):
    write_samples(tmp_path / SAMPLES, [outcome("telea", {"psnr": [math.nan, 1.0]})])
    assert pq.read_table(tmp_path / SAMPLES)["value"].to_pylist() == [None, 1.0]


def test_means_of_the_columns_are_those_of_the_report(demo_run, table, tmp_path):
    outcomes, _ = demo_run
    write_samples(tmp_path / SAMPLES, outcomes)
    rows = read_samples(tmp_path)
    results = table(*outcomes)["results"]
    assert results
    for result in results:
        keys = ("model", "metric", "variant", "region")
        values = [row["value"] for row in rows if all(row[key] == result[key] for key in keys)]
        assert np.nanmean(values) == pytest.approx(result["value"], abs=1e-6)


def test_the_same_outcomes_give_the_same_bytes(demo_run, tmp_path):
    for name in "ab":
        write_samples(tmp_path / name, demo_run[0])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("content", [None, b"no parquet"])
def test_a_folder_without_samples_is_an_error(content, tmp_path):
    if content:
        (tmp_path / SAMPLES).write_bytes(content)
    with pytest.raises(UsageError, match=r"expected the folder of a report with samples\.parquet"):
        read_samples(tmp_path)
