"""Charts as JSON in their places; the page's script `charts.js` draws them when it is opened."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np


class Series(msgspec.Struct, frozen=True):
    """Points (x, y) by ascending x; those that are not finite are left out. `dots` marks each point."""

    name: str
    points: Sequence[tuple[float, float]]
    dots: bool = False


def line_chart(series: Sequence[Series], label: str, unit: str = "") -> str:
    """Lines over steps with a legend where there are several; "" without a point."""
    kept = [
        Series(one.name, [(x, y) for x, y in one.points if math.isfinite(x) and math.isfinite(y)], one.dots)
        for one in series
    ]
    kept = [one for one in kept if one.points]
    return _chart("lines", series=kept, label=label, unit=unit) if kept else ""


def histogram(groups: Sequence[Series], edges: Sequence[float], label: str) -> str:
    """Bars of several groups side by side; `points` are (lower edge, height)."""
    return _chart("bars", groups=groups, edges=edges, label=label)


def heat_map(weights: np.ndarray, rows: Sequence[str], columns: Sequence[str]) -> str:
    """Weights [rows, columns] in 0 … 1 as squares, darker for more, with labels left and above."""
    return _chart("heat", weights=weights.tolist(), rows=rows, columns=columns)


def share_bar(parts: Sequence[tuple[str, float]]) -> str:
    """Shares of a whole as one stacked bar with a legend; values are amounts, not shares."""
    return _chart("shares", parts=parts)


def _chart(kind: str, **data: Any) -> str:
    text = msgspec.json.encode(data).decode().replace("<", "\\u003c")  # nothing in it ends the element
    return f'<div data-chart="{kind}"><script type="application/json">{text}</script></div>'
