"""
What a scenario expects of PostgreSQL's plans:

    EXPECT_PLAN = {
        "order=price,-size": "room_price",                                 # by this index, nothing in vain
        "filter_price__lt=66&order=size": plan("room_size", discarded=500),
    }

The page of the query is read by the index: no table is read from one end to the other, nothing is sorted but
rooms that are equal in the index, and at most so many rows are read and thrown away.
"""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from django.http import QueryDict

from rooms.api.errors import ParametersError
from rooms.api.explaining import explain_page
from rooms.api.search import Search
from rooms.expected_plan import ExpectedPlan

TEXT = "ANALYZE, COSTS OFF, TIMING OFF, BUFFERS OFF, SUMMARY OFF"


def plan_expectation(query: str, expected: Any, module: ModuleType) -> tuple[str, Callable[[Any], str]]:
    """
    One line of EXPECT_PLAN in words, and its check. ValueError where it names no index, or the query is none.
    """
    if isinstance(expected, str):
        expected = ExpectedPlan(expected)
    if not isinstance(expected, ExpectedPlan):
        raise ValueError('neither the name of an index nor a plan("index", discarded=…)')
    try:
        search = Search.parse(QueryDict(query))
    except ParametersError as error:
        raise ValueError(f"and its query is none: {error}") from None
    label = f"plan of {query or 'all'} → {expected.index}"
    return label, partial(plan_problem, search=search, expected=expected, recorded=recorded(module, query))


def plan_problem(client: Any, search: Search, expected: ExpectedPlan, recorded: str) -> str:
    """What the present plan lacks, with the recorded one and the present one."""
    problems = faults(page_plan(search), expected)
    if not problems:
        return ""
    was = f"recorded:\n{indented(recorded)}\n" if recorded else ""
    return f"{'; '.join(problems)}\nexpected: {expected}\n{was}now:\n{indented(plan_text(search))}"


def page_plan(search: Search) -> dict[str, Any]:
    """The plan of the last statement of the page, executed."""
    *_, (_, ((found,),)) = explain_page(search, "ANALYZE, TIMING OFF, FORMAT JSON")
    root: dict[str, Any] = found["Plan"]
    return root


def plan_text(search: Search) -> str:
    """The same as text."""
    *_, (_, lines) = explain_page(search, TEXT)
    return "\n".join(lines)


def faults(root: dict[str, Any], expected: ExpectedPlan) -> list[str]:
    """In which ways the plan is not the expected one."""
    found = []
    all_nodes = list(nodes(root))
    used = {node["Index Name"] for node in all_nodes if "Index Name" in node}
    if expected.index not in used:
        found.append(f"it does not use {expected.index}, but {', '.join(sorted(used)) or 'no index'}")
    if any(node["Node Type"] == "Seq Scan" and node.get("Relation Name") == "room" for node in all_nodes):
        found.append("it reads the whole table")
    if any(node["Node Type"] == "Sort" for node in all_nodes):
        found.append("it sorts")
    discarded = sum(map(discarded_rows, all_nodes))
    if discarded > expected.discarded:
        found.append(f"it discards {discarded:,} rows")
    return found


def nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The node and those below it."""
    yield node
    for child in node.get("Plans", []):
        yield from nodes(child)


def discarded_rows(node: dict[str, Any]) -> int:
    """Rows that the node has read and that did not match; EXPLAIN has the mean of its loops."""
    removed: float = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    loops: float = node.get("Actual Loops", 1)
    return round(removed * loops)


def indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


# --- Recorded plans: in a file beside the scenario, for git


def plans_file(module: ModuleType) -> Path:
    return Path(module.__file__ or "").with_suffix(".plans.json")


def recorded(module: ModuleType, query: str) -> str:
    """The plan of the query as `load_scenario --record-plans` has written it, "" without one."""
    try:
        text: str = json.loads(plans_file(module).read_text()).get(query, "")
    except (OSError, ValueError):
        return ""
    return text


def record_plans(module: ModuleType) -> Path | None:
    """Write the present plans of EXPECT_PLAN beside the scenario; None where it expects none."""
    queries = list(getattr(module, "EXPECT_PLAN", {}))
    if not queries:
        return None
    plans = {query: plan_text(Search.parse(QueryDict(query))) for query in queries}
    path = plans_file(module)
    path.write_text(json.dumps(plans, indent=2, ensure_ascii=False) + "\n")
    return path
