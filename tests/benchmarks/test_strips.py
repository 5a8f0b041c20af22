import math

import numpy as np
import pytest

from layerkit.benchmarks.measures import parse_measure
from layerkit.benchmarks.reports.strips import SIDE, ranking, strips
from layerkit.toolkit.images import decode


def test_the_worst_and_the_best_by_the_main_measure(demo_run):
    outcomes, options = demo_run
    found = strips(outcomes, options, count=2)
    for outcome in outcomes:
        values = {row.id: row.values["psnr:area@whole"] for row in outcome.rows}
        ranked = sorted(values, key=values.__getitem__)
        mine = found[outcome.model]
        assert [one.id for one in mine] == [*ranked[:2], *ranked[-2:]]
        assert [one.rank for one in mine] == ["worst", "worst", "best", "best"]
        assert [one.value for one in mine] == [values[one.id] for one in mine]


def test_a_low_value_is_best_where_lower_is_better(outcome):
    made = outcome("a", {"rmse": [3.0, 1.0, 2.0]})
    assert ranking(made) == parse_measure("rmse")  # the main measure was not taken


def test_without_values_of_single_images_there_is_nothing_to_rank(outcome):
    made = outcome("a", {"fid:clean-fid": [math.nan]})
    assert ranking(made) is None


def test_the_panels_of_a_remover_and_of_a_model_with_layers(demo_run):
    outcomes, options = demo_run
    found = strips(outcomes, options, count=1)
    remover = [panel.caption for panel in found["telea"][0].panels]
    layered = [panel.caption for panel in found["closed-form-matting"][0].panels]
    assert remover[:4] == ["image", "mask", "true foreground", "predicted background"]
    assert layered[:5] == ["image", "mask", "true foreground", "predicted foreground", "predicted background"]
    assert remover[-1].startswith("difference")


def test_panels_show_what_they_say(demo_run):
    outcomes, options = demo_run
    (strip, *_) = strips(outcomes[:1], options, count=1)["telea"]
    panels = {panel.caption.partition(",")[0]: decode(panel.jpeg).astype(float) for panel in strip.panels}
    assert {panel.shape for panel in panels.values()} == {(SIDE, SIDE, 3)}
    assert strip.panels[0].size == (SIDE, SIDE)
    difference = np.abs(panels["predicted background"] - panels["true background"]).mean(axis=2)
    heat = panels["difference"].mean(axis=2)
    assert np.corrcoef(difference.ravel(), heat.ravel())[0, 1] > 0.7
    assert np.median(heat[difference < 2]) < 20


def test_few_samples_are_worst_and_no_sample_is_both(demo_run):
    outcomes, options = demo_run
    ids = [one.id for one in strips(outcomes[:1], options, count=6)["telea"]]
    assert len(ids) == len(set(ids)) == 8


def test_samples_without_a_value_are_not_ranked(outcome, demo_run):
    _, options = demo_run
    made = outcome("a", {"psnr": [math.nan, math.nan]})
    assert strips([made], options) == {"a": []}


@pytest.mark.parametrize("count", [1, 3])
def test_the_same_bytes_again(demo_run, count):
    assert strips(*demo_run, count=count) == strips(*demo_run, count=count)
