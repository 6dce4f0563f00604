"""Measures the statement of one URL of the API on a database: time, plan, index, estimate."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from django.db import connection

from rooms.api import queries
from rooms.api.explaining import explain_page
from rooms.api.search import Search
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
    """Execution time of the statements of the first page."""
    node: str
    """The scan node of the table in the last of them, with the sort node above it where there is one."""
    index: str


def measure(search: Search) -> Measurement:
    """Run the search RUNS times on the database of Django's connection."""
    counted, count_values = queries.matching_rooms(search)
    runs = [
        [plan for _, ((plan,),) in explain_page(search, "ANALYZE, TIMING OFF, FORMAT JSON")]
        for _ in range(RUNS)
    ]
    best = min(runs, key=execution_time)
    with connection.cursor() as session:
        session.execute(f"SELECT (SELECT count(*) FROM room), (SELECT count(*) {counted})", count_values)
        rooms, truth = session.fetchone()
    (node, index), *_ = [*scans(best[-1]["Plan"]), ("nothing is read", "")]
    return Measurement(
        rooms=rooms,
        estimate=planned_rows(queries.planner_query(search)),
        truth=truth,
        milliseconds=execution_time(best),
        node=node,
        index=index,
    )


def execution_time(plans: list[dict[str, Any]]) -> float:
    """Milliseconds of all the statements of a page."""
    return sum(float(plan["Execution Time"]) for plan in plans)


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
