"""Reading rooms from PostgreSQL, already written in a format: a page, all of them, one, or how many."""

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from django.db import connection, transaction

from rooms.formats import COLUMNS, Columns, Format
from rooms.paging import DEFAULT_LIMIT
from rooms.place import Condition
from rooms.search import Search

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
    total: int | None = None
    precision: str = ""
    """exact or estimated, where there is a total."""


def columns_of(search: Search) -> Columns:
    return (*COLUMNS, "distance") if search.near else COLUMNS


def matching(search: Search, *more: Condition, table: str = "room") -> Statement:
    """FROM and WHERE: the rooms of a search, wherever its page begins, under the name `room`."""
    source, values = search.near.source(table) if search.near else (table, [])
    conditions = [*search.conditions, *more]
    where = " AND ".join(sql for sql, _ in conditions) or "TRUE"
    return f"FROM {source} WHERE {where}", [*values, *(value for _, bound in conditions for value in bound)]


def listed(search: Search) -> Statement:
    """SELECT to ORDER BY: the rooms with what formats and sort keys need, from where the search goes on."""
    after = [search.order.after(list(search.after))] if search.after else []
    rows, values = matching(search, *after)
    columns = ", ".join(f"room.{column}" for column in ("id", *columns_of(search)))
    return f"SELECT {columns} {rows} ORDER BY {search.order.sql}", values


def page_statement(search: Search, format: Format) -> Statement:
    """
    One statement for all that a page needs: its lines as one text, how many rows there are up to one more
    than it holds, which tells whether another page follows, the count, the last row's sort values.
    """
    limit = search.limit or DEFAULT_LIMIT
    rows, values = listed(search)
    total = "NULL"
    if search.count == "exact":
        counted, count_values = matching(search)
        total, values = f"(SELECT count(*) {counted})", [*count_values, *values]
    line = format.line(columns_of(search))
    keys = ", ".join(f"(array_agg({key.sql}))[{limit}]::text" for key in search.order.keys)
    text = f"array_to_string((array_agg({line}))[:{limit}], '{format.between}')"
    return f"SELECT {text}, count(*), {total}, {keys} FROM ({rows} LIMIT {limit + 1}) AS room", values


def page(search: Search, format: Format) -> Page:
    """One page of a search; one query, for an estimated count one or two more."""
    with connection.cursor() as cursor:
        cursor.execute(*page_statement(search, format))
        lines, rows, total, *last = cursor.fetchone()
    text = format.written(lines, columns_of(search))
    more = rows > (search.limit or DEFAULT_LIMIT)
    if search.count == "estimated":
        return Page(text, last if more else None, *estimated_count(search))
    return Page(text, last if more else None, total, search.count)


def one(code: str, format: Format) -> str | None:
    """The room with this code, None where there is none."""
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {format.line(COLUMNS)} FROM room WHERE room.code = %s::uuid", [code])
        found: tuple[str] | None = cursor.fetchone()
    return found[0] if found else None


def stream_statement(search: Search, format: Format) -> Statement:
    rows, values = listed(search)
    return f"SELECT {format.line(columns_of(search))} FROM ({rows}) AS room", values


def stream(search: Search, format: Format) -> Generator[str, None, None]:
    """
    All the rooms of a search, some thousand at a time from a server-side cursor: in constant memory.

    Closing the iterator, as a server does when its client is gone, ends the query.
    """
    with transaction.atomic(), connection.cursor() as session, connection.chunked_cursor() as cursor:
        # Between two fetches the transaction waits for the client, who may be slow: milliseconds.
        session.execute("SET LOCAL idle_in_transaction_session_timeout = 60000")
        cursor.execute(*stream_statement(search, format))
        rows = cursor.fetchmany(STREAM_ROWS)
        yield format.head(columns_of(search)) + "".join([line + format.between for (line,) in rows])
        while rows := cursor.fetchmany(STREAM_ROWS):
            yield "".join([line + format.between for (line,) in rows])


def estimated_count(search: Search) -> tuple[int, str]:
    """How many rooms match, and how it is known: exact where they are few, else estimated by the planner."""
    rows, values = matching(search)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) FROM (SELECT {rows} LIMIT {COUNT_EXACTLY + 1}) AS few", values)
        (few,) = cursor.fetchone()
        if few <= COUNT_EXACTLY:
            return few, "exact"
    return planned_rows(search), "estimated"


def planned_rows(search: Search) -> int:
    """How many rooms the planner expects, from the statistics of ANALYZE; nothing is counted."""
    rows, values = matching(search)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) SELECT {rows}", values)
        ((plan,),) = cursor.fetchone()
    estimate: int = plan["Plan"]["Plan Rows"]
    return estimate
