"""Reading rooms from PostgreSQL, already written in a format: a page, all of them, one, or how many."""

from collections.abc import Generator
from dataclasses import dataclass, replace
from typing import Any

from django.db import connection, transaction

from rooms.api.formats import COLUMNS, Columns, Format
from rooms.api.geo import Condition
from rooms.api.pagination import DEFAULT_LIMIT
from rooms.api.parameters import Search

COUNT_EXACTLY = 10_000
"""Up to so many rooms an estimate is an exact count, which then takes about a millisecond."""

STREAM_ROWS = 2_000
"""Rows that a stream holds at a time."""

Statement = tuple[str, list[Any]]


@dataclass(frozen=True)
class Page:
    """The rooms of one page as text, and the sort values of the last one where more follow."""

    text: str
    last: list[str] | None


def page(search: Search, format: Format) -> Page:
    """One page of a search; one query."""
    limit = search.limit or DEFAULT_LIMIT
    with connection.cursor() as cursor:
        cursor.execute(*page_statement(search, format))
        found = cursor.fetchall()
    last = [str(value) for value in found[limit - 1][1:]] if len(found) > limit else None
    return Page(format.written([row[0] for row in found[:limit]], columns_of(search)), last)


def stream(search: Search, format: Format) -> Generator[str, None, None]:
    """
    All the rooms of a search, some thousand at a time from a server-side cursor: in constant memory.

    Closing the iterator, as a server does when its client is gone, ends the query.
    """
    columns = columns_of(search)
    rows, values = listed(search)
    with transaction.atomic(), connection.cursor() as session, connection.chunked_cursor() as cursor:
        # Between two fetches the transaction waits for the client, who may be slow: milliseconds.
        session.execute("SET LOCAL idle_in_transaction_session_timeout = 60000")
        cursor.execute(f"SELECT {format.line(columns)} FROM ({rows}) AS room", values)
        found = cursor.fetchmany(STREAM_ROWS)
        yield format.written([line for (line,) in found], columns)
        while found := cursor.fetchmany(STREAM_ROWS):
            yield "".join([line + format.between for (line,) in found])


def one(code: str, format: Format) -> str | None:
    """The room with this code, None where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {format.line(COLUMNS)} FROM room WHERE room.code = %s::uuid", [code])
        found: tuple[str] | None = cursor.fetchone()
    if found is None:
        return None
    return format.written([found[0]], COLUMNS) if format.streams else found[0]


def count(search: Search) -> tuple[int, str]:
    """
    How many rooms match, and how that is known: exact or estimated, as the search asks for it.

    An estimate is an exact count where the rooms are few, else the planner's.
    """
    rows, values = matching(search)
    if search.count == "estimated":
        rows = f"FROM (SELECT {rows} LIMIT {COUNT_EXACTLY + 1}) AS few"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) {rows}", values)
        (counted,) = cursor.fetchone()
    if search.count == "estimated" and counted > COUNT_EXACTLY:
        return max(planned_rows(search), counted), "estimated"
    return counted, "exact"


def planned_rows(search: Search) -> int:
    """
    How many rooms the planner expects, from the statistics of ANALYZE; nothing is counted.

    There are none of distances: for a circle it is asked about the boxes around.
    """
    if search.near:
        search = replace(search, near=None, conditions=(*search.conditions, search.near.around))
    rows, values = matching(search)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) SELECT {rows}", values)
        ((plan,),) = cursor.fetchone()
    estimate: int = plan["Plan"]["Plan Rows"]
    return estimate


# --- The parts of a statement


def page_statement(search: Search, format: Format) -> Statement:
    """
    The statement of a page: a room's line and its sort values in each row.

    It reads one room more than the page holds, which tells whether another page follows.
    """
    rows, values = listed(search)
    keys = ", ".join(key.sql for key in search.order.keys)
    limit = (search.limit or DEFAULT_LIMIT) + 1
    return f"SELECT {format.line(columns_of(search))}, {keys} FROM ({rows} LIMIT {limit}) AS room", values


def columns_of(search: Search) -> Columns:
    return (*COLUMNS, "distance") if search.near else COLUMNS


def matching(search: Search, *more: Condition, table: str = "room") -> Statement:
    """FROM and WHERE: the rooms of a search, wherever its page begins, under the name `room`."""
    source, values = search.near.source(table) if search.near else (table, [])
    circle = [search.near.condition] if search.near else []
    conditions = [*search.conditions, *circle, *more]
    where = " AND ".join(sql for sql, _ in conditions) or "TRUE"
    return f"FROM {source} WHERE {where}", [*values, *(value for _, bound in conditions for value in bound)]


def listed(search: Search) -> Statement:
    """SELECT to ORDER BY: the rooms with what formats and sort keys need, from where the search goes on."""
    after = [search.order.after(list(search.after))] if search.after else []
    rows, values = matching(search, *after)
    columns = ", ".join(f"room.{column}" for column in ("id", *columns_of(search)))
    return f"SELECT {columns} {rows} ORDER BY {search.order.sql}", values
