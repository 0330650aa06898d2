"""Charts as inline SVG: lines, bars, a heat map. Colours and type come from the page's style sheet, by class."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

_WIDTH, _HEIGHT = 660, 250
_LEFT, _RIGHT, _TOP, _BOTTOM = 72, 14, 14, 34


class Series(NamedTuple):
    """Points (x, y) by ascending x; those that are not finite are left out. `dots` marks each point."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def number(value: float) -> str:
    """A number as an axis or a tooltip shows it."""
    if value == 0:
        return "0"
    if abs(value) >= 10_000:
        return f"{value:,.0f}"
    if abs(value) < 0.001:
        return f"{value:.1e}".replace("e-0", "e-")
    return f"{value:,.4g}"


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """About `count` round numbers that cover low … high."""
    span = high - low or abs(high) or 1.0
    rough = span / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 2.5, 5, 10) if m * power >= rough * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [n * step for n in range(first, max(last, first + 1) + 1)]


def line_chart(series: Sequence[Series], label: str, unit: str = "") -> str:
    """Lines over steps with a legend where there are several; "" without a point."""
    kept = [
        (one.name, [(x, y) for x, y in one.points if math.isfinite(x) and math.isfinite(y)], one.dots) for one in series
    ]
    kept = [one for one in kept if one[1]]
    if not kept:
        return ""
    xs, ys = ([point[n] for _, points, _ in kept for point in points] for n in (0, 1))
    marks = ticks(min(ys), max(ys))
    right = max(max(xs), min(xs) + 1)
    steps = [x for x in ticks(min(xs), right) if min(xs) <= x <= right and abs(x - round(x)) < 1e-6]
    at_x = _scale(min(xs), right, _LEFT, _WIDTH - _RIGHT)
    at_y = _scale(marks[0], marks[-1], _HEIGHT - _BOTTOM, _TOP)
    body = _axes(marks, steps, at_x, at_y)
    for number_, (name, points, dots) in enumerate(kept):
        path = " ".join(f"{at_x(x):.1f},{at_y(y):.1f}" for x, y in points)
        body += f'<polyline class="line s{number_}" points="{path}"/>'
        if dots or len(points) == 1:
            body += "".join(
                f'<circle class="dot s{number_}" cx="{at_x(x):.1f}" cy="{at_y(y):.1f}" r="3.2">'
                f"<title>step {x:,.0f}: {escape(name)} {number(y)}</title></circle>"
                for x, y in points
            )
    legend = _legend([name for name, _, _ in kept]) if len(kept) > 1 else ""
    return _figure(body, label, unit, legend)


def histogram(groups: Sequence[Series], edges: Sequence[float], label: str) -> str:
    """Bars of several groups side by side; `points` are (lower edge, height)."""
    highest = max((y for one in groups for _, y in one.points), default=0.0)
    marks = ticks(0, highest or 1)
    at_x = _scale(edges[0], edges[-1], _LEFT, _WIDTH - _RIGHT)
    at_y = _scale(0, marks[-1], _HEIGHT - _BOTTOM, _TOP)
    shown = [x for x in ticks(edges[0], edges[-1], 8) if edges[0] <= x <= edges[-1]]
    body = _axes(marks, shown, at_x, at_y)
    width = (at_x(edges[1]) - at_x(edges[0])) * 0.86 / len(groups)
    for place, one in enumerate(groups):
        for x, y in one.points:
            left = at_x(x) + place * width + 0.07 * len(groups) * width
            body += (
                f'<rect class="bar s{place}" x="{left:.1f}" y="{at_y(y):.1f}" width="{width:.1f}" '
                f'height="{at_y(0) - at_y(y):.1f}"><title>{x:,.0f} tokens: {y:,.0f} ({escape(one.name)})</title></rect>'
            )
    return _figure(body, label, "", _legend([one.name for one in groups]))


def heat_map(weights: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Weights [rows, columns] in 0 … 1 as squares, darker for more, with labels left and above."""
    cell = 24
    left = 12 + 8 * max(len(text) for text in rows)
    top = 12 + 6 * max(len(text) for text in columns)
    width, height = left + cell * len(columns) + 90, top + cell * len(rows) + 8
    parts = [f'<svg class="heat" viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img">']
    for j, text in enumerate(columns):
        x = left + cell * (j + 0.5)
        parts.append(
            f'<text class="label" transform="translate({x + 4:.0f},{top - 8}) rotate(-50)">{escape(text)}</text>'
        )
    for i, text in enumerate(rows):
        y = top + cell * i
        parts.append(f'<text class="label" text-anchor="end" x="{left - 8}" y="{y + 16}">{escape(text)}</text>')
        for j, other in enumerate(columns):
            value = float(weights[i, j])
            parts.append(
                f'<rect class="cell" x="{left + cell * j}" y="{y}" width="{cell - 2}" height="{cell - 2}" rx="3" '
                f'style="fill-opacity:{0.04 + 0.96 * min(1.0, value):.3f}">'
                f"<title>{escape(text)} ← {escape(other)}: {value:.3f}</title></rect>"
            )
    return "".join([*parts, "</svg>"])


def share_bar(parts: Sequence[tuple[str, float]]) -> str:
    """Shares of a whole as one stacked bar with a legend; values are amounts, not shares."""
    whole = sum(value for _, value in parts) or 1.0
    pieces = "".join(
        f'<span class="part s{n}" style="width:{100 * value / whole:.2f}%" '
        f'title="{escape(name)}: {100 * value / whole:.1f} %"></span>'
        for n, (name, value) in enumerate(parts)
    )
    legend = _legend([f"{name} {100 * value / whole:.0f} %" for name, value in parts])
    return f'<div class="shares">{pieces}</div>{legend}'


def _scale(low: float, high: float, start: float, end: float) -> Callable[[float], float]:
    span = (high - low) or 1.0
    return lambda value: start + (value - low) / span * (end - start)


def _axes(
    marks: Sequence[float], steps: Sequence[float], at_x: Callable[[float], float], at_y: Callable[[float], float]
) -> str:
    body = ""
    for mark in marks:
        y = at_y(mark)
        body += f'<line class="grid" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        body += f'<text class="tick" text-anchor="end" x="{_LEFT - 8}" y="{y + 4:.1f}">{number(mark)}</text>'
    for step in steps:
        x = at_x(step)
        body += f'<text class="tick" text-anchor="middle" x="{x:.1f}" y="{_HEIGHT - 12}">{number(step)}</text>'
    return body


def _legend(names: Sequence[str]) -> str:
    items = "".join(f'<li><i class="s{n}"></i>{escape(name)}</li>' for n, name in enumerate(names))
    return f'<ul class="legend">{items}</ul>'


def _figure(body: str, label: str, unit: str, legend: str) -> str:
    caption = f"{escape(label)}{f' <small>{escape(unit)}</small>' if unit else ''}"
    return (
        f'<figure><figcaption>{caption}</figcaption><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{escape(label)}">{body}</svg>{legend}</figure>'
    )
