"""``stats``: other limits applied to stored scores give what a rebuild's judge would say."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from layerkit.manifests.errors import UsageError
from layerkit.pipelines.stats import parse_limit, stats


@pytest.fixture(scope="module")
def picky(build_demo, tmp_path_factory) -> Path:
    """A build that refuses some: of 24 places at three attempts."""
    folder = tmp_path_factory.mktemp("picky")
    text = (Path(__file__).parents[2] / "manifests" / "demo.toml").read_text()
    (folder / "p.toml").write_text(
        "attempts = 3\n" + text + "\n[filters]\nsaliency_iou = [0.2, 1.0]\nborder = [0, 1]\n"
    )
    build_demo(folder / "out", recipe=str(folder / "p.toml"), count=24)
    return folder / "out"


def test_its_own_limits_keep_what_was_kept(picky: Path):
    for mix in stats(picky, {}).yields:
        assert mix.passing == mix.kept
        assert mix.sources == 0
    kept = json.loads((picky / "manifests" / "stats.json").read_text())["funnel"]["kept"]
    assert sum(mix.kept for mix in stats(picky, {}).yields) == kept


def test_another_limit_counts_candidates_by_their_scores(picky: Path):
    rows = pq.read_table(picky / "manifests" / "samples.parquet").to_pylist()
    refused = pq.read_table(picky / "manifests" / "rejects.parquet").to_pylist()
    values = [row["scores"]["saliency_iou"] for row in rows]
    for limit in (0.1, 0.3, 0.5):
        found = {mix.mix: mix for mix in stats(picky, {"saliency_iou": (str(limit), "")}).yields}
        if limit >= 0.2:
            assert sum(mix.passing for mix in found.values()) == sum(value >= limit for value in values)
        else:
            more = [row for row in refused if row["reason"] == "saliency_iou" and row["value"] >= limit]
            assert sum(mix.passing for mix in found.values()) >= len(rows)
            assert sum(mix.passing for mix in found.values()) <= len(rows) + len(more)
        for mix in found.values():
            assert mix.passing + sum(mix.dropped.values()) == mix.candidates


def test_the_expected_yield_falls_with_the_limit(picky: Path):
    expected = [sum(m.expected for m in stats(picky, {"saliency_iou": (str(low), "")}).yields) for low in (0, 0.3, 1)]
    assert expected[0] >= expected[1] >= expected[2]
    assert expected[0] <= 24


def test_quantiles_are_those_of_the_manifests(picky: Path):
    rows = pq.read_table(picky / "manifests" / "samples.parquet").to_pylist()
    low, *_, high = stats(picky, {}).scores["area"]
    assert min(row["scores"]["area"] for row in rows) <= low + 1e-6 or low <= high
    assert low <= high


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("saliency_iou=0.6", ("saliency_iou", "0.6", "")),
        ("haze=0.2", ("haze", "", "0.2")),
        ("area=0.1..0.5", ("area", "0.1", "0.5")),
        ("area=..0.5", ("area", "", "0.5")),
        ("haze=0.1..", ("haze", "0.1", "")),
    ],
)
def test_limits_are_read(text: str, expected: tuple[str, str, str]):
    assert parse_limit(text) == expected


@pytest.mark.parametrize("text", ["saliency", "nothing=1", "area=a..b", "=1"])
def test_wrong_limits_say_what_is_expected(text: str):
    with pytest.raises(UsageError, match="--what-if: expected"):
        parse_limit(text)


def test_a_folder_without_a_build(tmp_path: Path):
    with pytest.raises(UsageError, match="expected a build folder"):
        stats(tmp_path, {})
