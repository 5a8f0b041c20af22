"""The report as text: Markdown to read, LaTeX to paste into a paper, and CSV in long form for other programs."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .breakdowns import Breakdown, breakdown, broken_down
from .view import (
    Cells,
    Column,
    SuiteView,
    as_printed,
    facts,
    not_measured,
    notes_on,
    source_of,
    views,
)

_CSV = (
    "kind",
    "suite",
    "protocol",
    "model",
    "metric",
    "variant",
    "region",
    "value",
    "ci95_low",
    "ci95_high",
    "n",
    "n_nan",
    "n_capped",
    "low_n",
    "higher_is_better",
    "source",
)
_LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
    "—": "--",
} | {sign: "\\" + sign for sign in "&%$#_{}"}

LEGEND = (
    "Means with 95 % confidence intervals. Bold: the best of the models in its column, which may be chance; "
    "layerkit compare tests it. ↑ higher is better, ↓ lower is better. n: cases behind a value where not all are; "
    "capped: perfect cases counted as 100 dB; n < d: fewer samples than feature dimensions, so that the value is "
    "mostly bias; ?: a published value whose variant is not stated."
)


def render_markdown(table: Mapping[str, Any]) -> str:
    """The report in Markdown: a section for each suite, the main measure first."""
    lines = ["# layerkit bench", "", _md(LEGEND), ""]
    for view in views(table):
        lines += _md_suite(view)
    lines += ["## Models", "", *_md_dicts(table["models"], ("name", "revision", "licence"))]
    lines += ["## Environment", "", *(f"- {_md(name)}: {_md(text)}" for name, text in environment(table))]
    return "\n".join(lines) + "\n"


def environment(table: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the numbers depend on, as pairs of label and text."""
    told = dict(table["environment"])
    versions = told.pop("versions", {})
    return [(name, str(value)) for name, value in {**told, **versions}.items()]


def _md_suite(view: SuiteView) -> Iterator[str]:
    suite = view.suite
    yield from (f"## {_md(suite['name'])}", "", _md(suite["about"]), "")
    yield from (f"- {label}: {_md(text)}" for label, text in facts(view))
    yield ""
    for title, columns in view.groups.items():
        yield from (f"### {title}", "", *_md_group(view, columns))
    for kind, title in (("area", "Share of the picture under the mask"), ("category", "Category")):
        for column in broken_down(view, kind):
            split = breakdown(view, kind, column)
            yield from (f"### {title}: {_md(column.full_title)}", "", *_md_breakdown(view, column, split))
    if view.skipped:
        yield from ("### Not measured", "", *_md_dicts(not_measured(view), ("measures", "models", "why")))
    if view.dropped:
        yield from ("### Dropped cases", "", *_md_dicts(view.dropped, ("id", "reason", "detail")))
    for title, published in apart(view):
        yield from (f"### {title}", "", *_md_dicts(*published_table(published)))


def _md_group(view: SuiteView, columns: Sequence[Column]) -> Iterator[str]:
    heads = [f"{_md(column.title)}<br>{_md(column.details)}" for column in columns]
    models, published = view.rows_of(columns)
    rows = [[_md(model), *(_md_cell(view, model, column) for column in columns)] for model in models]
    rows += [
        [
            f"*{_md(one.method)}* (published: {_md(one.source)})",
            *(as_printed(one.cells[column]) if column in one.cells else "" for column in columns),
        ]
        for one in published
    ]
    yield from _md_table(["model", *heads], rows)
    for note in notes_on(published):
        yield from (f"Published by {_md(note)}.", "")


def _md_cell(view: SuiteView, model: str, column: Column) -> str:
    row = view.cells.get((model, column))
    if row is None:
        return ""
    value = column.text(row["value"])
    bold = f"**{value}**" if (model, column) in view.best else value
    return " ".join(filter(None, [bold, _md(interval_text(column, row)), *map(_md, view.marks(row))]))


def interval_text(column: Column, row: Cells) -> str:
    """``[low, high]``, empty where there is none."""
    low, high = row["ci95"]
    return "" if low is None or high is None else f"[{column.text(low)}, {column.text(high)}]"


def _md_breakdown(view: SuiteView, main: Column, split: Breakdown) -> Iterator[str]:
    rows = [
        [_md(group), str(split.n[group]), *(main.text(split.values.get((model, group))) for model in view.models)]
        for group in split.groups
    ]
    yield from _md_table(["group", "n", *map(_md, view.models)], rows)


