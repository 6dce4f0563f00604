"""
Capturing rooms: those of a page, and some that just don't match, so that a scenario of them shows the same
page, in the same order, without their codes and places.
"""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.db import connection

from rooms.api import queries
from rooms.api.conditions import Condition, conjunction
from rooms.api.geo import Box, Near
from rooms.api.operators import FILTERS
from rooms.api.search import Search
from rooms.columns import COLUMNS, DECIMALS
from rooms.counting import count_in

STREET = 3
"""Decimals of a degree, about 100 m: a coordinate shows the street and not the house."""

COORDINATES = ("latitude", "longitude")

Row = dict[str, Any]
"""A room's `id` and its values in COLUMNS."""


@dataclass(frozen=True)
class Captured:
    """Rooms in the order of their ids, so that ties stay in order."""

    rows: list[Row]
    page: list[int]
    """The numbers of the rows that are on the page, in its order."""
    total: int
    """Rooms that match the query."""
    query: str
    """The query string that shows the page, with the codes and places of `rows`."""
    exact: int
    """Rooms that have their exact places, without which the page would be another one."""


def capture(search: Search, limit: int, neighbours: int, *, keep_codes: bool, keep_places: bool) -> Captured:
    """
    The first page of `limit` rooms, and for each filter so many `neighbours` that only it leaves out.

    Costs up to two queries for each filter, and some on the captured rooms. Raises ParametersError where the
    page would cost too much.
    """
    page = [str(room["code"]) for room in queries.values_page(replace(search, limit=limit)).rooms]
    outside = [code for code in all_neighbours(search, neighbours) if code not in set(page)]
    rows = fetch([*page, *outside])
    fresh: dict[str, str] = {} if keep_codes else {row["code"]: str(uuid.uuid4()) for row in rows}

    def new_code(code: str) -> str:
        return code if keep_codes else fresh.setdefault(code, str(uuid.uuid4()))

    rows = [row | {"code": new_code(row["code"])} for row in rows]
    wanted = [new_code(code) for code in page]
    rows, query, exact = place(rows, wanted, search, new_code, DECIMALS if keep_places else STREET)
    numbers = {row["code"]: number for number, row in enumerate(rows)}
    return Captured(
        rows,
        [numbers[code] for code in wanted],
        count_in("", queries.matching_rooms(search)),
        query,
        0 if keep_places else exact,
    )


def fetch(codes: list[str]) -> list[Row]:
    """The rooms with these codes, in the order of their ids."""
    names = ("id", *COLUMNS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"SELECT {', '.join(names)} FROM room WHERE code = ANY(%s::uuid[]) ORDER BY id", [codes]
        )
        return [dict(zip(names, row, strict=True)) | {"code": str(row[1])} for row in cursor.fetchall()]


# --- Neighbours


def all_neighbours(search: Search, number: int) -> list[str]:
    """The codes of the rooms that one filter leaves out and all others match, the nearest to its limit."""
    codes: list[str] = []
    with connection.cursor() as cursor:
        for name, together in selecting(search) if number else ():
            others = {other: text for other, text in search.where.items() if other not in together}
            (condition, bound), (closeness, values) = outside_of(search, name)
            rows, selected = queries.matching_rooms(Search.parse(urlencode(others)), (condition, bound))
            cursor.execute(
                f"SELECT room.code {rows} ORDER BY {closeness} NULLS LAST, room.id LIMIT {number}",
                [*selected, *values],
            )
            codes += [str(code) for (code,) in cursor.fetchall()]
    return list(dict.fromkeys(codes))


def selecting(search: Search) -> Iterator[tuple[str, set[str]]]:
    """Each parameter that leaves rooms out, and the names of those that mean nothing without it."""
    for name in search.where:
        if name == "near" and search.near and search.near.within:
            yield name, {"near", "within"}
        elif name not in {"near", "within"}:
            yield name, {name}


