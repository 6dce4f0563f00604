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
    width = WIDTH / max(len(bins), 1)
    highest = max((row["count"] for row in bins), default=0) or 1
    bars = []
    for index, row in enumerate(bins):
        # A bar that is not empty is visible.
        height = max(row["count"] / highest * HEIGHT, 1.5) if row["count"] else 0
        values = f"from {row['from']} {column.symbol}"
        if row["to"] is not None:
            values = f"{row['from']} to under {row['to']} {column.symbol}"
        bars.append(
            {
                "x": round(index * width, 2),
                "y": round(HEIGHT - height, 2),
                "width": round(max(width - 1.5, width * 0.7), 2),
                "height": round(height, 2),
                "from": row["from"],
                "to": None if row["to"] is None else row["to"] - 1,
                "edge": row["from"] if row["to"] is None else row["to"],
                "label": f"{values}: {Count(row['count'], exact=not sampled)}",
            }
        )
    return bars


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
    highest = max(counts) or 1
    width = WIDTH / number
    return [
        {
            "x": round(index * width, 2),
            "y": round(HEIGHT - count / highest * HEIGHT, 2),
            "width": round(max(width - 1.5, width * 0.7), 2),
            "height": round(count / highest * HEIGHT, 2),
            "own": index == int((own - low) / step),
            "label": f"from {round(low + index * step)} €: {count}",
        }
        for index, count in enumerate(counts)
    ]


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
