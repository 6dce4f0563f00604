"""
Exports by distance: many rooms in the order of their distances, without one long sort.

A sample of the rooms gives the distances at which the map is cut into rings of some ten thousand rooms, which
are read one after the other, each sorted by PostgreSQL. Cells cover the map. Those that a ring's edge crosses
are divided until they have few rooms, since these are read once for each ring that meets them; a cell within
a ring is read whole. What a ring has not finished is kept for the next one, so that no cell is divided twice.

All this costs between two and three times the CPU time of one sort. But no statement takes long, and the
first rooms come at once.
"""

from collections.abc import Iterator
from dataclasses import replace
from math import inf

from rooms.api.conditions import conjunction
from rooms.api.geo import Box, Near, Ring
from rooms.api.nearest import Cell, count_cells, divide, met, places
from rooms.api.search import Search
from rooms.counting import FIRST
from rooms.database import connection
from rooms.sampling import sample

SORTED = 200_000
"""Matching rooms up to which one statement sorts them all: half a second of CPU time of a million."""
STEP = 16
"""Rooms of the sample from one distance that is read to the next, a thousand rooms."""
STEPS_OF_A_RING = 32
"""The thousands of rooms of a ring; the first rings have fewer, so that an export begins soon."""
CELL_ROOMS = 200
"""Rooms above which a cell at a ring's edge is divided."""


def parts_by_distance(search: Search) -> Iterator[Search]:
    """
    Searches that have all the rooms of one, one after the other in its order: itself where it has another
    order or not very many rooms, else its rings. Each part is to be read before the next is asked for, in a
    transaction with one snapshot.
    """
    near, key = search.near, search.order.keys[0]
    if near is None or key.name != "distance":
        yield search
        return
    sign = -1 if key.descending else 1
    matching, ranks = sampled_ranks(search, near, sign)
    if matching <= SORTED:
        yield search
        return
    start = sign * float(search.after[0]) if search.after else -inf
    end = sign * float(search.before[0]) if search.before else inf
    edges = [edge for edge in ring_edges(ranks) if start < edge < end]
    for ring in rings(search, near, sign, start, [*edges, end]):
        yield replace(search, near=replace(near, ring=ring))


def sampled_ranks(search: Search, near: Near, sign: int) -> tuple[int, list[float]]:
    """
    By a sample, how many rooms match, and the rank of each thousandth room around the place, matching or not:
    they all have to be looked at.
    """
    source, values = near.source()
    place = [term.condition for term in search.terms if term.column in {"latitude", "longitude"}]
    inside, bound = conjunction([*place, *near.conditions])
    where, more = conjunction(search.conditions)
    with connection.cursor() as cursor:
        cursor.execute(
            f"{sample(FIRST)}, placed AS (SELECT {sign} * room.distance AS rank, {where} AS matches"
            f" FROM {source} WHERE {inside}), numbered AS"
            " (SELECT rank, matches, row_number() OVER (ORDER BY rank) AS number FROM placed)"
            " SELECT count(*) FILTER (WHERE matches),"
            f" coalesce(array_agg(rank ORDER BY number) FILTER (WHERE number %% {STEP} = 0), '{{}}')"
            " FROM numbered",
            [*more, *values, *bound],
        )
        matching, ranks = cursor.fetchone()
    return round(matching / FIRST), ranks


def ring_edges(ranks: list[float]) -> list[float]:
    """Where the rings end, but for the last: 1, 2, 4 … thousand rooms, then STEPS_OF_A_RING each."""
    edges, at, steps = [], 0, 1
    while at < len(ranks):
        edges.append(ranks[at])
        steps = min(2 * steps, STEPS_OF_A_RING)
        at += steps
    return sorted(set(edges))  # rooms at one distance may have several


def rings(search: Search, near: Near, sign: int, start: float, ends: list[float]) -> Iterator[Ring]:
    """The rings between these ranks."""
    cells = uncounted(met(places(search), near, sign, (start, inf)))
    behind = -inf  # rooms at the start itself may be behind the cursor
    for end in ends:
        inside: list[Cell] = []
        reached = [cell for cell in cells if cell.first <= end]
        ahead = [cell for cell in cells if cell.first > end]
        while crossed := [cell for cell in reached if is_crossed(cell, start, end)]:
            inside += [cell for cell in reached if not is_crossed(cell, start, end)]
            parts = 4 if len(crossed) <= 8 else 2
            boxes = [box for cell in crossed for box in divide(cell.box, parts)]
            divided = met(boxes, near, sign, (start, inf))
            ahead += uncounted([found for found in divided if found[1] > end])
            counted = count_cells(search, [found for found in divided if found[1] <= end], CELL_ROOMS)
            reached = [cell for cell in counted if cell.matching or cell.is_full]
        inside += reached
        yield Ring(tuple(cell.box for cell in inside), sign, end, bounded=end < inf, start=behind)
        cells = ahead + [cell for cell in inside if cell.last > end]
        start = behind = end


def uncounted(boxes: list[tuple[Box, float, float]]) -> list[Cell]:
    """Cells of any number of rooms: they are not counted before a ring crosses them."""
    return [Cell(box, first, last, 1, is_full=True) for box, first, last in boxes]


def is_crossed(cell: Cell, start: float, end: float) -> bool:
    """Whether a cell is to be divided: it has many rooms, of which a ring has a part only."""
    return cell.is_divisible and not (start <= cell.first and cell.last <= end)
