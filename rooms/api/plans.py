"""
Plans: statements of bounded cost for the rooms of a page, and the order in which they are tried.

No single plan suits every search: an index walked in the page's order discards rooms that don't match, and
the index of a filter finds rooms that have to be sorted. Which one is cheap depends on how the values
correlate, of which the planner has no statistics. So each attempt here reads a limited number of rooms.
Where it reaches its limit before the page is full, its result has a flag, and the next attempt follows.

A limited attempt's rows are the selected expressions, then a flag: the row that has it is the last one that
the attempt could read, and it is no result.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from rooms.api.conditions import Condition, Term, conjunction
from rooms.api.geo import Box, Near
from rooms.api.pagination import Key
from rooms.counting import Statement

FIRST_WALK = 2_000
"""Rooms of an order's index that are read first, some milliseconds."""
LONG_WALK = 30_000
"""Rooms of an order's index that are read where the first walk found some."""
SMALL_PLACE = 1_000
"""Rooms of a place that are collected by the index on the point before an order's index is walked."""
PLACE = 10_000
"""The same after the first walk."""
COLLECTED = 80_000
"""Matching rooms that are collected by the indexes of the filters, and sorted: as long as a long walk."""
COLLECTED_AROUND = 50_000
"""The same for a circle, where a distance is calculated for each."""
MOST_READ = 130_000
"""Rooms that all the attempts for a page may read that do not fill it."""

WALK = {"enable_seqscan": "off", "enable_bitmapscan": "off", "enable_sort": "off"}
"""Settings for a plan that reads an index in its order, and stops at the limit."""
ENTRIES = {"enable_seqscan": "off", "enable_bitmapscan": "off", "max_parallel_workers_per_gather": "0"}
"""Settings for a plan that reads the rooms of an index one by one, without another process."""
BITMAPS = {"enable_seqscan": "off", "enable_indexscan": "off", "max_parallel_workers_per_gather": "0"}
"""Settings for a plan that combines indexes, without another process."""


@dataclass(frozen=True)
class Selection:
    """The rooms that a page, or the rest of one, is taken from."""

    terms: tuple[Term, ...]
    near: Near | None
    boxes: tuple[Box, ...] | None
    """Boxes that contain all the rooms; None where an axis has no bounds."""
    keys: tuple[Key, ...]
    """The last is `id`."""
    after: tuple[str, ...]
    limit: int
    table: str
    """The FROM item, whose rooms have all the keys but the distance."""
    unknown: str = ""
    """The column that is null in all the rooms, whose index is to be read in the order of `id`."""

    @property
    def single(self) -> bool:
        """Whether one index has the rooms in the page's order."""
        return len(self.keys) <= 2

    @property
    def lead(self) -> tuple[Term, ...]:
        """The terms that bound the walk of the order's index."""
        column = self.unknown or self.keys[0].name
        return tuple(term for term in self.terms if term.column == column and term.indexed)

    @property
    def any_values(self) -> bool:
        """Whether one plan of a walk suits all values: none bounds it, the filters are behind its LIMIT."""
        return not any(values for _, values in (term.condition for term in self.lead))

    @property
    def discards(self) -> bool:
        """Whether a walk of the order's index meets rooms that are no result."""
        return self.near is not None or not self.single or len(self.lead) < len(self.terms)

    @property
    def segments(self) -> "list[Selection]":
        """
        The rooms whose first key is known, then those where it is not; backwards the other way round. Those
        where it is not are divided by the next key.
        """
        key = self.keys[0]
        if not key.nullable:
            return [self]
        terms = [term for term in self.terms if term.column == key.origin]
        behind = bool(self.after) and self.after[0] == key.unknown
        null = Term(key.origin, (f"room.{key.origin} IS NULL", []), null=True)
        unknown = self.within(null, self.after[1:] if behind else ()).segments
        if any(term.null for term in terms):
            return unknown
        known = self.but(Term(key.name, (f"{key.column} IS NOT NULL", [])))
        if terms:
            return [known]
        if key.backwards:
            return [*unknown, replace(known, after=())] if behind or not self.after else [known]
        return unknown if behind else [known, *unknown]

    def but(self, term: Term) -> "Selection":
        return replace(self, terms=(*self.terms, term))

    def within(self, term: Term, after: tuple[str, ...]) -> "Selection":
        """The rooms that have one value of the first key, in the order of the others."""
        keys = self.keys[1:]
        return replace(
            self,
            terms=(*self.terms, term),
            keys=keys,
            after=after,
            unknown=term.column if len(keys) == 1 else "",
        )

    def beyond(self, value: Any) -> "Selection":
        """The rooms whose first key comes after this value."""
        key = self.keys[0]
        bound = Term(key.name, (f"{key.column} {key.sign} %s", [value]), key.sign)
        return replace(self.but(bound), after=())


