"""How measures are written, what wrong names say, and which of them have a pasted twin."""

import pytest

from layerkit.benchmarks.measures import Measure, parse_measure, with_pasted
from layerkit.manifests.errors import UsageError
from layerkit.manifests.suites import SUITES


@pytest.mark.parametrize(
    ("text", "measure", "told"),
    [
        ("psnr", Measure("psnr", "area", "whole"), "psnr:area@whole"),
        ("psnr@mask", Measure("psnr", "area", "mask"), "psnr:area@mask"),
        ("psnr:all-pixels@shadow", Measure("psnr", "all-pixels", "shadow"), "psnr:all-pixels@shadow"),
        ("lpips:vgg", Measure("lpips", "vgg", "whole"), "lpips:vgg@whole"),
        ("edge-gradient", Measure("edge-gradient", "asuka", "whole"), "edge-gradient:asuka@whole"),
        ("fid:clip@composite", Measure("fid", "clip", "composite"), "fid:clip@composite"),
    ],
)
def test_variant_and_region_have_defaults(text: str, measure: Measure, told: str):
    assert parse_measure(text) == measure
    assert str(measure) == told
    assert parse_measure(told) == measure


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pnsr", "expected a metric .*psnr.* got 'pnsr'"),
        ("", "expected a metric"),
        ("psnr:areas", r"expected a variant of psnr \(area, all-pixels\), got 'areas'"),
        ("psnr@masked", "metric 'psnr@masked': expected a region of whole, mask, .* got 'masked'"),
        ("fid@mask", "expected a region of whole, composite, composed, foreground, got 'mask'"),
        ("iou@mask", "expected a region of whole, got 'mask'"),
    ],
)
def test_wrong_names_list_the_right_ones(text: str, said: str):
    with pytest.raises(UsageError, match=said):
        parse_measure(text)


def test_what_looks_at_the_background_is_scored_pasted_back_too():
    names = ("psnr", "psnr@outside", "psnr@shadow", "lpips@composite", "edge-gradient", "fid", "jitter-fid", "iou")
    assert [str(one) for one in with_pasted(map(parse_measure, names))] == [
        "psnr:area@whole",
        "psnr:area+pasted@whole",
        "psnr:area@outside",  # pasted back it is the input's
        "psnr:area@shadow",
        "psnr:area+pasted@shadow",
        "lpips:alex@composite",  # pasted already
        "edge-gradient:asuka@whole",
        "fid:clean-fid@whole",
        "fid:clean-fid+pasted@whole",
        "jitter-fid:clean-fid@whole",
        "iou:soft@whole",
    ]


def test_the_measures_of_every_suite_are_known():
    for suite in SUITES.values():
        for text in (*suite.metrics, suite.main):
            assert parse_measure(text).definition.function
