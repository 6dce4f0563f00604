"""Measures what one URL of the API asks of a database: time, plan, index, estimate."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from django.db import connection

from rooms.api import clusters, counts, queries
from rooms.api.errors import ParametersError
from rooms.api.explaining import explain, explain_export, explain_page
from rooms.api.formats import CSV
from rooms.api.search import Search
from rooms.counting import planned_rows

RUNS = 3
"""The fastest of these counts: the first one has to read from disk."""

LONG = 1_000
"""Milliseconds of a run that is not repeated: an export of a million rooms."""

ZOOM = "6"
"""Of the clusters, where the query has none: a country fills the map."""

INDEX = "query_lab_index"

JSON_PLAN = "ANALYZE, TIMING OFF, FORMAT JSON"

Plans = list[dict[str, Any]]
"""The plans of the statements of one response."""


@dataclass(frozen=True)
class Measurement:
    """One kind of response on one database."""

    what: str
    """page, count, csv or clusters."""
    rooms: int
    """All rooms of the database."""
    estimate: int
    """Matching rooms as the planner estimates them."""
    truth: int
    """Matching rooms, counted."""
    milliseconds: float
    """Execution time of the statements."""
    node: str
    """The scan node of the table in the last of them, with the sort node above it where there is one."""
    index: str


def page_plans(search: Search) -> Plans:
    """Of the first page."""
    return plans(explain_page(search, JSON_PLAN))


def count_plans(search: Search) -> Plans:
    """Of `count=exact`, or of the estimate where that is refused."""
    for precision in ("exact", "estimated"):
        try:
            return plans(explain(partial(counts.count, replace(search, count=precision)), JSON_PLAN))
        except ParametersError:
            if precision == "estimated":
                raise
    raise AssertionError


def csv_plans(search: Search) -> Plans:
    """Of the export of all rooms that match."""
    return plans(explain_export(search, CSV, JSON_PLAN))


def clusters_plans(search: Search) -> Plans:
    """Of the clusters for a map."""
    shown = replace(search, given={"zoom": ZOOM, **search.given})
    return plans(explain(partial(clusters.compute_map, shown), JSON_PLAN))


KINDS: dict[str, Callable[[Search], Plans]] = {
    "page": page_plans,
    "count": count_plans,
    "csv": csv_plans,
    "clusters": clusters_plans,
}
"""The responses that a query can have, by the names of `query_lab --what`."""


def plans(explained: list[tuple[str, list[Any]]]) -> Plans:
    return [plan for _, ((plan,),) in explained]


def measure(search: Search, kinds: list[str]) -> Iterator[Measurement]:
    """Run the kinds of the search on the database of Django's connection, each RUNS times."""
    counted, count_values = queries.matching_rooms(search)
    with connection.cursor() as session:
        session.execute(f"SELECT (SELECT count(*) FROM room), (SELECT count(*) {counted})", count_values)
        rooms, truth = session.fetchone()
    estimate = planned_rows(queries.planner_query(search))
    for kind in kinds:
        best = KINDS[kind](search)
        for _ in range(RUNS - 1):
            if execution_time(best) < LONG:
                best = min(best, KINDS[kind](search), key=execution_time)
        found = [scan for plan in reversed(best) for scan in scans(plan["Plan"])]
        (node, index), *_ = [*found, ("nothing is read", "")]
        yield Measurement(kind, rooms, estimate, truth, execution_time(best), node, index)


def execution_time(plans: Plans) -> float:
    """Milliseconds of all the statements of a response."""
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
