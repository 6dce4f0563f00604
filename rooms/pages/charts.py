"""The charts of the list page: SVG from the server, without scripts, map tiles or requests to other sites."""

from collections.abc import Sequence
from math import cos, radians
from typing import Any

from rooms.counting import Count

WIDTH, HEIGHT = 600, 160
"""The charts' own units; the page scales them."""
MARGIN = 10

Shape = dict[str, Any]


def histogram(bins: Sequence[dict[str, Any]], sampled: bool = False) -> list[Shape]:
    """The bins of api/statistics.py as bars with labels; numbers from a sample are rounded."""
    width = WIDTH / max(len(bins), 1)
    highest = max((row["count"] for row in bins), default=0) or 1
    bars = []
    for index, row in enumerate(bins):
        height = row["count"] / highest * HEIGHT
        prices = f"{row['from']} € and more"
        if row["to"]:
            prices = f"{row['from']} to under {row['to']} €"
        bars.append(
            {
                "x": round(index * width, 2),
                "y": round(HEIGHT - height, 2),
                "width": round(width - 2, 2),
                "height": round(height, 2),
                "label": f"{prices}: {Count(row['count'], exact=not sampled)}",
            }
        )
    return bars


def points(rooms: Sequence[dict[str, Any]]) -> list[Shape]:
    """
    The rooms as points on a map, north up, to one scale in both directions at their middle latitude
    (equirectangular projection). Rooms on both sides of the antimeridian are drawn close to each other.
    """
    if not rooms:
        return []
    longitudes = [room["longitude"] for room in rooms]
    if max(longitudes) - min(longitudes) > 180:
        longitudes = [longitude % 360 for longitude in longitudes]
    latitudes = [room["latitude"] for room in rooms]
    middle = (max(latitudes) + min(latitudes)) / 2
    xs = [longitude * cos(radians(middle)) for longitude in longitudes]
    span_x, span_y = max(xs) - min(xs) or 1e-9, max(latitudes) - min(latitudes) or 1e-9
    scale = min((WIDTH - 2 * MARGIN) / span_x, (HEIGHT - 2 * MARGIN) / span_y)
    left = (WIDTH - span_x * scale) / 2
    top = (HEIGHT - span_y * scale) / 2
    return [
        {
            "x": round(left + (x - min(xs)) * scale, 1),
            "y": round(top + (max(latitudes) - latitude) * scale, 1),
            "room": room,
        }
        for x, latitude, room in zip(xs, latitudes, rooms, strict=True)
    ]