@dataclass(frozen=True)
class Attempt:
    """A statement that reads a limited number of rooms."""

    statement: Statement
    limit: int = 0
    """Rooms that it reads at most; 0 where there are no others than those of the page."""
    settings: dict[str, str] = field(default_factory=dict)
    """PostgreSQL's settings for it."""
    any_values: bool = False
    """Whether one plan suits all values, so that it can be prepared."""


def order_sql(keys: tuple[Key, ...]) -> str:
    return ", ".join(f"{key.sql} DESC" if key.descending else key.sql for key in keys)


def after_condition(keys: tuple[Key, ...], values: tuple[str, ...]) -> Condition:
    """The rows behind the one with these sort values."""
    return compared([key.sql for key in keys], keys, values)


def compared(columns: list[str], keys: tuple[Key, ...], values: tuple[str, ...]) -> Condition:
    """
    The rows whose columns come behind these values in the order of the keys.

    Where all keys have one direction it is a row comparison, which an index scan starts from. Where they
    differ, the scan starts from the first key's bound and the other keys are compared in turn.
    """
    signs = [key.sign for key in keys]
    if len(set(signs)) == 1:
        placeholders = ", ".join(["%s"] * len(values))
        return f"({', '.join(columns)}) {signs[0]} ({placeholders})", list(values)
    sql, bound = f"{columns[-1]} {signs[-1]} %s", [values[-1]]
    for column, sign, value in zip(columns[-2::-1], signs[-2::-1], values[-2::-1], strict=True):
        sql, bound = f"({column} {sign} %s OR ({column} = %s AND {sql}))", [value, value, *bound]
    return f"{columns[0]} {signs[0]}= %s AND {sql}", [values[0], *bound]


# --- The rooms that an attempt reads, as SELECT


def ordered_entries(selection: Selection, limit: int, selected: str = "room.*", offset: int = 0) -> Statement:
    """The rooms of the order's index from the cursor on, no more than the limit."""
    first = selection.keys[0]
    lead = selection.lead
    conditions = []
    if selection.after:
        # The cursor is within the bounds. With both, the scan would start at the filter's.
        lead = tuple(term for term in lead if term.bound != first.sign)
        if selection.single:
            columns = [key.column for key in selection.keys]
            conditions = [compared(columns, selection.keys, selection.after)]
        else:
            conditions = [(f"{first.column} {first.sign}= %s", [selection.after[0]])]
    where, values = conjunction([*(term.condition for term in lead), *conditions])
    order = index_order(selection)
    rows = f"{limit} OFFSET {offset}" if offset else f"{limit}"
    return (
        f"SELECT {selected} FROM {selection.table} WHERE {where} ORDER BY {order} LIMIT {rows}",
        values,
    )


def index_order(selection: Selection) -> str:
    """ORDER BY of the order's index; where there are several keys, of the first one's."""
    return bare_order(selection, selection.keys if selection.single else selection.keys[:1])


def order_columns(selection: Selection) -> str:
    """ORDER BY of the whole order, of which an index may serve the first key."""
    if selection.single:
        return bare_order(selection, selection.keys)
    first, *others = selection.keys
    return f"{bare_order(selection, (first,))}, {order_sql(tuple(others))}"


def bare_order(selection: Selection, keys: tuple[Key, ...]) -> str:
    columns = [(key.column, key.descending) for key in keys]
    if selection.unknown:
        columns.insert(0, (f"room.{selection.unknown}", keys[0].descending))
    return ", ".join(f"{column} DESC" if descending else column for column, descending in columns)


def place_entries(selection: Selection, limit: int) -> Statement:
    """The rooms in the boxes, by the index on the point."""
    # Two boxes with OR would need a bitmap of all their rooms.
    parts = [box.contains for box in selection.boxes or ()] or [("FALSE", [])]
    rows = " UNION ALL ".join(f"SELECT room.* FROM {selection.table} WHERE {sql}" for sql, _ in parts)
    return f"SELECT room.* FROM ({rows}) AS room LIMIT {limit}", [
        value for _, bound in parts for value in bound
    ]


def matching_entries(selection: Selection, limit: int) -> Statement:
    """The rooms that match, without an order."""
    where, values = conjunction([term.condition for term in selection.terms])
    return f"SELECT room.* FROM {selection.table} WHERE {where} LIMIT {limit}", values


