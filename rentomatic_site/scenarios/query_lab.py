"""What PostgreSQL does with one address of the API: measured on a database, from the very statement."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection

from rooms.api import queries
from rooms.api.formats import JSON
from rooms.api.parameters import Search
from rooms.counting import planned_rows

RUNS = 3
"""The best of so many: the first one reads what the others find in memory."""

INDEX = "query_lab_index"


@dataclass(frozen=True)
class Measurement:
    """One search on one database."""

    rooms: int
    """All rooms of the database."""
    estimate: int
    """Rooms that match, as the planner expects …"""
    truth: int
    """… and as they are."""
    milliseconds: float
    """Of the statement of the first page, in PostgreSQL."""
    node: str
    """How the table is read, with the sort above it where there is one."""
    index: str


def statement(search: Search) -> tuple[str, list[Any]]:
    """What the API executes for the first page."""
    return queries.page_statement(search, JSON.line(queries.column_names(search)))


def measure(search: Search) -> Measurement:
    """Run the search on the database of Django's connection, some times over."""
    sql, values = statement(search)
    counted, count_values = queries.matching(search)
    with connection.cursor() as session:
        plans = []
        for _ in range(RUNS):
            session.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", values)
            ((plan,),) = session.fetchone()
            plans.append(plan)
        session.execute(f"SELECT (SELECT count(*) FROM room), (SELECT count(*) {counted})", count_values)
        rooms, truth = session.fetchone()
    best = min(plans, key=lambda plan: plan["Execution Time"])
    (node, index), *_ = [*ways(best["Plan"]), ("nothing is read", "")]
    return Measurement(
        rooms=rooms,
        estimate=planned_rows(queries.planned(search)),
        truth=truth,
        milliseconds=best["Execution Time"],
        node=node,
        index=index,
    )


def ways(plan: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """How the plan reads the table of rooms: (nodes, indexes), once for each time that it does."""
    name = plan["Node Type"]
    if plan.get("Scan Direction") == "Backward":
        name += " Backward"
    if plan.get("Relation Name") == "room":
        yield above + name, ", ".join(indexes(plan))
    if "Sort" in name:
        above += f"{name} over "
    for child in plan.get("Plans", []):
        yield from ways(child, above)


def indexes(plan: dict[str, Any]) -> Iterator[str]:
    """The indexes of a node: a bitmap's are in the nodes below it."""
    if "Index Name" in plan:
        yield plan["Index Name"]
    for child in plan.get("Plans", []):
        yield from indexes(child)
