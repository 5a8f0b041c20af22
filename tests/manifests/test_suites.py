"""Suites: names, what their protocols hang on, and metrics that there are."""

from dataclasses import fields, replace
from pathlib import Path

import pytest

from layerkit.manifests.errors import UsageError
from layerkit.manifests.suites import GROUPS, SUITES, Suite, find, resolve
from layerkit.toolkit.metrics import METRICS
from layerkit.toolkit.metrics import find as find_metric

CHANGED = {"resize": "longer-side", "matte": (0, 0, 0), "truth": "blended", "paste_back": "raw", "metrics": ("rmse",)}


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_its_metrics_variants_and_regions_exist(suite: Suite):
    assert suite.main in suite.metrics
    assert len(set(suite.metrics)) == len(suite.metrics)
    for text in suite.metrics:
        named, _, region = text.partition("@")
        metric, _, variant = named.partition(":")
        row, _ = find_metric(metric, variant or None)
        assert not region or region in row.regions, text


def test_every_metric_named_by_a_suite_is_in_the_table_of_metrics():
    assert {text.partition("@")[0].partition(":")[0] for one in SUITES.values() for text in one.metrics} <= set(METRICS)


def test_the_papers_numbers():
    mulan, outpaint = SUITES["mulan-layerdecomp"], SUITES["mulan-outpaint"]
    assert (mulan.n, mulan.size, mulan.dilate) == (1000, 512, 10)
    assert (outpaint.n, outpaint.size) == (526, 1024)
    assert [(one.n, one.dilate, one.truth) for one in resolve(["desobav2"])] == [(750, 10, "shadow-free")] * 2
    assert [(one.n, one.dilate, one.mask) for one in resolve(["rord"])] == [(1029, 0, "tight"), (1029, 0, "loose")]


@pytest.mark.parametrize("field", [field.name for field in fields(Suite)])
def test_the_protocol_hangs_on_every_field_but_the_folder(field: str):
    suite = SUITES["rord-tight"]
    old = getattr(suite, field)
    new = CHANGED.get(field, old + 1 if isinstance(old, int) else f"{old}x")
    changed = replace(suite, **{field: new})
    assert (changed.protocol == suite.protocol) is (field == "folder")


def test_protocols_are_unlike_each_other_and_frozen():
    assert len({suite.protocol for suite in SUITES.values()}) == len(SUITES)
    assert SUITES["mulan-layerdecomp"].protocol == "mulan-layerdecomp/1-ac91f66a"  # else count its version up


def test_regions_are_those_of_the_metrics():
    assert SUITES["desobav2-tight"].regions == ("shadow",)
    assert SUITES["demo"].regions == ("whole", "mask", "outside", "shadow")


def test_groups_and_names_resolve_to_each_suite_once():
    assert [one.name for one in resolve(["rord", "rord-loose", "demo"])] == ["rord-tight", "rord-loose", "demo"]
    assert all(name in SUITES for names in GROUPS.values() for name in names)


def test_a_build_is_a_suite_of_its_own_with_no_path_in_its_protocol(tmp_path: Path):
    (here, there) = (tmp_path / "a" / "set", tmp_path / "b" / "set")
    suite = find(f"triplets:{here}")
    assert (suite.name, suite.reader, suite.split, suite.folder) == ("triplets:set", "build", "held-out", str(here))
    assert suite.protocol == find(f"triplets:{there}").protocol


@pytest.mark.parametrize("name", ["", "rord-tigth", "triplets:", "triplets"])
def test_an_unknown_name_lists_the_known_ones(name: str):
    with pytest.raises(UsageError, match=r"expected one of demo, rord-tight.*, desobav2 or triplets:DIR"):
        find(name)
