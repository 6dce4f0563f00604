"""Prices around rooms: is a room cheap for where it is?"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rooms.api.geo import Near
from rooms.database import connection

NEAREST = 30
"""Rooms around one that its price is compared with."""

FEW = 10
"""With fewer there is no comparison."""

REACH = 0.05
"""Degrees, about 5 km: rooms further away are no surroundings."""

NOTICEABLE = 5
"""Per cent; smaller differences are called usual."""


AROUND = 1_000
"""Metres around the room with which it is compared."""

MAX_AROUND = 5_000
"""Rooms around that are read at most: any of them, in no order."""


@dataclass(frozen=True)
class Comparison:
    """A room's price beside the median of the rooms around it, in per cent: -12 is cheaper."""

    percent: int

    @property
    def usual(self) -> bool:
        return abs(self.percent) < NOTICEABLE

    @property
    def mark(self) -> str:
        if self.usual:
            return "≈"
        return "▾" if self.percent < 0 else "▴"

    def __str__(self) -> str:
        if self.usual:
            return "usual for the rooms around"
        direction = "below" if self.percent < 0 else "above"
        return f"{abs(self.percent)} % {direction} the rooms around"


def compare_prices(codes: Sequence[str]) -> dict[str, Comparison]:
    """
    The rooms that have enough others around them, by code. One query; the index on the point finds the
    neighbours of a room in 0.3 ms. Distances are those of a plane, which chooses the same neighbours but at
    the edge.
    """
    if not codes:
        return {}
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT room.code, room.price, around.median FROM room CROSS JOIN LATERAL ("
            " SELECT count(*) AS number, percentile_cont(0.5) WITHIN GROUP (ORDER BY price) AS median FROM ("
            "  SELECT other.price FROM room AS other"
            "  WHERE point(other.longitude, other.latitude) <@ box("
            "   point(room.longitude - %(reach)s, room.latitude - %(reach)s),"
            "   point(room.longitude + %(reach)s, room.latitude + %(reach)s)) AND other.id <> room.id"
            "  ORDER BY point(other.longitude, other.latitude) <-> point(room.longitude, room.latitude)"
            "  LIMIT %(nearest)s) AS nearest"
            ") AS around WHERE room.code = ANY(%(codes)s::uuid[]) AND around.number >= %(few)s"
            " AND around.median > 0",
            {"codes": list(codes), "nearest": NEAREST, "few": FEW, "reach": REACH},
        )
        return {
            str(code): Comparison(round(100 * (price - median) / median))
            for code, price, median in cursor.fetchall()
        }


def prices_around(room: dict[str, Any]) -> list[tuple[int, int | None]]:
    """Price and size of the other rooms within AROUND, MAX_AROUND of them at most."""
    source, values = Near(room["longitude"], room["latitude"], AROUND).source()
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT room.price, room.size FROM {source}"
            f" WHERE room.distance <= {AROUND} AND room.code <> %s LIMIT {MAX_AROUND}",
            [*values, str(room["code"])],
        )
        rows: list[tuple[int, int | None]] = cursor.fetchall()
    return rows
