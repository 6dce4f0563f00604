"""How many rooms match a search, exactly or estimated; each within a cost."""

from dataclasses import replace
from urllib.parse import urlencode

from rooms.api import paging, plans
from rooms.api.errors import FieldError, ParametersError
from rooms.api.queries import matching_rooms, selection
from rooms.api.search import Search
from rooms.counting import (
    Count,
    Statement,
    count_in,
    count_rows,
    estimate_rows,
    planned_cost,
    sampled_rows,
)

MAX_CIRCLE = 30_000
"""Rooms around a place that are counted exactly: the distance of each is calculated."""

SMALL_PLACE = 15_000
"""Rooms in the boxes of a place up to which the index on the point counts them sooner than a large sample."""

MAX_COST = 50_000
"""What an exact count may cost, in the planner's units: all of two million rooms, by any filters."""


def count(search: Search) -> Count:
    """
    How many rooms match: exactly where `search.count` says so, else estimated where they are many; up to
    seven queries.

    Raises ParametersError where an exact count would read too many rooms, or calculate too many distances.
    """
    if search.near and not search.near.within:
        search = replace(search, near=None)  # every room has a distance
    rows = matching_rooms(search)
    if search.count != "exact":
        number = count_in_place(search, 2 * SMALL_PLACE) if is_small_place(search) else None
        return count_rows(rows) if number is None else Count(number)
    if search.near:
        return count_circle(search)
    if planned_cost(rows) > MAX_COST:
        raise inexact(search, "so many rooms")
    return Count(count_in("", rows))


def is_small_place(search: Search) -> bool:
    """Whether there are few rooms in a search's place, by a sample."""
    return search.boxes is not None and sampled_rows(rooms_of_place(search)) <= SMALL_PLACE


def count_circle(search: Search) -> Count:
    """The exact number of rooms in a circle of MAX_CIRCLE rooms at most."""
    # A sample shows what is far beyond the limit at once, and reads no table.
    if (estimate_rows(rooms_of_place(search)) or 0) <= 2 * MAX_CIRCLE:
        number = count_in_place(search, MAX_CIRCLE)
        if number is not None:
            return Count(number)
    raise inexact(search, f"more than {MAX_CIRCLE:,} rooms around a place")


def rooms_of_place(search: Search) -> Statement:
    """FROM and WHERE of the rooms in the search's place, matching or not."""
    terms = tuple(term for term in search.terms if term.column in {"latitude", "longitude"})
    return matching_rooms(replace(search, terms=terms))


def count_in_place(search: Search, limit: int) -> int | None:
    """How many rooms match, of fewer than the limit in the boxes; None where there are more of these."""
    attempt = plans.count_place(selection(search), limit)
    number, looked_at = paging.execute(attempt.statement, attempt.settings)[0]
    return number if looked_at < limit else None


def inexact(search: Search, what: str) -> ParametersError:
    """The error for an exact count that would cost too much."""
    message = f"cannot be exact for {what}; take an estimate"
    query = urlencode(search.given | {"count": "estimated"}, safe=",:")
    return ParametersError([FieldError("count", message, "count=estimated")], query)
