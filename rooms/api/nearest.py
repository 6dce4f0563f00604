"""
Nearest first: the part of the map that a page of a search by distance has to read.

The index on the point finds neighbours by degrees, which is not the order of distances on the sphere. So a
page costs some queries more. A probe of the index gives an upper bound of the distance of the page's last
room. The rooms between the cursor and that bound are in a ring, which is covered with cells: boxes, divided
into smaller ones where rooms are dense, and dropped where they are empty or beside the ring. Rooms of a cell
are counted up to a limit only, so that a page costs much the same wherever it begins and however the rooms
are spread. The page is then read from the cells, in the exact order of the great-circle distances.

Farthest first is the same with the signs changed: a room's rank is its distance, or minus its distance.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import inf, isqrt, nextafter
from typing import Any

from django.db import connection

from rooms.api.conditions import conjunction
from rooms.api.geo import CELLS, HALF_CIRCUMFERENCE, IN_CELL, PLACE, WORLD, Box, Near, Ring, corners
from rooms.api.pagination import DEFAULT_LIMIT
from rooms.api.plans import after_condition
from rooms.api.search import Search
from rooms.counting import planned_rows

FEW = 1_000
"""Rooms that are read without dividing the map; four times those of a page more."""
CELL_ROOMS = 32
"""Rooms up to which a cell is counted, and above which it is divided; more where a page has many."""
CELLS_OF_A_PAGE = 16
"""Cells that have a page's rooms, where it has more than 16 times CELL_ROOMS."""
MAX_CELLS = 2_000
"""
Cells after which the page is read without the map, or refused. Pages of a hundred rooms, from anywhere in the
list of a million, looked at 900 in the median of 114 and at 1,700 at most.
"""
MAX_PROBE = 5_000
"""Rooms that a probe reads."""
MIN_SIDE = 1e-6
"""Degrees, 11 cm: a smaller cell is not divided, however many rooms are at one point."""
ROUNDING = 1.0
"""Metres: more than the rounding error of a distance, which is largest at the antipode, 0.2 m."""


@dataclass(frozen=True)
class Cell:
    """A box, the ranks between which its rooms are, and how many rooms it has."""

    box: Box
    first: float
    last: float
    matching: int
    """Rooms that match the filters, among those that were counted."""
    is_full: bool
    """Whether it has more rooms than were counted; of any kind, as a filter may match none of a million."""

    @property
    def is_divisible(self) -> bool:
        side = max(self.box.east - self.box.west, self.box.north - self.box.south)
        return self.is_full and side > MIN_SIDE


def narrowed(search: Search) -> Search:
    """
    The same page, read from a part of the map where it is ordered by distance; a few queries.

    Where rooms are deleted between these queries and that of the page, the page may have too few rooms
    although more follow. `near.ring.bounded` is true where it can.
    """
    near, key = search.near, search.reading_order.keys[0]
    if near is None or key.name != "distance":
        return search
    share = 1.0
    if search.conditions:
        where, values = conjunction(search.conditions)
        matching = max(planned_rows((f"FROM room WHERE {where}", values)), 1)
        rooms = max(planned_rows(("FROM room", [])), matching)
        # For a page of k rooms, k · rooms / matching are read around the place, some three times.
        if matching <= max(2 * FEW, isqrt(3 * page_rooms(search) * rooms)):
            return search  # it costs less to read all that match through the indexes of their columns
        share = matching / rooms
    ring = find_ring(search, near, -1 if key.descending else 1, share)
    return replace(search, near=replace(near, ring=ring)) if ring else search


def page_rooms(search: Search) -> int:
    """The rooms that a page reads: one more than it shows."""
    return (search.limit or DEFAULT_LIMIT) + 1