def apart(view: SuiteView) -> list[tuple[str, Sequence[Cells]]]:
    """The published rows that do not stand beside ours, by why."""
    told = [
        ("Published under this protocol, of measures that were not taken here", view.untaken),
        ("Published under other protocols: not comparable", view.elsewhere),
    ]
    return [(title, rows) for title, rows in told if rows]


def published_table(published: Sequence[Cells]) -> tuple[list[dict[str, str]], tuple[str, ...]]:
    """Published rows as table rows and their keys."""
    keys = ("method", "dataset", "size", "mask", "metric", "variant", "region", "value", "source", "note")
    rows = [{key: str(row.get(key, "")) for key in keys} | {"source": source_of(row)} for row in published]
    return rows, keys


def _md_dicts(rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> Iterator[str]:
    return _md_table(keys, [[_md(str(row[key])) for key in keys] for row in rows])


def _md_table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """A first column of texts, then columns aligned to the right."""
    yield f"| {' | '.join(heads)} |"
    yield f"|---|{'---:|' * (len(heads) - 1)}"
    yield from (f"| {' | '.join(row)} |" for row in rows)
    yield ""


def _md(text: str) -> str:
    """Plain text, whatever signs are in it."""
    escaped = re.sub(r"([\\`*_{}\[\]|~$])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def render_latex(table: Mapping[str, Any]) -> str:
    """A table for each suite and kind of measure; needs the packages booktabs and graphicx."""
    head = "% \\usepackage{booktabs,graphicx}\n"
    return head + "\n".join(
        "\n".join(_tex_table(view, title, columns)) for view in views(table) for title, columns in view.groups.items()
    )


def _tex_table(view: SuiteView, title: str, columns: Sequence[Column]) -> Iterator[str]:
    models, published = view.rows_of(columns)
    yield from (r"\begin{table}", r"\centering", r"\resizebox{\linewidth}{!}{%")
    yield rf"\begin{{tabular}}{{l{'r' * len(columns)}}}"
    yield r"\toprule"
    yield " & ".join(["Model", *(_tex(column.title) for column in columns)]) + r" \\"
    yield " & ".join(["", *(rf"{{\scriptsize {_tex(column.details)}}}" for column in columns)]) + r" \\"
    yield r"\midrule"
    for model in models:
        yield " & ".join([f"{{{_tex(model)}}}", *(_tex_cell(view, model, column) for column in columns)]) + r" \\"
    if published:
        yield r"\midrule"
    for one in published:
        values = [as_printed(one.cells[column]) if column in one.cells else "" for column in columns]
        yield " & ".join([rf"\textit{{{_tex(one.method)}}} (published: {_tex(one.source)})", *values]) + r" \\"
    yield from (r"\bottomrule", r"\end{tabular}}")
    yield rf"\caption{{{_tex(view.suite['name'])}. {title}. Protocol {_tex(view.suite['protocol'])}, {view.n} cases.}}"
    yield "\\end{table}\n"


def _tex_cell(view: SuiteView, model: str, column: Column) -> str:
    row = view.cells.get((model, column))
    if row is None:
        return ""
    value = column.text(row["value"])
    bold = rf"\textbf{{{value}}}" if (model, column) in view.best else value
    small = " ".join(filter(None, [interval_text(column, row), *view.marks(row)]))
    return bold.replace("—", "--") + (rf" {{\scriptsize {_tex(small)}}}" if small else "")


def _tex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in " ".join(text.split()))


def render_csv(table: Mapping[str, Any]) -> str:
    """A line for each value, ours and published; a text that a spreadsheet would take for a formula gets a quote."""
    out = io.StringIO()
    writer = csv.DictWriter(out, _CSV, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    for row in table["results"]:
        low, high = row["ci95"]
        writer.writerow(_safe({**row, "kind": "result", "ci95_low": low, "ci95_high": high}))
    for row in table["references"]:
        kind = "published" if row["same_protocol"] else "published, other protocol"
        writer.writerow(_safe({**row, "kind": kind, "model": row["method"], "source": source_of(row)}))
    return out.getvalue()


def _safe(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key: f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t")) else value
        for key, value in row.items()
    }