# --- Attempts


def read_in_order(selection: Selection, selected: str) -> Statement:
    """The page of an index that has no other rooms."""
    return ordered_entries(selection, selection.limit, selected)


def walk(selection: Selection, selected: str, limit: int) -> Attempt:
    """
    The page from the first rooms of the order's index.

    Where an order has several keys, a group of equal first values is sorted by the others. The flagged row
    comes first in its group, of which it is not known whether it is complete.
    """
    settings = WALK if limit == LONG_WALK else {}
    if selection.single and not settings:
        statement = first_walk(selection, selected, limit)
    else:
        window = order = index_order(selection)
        if not selection.single:
            order = f"{window}, last DESC, {order_sql(selection.keys[1:])}"
        entries = ordered_entries(selection, limit)
        statement = filtered(selection, selected, entries, limit, f"OVER (ORDER BY {window})", order)
    return Attempt(statement, limit, settings, any_values=selection.any_values and not settings)


def first_walk(selection: Selection, selected: str, limit: int) -> Statement:
    """
    The statement of a short walk in the page's order. It numbers no rooms, which takes half of the time: the
    flagged row is looked for, once more from the beginning, where the page is not full without it.
    """
    entries, values = with_distance(selection, ordered_entries(selection, limit - 1))
    last, more = with_distance(selection, ordered_entries(selection, 1, offset=limit - 1))
    circle = selection.near.conditions if selection.near else []
    where, bound = conjunction([*(term.condition for term in selection.terms), *circle])
    # The second part is read after the first, and only where that is at its end.
    return (
        f"(SELECT {selected}, false AS last FROM ({entries}) AS room WHERE {where} LIMIT {selection.limit})"
        f" UNION ALL (SELECT {selected}, true FROM ({last}) AS room) LIMIT {selection.limit}",
        [*values, *bound, *more],
    )


def with_distance(selection: Selection, rows: Statement) -> Statement:
    """The rows with their distance, where there is a place."""
    if selection.near is None:
        return rows
    sql, values = rows
    distance, point = selection.near.distance
    return f"SELECT room.*, {distance} AS distance FROM ({sql}) AS room", [*point, *values]


def collect(
    selection: Selection, selected: str, entries: Statement, limit: int, settings: dict[str, str]
) -> Attempt:
    """The page from all the entries, which are sorted; a flagged row comes first."""
    order = f"last DESC, {order_sql(selection.keys)}"
    return Attempt(filtered(selection, selected, entries, limit, "OVER ()", order), limit, settings)


def filtered(
    selection: Selection, selected: str, entries: Statement, limit: int, window: str, order: str
) -> Statement:
    """The statement of the matching rooms among the entries."""
    sql, values = entries
    sql = f"SELECT room.*, row_number() {window} = {limit} AS last FROM ({sql}) AS room"
    where, bound = conjunction([term.condition for term in selection.terms])
    sql, values = f"SELECT room.* FROM ({sql}) AS room WHERE ({where}) OR last", [*values, *bound]
    sql, values = with_distance(selection, (sql, values))
    more = list(selection.near.conditions) if selection.near else []
    if selection.after:
        more.append(after_condition(selection.keys, selection.after))
    where, bound = conjunction(more)
    return (
        f"SELECT {selected}, last FROM ({sql}) AS room"
        f" WHERE ({where}) OR last ORDER BY {order} LIMIT {selection.limit}",
        [*values, *bound],
    )


def collect_place(selection: Selection, selected: str, limit: int) -> Attempt:
    return collect(selection, selected, place_entries(selection, limit), limit, ENTRIES)


def collect_matches(selection: Selection, selected: str) -> Attempt:
    limit = COLLECTED_AROUND if selection.near else COLLECTED
    return collect(selection, selected, matching_entries(selection, limit), limit, BITMAPS)


def count_place(selection: Selection, limit: int) -> Attempt:
    """How many of the rooms in the boxes match, and how many of the rooms there are up to the limit."""
    entries, values = place_entries(selection, limit)
    distance, point = selection.near.distance if selection.near else ("NULL", [])
    conditions = [term.condition for term in selection.terms]
    where, bound = conjunction([*conditions, *(selection.near.conditions if selection.near else [])])
    return Attempt(
        (
            f"SELECT count(*) FILTER (WHERE {where}), count(*) FROM"
            f" (SELECT room.*, {distance} AS distance FROM ({entries}) AS room) AS room",
            [*bound, *point, *values],
        ),
        limit,
        ENTRIES,
    )
