"""
Fetching a page: the attempts of `plans`, from the cheapest on, until one of them fills the page.

Most pages take one statement. Where no attempt fills the page, reading it would cost too much.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from rooms.api import plans, prepared
from rooms.api.conditions import Term
from rooms.api.plans import Attempt, Selection
from rooms.api.prepared import Row
from rooms.counting import Statement
from rooms.database import connection


class TooManyRooms(Exception):
    """No attempt filled the page."""


@dataclass
class Reader:
    """Runs the attempts of one page."""

    selected: str
    """The selected expressions, of which the last are the sort keys."""
    keys: tuple[str, ...]
    """The names of the sort keys."""
    left: int = plans.MOST_READ
    """Rooms that may still be read in vain."""

    def run(self, attempt: Attempt) -> "Result":
        """The rows that an attempt finds; raises TooManyRooms where the page has cost too much already."""
        if attempt.limit > self.left:
            raise TooManyRooms
        if attempt.any_values:
            found = prepared.fetch(attempt.statement)
        else:
            found = execute(attempt.statement, attempt.settings)
        flags = [row[-1] for row in found]
        if True not in flags:
            return Result(found, len(found))
        self.left -= attempt.limit
        number = flags.index(True)
        keys = dict(zip(self.keys, found[number][-1 - len(self.keys) :], strict=False))
        return Result(found[:number], len(found) - 1, keys, complete=False)


@dataclass(frozen=True)
class Result:
    """The rows of an attempt, without the columns that it adds."""

    rows: list[Row]
    """Those in front of the flagged row, which the page begins with; with the flag at their end."""
    found: int
    """How many rows there were at all."""
    flagged: Mapping[str, Any] = field(default_factory=dict)
    """The sort values of the flagged row, by their names."""
    complete: bool = True
    """Whether there is no flagged row: these are all the rooms, or as many as the page holds."""


def fetch(selection: Selection, reader: Reader) -> list[Row]:
    """The selected expressions of the page's rooms, and more behind them; raises TooManyRooms."""
    rows: list[Row] = []
    for segment in selection.segments:
        if len(rows) < selection.limit:
            rest = replace(segment, limit=selection.limit - len(rows))
            rows += fetch_segment(rest, reader)
    return rows


def fetch_segment(selection: Selection, reader: Reader) -> list[Row]:
    """The page's rooms, where the first key is always known or never."""
    if not selection.discards:
        page = plans.read_in_order(selection, reader.selected)
        return prepared.fetch(page) if selection.any_values else execute(page)
    if selection.keys[0].name == "distance":
        return collect_by_distance(selection, reader)
    if selection.boxes is not None:
        place = reader.run(plans.collect_place(selection, reader.selected, plans.SMALL_PLACE))
        if place.complete:
            return place.rows
    budget = plans.FIRST_WALK + 3 * selection.limit
    walk = reader.run(plans.walk(selection, reader.selected, budget))
    if walk.complete:
        return walk.rows
    if selection.single:
        often = walk.found * plans.LONG_WALK >= selection.limit * budget
    else:
        often = walk.found >= selection.limit - 1
    if often and not selection.single:
        return walk.rows + fetch_groups(selection, reader, walk)
    for attempt in other_attempts(selection, reader.selected, often):
        result = reader.run(attempt)
        if result.complete:
            return result.rows
    if selection.single or result.found < selection.limit - 1:
        raise TooManyRooms
    return result.rows + fetch_groups(selection, reader, result)


def other_attempts(selection: Selection, selected: str, often: bool) -> Iterator[Attempt]:
    """What follows the first walk, which met matching rooms often enough for a long one or not."""
    if selection.boxes is not None:
        yield plans.collect_place(selection, selected, plans.PLACE)
    if often:
        yield plans.walk(selection, selected, plans.LONG_WALK)
    if any(term.indexed for term in selection.terms):
        yield plans.collect_matches(selection, selected)
    if not often:
        yield plans.walk(selection, selected, plans.LONG_WALK)


def collect_by_distance(selection: Selection, reader: Reader) -> list[Row]:
    """All the rooms of a circle, or all that match, sorted: no index has the order."""
    around = selection.near.terms if selection.near else ()
    filtered = any(term.indexed and term not in around for term in selection.terms)
    if filtered or selection.boxes is None:
        result = reader.run(plans.collect_matches(selection, reader.selected))
    else:
        result = reader.run(plans.collect_place(selection, reader.selected, plans.COLLECTED_AROUND))
    if not result.complete:
        raise TooManyRooms
    return result.rows


def fetch_groups(selection: Selection, reader: Reader, walk: Result) -> list[Row]:
    """The rest of a walk: the rooms of the flagged row's group, in the order of the other keys, then more."""
    key, needed = selection.keys[0], selection.limit - len(walk.rows)
    group = walk.flagged[key.name]
    begun = bool(selection.after) and selection.after[0] == str(group)
    inside = selection.within(
        Term(key.name, (f"{key.column} = %s", [str(group)])), selection.after[1:] if begun else ()
    )
    rows = fetch(replace(inside, limit=needed), reader)
    if len(rows) < needed:
        behind = replace(selection.beyond(group), limit=needed - len(rows))
        rows += fetch(behind, reader)
    return rows


def execute(statement: Statement, settings: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of a statement; the settings are valid for it only."""
    sql, values = statement
    with connection.cursor() as cursor:
        avoided = "".join(f"SET LOCAL {setting} = {value}; " for setting, value in (settings or {}).items())
        # Statements that are sent together share a transaction, and no time is spent on the way.
        cursor.execute(avoided + sql, values)
        rows: list[Row] = cursor.fetchall()
        if settings and connection.in_atomic_block:  # a transaction around this one keeps what was set
            cursor.execute("; ".join(f"SET LOCAL {setting} = DEFAULT" for setting in settings))
    return rows
