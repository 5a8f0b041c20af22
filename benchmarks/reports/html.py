"""``report.html``: one page with tables, plots and pictures, which needs no other file and no network."""

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any

from ...toolkit.page import data_table, folded, page, picture, text_table
from ..options import BenchOptions
from ..run import Outcome
from .breakdowns import Breakdown, breakdown, broken_down
from .plots import Bar, interval_plot, line_plot
from .strips import Strip, strips
from .tables import LEGEND, apart, environment, interval_text, published_table
from .view import Column, Published, SuiteView, as_printed, facts, not_measured, notes_on, views

_WIDE_FACTS = ("Metrics", "SHA-256 of ids")


def render_html(table: Mapping[str, Any], outcomes: Sequence[Outcome], options: BenchOptions) -> str:
    """The report as a page; the same report and pictures give the same bytes.

    Args:
        table: what ``report.json`` holds.
        outcomes: that it was made of, for the pictures.
        options: where cases and predictions lie.
    """
    shown = views(table)
    links = "".join(f'<li><a href="#suite-{k}">{escape(view.suite["name"])}</a></li>' for k, view in enumerate(shown))
    body = [
        "<header><h1>layerkit bench</h1>",
        f"<p>{escape(LEGEND)}</p>",
        f'<nav aria-label="Suites"><ul>{links}</ul></nav></header>\n<main>',
    ]
    for k, view in enumerate(shown):
        mine = [outcome for outcome in outcomes if outcome.suite.name == view.suite["name"]]
        body += [f'<section id="suite-{k}">', *_suite(view, strips(mine, options) if mine else {}), "</section>"]
    return page("layerkit bench", [*body, *_closing(table), "</main>"])


def _suite(view: SuiteView, pictures: Mapping[str, Sequence[Strip]]) -> Iterator[str]:
    yield f"<h2>{escape(view.suite['name'])}</h2><p>{escape(view.suite['about'])}</p>"
    yield f"<dl>{''.join(_fact(*one) for one in facts(view))}</dl>"
    could_not = [row for row in view.skipped if row["metric"] == "*"]
    yield from (
        f"<p><strong>{escape(row['model'])} did not run:</strong> {escape(row['why'])}</p>" for row in could_not
    )
    yield f'<div class="plots">{"".join(f"<figure>{one}</figure>" for one in _plots(view))}</div>'
    for title, columns in view.groups.items():
        yield f"<h3>{title}</h3>" + _scores(view, title, columns)
    yield from _breakdowns(view)
    for k, (model, found) in enumerate((model, found) for model, found in pictures.items() if found):
        yield _pictures(model, found, is_open=k == 0)
    yield from _left_out(view)


def _fact(label: str, text: str) -> str:
    wide = ' class="wide"' if label in _WIDE_FACTS else ""
    return f"<div{wide}><dt>{escape(label)}</dt><dd>{escape(text)}</dd></div>"


def _scores(view: SuiteView, title: str, columns: Sequence[Column]) -> str:
    models, published = view.rows_of(columns)
    ours = "".join(
        f'<tr><th scope="row">{escape(model)}</th>{"".join(_cell(view, model, column) for column in columns)}</tr>'
        for model in models
    )
    bodies = [f"<tbody>{ours}</tbody>"]
    if published:
        bodies += [f'<tbody class="published">{"".join(_published(one, columns) for one in published)}</tbody>']
    notes = "".join(f'<p class="muted">Published by {escape(note)}.</p>' for note in notes_on(published))
    return data_table(title, ['<th scope="col">Model</th>', *map(_head, columns)], bodies) + notes


def _head(column: Column) -> str:
    first = "descending" if column.higher_is_better else "ascending"
    return f'<th scope="col" data-first="{first}">{column.title}<small>{escape(column.details)}</small></th>'


def _cell(view: SuiteView, model: str, column: Column) -> str:
    row = view.cells.get((model, column))
    if row is None or row["value"] is None:
        return '<td data-value="">—</td>'
    value = column.text(row["value"])
    bold = f"<strong>{value}</strong>" if (model, column) in view.best else value
    notes = [note for note in (interval_text(column, row), *view.marks(row)) if note]
    return f'<td data-value="{row["value"]}">{bold}{"".join(f"<small>{escape(note)}</small>" for note in notes)}</td>'


