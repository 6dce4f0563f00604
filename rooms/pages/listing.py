"""The page `/rooms`: a filter form, the active filters, statistics of all matches, one page of rooms."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest
from django.template.loader import render_to_string

from rooms.api.formats import FORMATS
from rooms.api.geo import MAX_DISTANCE
from rooms.api.operators import FILTERS, PREFIX
from rooms.api.parameters import PARAMETERS, WHERE, Search
from rooms.api.queries import ValuesPage, column_names
from rooms.api.statistics import compute_statistics
from rooms.columns import COLUMNS, WHOLE_NUMBER
from rooms.counting import Count
from rooms.pages import charts

MAX_ROOMS = 100
"""The most rooms on a page: a thousand would take 0.2 s to render."""

ORDERS = {
    "": "as they were entered",
    "price": "cheapest first",
    "-price": "dearest first",
    "-size": "largest first",
    "size": "smallest first",
}

RANGES = [column for column in COLUMNS.values() if column.type is WHOLE_NUMBER]
"""The columns with two fields in the form."""
BOUNDS = {"gte": "from", "lte": "to"}

FORM_FIELDS = {"near", "within", "order"} | {
    f"{PREFIX}{column.name}__{operator}" for column in RANGES for operator in BOUNDS
}
"""The parameters with a field in the form; the others of the URL become hidden fields."""


def render_list(request: HttpRequest, search: Search, page: ValuesPage, links: dict[str, str]) -> str:
    """The HTML of one page of rooms."""
    given = search.without_cursor()
    shown = [name for name in column_names(search) if name != "code"]
    where = {name: text for name, text in given.items() if name in WHERE}
    statistics = compute_statistics(search)
    return render_to_string(
        "rooms/room_list.html",
        {
            "rooms": [{"code": room["code"], "cells": list(cells(room, shown))} for room in page.rooms],
            "headings": [column_heading(name, given) for name in ("code", *shown)],
            "fewer": MAX_ROOMS if int(given.get("limit", 0)) > MAX_ROOMS else 0,
            "given": given,
            "ranges": [
                {"column": column, "fields": list(range_fields(column.name, given))} for column in RANGES
            ],
            "max_distance": MAX_DISTANCE,
            "orders": order_choices(given),
            "active_filters": [
                {"label": filter_label(*item), "without": query_string(remove_parameter(item[0], given))}
                for item in where.items()
            ],
            "hidden_fields": {name: text for name, text in given.items() if name not in FORM_FIELDS},
            "statistics": statistics,
            "total": Count(statistics["count"], exact=not statistics["sampled"]),
            "bars": charts.histogram(statistics["price"]["histogram"], statistics["sampled"]),
            "points": charts.points(page.rooms),
            "chart": {"width": charts.WIDTH, "height": charts.HEIGHT},
            "max_price": statistics["price"]["max"],
            "stats_query": query_string(where),
            "links": links,
            "later": given != search.given,
            "json_url": f"/rooms.json{query_string(search.given)}",
            "formats": [
                {"name": name, "url": f"/rooms.{name}{query_string(search.given)}"} for name in FORMATS
            ],
        },
        request,
    )


def cells(room: dict[str, Any], names: list[str]) -> Iterator[str]:
    """A room's values after its code, formatted for the table."""
    for name in names:
        yield f"{room[name]:,.0f}" if name == "distance" else COLUMNS[name].display(room[name])


def range_fields(name: str, given: dict[str, str]) -> Iterator[dict[str, str]]:
    """The form's two fields for a column's bounds."""
    for operator, bound in BOUNDS.items():
        parameter = f"{PREFIX}{name}__{operator}"
        yield {"name": parameter, "label": bound, "value": given.get(parameter, "")}


def order_choices(given: dict[str, str]) -> dict[str, str]:
    """The choices of the form's order, with the one of the URL if it is another."""
    order = given.get("order", "")
    choices = dict(ORDERS)
    if "near" in given:
        choices[""] = "nearest first"
    if order not in choices:
        choices[order] = f"by {order}"
    return choices


def query_string(given: dict[str, str]) -> str:
    return f"?{urlencode(given, safe=',:')}" if given else ""


def remove_parameter(name: str, given: dict[str, str]) -> dict[str, str]:
    """The parameters without this one and those that require it."""
    return {
        other: text
        for other, text in given.items()
        if other != name
        and not (other in PARAMETERS and PARAMETERS[other].needs == name)
        and not (name == "near" and other in {"order", "fields"} and "distance" in text)
    }


def filter_label(name: str, text: str) -> str:
    """A parameter and its value as text, such as "price is at most 66 euros per day"."""
    if name == "within":
        return f"within {text} m"
    if name not in FILTERS:
        return f"{name} {text}"
    column, operator = FILTERS[name].column, FILTERS[name].operator
    if operator.key == "isnull":
        return f"{column.name} is unknown" if text == "true" else f"{column.name} is known"
    return f"{column.name} {operator.label} {text} {column.unit}".strip()


def column_heading(name: str, given: dict[str, str]) -> dict[str, str]:
    """A heading that links to its column's order, descending where it is already ascending."""
    order = f"-{name}" if given.get("order") == name else name
    arrow = {name: "↑", f"-{name}": "↓"}.get(given.get("order", ""), "")
    return {
        "name": name,
        "unit": "metres" if name == "distance" else COLUMNS[name].unit,
        "arrow": arrow,
        "query": query_string(given | {"order": order}),
    }
