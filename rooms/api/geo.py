"""
Geo search: bounding boxes and great-circle distances, in plain PostgreSQL.

Degrees are WGS 84, longitude first as in GeoJSON and OGC API Features; metres are great-circle distances
on a sphere of the earth's mean radius, which differ from the ellipsoid's by 0.56 % at most.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import asin, atan2, cos, degrees, inf, pi, radians, sin, sqrt
from typing import Any

from django.utils.translation import gettext_lazy

from rooms.api.conditions import Condition, Term, conjunction
from rooms.columns import COLUMNS

EARTH_RADIUS = 6_371_008.8
"""Metres: the mean radius R1 of WGS 84, (2a + b) / 3."""

MAX_DISTANCE = 20_015_115
"""Metres from a point to its antipode, rounded up."""

HALF_CIRCUMFERENCE = pi * EARTH_RADIUS
"""Metres from a point to its antipode."""

PLACE = "point(room.longitude, room.latitude)"
"""The expression of the GiST index."""

IN_CELL = f"{PLACE} <@ box(point(cell.west, cell.south), point(cell.east, cell.north))"


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
            raise ValueError(gettext_lazy("must be four numbers: minLon,minLat,maxLon,maxLat"))
        box = cls(*(coordinate(number, index % 2) for index, number in enumerate(numbers)))
        if box.south > box.north:
            raise ValueError(gettext_lazy("is upside down: minLat must not be above maxLat"))
        return box

    @property
    def corners(self) -> list[float]:
        """West, south, east, north: its south-west and its north-east corner."""
        return [self.west, self.south, self.east, self.north]

    @property
    def terms(self) -> tuple[Term, ...]:
        """The conditions on latitude and longitude, edges included."""
        parallels = side("latitude", ">", self.south), side("latitude", "<", self.north)
        if self.west <= self.east:
            return *parallels, side("longitude", ">", self.west), side("longitude", "<", self.east)
        # No range of an index: its walk would meet the rooms between.
        outside = "(room.longitude >= %s OR room.longitude <= %s)", [self.west, self.east]
        return *parallels, Term("longitude", outside, indexed=False)

    @property
    def contains(self) -> Condition:
        """The same by the index on the point; the box may not cross the antimeridian."""
        return f"{PLACE} <@ box(point(%s, %s), point(%s, %s))", self.corners

    @property
    def halves(self) -> "list[Box]":
        """The box, in two parts where it crosses the antimeridian."""
        if self.west <= self.east:
            return [self]
        return [
            Box(self.west, self.south, 180, self.north),
            Box(-180, self.south, self.east, self.north),
        ]

    def overlap(self, other: "Box") -> "Box | None":
        """What two boxes have in common, neither of which crosses the antimeridian."""
        box = Box(
            max(self.west, other.west),
            max(self.south, other.south),
            min(self.east, other.east),
            min(self.north, other.north),
        )
        return box if box.west <= box.east and box.south <= box.north else None

    def distances(self, longitude: float, latitude: float) -> tuple[float, float]:
        """
        Metres from a point to the nearest and the farthest point of the box, which crosses no antimeridian.

        On each parallel these are at the least and the greatest difference of longitudes. Along a meridian
        the distance is a sine wave, whose turning points are 180 degrees apart.
        """
        west = (self.west - longitude) % 360
        east = west + self.east - self.west
        sides = [min(side % 360, 360 - side % 360) for side in (west, east)]
        least = 0 if west == 0 or east >= 360 else min(sides)
        greatest = 180 if west <= 180 <= east or east >= 540 else max(sides)

        def metres(apart: float, turning: float) -> list[float]:
            inside = [turning] if self.south < turning < self.north else []
            return [distance(latitude, other, apart) for other in (self.south, self.north, *inside)]

        nearest = turning_latitude(latitude, least)
        farthest = turning_latitude(latitude, greatest) - 180
        return min(metres(least, nearest)), max(
            metres(greatest, farthest if farthest >= -180 else farthest + 360)
        )


WORLD = Box(-180, -90, 180, 90)


def turning_latitude(latitude: float, apart: float) -> float:
    """Where a meridian, so many degrees of longitude away, comes nearest to a point at this latitude."""
    north = radians(latitude)
    return degrees(atan2(sin(north), cos(north) * cos(radians(apart))))


def distance(latitude: float, other: float, apart: float) -> float:
    """Metres between points at two latitudes, so many degrees of longitude apart: the haversine formula."""
    north, south = radians(latitude), radians(other)
    chord = sin((south - north) / 2) ** 2 + cos(north) * cos(south) * sin(radians(apart) / 2) ** 2
    return 2 * EARTH_RADIUS * asin(min(1, sqrt(chord)))


@dataclass(frozen=True)
class Ring:
    """A part of the map around a point, which has all the rooms of one page, or of one part of an export."""

    cells: tuple[Box, ...]
    """Boxes without a common point."""
    sign: int
    """1 where the nearest rooms come first, -1 where the farthest do."""
    end: float
    """Metres, times the sign: no room of the page is behind it."""
    bounded: bool
    """Whether rooms may follow behind the end."""
    start: float = -inf
    """Metres, times the sign: all its rooms are behind it."""


@dataclass(frozen=True)
class Near:
    """A point in degrees, a radius in metres where there is one, and the ring that a page is read from."""

    longitude: float
    latitude: float
    within: float | None = None
    ring: Ring | None = None

    @classmethod
    def parse(cls, text: str) -> "Near":
        """The point of `lon,lat`; ValueError with a message for the client."""
        numbers = text.split(",")
        if len(numbers) != 2:
            raise ValueError(gettext_lazy("must be two numbers: lon,lat"))
        return cls(coordinate(numbers[0], 0), coordinate(numbers[1], 1))

    @property
    def antipode(self) -> "Near":
        return Near(self.longitude + (-180 if self.longitude > 0 else 180), -self.latitude)

    @property
    def distance(self) -> Condition:
        """
        SQL of a room's distance in metres, by the haversine formula. Unlike the law of cosines it is exact
        for small distances; `least` keeps rounding errors within the domain of the arc sine.
        """
        return (
            f"2 * {EARTH_RADIUS} * asin(least(1, sqrt("
            "sin(radians(room.latitude - %s) / 2) ^ 2 + cos(radians(room.latitude)) * %s"
            " * sin(radians(room.longitude - %s) / 2) ^ 2)))",
            [self.latitude, cos(radians(self.latitude)), self.longitude],
        )

    def source(self, table: str = "room") -> Condition:
        """The FROM item: the rooms of the ring or in the boxes around the circle, with their `distance`."""
        metres, values = self.distance
        if self.ring:
            # OFFSET 0: for hundreds of cells the planner, which takes each for a thousand rooms of a million,
            # would else read the whole table instead of the index.
            joined = f"{CELLS} CROSS JOIN LATERAL (SELECT * FROM {table} WHERE {IN_CELL} OFFSET 0) AS room"
            return (
                f"(SELECT room.*, {metres} AS distance FROM {joined}) AS room",
                [*values, *corners(self.ring.cells)],
            )
        # Not by the index on the point: the planner takes any box of it for a thousand rooms.
        where, bound = conjunction([term.condition for term in self.terms])
        return f"(SELECT room.*, {metres} AS distance FROM {table} WHERE {where}) AS room", [*values, *bound]

    @property
    def conditions(self) -> list[Condition]:
        """The exact distance, for the rooms in the boxes."""
        conditions: list[Condition] = []
        if self.within:
            conditions.append(("room.distance <= %s", [self.within]))
        if self.ring and self.ring.bounded:
            conditions.append((f"{self.ring.sign} * room.distance <= %s", [self.ring.end]))
        if self.ring and self.ring.start > -inf:
            conditions.append((f"{self.ring.sign} * room.distance > %s", [self.ring.start]))
        return conditions

    @property
    def terms(self) -> tuple[Term, ...]:
        """The boxes without the distance."""
        return self.box.terms if self.within else ()

    @property
    def box(self) -> Box:
        """
        The box that contains every point within the distance; the world where no distance is given.

        A circle reaches asin(sin r / cos φ) to the east and west of its centre, r its angular radius and φ
        the latitude; where it contains a pole it covers every longitude.
        """
        radius = min(
            (self.within or HALF_CIRCUMFERENCE) / EARTH_RADIUS * (1 + 1e-9) + 1e-12, pi
        )  # rounding must not exclude points on the circle
        south = self.latitude - degrees(radius)
        north = self.latitude + degrees(radius)
        if south <= -90 or north >= 90:
            return Box(-180, max(south, -90), 180, min(north, 90))
        reach = degrees(asin(min(sin(radius) / cos(radians(self.latitude)), 1)))
        west, east = self.longitude - reach, self.longitude + reach
        if west <= -180:
            west += 360
        elif east >= 180:
            east -= 360
        return Box(west, south, east, north)

    def boxes(self) -> list[Box]:
        """The box as one or two that have no point in common, neither across the antimeridian."""
        return self.box.halves


CELLS = (
    "unnest(%s::float8[], %s::float8[], %s::float8[], %s::float8[]) WITH ORDINALITY"
    " AS cell(west, south, east, north, number)"
)
"""The FROM item of boxes, of which `corners` are the values."""


def corners(boxes: Iterable[Box]) -> list[Any]:
    """West, south, east and north of all boxes."""
    return [[getattr(box, side) for box in boxes] for side in ("west", "south", "east", "north")]


def side(column: str, sign: str, limit: float) -> Term:
    """A side of a box."""
    return Term(column, (f"room.{column} {sign}= %s", [limit]), bound=sign)


def coordinate(text: str, axis: int) -> float:
    """A longitude (axis 0) or latitude (axis 1) in degrees; ValueError names the axis and the reason."""
    column = COLUMNS["latitude" if axis else "longitude"]
    try:
        value: float = column.parse(text)
    except ValueError as error:
        raise ValueError(f"{column.name} {error}") from None
    return value
