"""A report as an exhibit: truth, predictions, differences and scores against what bench wrote and the suite says."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from layerkit.benchmarks.bench import bench
from layerkit.benchmarks.options import BenchOptions
from layerkit.manifests.errors import UsageError
from layerkit.manifests.report_files import REPORT, SAMPLES, predicted
from layerkit.manifests.suites import SUITES
from layerkit.pipelines.browsing.exhibit import Shown
from layerkit.pipelines.browsing.reports import exhibit
from layerkit.pipelines.browsing.scores import Scores
from layerkit.toolkit.suites.cases import Case, cases


def shown_of(report: Path, **asked) -> list[Shown]:
    return list(exhibit(report, "r", **{"limit": 100, "where": "", "roots": {}, **asked}).samples())


@pytest.fixture(scope="module")
def shown(tiny_report: Path) -> list[Shown]:
    return shown_of(tiny_report)


@pytest.fixture(scope="module")
def truth() -> dict[str, Case]:
    return {case.id: case for case in cases(SUITES["demo"], {}, limit=4)}


def pixels(path: Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_truth_and_predictions_are_shown_as_they_are(shown: list[Shown], truth: dict[str, Case], tiny_report: Path):
    assert [one.key for one in shown] == list(truth)
    for one in shown:
        case = truth[one.key]
        for name in ("image", "background", "foreground"):
            np.testing.assert_array_equal(pixels(one.panels[name].picture), getattr(case, name))
        mask = one.panels["image"].overlays["mask"].path
        np.testing.assert_array_equal(cv2.imread(str(mask), cv2.IMREAD_UNCHANGED) > 0, case.mask)
        for model, field in (("telea", "telea"), ("closed-form-matting", "closed_form_matting")):
            file = predicted(tiny_report, SUITES["demo"].protocol, model, one.key, "background")
            np.testing.assert_array_equal(pixels(one.panels[field].picture), pixels(file))
        assert one.panels["closed_form_matting_foreground"].thumbnail.suffix == ".jpg", "on a checkerboard"
        assert "telea_foreground" not in one.panels


def test_differences_lie_over_predictions(shown: list[Shown], truth: dict[str, Case]):
    for one in shown:
        for panel, layer in (("telea", "background"), ("closed_form_matting_foreground", "foreground")):
            overlay = one.panels[panel].overlays["difference"]
            made, true = pixels(one.panels[panel].picture).astype(float), getattr(truth[one.key], layer).astype(float)
            heat = cv2.imread(str(overlay.path), cv2.IMREAD_UNCHANGED)
            assert np.abs(heat - np.abs(made - true).mean(axis=2)).max() <= 0.5
            assert overlay.kind == "heat"


def test_models_stand_side_by_side(shown: list[Shown]):
    for one in shown:
        together = one.panels["side_by_side"]
        assert together.size[0] > 4 * 250, "image, truth and two models"


def test_scores_are_fields_of_the_models(shown: list[Shown], tiny_report: Path):
    scores = Scores(tiny_report)
    names = {(one.metric, one.variant, one.region): field for one, field in scores.measures.items()}
    values = {one.key: one.values for one in shown}
    rows = pq.read_table(tiny_report / SAMPLES).to_pylist()
    assert len(rows) > 50
    for row in rows:
        field = names[row["metric"], row["variant"], row["region"]]
        assert values[row["id"]][scores.models[row["model"]]][field] == row["value"]
        assert values[row["id"]]["area"] == row["area"]
    assert {"psnr", "psnr_mask", "psnr_mask_pasted", "iou_soft", "iou_hard", "edge_gradient"} <= set(names.values())


def test_a_condition_on_a_score_chooses_cases(shown: list[Shown], tiny_report: Path):
    by_score = sorted(shown, key=lambda one: one.values["telea"]["psnr_mask"])
    limit = by_score[1].values["telea"]["psnr_mask"]
    worst = shown_of(tiny_report, where=f"telea.psnr_mask <= {limit!r}")
    assert {one.key for one in worst} == {one.key for one in by_score[:2]}
    with pytest.raises(UsageError, match="is true of none"):
        shown_of(tiny_report, where="telea.psnr_mask > 1000")
    with pytest.raises(UsageError, match=r"did you mean telea\.psnr"):
        shown_of(tiny_report, where="telea.psnt > 10")


def test_views_go_the_way_that_is_better(tiny_report: Path):
    class Sorted:
        def match(self, condition):
            return self

        def sort_by(self, path, *, reverse):
            return path, reverse

    class Field:
        def __init__(self, path):
            self.path = path

        def __ne__(self, other):
            return True

        __hash__ = None

    views = {
        view.name: view.make(Sorted(), Field) for view in exhibit(tiny_report, "r", limit=9, where="", roots={}).views
    }
    assert views["worst telea psnr_mask"] == ("telea.psnr_mask", False)
    assert views["best telea psnr_mask"] == ("telea.psnr_mask", True)
    assert views["worst closed_form_matting sad"] == ("closed_form_matting.sad", True)
    assert not any("pasted" in name for name in views)


def test_data_that_moved_are_found_by_root(build_demo, tmp_path: Path, cache_dir: Path):
    build_demo(tmp_path / "set", count=4)
    options = BenchOptions(out=tmp_path / "report", cache=cache_dir, limit=2)
    bench(["identity"], [f"triplets:{tmp_path / 'set'}"], options, lambda *told: None, strict=False)
    before = shown_of(tmp_path / "report")
    assert len(before) == 2
    (tmp_path / "set").rename(tmp_path / "moved")
    with pytest.raises(UsageError, match="--root build=DIR"):
        shown_of(tmp_path / "report")
    after = shown_of(tmp_path / "report", roots={"build": tmp_path / "moved"})
    assert [one.values for one in after] == [one.values for one in before]


def test_what_cannot_be_decoded_any_more_shows_why(build_demo, tmp_path: Path, cache_dir: Path):
    build_demo(tmp_path / "set", count=4)
    options = BenchOptions(out=tmp_path / "report", cache=cache_dir, limit=2)
    bench(["identity"], [f"triplets:{tmp_path / 'set'}"], options, lambda *told: None, strict=False)
    first, _ = (one.key for one in shown_of(tmp_path / "report"))
    (tmp_path / "set/manifests/exclude.txt").write_text(first)
    one = next(one for one in shown_of(tmp_path / "report") if one.key == first)
    assert one.panels.keys() == {"image"}
    assert "exclude.txt" in one.values["fault"]


def test_a_prediction_that_was_removed_is_not_shown(tiny_report: Path, tmp_path: Path):
    copied = Path(shutil.copytree(tiny_report, tmp_path / "report"))
    shutil.rmtree(next((copied / "predictions").glob("*/telea")))
    for one in shown_of(copied):
        assert "telea" not in one.panels
        assert one.values["telea"]["psnr"] > 0, "its scores are known still"


def test_what_is_no_report_is_refused(tiny_report: Path, tmp_path: Path):
    with pytest.raises(UsageError, match="expected a finished report"):
        Scores(tmp_path)
    copied = Path(shutil.copytree(tiny_report, tmp_path / "report"))
    (copied / SAMPLES).write_bytes(b"PAR1")
    with pytest.raises(UsageError, match=r"samples\.parquet"):
        Scores(copied)
    shutil.copy(tiny_report / SAMPLES, copied / SAMPLES)
    (copied / REPORT).write_text('{"schema": 1}')
    with pytest.raises(UsageError, match="expected a report with environment, results, suites, got another"):
        Scores(copied)
    (copied / REPORT).write_text("{")
    with pytest.raises(UsageError, match=r"report\.json"):
        Scores(copied)


def test_models_of_any_name_are_fields(tiny_report: Path, tmp_path: Path):
    copied = Path(shutil.copytree(tiny_report, tmp_path / "report"))
    table = pq.read_table(copied / SAMPLES).to_pylist()
    names = {"telea": "predictions:../a b", "closed-form-matting": "predictions:..a-b"}
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist([row | {"model": names[row["model"]]} for row in table]), copied / SAMPLES)
    assert sorted(Scores(copied).models.values()) == ["predictions_a_b", "predictions_a_b_2"]
    report = json.loads((copied / REPORT).read_text())
    assert report["models"], "the report itself stays as it was"


def test_another_limit_or_score_is_another_exhibit(tiny_report: Path, tmp_path: Path):
    copied = Path(shutil.copytree(tiny_report, tmp_path / "report"))

    def identity(report: Path, **asked) -> str:
        return exhibit(report, "r", **{"limit": 9, "where": "", "roots": {}, **asked}).identity

    assert identity(copied) == identity(tiny_report)
    assert identity(copied, limit=8) != identity(copied)
    (copied / REPORT).write_text((copied / REPORT).read_text() + "\n")
    assert identity(copied) != identity(tiny_report)
