"""Charts as SVG from the server: no script draws them, and each bar is a link."""

from collections.abc import Sequence
from typing import Any

from rooms.columns import Column
from rooms.counting import Count

WIDTH, HEIGHT = 240, 56
"""A histogram's own units; the page scales them."""

Bar = dict[str, Any]


def histogram(bins: Sequence[dict[str, Any]], column: Column, sampled: bool = False) -> list[Bar]:
    """
    The bins of api/statistics.py as bars: `x`, `y`, `width`, `height`; `from` and `to`, both included;
    `edge`, where the bar ends on the axis; and a `label`. The last bin may have no end; `to` is None there.
    Numbers from a sample are rounded.
    """
    bars = draw_bars([row["count"] for row in bins], least=1.5)  # one that is not empty is visible
    for bar, row in zip(bars, bins, strict=True):
        values = f"from {row['from']} {column.symbol}"
        if row["to"] is not None:
            values = f"{row['from']} to under {row['to']} {column.symbol}"
        bar |= {
            "from": row["from"],
            "to": None if row["to"] is None else row["to"] - 1,
            "edge": row["from"] if row["to"] is None else row["to"],
            "label": f"{values}: {Count(row['count'], exact=not sampled)}",
        }
    return bars


def axis(bars: Sequence[Bar]) -> dict[str, Any]:
    """Where the bars of a histogram begin and end, and whether the last one is open."""
    if not bars:
        return {}
    return {"low": bars[0]["from"], "high": bars[-1]["edge"], "open": bars[-1]["to"] is None}


def draw_bars(counts: Sequence[int], least: float = 0) -> list[Bar]:
    """The `x`, `y`, `width` and `height` of a bar for each count; one above zero has the least height."""
    width = WIDTH / max(len(counts), 1)
    highest = max(counts, default=0) or 1
    heights = [max(count / highest * HEIGHT, least) if count else 0 for count in counts]
    return [
        {
            "x": round(index * width, 2),
            "y": round(HEIGHT - height, 2),
            "width": round(max(width - 1.5, width * 0.7), 2),
            "height": round(height, 2),
        }
        for index, height in enumerate(heights)
    ]


BARS = 24
"""Of a histogram of single values."""


def values_histogram(values: Sequence[int], own: int) -> list[Bar]:
    """Bars of equal width over the middle 96 % of the values; `own` marks the one with this value."""
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]
    low, high = min(low, own), max(high, own)
    step = max((high - low + 1) / BARS, 1)
    number = int((high - low) / step) + 1
    counts = [0] * number
    for value in values:
        if low <= value <= high:
            counts[int((value - low) / step)] += 1
    bars = draw_bars(counts)
    for index, (bar, count) in enumerate(zip(bars, counts, strict=True)):
        bar |= {
            "own": index == int((own - low) / step),
            "label": f"from {round(low + index * step)} €: {count}",
        }
    return bars


def scatter(points: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """Points (x, y) in a plane of 2 WIDTH to 2 HEIGHT from zero to the 98th percentile of each axis."""
    if not points:
        return {"points": [], "x": 0, "y": 0}
    xs, ys = (sorted(axis) for axis in zip(*points, strict=True))
    right, top = (axis[(len(axis) - 1) * 98 // 100] or 1 for axis in (xs, ys))
    return {
        "points": [
            {
                "x": round(2 * WIDTH * x / right, 1),
                "y": round(4 * HEIGHT * (1 - y / top), 1),
                "label": f"{x} m², {y} €",
            }
            for x, y in points
            if x <= right and y <= top
        ],
        "x": right,
        "y": top,
    }
