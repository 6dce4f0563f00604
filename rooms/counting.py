"""
Counting rows: exact up to MAX_COUNTED, which takes a millisecond; above, estimated by PostgreSQL's planner.
The API, the admin and the statistics use it.
"""

from typing import Any

from django.core.exceptions import EmptyResultSet
from django.db import connection
from django.db.models import QuerySet
from django.utils.translation import ngettext

MAX_COUNTED = 10_000
"""Rows up to which an estimated count is exact, in about a millisecond."""

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
        about = "" if self.exact else "about "
        return f"{about}{self.rounded:,} {ngettext('room', 'rooms', self)}"


def count_rows(source: Statement, *, planned_as: Statement | None = None, exactly: bool = False) -> Count:
    """
    The number of rows of a source, given as `FROM … WHERE …`: exact up to MAX_COUNTED or with `exactly`,
    else the planner's estimate of `planned_as`, which is the source by default. One query, two at most.
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
    """The number of rows of a query set, by `count_rows`."""
    try:
        sql, values = queryset.order_by().values("pk").query.sql_with_params()
    except EmptyResultSet:  # a condition that is always false; Django sends no query either
        return Count(0)
    return count_rows((f"FROM ({sql}) AS selected", list(values)))


def planned_rows(source: Statement) -> int:
    """The planner's estimate of the rows, from the statistics of ANALYZE; no row is read."""
    sql, values = source
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN (FORMAT JSON) SELECT {sql}", values)
        ((plan,),) = cursor.fetchone()
    estimate: int = plan["Plan"]["Plan Rows"]
    return estimate