def outside_of(search: Search, name: str) -> tuple[Condition, Condition]:
    """The condition that a room does not match the parameter, and SQL of how far it is from that."""
    text = search.given[name]
    if name == "near":
        assert search.near
        metres, values = search.near.distance
        return (f"{metres} > %s", [*values, search.near.within]), (metres, values)
    if name == "bbox":
        box = Box.parse(text)
        inside, bound = conjunction([term.condition for term in box.terms])
        middle = Near(box.west + (box.east - box.west) % 360 / 2, (box.south + box.north) / 2)
        return (f"({inside}) IS NOT TRUE", bound), middle.distance
    filter_ = FILTERS[name]
    value = filter_.parse(text)
    matching, bound = filter_.term(value).condition
    numbers = value if isinstance(value, list) else [value]
    if not filter_.column.type.ordered or any(isinstance(number, bool) for number in numbers):
        return (f"({matching}) IS NOT TRUE", bound), ("room.id", [])
    apart = ", ".join([f"abs({filter_.column.sql} - %s)"] * len(numbers))
    return (f"({matching}) IS NOT TRUE", bound), (f"least({apart})", numbers)


# --- Codes and places


def place(
    rows: list[Row], wanted: list[str], search: Search, new_code: Callable[[str], str], decimals: int
) -> tuple[list[Row], str, int]:
    """
    The rooms, and the query string, with rounded coordinates; and how many rooms keep exact ones because the
    page would be another one.

    The query itself gets as many decimals as that takes.
    """
    for digits in range(decimals, DECIMALS + 1):
        query = query_string(search, new_code, digits)
        exact: set[str] = set()
        while True:
            placed = [row if row["code"] in exact else rounded(row, decimals) for row in rows]
            found = shown(placed, Search.parse(query))
            if found == wanted:
                return placed, query, len(exact)
            differ = set(found) ^ set(wanted) or {
                code for pair in zip(found, wanted, strict=True) if pair[0] != pair[1] for code in pair
            }
            if differ <= exact:
                break
            exact |= differ
    # The query has more decimals than a place can have.
    return rows, query_string(search, new_code, 20), len(rows)


def rounded(row: Row, decimals: int) -> Row:
    return row | {name: round(row[name], decimals) for name in COORDINATES}


def shown(rows: list[Row], search: Search) -> list[str]:
    """The codes that the search finds in a table of just these rooms, in its order."""
    types = {"id": "bigint"} | {name: column.type.sql_type for name, column in COLUMNS.items()}
    arrays = ", ".join(f"%s::{sql_type}[]" for sql_type in types.values())
    selected, values = queries.select_rows(search)
    with connection.cursor() as cursor:
        cursor.execute(
            f"WITH room AS (SELECT * FROM unnest({arrays}) AS captured ({', '.join(types)}))"
            f" SELECT room.code FROM ({selected}) AS room",
            [*([row[name] for row in rows] for name in types), *values],
        )
        return [str(code) for (code,) in cursor.fetchall()]


def query_string(search: Search, new_code: Callable[[str], str], decimals: int) -> str:
    """The search's filters and order, with the codes and rounded places of the captured rooms."""
    parts = []
    for name, text in search.given.items():
        column = FILTERS[name].column.name if name in FILTERS else ""
        if column == "code" and FILTERS[name].column.type.pattern.fullmatch(text.partition(",")[0]):
            text = ",".join(new_code(str(uuid.UUID(code))) for code in text.split(","))
        elif name in {"bbox", "near"} or (column in COORDINATES and text not in {"true", "false"}):
            text = ",".join(degrees(number, decimals) for number in text.split(","))
        if name in search.where or name == "order":
            parts.append(f"{name}={text}")
    return "&".join(parts)


def degrees(text: str, decimals: int) -> str:
    """The number with so many decimals at most; never -0."""
    number = round(float(text), decimals) + 0.0
    return f"{number:.{decimals}f}".rstrip("0").rstrip(".") if decimals else str(number)
