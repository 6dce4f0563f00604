"""The web Mercator projection, and clipping. Coordinates are (x, y), x to the east and y to the south."""

import math
from collections.abc import Sequence

Point = tuple[float, float]
Ring = list[Point]

MAX_LATITUDE = 85.0511287798066
"""The latitude at which the projected world is a square."""


def mercator(latitude: float, longitude: float) -> Point:
    """Degrees → the projected world, which is 1 wide and high, with its origin in the north west."""
    north = math.radians(min(max(latitude, -MAX_LATITUDE), MAX_LATITUDE))
    return longitude / 360 + 0.5, 0.5 - math.asinh(math.tan(north)) / (2 * math.pi)


def degrees(x: float, y: float) -> tuple[float, float]:
    """The inverse of `mercator`: latitude and longitude."""
    return math.degrees(math.atan(math.sinh(math.pi * (1 - 2 * y)))), (x - 0.5) * 360


def clip(ring: Sequence[Point], axis: int, low: float, high: float) -> Ring:
    """The part of a ring between two bounds of one axis, 0 for x, by Sutherland and Hodgman's algorithm."""
    return clip_side(clip_side(ring, axis, low, keep_above=True), axis, high, keep_above=False)


def clip_side(ring: Sequence[Point], axis: int, bound: float, *, keep_above: bool) -> Ring:
    kept: Ring = []
    for index, point in enumerate(ring):
        previous = ring[index - 1]
        inside = (point[axis] >= bound) == keep_above or point[axis] == bound
        was_inside = (previous[axis] >= bound) == keep_above or previous[axis] == bound
        if inside != was_inside:
            share = (bound - previous[axis]) / (point[axis] - previous[axis])
            crossing = previous[1 - axis] + share * (point[1 - axis] - previous[1 - axis])
            kept.append((bound, crossing) if axis == 0 else (crossing, bound))
        if inside:
            kept.append(point)
    return kept
