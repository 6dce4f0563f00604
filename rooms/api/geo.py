"""
Geo search: bounding boxes and great-circle distances, in plain PostgreSQL.

Degrees are WGS 84, longitude first as in GeoJSON and OGC API Features; metres are great-circle distances
on a sphere of the earth's mean radius, which differ from the ellipsoid's by 0.56 % at most.
"""

from dataclasses import dataclass
from math import asin, cos, degrees, pi, radians, sin
from typing import Any

from rooms.columns import COLUMNS

EARTH_RADIUS = 6_371_008.8
"""Metres: the mean radius R1 of WGS 84, (2a + b) / 3."""

MAX_DISTANCE = 20_015_115
"""Metres from a point to its antipode, rounded up."""

DEFAULT_WITHIN = 10_000
"""Metres: the radius of `near` without `within`."""

Condition = tuple[str, list[Any]]
"""SQL with placeholders, and their values."""


@dataclass(frozen=True)
class Box:
    """A bounding box in degrees; `west` > `east` where it crosses the antimeridian."""

    west: float
    south: float
    east: float
    north: float

    @classmethod
    def parse(cls, text: str) -> "Box":
        """The box of `minLon,minLat,maxLon,maxLat`; ValueError with a message for the client."""
        numbers = text.split(",")
        if len(numbers) != 4:
            raise ValueError("must be four numbers: minLon,minLat,maxLon,maxLat")
        box = cls(*(coordinate(number, index % 2) for index, number in enumerate(numbers)))
        if box.south > box.north:
            raise ValueError("is upside down: minLat must not be above maxLat")
        return box

    @property
    def condition(self) -> Condition:
        """SQL of the box, edges included."""
        sides = "OR" if self.west > self.east else "AND"
        return (
            f"room.latitude BETWEEN %s AND %s AND (room.longitude >= %s {sides} room.longitude <= %s)",
            [self.south, self.north, self.west, self.east],
        )


@dataclass(frozen=True)
class Near:
    """A point in degrees, and a radius in metres."""

    longitude: float
    latitude: float
    within: int = DEFAULT_WITHIN

    @classmethod
    def parse(cls, text: str) -> "Near":
        """The point of `lon,lat`; ValueError with a message for the client."""
        numbers = text.split(",")
        if len(numbers) != 2:
            raise ValueError("must be two numbers: lon,lat")
        return cls(coordinate(numbers[0], 0), coordinate(numbers[1], 1))

    def source(self) -> Condition:
        """
        The FROM item: the rooms in the boxes around the circle, found by the index on the point, each with
        its `distance` in metres by the haversine formula. Unlike the law of cosines it is exact for small
        distances; `least` keeps rounding errors within the domain of the arc sine.
        """
        boxes = self.boxes()
        inside = " OR ".join(
            "point(room.longitude, room.latitude) <@ box(point(%s, %s), point(%s, %s))" for _ in boxes
        )
        return (
            f"(SELECT room.*, 2 * {EARTH_RADIUS} * asin(least(1, sqrt("
            "sin(radians(room.latitude - %s) / 2) ^ 2 + cos(radians(room.latitude)) * %s"
            " * sin(radians(room.longitude - %s) / 2) ^ 2))) AS distance"
            f" FROM room WHERE {inside}) AS room",
            [
                self.latitude,
                cos(radians(self.latitude)),
                self.longitude,
                *(corner for box in boxes for corner in (box.west, box.south, box.east, box.north)),
            ],
        )

    @property
    def condition(self) -> Condition:
        """The exact distance, for the rooms in the boxes."""
        return "room.distance <= %s", [self.within]

    @property
    def boxes_condition(self) -> Condition:
        """The boxes without the distance, as comparisons of columns."""
        conditions = [box.condition for box in self.boxes()]
        sql = " OR ".join(f"({sql})" for sql, _ in conditions)
        return f"({sql})", [value for _, bound in conditions for value in bound]

    def boxes(self) -> list[Box]:
        """
        One or two boxes that contain every point within the distance.

        A circle reaches asin(sin r / cos φ) to the east and west of its centre, r its angular radius and φ
        the latitude; where it contains a pole it covers every longitude.
        """
        radius = min(
            self.within / EARTH_RADIUS * (1 + 1e-9) + 1e-12, pi
        )  # rounding must not exclude points on the circle
        south = self.latitude - degrees(radius)
        north = self.latitude + degrees(radius)
        if south <= -90 or north >= 90:
            return [Box(-180, max(south, -90), 180, min(north, 90))]
        reach = degrees(asin(min(sin(radius) / cos(radians(self.latitude)), 1)))
        west, east = self.longitude - reach, self.longitude + reach
        if west <= -180:
            return [Box(-180, south, east, north), Box(west + 360, south, 180, north)]
        if east >= 180:
            return [Box(west, south, 180, north), Box(-180, south, east - 360, north)]
        return [Box(west, south, east, north)]


def coordinate(text: str, axis: int) -> float:
    """A longitude (axis 0) or latitude (axis 1) in degrees; ValueError names the axis and the reason."""
    column = COLUMNS["latitude" if axis else "longitude"]
    try:
        value: float = column.parse(text)
    except ValueError as error:
        raise ValueError(f"{column.name} {error}") from None
    return value