def find_ring(search: Search, near: Near, sign: int, share: float) -> Ring | None:
    """
    The cells that have all rooms of the page, of a search that this share of all rooms matches; None where
    there would be too many of them.
    """
    wanted = page_rooms(search)
    few, cell_rooms = FEW + 4 * wanted, max(CELL_ROOMS, wanted // CELLS_OF_A_PAGE)
    start = sign * float(search.cursor_values[0]) if search.cursor_values else -inf
    limit = float(near.within) if near.within and sign > 0 else inf
    end = limit
    cells = measure(search, near, sign, near.boxes(), few) if near.within else []
    if near.within is None or any(cell.is_full for cell in cells):
        end = min(limit, probe(search, near, sign, share))
        cells = measure(search, near, sign, boxes_between(start, end, near, sign), few)
    looked_at = len(cells)
    while True:
        end = min(end, rank_of_page(cells, start, wanted))
        cells = [
            cell
            for cell in cells
            if cell.last >= start and cell.first <= end and (cell.matching or cell.is_full)
        ]
        crowded = [cell for cell in cells if cell.is_divisible]
        if not crowded:
            return Ring(tuple(cell.box for cell in cells), sign, end, bounded=end < limit)
        parts = 4 if len(crowded) <= 8 else 2
        boxes = [box for cell in crowded for box in divide(cell.box, parts)]
        looked_at += len(boxes)
        if looked_at > MAX_CELLS:
            return None
        cells = [cell for cell in cells if not cell.is_divisible]
        cells += measure(search, near, sign, boxes, cell_rooms)


def rank_of_page(cells: Iterable[Cell], start: float, wanted: int) -> float:
    """A rank by which that many rooms behind the start have come, by the cells that are all behind it."""
    rooms = 0
    for cell in sorted(cells, key=lambda cell: cell.last):
        if cell.first > start:
            rooms += cell.matching
            if rooms >= wanted:
                return cell.last
    return inf


def probe(search: Search, near: Near, sign: int, share: float) -> float:
    """
    The rank of the page's last room among the nearest by degrees, which is no less than the true one;
    infinite where they are fewer than a page.

    Neighbours are those of the place, of its antipode where the farthest come first, or of the cursor's room.
    They are looked for a second time from beyond the antimeridian.
    """
    wanted = page_rooms(search)
    rooms = min(
        round(wanted * (3 if search.cursor_values else 1) * (2 / share if share < 1 else 1)), MAX_PROBE
    )
    distance, values = near.distance
    centre = near if sign > 0 else near.antipode
    place = "SELECT point(%s, %s) AS at"
    place_values: list[Any] = [centre.longitude, centre.latitude]
    conditions = [*search.conditions, *near.conditions]
    if search.cursor_values:
        place, place_values = f"SELECT {PLACE} AS at FROM room WHERE id = %s", [search.cursor_values[-1]]
        conditions.append(after_condition(search.reading_order.keys, tuple(search.cursor_values)))
    where, bound = conjunction(conditions)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH place AS ({place}), places AS (SELECT at FROM place UNION ALL"
            " SELECT at + point(CASE WHEN at[0] > 0 THEN -360 ELSE 360 END, 0) FROM place)"
            " SELECT DISTINCT room.id, room.rank FROM places CROSS JOIN LATERAL"
            f" (SELECT room.id, {sign} * room.distance AS rank FROM"
            f" (SELECT room.*, {distance} AS distance FROM room ORDER BY {PLACE} <-> places.at LIMIT {rooms})"
            f" AS room WHERE {where}) AS room ORDER BY room.rank LIMIT 1 OFFSET {wanted - 1}",
            [*place_values, *values, *bound],
        )
        found = cursor.fetchone()
    return float(found[1]) if found else inf


def boxes_between(start: float, end: float, near: Near, sign: int) -> list[Box]:
    """Boxes that contain all rooms between these ranks; disjoint."""
    if end < inf and sign > 0:
        return replace(near, within=end + ROUNDING).boxes()
    if start > -inf and sign < 0:
        return replace(near, within=-start + ROUNDING).boxes()
    if near.within:
        return near.boxes()
    if end < inf:
        return replace(near.antipode, within=HALF_CIRCUMFERENCE + end + ROUNDING).boxes()
    return [WORLD]


def divide(box: Box, parts: int) -> Iterator[Box]:
    """So many columns of so many boxes, which contain the same points, each of them once."""
    for west, east in intervals(box.west, box.east, parts):
        for south, north in intervals(box.south, box.north, parts):
            yield Box(west, south, east, north)


def intervals(low: float, high: float, parts: int) -> Iterator[tuple[float, float]]:
    edges = [low + (high - low) * part / parts for part in range(1, parts)]
    for below, above in pairwise([nextafter(low, -inf), *edges, high]):
        yield nextafter(below, inf), above


def measure(search: Search, near: Near, sign: int, boxes: list[Box], limit: int) -> list[Cell]:
    """The cells of these boxes, with their rooms counted up to the limit; one query."""
    where, values = conjunction(search.conditions)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT counted.* FROM {CELLS} CROSS JOIN LATERAL"
            " (SELECT count(*) FILTER (WHERE matches), count(*) FROM"
            f" (SELECT {where} AS matches FROM room WHERE {IN_CELL}"
            # The index is read in an order and up to a limit that is hidden from the planner, which would
            # else make a bitmap of the whole cell, which may have a million rooms.
            f" ORDER BY {PLACE} <-> point(cell.west, cell.south) LIMIT (SELECT {limit + 1})) AS counted)"
            " AS counted ORDER BY cell.number",
            [*corners(boxes), *values],
        )
        counts = cursor.fetchall()
    cells = []
    for box, (matching, rooms) in zip(boxes, counts, strict=True):
        least, greatest = box.distances(near.longitude, near.latitude)
        first, last = sorted((sign * least, sign * greatest))
        cells.append(Cell(box, first - ROUNDING, last + ROUNDING, matching, rooms > limit))
    return cells
