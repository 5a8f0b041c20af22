import csv
import io
import math
from dataclasses import replace

import pytest

from layerkit.benchmarks.reports.tables import render_csv, render_latex, render_markdown
from layerkit.benchmarks.reports.view import Column, facts, views
from layerkit.manifests.suites import SUITES
from layerkit.toolkit.metrics import METRICS
from layerkit.toolkit.suites.cases import Dropped

HOSTILE = "a|b*<script>&_$%#{}\\[x](y)\n`c`"
PSNR = Column("psnr", "area", "whole")


def rows_of(markdown: str, first: str) -> list[list[str]]:
    """Cells of the rows of Markdown tables that begin with a text."""
    lines = [line for line in markdown.splitlines() if line.startswith(f"| {first}")]
    return [[cell.strip() for cell in line.strip("|").split(" |")] for line in lines]


def test_the_best_of_a_column_is_bold_by_its_direction(outcome, table):
    made = table(
        outcome("worse", {"psnr": [20.0, 20.0], "rmse": [9.0, 9.0]}),
        outcome("better", {"psnr": [30.0, 30.0], "rmse": [3.0, 3.0]}),
    )
    text = render_markdown(made)
    assert rows_of(text, "better")[0] == ["better", r"**30.00** \[30.00, 30.00\]", r"**3.00** \[3.00, 3.00\]"]
    assert rows_of(text, "worse")[0] == ["worse", r"20.00 \[20.00, 20.00\]", r"9.00 \[9.00, 9.00\]"]


def test_equals_are_bold_together_and_one_alone_is_not(outcome, table):
    def best(*names: str) -> frozenset[tuple[str, Column]]:
        return views(table(*(outcome(name, {"psnr": [20.0, 22.0]}) for name in names)))[0].best

    assert best("a", "b") == {("a", PSNR), ("b", PSNR)}
    assert best("a") == frozenset()


def test_only_the_same_measure_competes(outcome, table):
    made = table(outcome("a", {"psnr@mask": [90.0]}), outcome("b", {"psnr": [10.0]}))
    assert views(made)[0].best == frozenset()


def test_the_main_measure_stands_first(outcome, table):
    (view,) = views(table(outcome("a", {"ssim": [0.5], "rmse": [1.0], "psnr": [20.0]})))
    assert view.main == PSNR
    assert view.groups == {"Background, as predicted": [PSNR, *map(_column, ("ssim:gaussian", "rmse:area"))]}


def _column(text: str) -> Column:
    return Column(*text.split(":"), "whole")


def test_pasted_and_foreground_measures_have_tables_of_their_own(demo_run, table):
    (view,) = views(table(*demo_run[0]))
    assert list(view.groups) == ["Background, as predicted", "Background, pasted back", "Foreground and layers"]
    assert all(column.is_pasted for column in view.groups["Background, pasted back"])
    models, _ = view.rows_of(view.groups["Foreground and layers"])
    assert models == ["closed-form-matting"]  # a remover is absent there, not zero


def test_a_cell_says_what_its_value_lacks(outcome, table):
    text = render_markdown(table(outcome("a", {"psnr": [10.0, math.inf], "psnr@shadow": [math.nan, 15.0]})))
    cells = rows_of(text, "a ")[0]
    assert cells[1].endswith("1 capped")
    assert cells[2] == r"15.00 \[15.00, 15.00\] n 1"


def test_published_rows_of_the_protocol_stand_beside_ours_and_others_apart(outcome, table):
    references = [
        {},
        {"method": "Unclear", "variant": "", "value": 20.5, "verified": False, "note": "frames unknown"},
        {"method": "Elsewhere", "same_protocol": False},
        {"method": "Untaken", "metric": "fid", "variant": "clean-fid"},
    ]
    made = table(outcome("a", {"psnr": [20.0, 22.0]}), references=references)
    (view,) = views(made)
    assert [one.method for one in view.published] == ["Published", "Unclear"]
    assert [row["method"] for row in view.elsewhere] == ["Elsewhere"]
    assert [row["method"] for row in view.untaken] == ["Untaken"]
    text = render_markdown(made)
    before, after = text.split("### Published under other protocols: not comparable")
    assert "*Published* (published: paper, n 100, evidence S, verified) | 26.4 |" in before
    assert "not verified) | 20.5? |" in before  # the variant is not stated
    assert "Published by paper: frames unknown." in before
    assert "Elsewhere" in after
    assert "Elsewhere" not in before
    beside, untaken = before.split("### Published under this protocol, of measures that were not taken here")
    assert "| Untaken |" in untaken
    assert "Untaken" not in beside


