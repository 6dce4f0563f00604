"""Measures the statement of one URL of the API on a database: time, plan, index, estimate."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection

from rooms.api import queries
from rooms.api.formats import JSON
from rooms.api.nearest import narrowed
from rooms.api.parameters import Search
from rooms.counting import planned_rows

RUNS = 3
"""The fastest of these counts: the first one has to read from disk."""

INDEX = "query_lab_index"


@dataclass(frozen=True)
class Measurement:
    """One search on one database."""

    rooms: int
    """All rooms of the database."""
    estimate: int
    """Matching rooms as the planner estimates them."""
    truth: int
    """Matching rooms, counted."""
    milliseconds: float
    """Execution time of the statement of the first page."""
    node: str
    """The scan node of the table, with the sort node above it where there is one."""
    index: str


def statement(search: Search) -> tuple[str, list[Any]]:
    """The SQL of the first page, and its parameters."""
    return queries.page_statement(narrowed(search), JSON.line(queries.column_names(search)))


def measure(search: Search) -> Measurement:
    """Run the search RUNS times on the database of Django's connection."""
    sql, values = statement(search)
    counted, count_values = queries.matching_rooms(search)
    with connection.cursor() as session:
        plans = []
        for _ in range(RUNS):
            session.execute(f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", values)
            ((plan,),) = session.fetchone()
            plans.append(plan)
        session.execute(f"SELECT (SELECT count(*) FROM room), (SELECT count(*) {counted})", count_values)
        rooms, truth = session.fetchone()
    best = min(plans, key=lambda plan: plan["Execution Time"])
    (node, index), *_ = [*scans(best["Plan"]), ("nothing is read", "")]
    return Measurement(
        rooms=rooms,
        estimate=planned_rows(queries.planner_query(search)),
        truth=truth,
        milliseconds=best["Execution Time"],
        node=node,
        index=index,
    )


def scans(plan: dict[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """(nodes, indexes) of each scan of the table of rooms in the plan."""
    name = plan["Node Type"]
    if plan.get("Scan Direction") == "Backward":
        name += " Backward"
    if plan.get("Relation Name") == "room":
        yield above + name, ", ".join(indexes(plan))
    if "Sort" in name:
        above += f"{name} over "
    for child in plan.get("Plans", []):
        yield from scans(child, above)


def indexes(plan: dict[str, Any]) -> Iterator[str]:
    """The indexes of a scan; those of a bitmap scan are in the nodes below it."""
    if "Index Name" in plan:
        yield plan["Index Name"]
    for child in plan.get("Plans", []):
        yield from indexes(child)
