"""The page `/rooms`: a filter form, what it asks for, statistics of all that match, some of the rooms."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict
from django.template.loader import render_to_string

from rooms.api.formats import FORMATS
from rooms.api.geo import FARTHEST
from rooms.api.operators import FILTERS, PREFIX
from rooms.api.parameters import PARAMETERS, WHERE, Search
from rooms.api.queries import ValuesPage
from rooms.api.statistics import compute_statistics
from rooms.columns import COLUMNS, WHOLE_NUMBER
from rooms.pages import charts

ORDERS = {
    "": "as they were entered",
    "price": "cheapest first",
    "-price": "dearest first",
    "-size": "largest first",
    "size": "smallest first",
}

RANGES = [column for column in COLUMNS.values() if column.type is WHOLE_NUMBER]
"""The columns that the form has two fields for."""
BOUNDS = {"gte": "from", "lte": "to"}

FORM = {"near", "within", "order"} | {
    f"{PREFIX}{column.name}__{operator}" for column in RANGES for operator in BOUNDS
}
"""What the form has a field for; the URL's other parameters travel along as hidden fields."""


def render_list(request: HttpRequest, search: Search, page: ValuesPage, links: dict[str, str]) -> str:
    """The HTML of one page of rooms."""
    given = {name: text for name, text in search.given.items() if name != "after"}
    where = {name: text for name, text in given.items() if name in WHERE}
    statistics = compute_statistics(search)
    return render_to_string(
        "rooms/room_list.html",
        {
            "rooms": [{"code": room["code"], "cells": list(cells(room))} for room in page.rooms],
            "headings": [heading(name, given) for name in COLUMNS],
            "near": search.near,
            "given": given,
            "ranges": [
                {"column": column, "fields": list(range_fields(column.name, given))} for column in RANGES
            ],
            "farthest": FARTHEST,
            "orders": orders(given),
            "asked": [
                {"label": label(*item), "without": query(without(item[0], given))} for item in where.items()
            ],
            "kept": {name: text for name, text in given.items() if name not in FORM},
            "statistics": statistics,
            "bars": charts.histogram(statistics["price"]["histogram"]),
            "places": charts.places(page.rooms),
            "chart": {"width": charts.WIDTH, "height": charts.HEIGHT},
            "last_edge": statistics["price"]["max"],
            "stats": query(where),
            "next": links.get("next"),
            "first": links["first"] if "after" in search.given else "",
            "formats": [{"name": name, "url": f"/rooms.{name}{query(search.given)}"} for name in FORMATS],
        },
        request,
    )


def cells(room: dict[str, Any]) -> Iterator[str]:
    """A room's values behind its code, as the table shows them."""
    for name, value in room.items():
        if name == "distance":
            yield f"{value:,.0f}"
        elif name != "code":
            yield COLUMNS[name].display(value)


def range_fields(name: str, given: dict[str, str]) -> Iterator[dict[str, str]]:
    """The form's two fields for a column's bounds."""
    for operator, bound in BOUNDS.items():
        parameter = f"{PREFIX}{name}__{operator}"
        yield {"name": parameter, "label": bound, "value": given.get(parameter, "")}


def orders(given: dict[str, str]) -> dict[str, str]:
    """The orders that the form offers, and the one of the address if it is another."""
    order = given.get("order", "")
    nearest = {"": "nearest first"} if "near" in given else {}
    return ORDERS | nearest | ({} if order in ORDERS else {order: f"by {order}"})


def query(given: dict[str, str]) -> str:
    return f"?{urlencode(given, safe=',:')}" if given else ""


def without(name: str, given: dict[str, str]) -> dict[str, str]:
    """The parameters but this one, and those that say nothing without it."""
    return {
        other: text
        for other, text in given.items()
        if other != name
        and not (other in PARAMETERS and PARAMETERS[other].needs == name)
        and not (name == "near" and other == "order" and "distance" in text)
    }


def label(name: str, text: str) -> str:
    """A parameter and its value as a person would say them."""
    if name == "within":
        return f"within {text} m"
    if name not in FILTERS:
        return f"{name} {text}"
    column, operator = FILTERS[name].column, FILTERS[name].operator
    if operator.key == "isnull":
        return f"{column.name} is {'unknown' if text == 'true' else 'known'}"
    return f"{column.name} {operator.label} {text} {column.unit}".strip()


def heading(name: str, given: dict[str, str]) -> dict[str, str]:
    """A heading that sorts by its column, the other way round the second time."""
    order = f"-{name}" if given.get("order") == name else name
    arrow = {name: "↑", f"-{name}": "↓"}.get(given.get("order", ""), "")
    return {
        "name": name,
        "unit": COLUMNS[name].unit,
        "arrow": arrow,
        "sorted": query(given | {"order": order}),
    }


def without_empty_fields(given: QueryDict) -> str:
    """The URL of a submitted form without the fields that were left empty."""
    filled = [(name, text) for name, texts in given.lists() for text in texts if text]
    return f"/rooms?{urlencode(filled, safe=',:')}" if filled else "/rooms"
