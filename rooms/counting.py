"""
Counting rooms: exact where they are few; where they are many, estimated from a sample. The API, the admin and
the statistics use it.
"""

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db.models import QuerySet
from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext

from rooms.database import connection
from rooms.sampling import WHOLE, sample, share_of

MAX_COUNTED = 10_000
"""Rooms up to which an estimated count is exact."""

FIRST = 1 / 64
"""The share of the rooms that a question looks at first: of a million in a millisecond."""

MOST_FIRST = round(FIRST * 1_000_000)
"""Rooms that a count looks at first at most, however many there are."""

ENOUGH = 1_400
"""
Matching rooms in a sample that are enough for an estimate: its standard error is 2.7 % (1 / √n), so that an
error of 10 % is one count in ten thousand. Of MAX_COUNTED rooms the whole sample never has as many.
"""

SECOND = 1_600
"""
Matching rooms that a second, larger sample is to have, if the whole one has as many: 2.5 % of error. It costs
0.8 of one with 2,000, which is more than enough: one in thirty such samples has too few, and a third follows.
"""

Statement = tuple[str, list[Any]]
"""SQL with placeholders, and their values."""


class Count(int):
    """A number of rooms, which may be an estimate."""

    exact: bool

    def __new__(cls, number: int, exact: bool = True) -> "Count":
        count = super().__new__(cls, number)
        count.exact = exact
        return count

    @property
    def precision(self) -> str:
        return "exact" if self.exact else "estimated"

    @property
    def rounded(self) -> int:
        """The number; an estimate is rounded to two significant digits."""
        return int(self) if self.exact else round(int(self), 2 - len(str(int(self))))

    def __str__(self) -> str:
        """As in "1 room" or "about 1,000,000 rooms"."""
        number = number_format(self.rounded, use_l10n=True, force_grouping=True)
        rooms = ngettext("%(number)s room", "%(number)s rooms", self) % {"number": number}
        return rooms if self.exact else gettext("about %(rooms)s") % {"rooms": rooms}


def count_rows(source: Statement) -> Count:
    """
    The number of rooms of a source, given as `FROM room … WHERE …`: counted where they are few, else
    estimated. Two queries, or up to five.
    """
    estimate = estimate_rows(source)
    return Count(count_in("", source)) if estimate is None else Count(estimate, exact=False)


def estimate_rows(source: Statement) -> int | None:
    """The number of rooms of a source by a sample as large as it takes; None where they are few."""
    matches, share, read = 0, first_share(), 0.0
    while True:
        matches += count_in(sample(share, beyond=read), source)
        if matches >= ENOUGH:
            return round(matches / share)
        if share == WHOLE or matches / share < MAX_COUNTED:
            return None
        share, read = share_of(round(matches / share), SECOND), share


def sample_share(source: Statement, wanted: int) -> float | None:
    """
    The share of the rooms that is expected to have the wanted number of a source's; None where even the whole
    sample is not expected to have ENOUGH of them. Two queries.
    """
    matches = sampled_rows(source)
    return None if matches * WHOLE < ENOUGH else share_of(matches, wanted)


def sampled_rows(source: Statement) -> int:
    """A rough number of a source's rooms, by the smallest sample; two queries."""
    first = first_share()
    return round(count_in(sample(first), source) / first)


def first_share() -> float:
    """The share of the rooms that a count looks at first, by the planner's number of all."""
    return min(FIRST, MOST_FIRST / planned_rows(("FROM room", [])))


def count_in(prefix: str, source: Statement) -> int:
    sql, values = source
    with connection.cursor() as cursor:
        cursor.execute(f"{prefix}SELECT count(*) {sql}", values)
        number: int = cursor.fetchone()[0]
    return number


def count_queryset(queryset: QuerySet) -> Count:
    """The number of rooms of a query set, by `count_rows`."""
    try:
        sql, values = queryset.order_by().values("code").query.sql_with_params()
    except EmptyResultSet:  # a condition that is always false; Django sends no query either
        return Count(0)
    return count_rows((f"FROM ({sql}) AS selected", list(values)))


def planned_rows(source: Statement) -> int:
    """The planner's estimate of the rows, from the statistics of ANALYZE; no row is read."""
    rows: int = plan(source)["Plan Rows"]
    return rows


def planned_cost(source: Statement) -> float:
    """The planner's estimate of what reading the rows costs, in its own units; no row is read."""
    cost: float = plan(source)["Total Cost"]
    return cost


def plan(source: Statement) -> dict[str, Any]:
    sql, values = source
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) SELECT {sql}", values)
        ((plans,),) = cursor.fetchone()
    root: dict[str, Any] = plans["Plan"]
    return root
