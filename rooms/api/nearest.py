"""
Nearest first: the part of the map that a page of a search by distance has to read.

The index on the point finds neighbours by degrees, which is not the order of distances on the sphere. So a
page costs some queries more. A probe of the index or, where there are filters, a sample of the rooms gives an
upper bound of the distance of the page's last room. The rooms between the cursor and that bound are in a
ring, which is covered with cells: boxes, divided into smaller ones where rooms are dense, and dropped where
they are empty or beside the ring. Rooms of a cell are counted up to a limit only, so that a page costs much
the same wherever it begins and however the rooms are spread. The page is then read from the cells, in the
exact order of the great-circle distances.

Farthest first is the same with the signs changed: a room's rank is its distance, or minus its distance.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, inf, isqrt, nextafter, sqrt
from typing import Any

from rooms.api.conditions import Condition, conjunction
from rooms.api.geo import CELLS, HALF_CIRCUMFERENCE, IN_CELL, PLACE, WORLD, Box, Near, Ring, corners
from rooms.api.pagination import DEFAULT_LIMIT
from rooms.api.plans import COLLECTED_AROUND, after_condition
from rooms.api.search import Search
from rooms.counting import FIRST, planned_rows
from rooms.database import connection
from rooms.sampling import sample

FEW = 1_000
"""Rooms that are read without dividing the map; four times those of a page more."""
CELL_ROOMS = 32
"""Rooms up to which a cell is counted, and above which it is divided; more where a page has many."""
CELLS_OF_A_PAGE = 16
"""Cells that have a page's rooms, where it has more than 16 times CELL_ROOMS."""
MAX_CELLS = 1_500
"""Cells after which the page is read without the map, or refused."""
MAX_RING = 60_000
"""Rooms of a ring, matching or not, by the sample, above which it is not read."""
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


def narrowed(search: Search, trusted: bool = True) -> Search:
    """
    The same page, read from a part of the map where it is ordered by distance; a few queries. Unless the
    sample is trusted, it does not say where the page ends.

    Where rooms are deleted between these queries and that of the page, the page may have too few rooms
    although more follow. `near.ring.bounded` is true where it can.
    """
    near, key = search.near, search.reading_order.keys[0]
    if near is None or key.name != "distance":
        return search
    sign, last = -1 if key.descending else 1, None
    if search.conditions:
        matching, last = read_sample(search, near, sign)
        if matching <= most_collected(search):
            return search  # it costs less to read all that match through the indexes of their columns
        last = last if trusted else inf
    ring = find_ring(search, near, sign, last)
    return replace(search, near=replace(near, ring=ring)) if ring else search