def test_what_was_not_measured_is_told_once_for_each_reason(outcome, table):
    skipped = {"fid:clean-fid@whole": "no weights", "kid:clean-fid@whole": "no weights"}
    made = table(*(outcome(name, {"psnr": [1.0]}, skipped=skipped) for name in ("a", "b")))
    assert "| fid:clean-fid@whole, kid:clean-fid@whole | a, b | no weights |" in render_markdown(made)


def test_dropped_cases_are_listed(outcome, table):
    made = table(outcome("a", {"psnr": [1.0]}, dropped=(Dropped("id-7", "unreadable", "broken"),)))
    assert "| id-7 | unreadable | broken |" in render_markdown(made)
    assert dict(facts(views(made)[0]))["Cases"] == "1 scored, 1 dropped; up to 48 drawn: all, seed 0"


def test_facts_of_a_protocol(outcome, table):
    suite = SUITES["mulan-layerdecomp"]
    told = dict(facts(views(table(outcome("a", {"psnr": [1.0]}, suite)))[0]))
    assert told["Protocol"] == suite.protocol
    assert told["Mask"] == "tight, dilated by 10 px"
    assert told["Size"] == "512 px, both sides"
    assert told["Ranked by"] == "psnr"


def test_hostile_names_stay_text_in_markdown(outcome, table):
    text = render_markdown(table(outcome(HOSTILE, {"psnr": [1.0]})))
    (line,) = [line for line in text.splitlines() if line.startswith(r"| a\|b") and "1.00" in line]
    assert "<script>" not in text
    assert line.count(" | ") == 1


def test_hostile_names_stay_text_in_latex(outcome, table):
    text = render_latex(table(outcome(HOSTILE, {"psnr": [1.0]})))
    assert r"{a\textbar{}b*\textless{}script\textgreater{}\&\_\$\%\#\{\}\textbackslash{}[x](y) `c`} & 1.00" in text


def test_latex_has_a_booktabs_table_with_as_many_cells_a_row(outcome, table):
    made = table(outcome("a", {"psnr": [1.0], "ssim": [0.5]}), outcome("b", {"psnr": [2.0]}), references=[{}])
    text = render_latex(made)
    lines = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert [line.count(" & ") for line in lines] == [2] * 5
    assert [text.count(rf"\{rule}rule") for rule in ("top", "mid", "bottom")] == [1, 2, 1]
    assert r"{b} & \textbf{2.00} {\scriptsize [2.00, 2.00]} & " in text
    assert r"\textit{Published}" in text


def test_csv_is_long_and_exact(outcome, table):
    made = table(outcome("a", {"psnr": [1.0, 2.0]}), references=[{}, {"same_protocol": False}])
    rows = list(csv.DictReader(io.StringIO(render_csv(made))))
    assert [row["kind"] for row in rows] == ["result", "published", "published, other protocol"]
    assert (rows[0]["value"], rows[0]["n"], rows[0]["model"], rows[0]["variant"]) == ("1.5", "2", "a", "area")
    assert (rows[1]["model"], rows[1]["value"]) == ("Published", "26.4")


@pytest.mark.parametrize("name", ["=1+1", "@cmd", "+x", "-x"])
def test_no_text_of_the_csv_is_a_formula(name, outcome, table):
    (row,) = csv.DictReader(io.StringIO(render_csv(table(outcome(name, {"psnr": [-1.0]})))))
    assert row["model"] == f"'{name}"
    assert row["value"] == "-1.0"


def test_two_suites_have_a_section_each(outcome, table):
    other = replace(SUITES["demo"], name="other")
    text = render_markdown(table(outcome("a", {"psnr": [1.0]}), outcome("a", {"psnr": [9.0]}, other)))
    assert text.index("## demo") < text.index("1.00") < text.index("## other") < text.index("9.00")


@pytest.mark.parametrize("metric", METRICS)
def test_every_metric_has_a_name_and_decimals(metric):
    for variant in METRICS[metric].variants:
        column = Column(metric, variant, "whole")
        assert column.title[-1] == ("↑" if METRICS[metric].higher_is_better else "↓")
        assert float(column.text(1.25)) == pytest.approx(1.25, abs=0.005)
        assert column.text(None) == "—"
