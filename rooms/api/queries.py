"""
Queries: a page of rooms, all rooms or one room, as text in a format or as values.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from rooms.api import paging, plans, prepared
from rooms.api.conditions import Condition, conjunction
from rooms.api.errors import FieldError, ParametersError
from rooms.api.exports import STREAM_ROWS, one_state
from rooms.api.formats import Format, Names
from rooms.api.nearest import narrowed
from rooms.api.pagination import DEFAULT_LIMIT
from rooms.api.paging import Reader, TooManyRooms
from rooms.api.plans import Selection
from rooms.api.rings import parts_by_distance
from rooms.api.search import Search
from rooms.columns import COLUMNS
from rooms.counting import Statement
from rooms.database import connection

SMALL_CIRCLE = 1_000
"""Metres that are suggested where a circle is too large."""

NAMES: Names = tuple(COLUMNS)


@dataclass(frozen=True)
class Ends:
    """The sort values of a page's first room where others precede it, and of its last where more follow."""

    first: list[str] | None
    last: list[str] | None


@dataclass(frozen=True)
class Page(Ends):
    """The rooms of one page as text."""

    text: str


@dataclass(frozen=True)
class ValuesPage(Ends):
    """The rooms of one page as dictionaries of all their values."""

    rooms: list[dict[str, Any]]


def page(search: Search, output: Format) -> Page:
    """One page of a search, as text; one query, some more where it is ordered by distance."""
    names = column_names(search)
    rows, first, last = fetch_page(search, (output.line(names),))
    return Page(first, last, output.write_text([row[0] for row in rows], names))


def values_page(search: Search) -> ValuesPage:
    """One page of a search, as values of Python's types; as many queries."""
    names = all_names(search)
    rows, first, last = fetch_page(search, tuple(f"room.{name}" for name in names))
    return ValuesPage(first, last, [dict(zip(names, row, strict=False)) for row in rows])


def fetch_page(
    search: Search, selected: tuple[str, ...]
) -> tuple[list[tuple[Any, ...]], list[str] | None, list[str] | None]:
    """
    The selected expressions of a page's rows, and more behind them; and the sort values of its `Ends`.

    It reads one room more than the page holds, to see whether another page follows. Raises ParametersError
    where reading the page would cost too much.
    """
    limit = search.limit or DEFAULT_LIMIT
    keys = search.order.keys
    columns = ", ".join([*selected, *(key.sql for key in keys)])
    try:
        nearest = fetch_nearest(search, columns) if search.near else None
        found = (
            paging.fetch(selection(search), Reader(columns, tuple(key.name for key in keys)))
            if nearest is None
            else nearest
        )
    except TooManyRooms:
        raise refusal(search) from None
    more, found = len(found) > limit, found[:limit]
    if search.before:
        found.reverse()
    # Beyond the end where a page begins or ends at a cursor is the cursor's room.
    precedes, follows = (more, True) if search.before else (bool(search.after), more)
    sort_values = slice(len(selected), len(selected) + len(keys))
    first = [str(value) for value in found[0][sort_values]] if found and precedes else None
    last = [str(value) for value in found[-1][sort_values]] if found and follows else None
    return found, first, last


def fetch_nearest(search: Search, columns: str) -> list[tuple[Any, ...]] | None:
    """A page by distance, from the part of the map that has it; None where that is not known."""
    limit = (search.limit or DEFAULT_LIMIT) + 1
    for trusted in (True, False):
        narrow = narrowed(search, trusted)
        if not (narrow.near and narrow.near.ring):
            return None
        rows, values = select_rows(narrow, backwards=True)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {columns} FROM ({rows} LIMIT {limit}) AS room", values)
            found: list[tuple[Any, ...]] = cursor.fetchall()
        if len(found) == limit or not narrow.near.ring.bounded:
            return found
        # Rooms were deleted since the search was narrowed, or the sample is not like the rooms.
    return None


def refusal(search: Search) -> ParametersError:
    """The error for a page that would cost too much, with another order or a smaller circle."""
    given = search.without_cursor()
    if search.order.keys[0].name == "distance":
        message = (
            "would read too many rooms to sort them by distance; add a filter, or make the circle smaller"
        )
        return ParametersError(
            [FieldError("near", message)], urlencode(given | {"within": SMALL_CIRCLE}, safe=",:")
        )
    ordered = search.order.keys[0].name
    column = next(
        (term.column for term in search.terms if term.indexed and term.column not in {ordered, "code"}), ""
    )
    message = (
        "would read too many rooms: the filters leave very many, and few of them come first in this order; "
        "add a filter, or order by a field that has one"
    )
    del_order = {name: text for name, text in given.items() if name != "order"}
    suggested = del_order | ({"order": column} if column else {})
    error = FieldError("order", message, f"order={column}" if column else "")
    return ParametersError([error], urlencode(suggested, safe=",:"))


