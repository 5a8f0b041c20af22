"""Plots as SVG, written by hand: small, the same bytes every time, and coloured by the page that they stand in.

A plot is 360 px wide at its own size, so that its letters can be read on a telephone. Series differ in shape as well as
in colour. Alone, outside a page of layerkit, a plot falls back to dark on light.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

WIDTH = 360
_ROW = 30
_COLOURS = ("#2563eb", "#c2410c", "#047857", "#7e22ce", "#b45309", "#0e7490", "#be185d", "#4d7c0f")
_TEXT, _MUTED, _LINE = "var(--text,#1a1a1a)", "var(--muted,#5b6470)", "var(--line,#d5dae1)"


@dataclass(frozen=True, slots=True)
class Bar:
    """A value with its interval.

    Attributes:
        label: of its row.
        value: to be marked.
        low, high: ends of the interval, None where there is none.
        is_open: an open mark for what is not ours.
    """

    label: str
    value: float
    low: float | None = None
    high: float | None = None
    is_open: bool = False


def interval_plot(bars: Sequence[Bar], *, title: str) -> str:
    """Each bar in a row of its own, over one axis."""
    ends = [end for bar in bars for end in (bar.value, bar.low, bar.high) if end is not None]
    ticks = nice_ticks(min(ends), max(ends))
    bottom = 30 + _ROW * 1.35 * len(bars)
    x = _scale(ticks[0], ticks[-1], 12, WIDTH - 16)
    parts = [_line(x(tick), 26, x(tick), bottom, _LINE) for tick in ticks]
    parts += [_text(x(tick), bottom + 16, tick_text(tick, ticks), anchor="middle", fill=_MUTED) for tick in ticks]
    for k, bar in enumerate(bars):
        top = 30 + _ROW * 1.35 * k
        parts += [_text(12, top + 13, _short(bar.label, 46)), *_whisker(bar, x, top + 27)]
    return _svg(bottom + 26, title, parts)


def _whisker(bar: Bar, x: Callable[[float], float], y: float) -> list[str]:
    colour = _MUTED if bar.is_open else colour_of(0)
    parts = []
    if bar.low is not None and bar.high is not None:
        parts = [_line(x(bar.low), y, x(bar.high), y, colour, 2)]
        parts += [_line(x(end), y - 4, x(end), y + 4, colour, 2) for end in (bar.low, bar.high)]
    fill = "var(--page,#fff)" if bar.is_open else colour
    mark = f'<circle cx="{x(bar.value):.1f}" cy="{y:.1f}" r="4.5" fill="{fill}" stroke="{colour}" stroke-width="2"/>'
    return [*parts, mark]


def line_plot(series: Mapping[str, Sequence[float | None]], steps: Sequence[str], *, title: str) -> str:
    """A line for each of the series over named steps; a gap where a value is None."""
    known = [value for values in series.values() for value in values if value is not None]
    ticks = nice_ticks(min(known), max(known))
    top, bottom = 46 + 18 * len(series), 242 + 18 * len(series)
    y = _scale(ticks[0], ticks[-1], bottom, top)
    left = 18 + 7 * max(len(tick_text(tick, ticks)) for tick in ticks)
    xs = [left + (WIDTH - 16 - left) * (k + 0.5) / len(steps) for k in range(len(steps))]
    parts = [_line(left, y(tick), WIDTH - 12, y(tick), _LINE) for tick in ticks]
    parts += [_text(left - 6, y(tick) + 4, tick_text(tick, ticks), anchor="end", fill=_MUTED) for tick in ticks]
    for at, step in zip(xs, steps, strict=True):
        parts += [
            _text(at, bottom + 18 + 15 * n, line, anchor="middle", fill=_MUTED)
            for n, line in enumerate(step.splitlines())
        ]
    for k, (name, values) in enumerate(series.items()):
        points = [None if value is None else (at, y(value)) for at, value in zip(xs, values, strict=True)]
        parts += [_mark(k, 20, 38 + 18 * k), _text(32, 42 + 18 * k, _short(name, 44)), *_path(k, points)]
    return _svg(bottom + 10 + 15 * max(len(step.splitlines()) + 1 for step in steps), title, parts)


def _path(k: int, points: Sequence[tuple[float, float] | None]) -> list[str]:
    lines = [_line(*first, *second, colour_of(k), 2) for first, second in pairwise(points) if first and second]
    return lines + [_mark(k, *point) for point in points if point]


def _mark(k: int, x: float, y: float) -> str:
    """The shape of the ``k``-th series."""
    shapes = (
        "M-4.5 0a4.5 4.5 0 1 0 9 0a4.5 4.5 0 1 0 -9 0z",
        "M-4 -4h8v8h-8z",
        "M0 -5.5l5 9h-10z",
        "M0 -5.5l5.5 5.5l-5.5 5.5l-5.5 -5.5z",
        "M0 5.5l5 -9h-10z",
    )
    return f'<path transform="translate({x:.1f} {y:.1f})" d="{shapes[k % len(shapes)]}" fill="{colour_of(k)}"/>'


def difference_plot(bars: Sequence[Bar], *, title: str, left: str, right: str) -> str:
    """Differences of measures that have units of their own: zero is in the middle, each row has its own scale.

    Args:
        bars: signed so that what lies to the right speaks for ``right``.
        title: for those who do not see it.
        left: what that side means.
        right: what that side means.
    """
    middle, half = WIDTH / 2, WIDTH / 2 - 16
    bottom = 40 + _ROW * 1.35 * len(bars)
    parts = [_text(12, 34, _short(f"← {left}", 22), fill=_MUTED)]
    parts += [_text(WIDTH - 12, 34, _short(f"{right} →", 22), anchor="end", fill=_MUTED)]
    for k, bar in enumerate(bars):
        top = 42 + _ROW * 1.35 * k
        widest = max((abs(end) for end in (bar.value, bar.low, bar.high) if end), default=1.0)
        x = _scale(-widest, widest, middle - half, middle + half)
        parts += [_text(12, top + 13, _short(bar.label, 46)), _line(middle, top + 18, middle, top + 36, _TEXT)]
        parts += _whisker(bar, x, top + 27)
    return _svg(bottom + 12, title, parts)


def ranked_plot(values: Sequence[float], *, title: str) -> str:
    """Values in order as bars about zero: how many samples speak for which side, and how much."""
    ordered = sorted(values)
    ticks = nice_ticks(min(0.0, ordered[0]), max(0.0, ordered[-1]))
    left = 18 + 7 * max(len(tick_text(tick, ticks)) for tick in ticks)
    y = _scale(ticks[0], ticks[-1], 220, 36)
    parts = [_line(left, y(tick), WIDTH - 12, y(tick), _LINE) for tick in ticks]
    parts += [_text(left - 6, y(tick) + 4, tick_text(tick, ticks), anchor="end", fill=_MUTED) for tick in ticks]
    step = (WIDTH - 16 - left) / len(ordered)
    area = "".join(f"V{y(value):.1f}h{step:.2f}" for value in ordered)
    parts += [f'<path d="M{left} {y(0):.1f}{area}V{y(0):.1f}z" fill="{colour_of(0)}" fill-opacity=".75"/>']
    parts += [_line(left, y(0), WIDTH - 12, y(0), _TEXT)]
    parts += [_text(WIDTH - 12, 240, f"{len(ordered)} samples in order", anchor="end", fill=_MUTED)]
    return _svg(250, title, parts)


def nice_ticks(low: float, high: float, about: int = 5) -> list[float]:
    """Round numbers 1, 2 or 5 times a power of ten apart, of which the first and the last enclose both ends."""
    span = high - low or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(span / about))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= about)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [k * step for k in range(first, max(last, first + 1) + 1)]


def tick_text(tick: float, ticks: Sequence[float]) -> str:
    """A tick with as many decimals as the ticks are apart."""
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return f"{tick:.{decimals}f}" if tick else f"{0:.{decimals}f}"


def colour_of(k: int) -> str:
    """The colour of the ``k``-th series."""
    return f"var(--s{k % len(_COLOURS)},{_COLOURS[k % len(_COLOURS)]})"


def _scale(low: float, high: float, first: float, last: float) -> Callable[[float], float]:
    return lambda value: first + (value - low) / (high - low) * (last - first)


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, width: float = 1) -> str:
    ends = f'x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"'
    return f'<line {ends} stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = _TEXT) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'


def _short(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"


def _svg(height: float, title: str, parts: Sequence[str]) -> str:
    font = 'font-family="system-ui,sans-serif" font-size="13"'
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:.0f}" role="img" {font}>'
    name = _text(12, 16, _short(title, 46), fill=_TEXT).replace("<text", '<text font-weight="600"')
    return f"{head}<title>{escape(title)}</title>{name}{''.join(parts)}</svg>"