def _published(one: Published, columns: Sequence[Column]) -> str:
    head = f'<th scope="row">{escape(one.method)}<small>published: {escape(one.source)}</small></th>'
    cells = (escape(as_printed(one.cells[column])) if column in one.cells else "" for column in columns)
    return f"<tr>{head}{''.join(f'<td>{text}</td>' for text in cells)}</tr>"


def _plots(view: SuiteView) -> Iterator[str]:
    """The main measure of every model, and how it depends on the size of the object."""
    main = view.main
    if main is None:
        return
    rows = {model: view.cells[model, main] for model in view.models if (model, main) in view.cells}
    bars = [Bar(model, row["value"], *row["ci95"]) for model, row in rows.items() if row["value"] is not None]
    bars += [
        Bar(f"{one.method} (published)", one.cells[main]["value"], is_open=True)
        for one in view.published
        if main in one.cells
    ]
    if bars:
        yield interval_plot(bars, title=main.full_title)
    split = breakdown(view, "area")
    if any(value is not None for value in split.values.values()):
        steps = [f"{group.replace(' to ', '-')}\nn {split.n[group]}" for group in split.groups]
        series = {model: [split.values.get((model, group)) for group in split.groups] for model in rows}
        yield line_plot(series, steps, title=f"{main.title} by share of the mask")


def _breakdowns(view: SuiteView) -> Iterator[str]:
    for kind, title in (("area", "share of the picture under the mask"), ("category", "category")):
        for column in broken_down(view, kind):
            label = f"{column.full_title} by {title}"
            yield f"<h3>{escape(label)}</h3>" + _breakdown(view, label, column, breakdown(view, kind, column))


def _breakdown(view: SuiteView, label: str, column: Column, split: Breakdown) -> str:
    first = "descending" if column.higher_is_better else "ascending"
    heads = [f'<th scope="col" data-first="{first}">{escape(model)}</th>' for model in view.models]
    rows = "".join(
        f'<tr><th scope="row">{escape(group)}</th><td data-value="{split.n[group]}">{split.n[group]}</td>'
        + "".join(_mean(column, split.values.get((model, group))) for model in view.models)
        + "</tr>"
        for group in split.groups
    )
    head = ['<th scope="col">Group</th>', '<th scope="col" data-first="descending">n</th>', *heads]
    return data_table(label, head, [f"<tbody>{rows}</tbody>"])


def _mean(column: Column, value: float | None) -> str:
    return f'<td data-value="{"" if value is None else value}">{column.text(value)}</td>'


def _pictures(model: str, found: Sequence[Strip], *, is_open: bool) -> str:
    inside = ""
    for one in found:
        about = f"{one.rank} of {model}: {one.id}"
        panels = "".join(
            picture(panel.jpeg, panel.size, panel.caption, f"{panel.caption}, {about}") for panel in one.panels
        )
        title = f"{one.rank.capitalize()}: {one.column.told(one.value)} <small>{escape(one.id)}</small>"
        inside += f'<h4>{title}</h4><div class="strip">{panels}</div>'
    measure = found[0].column.full_title
    return folded(f"Worst and best samples of {model} by {measure}", inside, is_open=is_open)


def _left_out(view: SuiteView) -> Iterator[str]:
    if view.skipped:
        rows = text_table("Not measured", not_measured(view), ("measures", "models", "why"))
        yield f"<h3>Not measured</h3>{rows}"
    if view.dropped:
        title = f"Dropped cases: {len(view.dropped)}"
        yield f"<h3>{title}</h3>" + text_table(title, view.dropped, ("id", "reason", "detail"))
    for title, published in apart(view):
        yield folded(title, text_table(title, *published_table(published)))


def _closing(table: Mapping[str, Any]) -> Iterator[str]:
    yield "<section><h2>Models and environment</h2>"
    yield text_table("Models", table["models"], ("name", "revision", "licence"))
    yield f"<dl>{''.join(_fact(name, text) for name, text in environment(table))}</dl></section>"
