"""
Queries: a page of rooms, all rooms or one room, as text in a format or as values; and their number.
"""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection, transaction

from rooms.api.formats import Format, Names
from rooms.api.geo import Condition
from rooms.api.nearest import narrowed
from rooms.api.pagination import DEFAULT_LIMIT
from rooms.api.parameters import Search
from rooms.columns import COLUMNS
from rooms.counting import Count, Statement, count_rows

STREAM_ROWS = 2_000
"""Rows that a stream fetches at a time."""

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
    rows, first, last = fetch_page(search, output.line(names))
    return Page(first, last, output.write_text([line for (line,) in rows], names))


def values_page(search: Search) -> ValuesPage:
    """One page of a search, as values of Python's types; as many queries."""
    names = all_names(search)
    rows, first, last = fetch_page(search, ", ".join(f"room.{name}" for name in names))
    return ValuesPage(first, last, [dict(zip(names, row, strict=True)) for row in rows])


def fetch_page(
    search: Search, selected: str
) -> tuple[list[tuple[Any, ...]], list[str] | None, list[str] | None]:
    """The selected expressions of a page's rows, and the sort values of its `Ends`."""
    limit = search.limit or DEFAULT_LIMIT
    keys = len(search.order.keys)
    narrow = narrowed(search)
    with connection.cursor() as cursor:
        cursor.execute(*page_statement(narrow, selected))
        found = cursor.fetchall()
        if len(found) <= limit and narrow.near and narrow.near.ring and narrow.near.ring.bounded:
            # Rooms were deleted since it was narrowed.
            cursor.execute(*page_statement(search, selected))
            found = cursor.fetchall()
    more, found = len(found) > limit, found[:limit]
    if search.before:
        found.reverse()
    # Beyond the end where a page begins or ends at a cursor is the cursor's room.
    precedes, follows = (more, True) if search.before else (bool(search.after), more)
    first = [str(value) for value in found[0][-keys:]] if found and precedes else None
    last = [str(value) for value in found[-1][-keys:]] if found and follows else None
    return [row[:-keys] for row in found], first, last


def stream(search: Search, output: Format) -> Generator[str, None, None]:
    """
    All the rooms of a search, some thousand at a time from a server-side cursor: in constant memory.

    Closing the iterator, as a server does when its client disconnects, ends the query.
    """
    names = column_names(search)
    rows, values = select_rows(search)
    with transaction.atomic(), connection.cursor() as session, connection.chunked_cursor() as cursor:
        # Milliseconds. Between two fetches the transaction waits for the client, which may be slow.
        session.execute("SET LOCAL idle_in_transaction_session_timeout = 60000")
        cursor.execute(f"SELECT {output.line(names)} FROM ({rows}) AS room", values)
        before = output.head(names)
        found = cursor.fetchmany(STREAM_ROWS)
        has_lines = bool(found)
        while found:
            yield before + output.separator.join([line for (line,) in found])
            before = output.separator
            found = cursor.fetchmany(STREAM_ROWS)
    # An error before this leaves a file that no reader takes for a complete one, where the format has a tail.
    yield ("" if has_lines else before) + output.end(has_lines)


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
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {selected} FROM room WHERE room.code = %s::uuid", [code])
        row: tuple[Any, ...] | None = cursor.fetchone()
    return row


def count(search: Search) -> Count:
    """How many rooms match, counted or estimated as the search asks for it; one query, or up to four."""
    return count_rows(matching_rooms(search), exactly=search.count == "exact")


def planner_query(search: Search) -> Statement:
    """
    FROM and WHERE of the query whose plan estimates the number of rooms.

    The planner has no statistics of distances: a circle is replaced by the boxes around it.
    """
    if search.near:
        boxes = search.near.boxes_conditions
        search = replace(search, near=None, conditions=(*search.conditions, *boxes))
    return matching_rooms(search)


# --- The parts of a statement


def page_statement(search: Search, selected: str) -> Statement:
    """
    The statement of a page: the selected expressions of each room, then its sort values.

    It reads one room more than the page holds, to see whether another page follows.
    """
    rows, values = select_rows(search, backwards=bool(search.before))
    keys = ", ".join(key.sql for key in search.order.keys)
    limit = (search.limit or DEFAULT_LIMIT) + 1
    return f"SELECT {selected}, {keys} FROM ({rows} LIMIT {limit}) AS room", values


def all_names(search: Search) -> Names:
    """What is known of each room."""
    return (*NAMES, "distance") if search.near else NAMES


def column_names(search: Search) -> Names:
    """What a response has of each room."""
    return search.fields or all_names(search)


def matching_rooms(search: Search, *more: Condition) -> Statement:
    """FROM and WHERE of a search, without its cursor; the rows are named `room`."""
    source, values = search.near.source() if search.near else ("room", [])
    circle = search.near.conditions if search.near else []
    conditions = [*search.conditions, *circle, *more]
    where = " AND ".join(sql for sql, _ in conditions) or "TRUE"
    return f"FROM {source} WHERE {where}", [*values, *(value for _, bound in conditions for value in bound)]


def select_rows(search: Search, backwards: bool = False) -> Statement:
    """SELECT to ORDER BY: the columns of the rooms of a search after or before its cursor."""
    beyond = []
    if search.after:
        beyond.append(search.order.after(list(search.after)))
    if search.before:
        beyond.append(search.order.backwards.after(list(search.before)))
    rows, values = matching_rooms(search, *beyond)
    columns = ", ".join(f"room.{column}" for column in ("id", *all_names(search)))
    order = search.order.backwards if backwards else search.order
    return f"SELECT {columns} {rows} ORDER BY {order.sql}", values
