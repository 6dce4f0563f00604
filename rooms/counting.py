"""
How many rows there are: counted one by one up to a number that takes a millisecond, estimated by PostgreSQL's
planner above. The API, the admin and the statistics count here.
"""

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet

MAX_COUNTED = 10_000
"""Rows up to which an estimate is an exact count, which then takes about a millisecond."""

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
        """The number as it may be said: an estimate to two digits."""
        return int(self) if self.exact else round(int(self), 2 - len(str(int(self))))

    def __str__(self) -> str:
        """As in "1 room" or "about 1,000,000 rooms"."""
        about = "" if self.exact else "about "
        noun = "room" if self == 1 else "rooms"
        return f"{about}{self.rounded:,} {noun}"


def count_rows(source: Statement, *, planned_as: Statement | None = None, exactly: bool = False) -> Count:
    """
    The number of rows of a source, given as `FROM … WHERE …`: exact up to MAX_COUNTED or where asked for,
    else the planner's estimate, of `planned_as` where that is a better question. One query, two at most.
    """
    sql, values = source
    if not exactly:
        sql = f"FROM (SELECT {sql} LIMIT {MAX_COUNTED + 1}) AS few"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT count(*) {sql}", values)
        (number,) = cursor.fetchone()
    if exactly or number <= MAX_COUNTED:
        return Count(number)
    return Count(max(planned_rows(planned_as or source), number), exact=False)


def count_queryset(queryset: QuerySet) -> Count:
    """The number of rows of a query set, as `count_rows` has it."""
    try:
        sql, values = queryset.order_by().values("pk").query.sql_with_params()
    except EmptyResultSet:  # a condition that nothing can meet; Django would not ask either
        return Count(0)
    return count_rows((f"FROM ({sql}) AS listed", list(values)))


def planned_rows(source: Statement) -> int:
    """How many rows the planner expects, from the statistics of ANALYZE; no row is read."""
    sql, values = source
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) SELECT {sql}", values)
        ((plan,),) = cursor.fetchone()
    estimate: int = plan["Plan"]["Plan Rows"]
    return estimate
