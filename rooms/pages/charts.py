"""What the list page draws: plain SVG from the server, without scripts, tiles or anybody else's site."""

from collections.abc import Sequence
from math import cos, radians
from typing import Any

WIDTH, HEIGHT = 600, 160
"""The charts' own units; the page scales them."""
MARGIN = 10

Shape = dict[str, Any]


def histogram(bins: Sequence[dict[str, Any]]) -> list[Shape]:
    """The bins of api/statistics.py as bars, each with the words that explain it."""
    width = WIDTH / max(len(bins), 1)
    highest = max((row["count"] for row in bins), default=0) or 1
    bars = []
    for index, row in enumerate(bins):
        height = row["count"] / highest * HEIGHT
        upto = f"{row['from']} to under {row['to']} €" if row["to"] else f"{row['from']} € and more"
        bars.append(
            {
                "x": round(index * width, 2),
                "y": round(HEIGHT - height, 2),
                "width": round(width - 2, 2),
                "height": round(height, 2),
                "label": f"{upto}: {row['count']} rooms",
            }
        )
    return bars


def places(rooms: Sequence[dict[str, Any]]) -> list[Shape]:
    """
    The rooms as dots where they are, north up, to one scale in both directions at their mean latitude
    (equirectangular projection). Rooms on both sides of the antimeridian stay together.
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