def stream(search: Search, output: Format) -> Generator[str, None, None]:
    """
    All the rooms of a search, some thousand at a time from server-side cursors: in constant memory. One
    query; where very many are ordered by distance, one for each ring around the place, and some to find it.

    Closing the iterator, as a server does when its client disconnects, ends the query.
    """
    names = column_names(search)
    before, has_lines = output.head(names), False
    with one_state():
        for part in parts_by_distance(search):
            with connection.chunked_cursor() as cursor:
                cursor.execute(*export_statement(part, output))
                while found := cursor.fetchmany(STREAM_ROWS):
                    yield before + output.separator.join([text for (text,) in found])
                    before, has_lines = output.separator, True
    # An error before this leaves a file that no reader takes for a complete one, where the format has a tail.
    yield ("" if has_lines else before) + output.end(has_lines)


def export_statement(search: Search, output: Format) -> Statement:
    """The statement of a part of `stream`: a line of text for each room."""
    rows, values = select_rows(search)
    return f"SELECT {output.line(column_names(search))} FROM ({rows}) AS room", values


def room_text(code: str, output: Format) -> str | None:
    """The room with this code as text, None where there is none."""
    row = fetch_one(code, output.line(NAMES))
    if row is None:
        return None
    return output.write_text([row[0]], NAMES) if output.ends_lines else str(row[0])


def room_values(code: str) -> dict[str, Any] | None:
    """The room with this code as values, None where there is none."""
    row = fetch_one(code, ", ".join(f"room.{name}" for name in NAMES))
    return None if row is None else dict(zip(NAMES, row, strict=True))


def fetch_one(code: str, selected: str) -> tuple[Any, ...] | None:
    rows = prepared.fetch((f"SELECT {selected} FROM room WHERE room.code = %s::uuid", [code]))
    return rows[0] if rows else None


def planner_query(search: Search) -> Statement:
    """
    FROM and WHERE of the query whose plan estimates the number of rooms.

    The planner has no statistics of distances: a circle is replaced by the boxes around it.
    """
    if search.near:
        search = replace(search, near=None, terms=(*search.terms, *search.near.terms))
    return matching_rooms(search)


# --- The parts of a statement


def selection(search: Search) -> Selection:
    """The rooms of a search beyond its cursor; one more than a page."""
    return Selection(
        terms=(*search.terms, *(search.near.terms if search.near else ())),
        near=search.near,
        boxes=search.boxes,
        keys=search.reading_order.keys,
        after=tuple(search.cursor_values),
        limit=(search.limit or DEFAULT_LIMIT) + 1,
        table=search.order.table,
    )


def all_names(search: Search) -> Names:
    """What is known of each room."""
    return (*NAMES, "distance") if search.near else NAMES


def column_names(search: Search) -> Names:
    """What a response has of each room."""
    return search.fields or all_names(search)


def matching_rooms(search: Search, *more: Condition) -> Statement:
    """FROM and WHERE of a search, without its cursor; the rows are named `room`."""
    table = search.order.table
    source, values = search.near.source(table) if search.near else (table, [])
    circle = search.near.conditions if search.near else []
    where, bound = conjunction([*(term.condition for term in search.terms), *circle, *more])
    return f"FROM {source} WHERE {where}", [*values, *bound]


def select_rows(search: Search, backwards: bool = False) -> Statement:
    """
    SELECT to ORDER BY: the columns and sort keys of all the rooms of a search beyond its cursor, in the
    search's order or, where they end before the cursor, backwards.
    """
    names = dict.fromkeys(("id", *all_names(search), *(key.name for key in search.order.keys)))
    columns = ", ".join(f"room.{name}" for name in names)
    whole, beyond = selection(search), []
    if search.before and not backwards:
        beyond = [plans.after_condition(whole.keys, whole.after)]
        whole = replace(whole, keys=search.order.keys, after=())
    parts, values = [], []
    for segment in whole.segments:
        after = [plans.after_condition(segment.keys, segment.after)] if segment.after else beyond
        rows, bound = matching_rooms(replace(search, terms=segment.terms), *after)
        parts.append(f"(SELECT {columns} {rows} ORDER BY {plans.order_columns(segment)})")
        values += bound
    # A cursor's plan is not parallel: the parts come one after the other.
    return " UNION ALL ".join(parts), values
