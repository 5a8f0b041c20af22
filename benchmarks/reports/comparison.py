"""A comparison as a page: a table, the differences with their intervals, and every sample's difference in order."""

from collections.abc import Iterator, Sequence
from html import escape

from ...toolkit.page import data_table, page
from ..compare import HEADS, Comparison, Finding, told
from .plots import Bar, difference_plot, ranked_plot


def render_page(comparison: Comparison) -> str:
    """The page, with nothing outside itself."""
    body = [
        "<h1>layerkit compare</h1>",
        f"<dl><div><dt>First</dt><dd>{escape(comparison.first)}</dd></div>"
        f"<div><dt>Second</dt><dd>{escape(comparison.second)}</dd></div></dl>",
        "<p>Paired differences on the samples that both have. Intervals are bootstrapped, of FID jackknifed; p-values "
        "are of a sign-flip test, corrected by Holm's method for all measures of the suite. Undecided: the difference "
        "may be chance.</p>",
    ]
    for suite in dict.fromkeys(one.suite for one in comparison.findings):
        body += _suite(suite, [one for one in comparison.findings if one.suite == suite])
    if comparison.notes:
        body.append(f"<h2>Left out</h2><ul>{''.join(f'<li>{escape(note)}</li>' for note in comparison.notes)}</ul>")
    return page("layerkit compare", body)


def _suite(name: str, findings: Sequence[Finding]) -> Iterator[str]:
    yield f"<h2>{escape(name)}</h2><p class=muted>Protocol {escape(findings[0].protocol)}</p>"
    yield f'<div class="plots">{"".join(f"<figure>{plot}</figure>" for plot in plots(findings))}</div>'
    rows = "".join(
        f'<tr><th scope="row">{escape(first)}</th>{"".join(f"<td>{escape(text)}</td>" for text in rest)}</tr>'
        for first, *rest in map(told, findings)
    )
    yield data_table(name, [f'<th scope="col">{head}</th>' for head in HEADS], [f"<tbody>{rows}</tbody>"])


def plots(findings: Sequence[Finding]) -> Iterator[str]:
    """SVGs of the tests of one suite: all differences, and the main measure sample by sample."""
    bars = [bar for one in findings if (bar := _bar(one)) is not None]
    if bars:
        yield difference_plot(
            bars, title="Differences, each on its own scale", left="second better", right="first better"
        )
    for one in findings:
        if one.samples:
            yield ranked_plot(one.samples, title=f"First - second: {one.column.full_title}")


def _bar(one: Finding) -> Bar | None:
    """Signed so that to the right the first is better; open where the difference may be chance."""
    if one.difference is None:
        return None
    sign = 1 if one.higher_is_better else -1
    low, high = sorted(sign * end for end in one.ci95 if end is not None) or (None, None)
    return Bar(one.column.full_title, sign * one.difference, low, high, is_open=one.better == "undecided")
