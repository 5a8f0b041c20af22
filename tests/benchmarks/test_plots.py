import math
import re
from itertools import pairwise
from xml.etree import ElementTree

import pytest

from layerkit.benchmarks.reports.plots import (
    Bar,
    difference_plot,
    interval_plot,
    line_plot,
    nice_ticks,
    ranked_plot,
    tick_text,
)

SVG = "{http://www.w3.org/2000/svg}"


def circles(svg: str) -> list[float]:
    return [float(one.get("cx")) for one in ElementTree.fromstring(svg).iter(f"{SVG}circle")]


def texts(svg: str) -> list[str]:
    return [one.text for one in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("ends", [(19.3, 25.9), (0.0, 1.0), (-3.4, 5.0), (0.00012, 0.00019), (7.0, 7.0), (0.0, 0.0)])
def test_ticks_are_round_and_enclose(ends):
    ticks = nice_ticks(*ends)
    assert ticks[0] <= ends[0] + 1e-12
    assert ticks[-1] >= ends[1] - 1e-12
    assert 2 <= len(ticks) <= 8
    steps = {round((b - a) / 10 ** math.floor(math.log10(b - a) + 1e-9), 6) for a, b in pairwise(ticks)}
    assert steps <= {1.0, 2.0, 5.0}


def test_tick_texts_have_the_decimals_that_tell_them_apart():
    assert [tick_text(tick, [0.0, 0.05]) for tick in (0.0, 0.05)] == ["0.00", "0.05"]
    assert [tick_text(tick, [20.0, 22.0]) for tick in (20.0, 22.0)] == ["20", "22"]


def test_marks_lie_in_proportion_to_values():
    first, second, third = circles(interval_plot([Bar("a", 10), Bar("b", 15, 12, 18), Bar("c", 20)], title="x"))
    assert second - first == pytest.approx(third - second, abs=0.11)
    assert first < second


def test_what_is_not_ours_is_open():
    svg = interval_plot([Bar("a", 10), Bar("b", 15, is_open=True)], title="x")
    fills = [one.get("fill") for one in ElementTree.fromstring(svg).iter(f"{SVG}circle")]
    assert fills[0].startswith("var(--s0")
    assert fills[1].startswith("var(--page")


def test_zero_is_in_the_middle_of_differences():
    left, middle, right = circles(
        difference_plot([Bar("a", -1, -2, 0.5), Bar("b", 0, 0, 0), Bar("c", 10, 5, 20)], title="x", left="l", right="r")
    )
    assert left < middle < right
    assert middle == 180
    assert right - middle == pytest.approx(middle - left)  # each on its own scale: half of the widest end


def test_a_gap_of_a_series_is_no_line():
    def count(values: list[float | None]) -> int:
        return line_plot({"a": values}, ["1", "2", "3"], title="x").count('stroke-width="2"')

    assert count([1.0, 2.0, 3.0]) == 2
    assert count([1.0, None, 3.0]) == 0


def test_ranked_bars_ascend():
    svg = ranked_plot([3.0, -1.0, 2.0], title="x")
    heights = [float(text) for text in re.findall(r"V([\d.]+)h", svg)]
    assert heights == sorted(heights, reverse=True)  # y points down


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a&b\"'", "x" * 300])
def test_any_name_gives_well_formed_svg_that_fits(name):
    svg = interval_plot([Bar(name, 1.0)], title=name) + line_plot({name: [1.0]}, [name[:9]], title=name)
    for one in svg.split("</svg>")[:-1]:
        assert max(len(text) for text in texts(one + "</svg>")) < 60
        assert "<script" not in one