def most_collected(search: Search) -> int:
    """
    Matching rooms up to which all of them are read.

    Of the rooms around the place as many are read as the sample has to see, times rooms / matching. A ring
    around it costs about four times as much.
    """
    rooms = sampled_rooms(search) / FIRST * planned_rows(("FROM room", []))
    most = isqrt(round(rooms * (4 if search.cursor_values else 1)))
    return min(max(2 * FEW, most), COLLECTED_AROUND * 9 // 10)


def page_rooms(search: Search) -> int:
    """The rooms that a page reads: one more than it shows."""
    return (search.limit or DEFAULT_LIMIT) + 1


def sampled_rooms(search: Search) -> int:
    """Rooms of the sample behind the last of which a page ends, but for one in a million times (Poisson)."""
    mean = page_rooms(search) * FIRST
    return ceil(mean + 5 * sqrt(mean) + 3)


def find_ring(search: Search, near: Near, sign: int, last: float | None) -> Ring | None:
    """
    The cells that have all rooms of the page, whose ranks are `last` at most, where that is known; None where
    there would be too many cells.
    """
    wanted = page_rooms(search)
    few, cell_rooms = FEW + 4 * wanted, max(CELL_ROOMS, wanted // CELLS_OF_A_PAGE)
    start = sign * float(search.cursor_values[0]) if search.cursor_values else -inf
    limit = float(near.within) if near.within and sign > 0 else inf
    place, end, is_sampled = places(search), limit, False
    cells = count_cells(search, met(place, near, sign, (start, end)), few) if search.boxes is not None else []
    if search.boxes is None or any(cell.is_full for cell in cells):
        is_sampled = last is not None and last < inf
        end = min(limit, probe(search, near, sign) if last is None else last)
        boxes = overlaps(boxes_between(start, end, near, sign), place)
        if is_sampled:
            rooms, inside = sampled_counts(near, sign, boxes, (start, end))
            if inside > MAX_RING:
                return None
            if rooms <= max(few, 2 * inside):
                return Ring(tuple(boxes), sign, end, bounded=end < limit)
            cell_rooms = max(cell_rooms, inside // CELLS_OF_A_PAGE**2)
        cells = count_cells(search, met(boxes, near, sign, (start, end)), few)
    looked_at = len(cells)
    while True:
        end = min(end, rank_of_page(cells, start, wanted))
        cells = [
            cell
            for cell in cells
            if cell.last >= start and cell.first <= end and (cell.matching or cell.is_full)
        ]
        # Those inside a ring whose end the sample gave are read whole, however many rooms they have.
        crowded = [
            cell
            for cell in cells
            if cell.is_divisible and not (is_sampled and start <= cell.first and cell.last <= end)
        ]
        if not crowded:
            return Ring(tuple(cell.box for cell in cells), sign, end, bounded=end < limit)
        parts = 4 if len(crowded) <= 8 else 2
        boxes = [box for cell in crowded for box in divide(cell.box, parts)]
        divided = met(boxes, near, sign, (start, end))
        looked_at += len(divided)
        if looked_at > MAX_CELLS:
            return None
        apart = set(crowded)
        cells = [cell for cell in cells if cell not in apart] + count_cells(search, divided, cell_rooms)


def places(search: Search) -> list[Box]:
    """Boxes that contain all the rooms that match, by the circle, the box and the filters on coordinates."""
    if search.boxes is not None:
        return list(search.boxes)
    sides = {("longitude", ">"): -180.0, ("latitude", ">"): -90.0, ("longitude", "<"): 180.0}
    sides["latitude", "<"] = 90.0
    for term in search.terms:
        side = term.column, term.bound
        if side in sides:
            (value,) = term.condition[1]
            sides[side] = (max if term.bound == ">" else min)(sides[side], value)
    return [Box(*sides.values())]


def overlaps(boxes: Iterable[Box], others: Iterable[Box]) -> list[Box]:
    """What two lists of boxes have in common; neither has two boxes with a common point."""
    return [common for box in boxes for other in others if (common := box.overlap(other))]


def rank_of_page(cells: Iterable[Cell], start: float, wanted: int) -> float:
    """A rank by which that many rooms behind the start have come, by the cells that are all behind it."""
    rooms = 0
    for cell in sorted(cells, key=lambda cell: cell.last):
        if cell.first > start:
            rooms += cell.matching
            if rooms >= wanted:
                return cell.last
    return inf


def probe(search: Search, near: Near, sign: int) -> float:
    """
    The rank of the page's last room among the nearest by degrees, which is no less than the true one;
    infinite where they are fewer than a page. There are no filters.

    Neighbours are those of the place, of its antipode where the farthest come first, or of the cursor's room.
    They are looked for a second time from beyond the antimeridian.
    """
    wanted = page_rooms(search)
    rooms = min(wanted * (3 if search.cursor_values else 1), MAX_PROBE)
    distance, values = near.distance
    centre = near if sign > 0 else near.antipode
    place = "SELECT point(%s, %s) AS at"
    place_values: list[Any] = [centre.longitude, centre.latitude]
    if search.cursor_values:
        place, place_values = f"SELECT {PLACE} AS at FROM room WHERE id = %s", [search.cursor_values[-1]]
    where, bound = conjunction([*near.conditions, *behind(search)])
    table = search.order.table
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH place AS ({place}), places AS (SELECT at FROM place UNION ALL"
            " SELECT at + point(CASE WHEN at[0] > 0 THEN -360 ELSE 360 END, 0) FROM place)"
            " SELECT DISTINCT room.id, room.rank FROM places CROSS JOIN LATERAL"
            f" (SELECT room.id, {sign} * room.distance AS rank FROM"
            f" (SELECT room.*, {distance} AS distance FROM {table} ORDER BY {PLACE} <-> places.at"
            f" LIMIT {rooms}) AS room WHERE {where}) AS room ORDER BY room.rank LIMIT 1 OFFSET {wanted - 1}",
            [*place_values, *values, *bound],
        )
        found = cursor.fetchone()
    return float(found[1]) if found else inf


def behind(search: Search) -> list[Condition]:
    """The condition of the rooms behind the cursor, where there is one."""
    if not search.cursor_values:
        return []
    return [after_condition(search.reading_order.keys, tuple(search.cursor_values))]


def read_sample(search: Search, near: Near, sign: int) -> tuple[int, float]:
    """
    By a sample, how many rooms match in the boxes around the circle, and a rank that the page's last room
    does not exceed; infinite where the sample has too few rooms behind the cursor.
    """
    source, values = near.source(search.order.table)
    keys = ", ".join(key.column for key in search.order.keys)
    where, bound = conjunction(search.conditions)
    following, ends = conjunction([*near.conditions, *behind(search)])
    with connection.cursor() as cursor:
        cursor.execute(
            f"{sample(FIRST)}, matching AS MATERIALIZED (SELECT {keys} FROM {source}"
            f" WHERE {where}) SELECT (SELECT count(*) FROM matching), (SELECT {sign} * room.distance AS rank"
            f" FROM matching AS room WHERE {following}"
            f" ORDER BY rank LIMIT 1 OFFSET {sampled_rooms(search) - 1})",
            [*values, *bound, *ends],
        )
        matching, last = cursor.fetchone()
    return round(matching / FIRST), inf if last is None else float(last)


def sampled_counts(near: Near, sign: int, boxes: list[Box], ring: tuple[float, float]) -> tuple[int, int]:
    """How many rooms, matching or not, are in the boxes and how many of those in the ring, by the sample."""
    distance, point = near.distance
    inside = " OR ".join(sql for sql, _ in (box.contains for box in boxes)) or "FALSE"
    with connection.cursor() as cursor:
        cursor.execute(
            f"{sample(FIRST)}SELECT count(*), count(*) FILTER (WHERE {sign} * {distance} BETWEEN %s AND %s)"
            f" FROM room WHERE {inside}",
            [*point, *ring, *(corner for box in boxes for corner in box.corners)],
        )
        in_boxes, in_ring = cursor.fetchone()
    return round(in_boxes / FIRST), round(in_ring / FIRST)


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


def met(
    boxes: Iterable[Box], near: Near, sign: int, ring: tuple[float, float]
) -> list[tuple[Box, float, float]]:
    """The boxes that a ring meets, each with the ranks between which its rooms are."""
    start, end = ring
    found = []
    for box in boxes:
        least, greatest = box.distances(near.longitude, near.latitude)
        first, last = sorted((sign * least, sign * greatest))
        if last + ROUNDING >= start and first - ROUNDING <= end:
            found.append((box, first - ROUNDING, last + ROUNDING))
    return found


def count_cells(search: Search, boxes: list[tuple[Box, float, float]], limit: int) -> list[Cell]:
    """The cells of the boxes, with their rooms counted up to the limit; one query."""
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
            [*corners([box for box, _, _ in boxes]), *values],
        )
        counts = cursor.fetchall()
    return [
        Cell(box, first, last, matching, rooms > limit)
        for (box, first, last), (matching, rooms) in zip(boxes, counts, strict=True)
    ]
