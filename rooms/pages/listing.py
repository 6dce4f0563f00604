"""The rooms as pages for people: what the templates need, from the same text that programs get."""

import json
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict
from django.template.loader import render_to_string

from rooms.api import statistics
from rooms.api.formats import FORMATS
from rooms.api.geo import FARTHEST
from rooms.api.operators import FIELDS, FILTERS
from rooms.api.parameters import PARAMETERS, WHERE, Parameter, Search
from rooms.api.queries import Page
from rooms.models import DECIMALS
from rooms.pages.listing import charts

ORDERS = {
    "": "as they were entered",
    "price": "cheapest first",
    "-price": "dearest first",
    "-size": "largest first",
    "size": "smallest first",
}


def room_list(request: HttpRequest, search: Search, page: Page, links: dict[str, str]) -> str:
    """The rooms of one page, the filter form, what it asks for in words, figures of all that match."""
    given = {name: text for name, text in search.given.items() if name != "after"}
    where = {name: text for name, text in given.items() if name in WHERE}
    rooms, shown = json.loads(page.text), json.loads(statistics.of(search))
    return render_to_string(
        "rooms/room_list.html",
        {
            "rooms": rooms,
            "columns": [column(name, given) for name in FIELDS],
            "near": search.near,
            "given": given,
            "ranges": [FIELDS["price"], FIELDS["size"]],
            "bounds": [{"operator": "gte", "words": "from"}, {"operator": "lte", "words": "to"}],
            "farthest": FARTHEST,
            "orders": orders(given),
            "asked": [
                {"words": words(*item), "without": query(without(item[0], given))} for item in where.items()
            ],
            "kept": {name: text for name, text in given.items() if name not in FORM},
            "figures": shown,
            "bars": charts.histogram(shown["price"]["histogram"]),
            "places": charts.places(rooms),
            "chart": {"width": charts.WIDTH, "height": charts.HEIGHT},
            "last_edge": shown["price"]["max"],
            "stats": query(where),
            "next": links.get("next"),
            "first": links["first"] if "after" in search.given else "",
            "formats": [{"name": name, "address": f"/rooms.{name}{query(search.given)}"} for name in FORMATS],
        },
        request,
    )


FORM = {
    "filter_price__gte",
    "filter_price__lte",
    "filter_size__gte",
    "filter_size__lte",
    "near",
    "within",
    "order",
}
"""What the form has a field for; the address's other parameters travel along unseen."""


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


def words(name: str, text: str) -> str:
    """A parameter and its value as a person would say them."""
    if name in FILTERS:
        unit = FILTERS[name].field.unit
        if FILTERS[name].operator.key == "isnull":
            return f"{FILTERS[name].field.name} is {'unknown' if text == 'true' else 'known'}"
        return f"{FILTERS[name].words} {text} {unit.split(',')[0]}".strip()
    return f"{name} {text}{' m' if name == 'within' else ''}"


def column(name: str, given: dict[str, str]) -> dict[str, str]:
    """A heading that sorts by its column, the other way round the second time."""
    order = f"-{name}" if given.get("order") == name else name
    arrow = {name: "↑", f"-{name}": "↓"}.get(given.get("order", ""), "")
    return {
        "name": name,
        "unit": FIELDS[name].unit,
        "arrow": arrow,
        "sorted": query(given | {"order": order}),
    }


def room_detail(request: HttpRequest, text: str) -> str:
    room = json.loads(text)
    return render_to_string("rooms/room_detail.html", {"room": room, "fields": FIELDS}, request)


def docs(request: HttpRequest) -> str:
    """Every parameter with its type, unit, example and a command that runs."""
    base = f"{request.scheme}://{request.get_host()}"
    filters = [
        {
            "field": field,
            "filters": [
                {
                    "filter": filter,
                    "command": f"curl '{base}/rooms?{filter.name}={filter.example}'",
                }
                for filter in FILTERS.values()
                if filter.field is field
            ],
        }
        for field in FIELDS.values()
    ]
    others = [
        {
            "parameter": parameter,
            "type": kind(parameter.schema),
            "command": command(base, parameter),
        }
        for parameter in PARAMETERS.values()
    ]
    return render_to_string(
        "rooms/docs.html",
        {
            "base": base,
            "filters": filters,
            "others": others,
            "formats": FORMATS,
            "decimals": DECIMALS,
            "example": FIELDS["code"].example,
        },
        request,
    )


def command(base: str, parameter: Parameter) -> str:
    """A curl line that shows what a parameter does, beside the one it needs."""
    if not parameter.example:
        return f"curl -sI '{base}/rooms?limit=2'"
    needed = f"{parameter.needs}={PARAMETERS[parameter.needs].example}&" if parameter.needs else ""
    return f"curl '{base}/rooms?{needed}{parameter.name}={parameter.example}'"


def kind(schema: dict[str, Any]) -> str:
    """A JSON Schema in words, as far as ours go."""
    if "enum" in schema:
        return " or ".join(schema["enum"])
    if schema["type"] == "array":
        return f"{len(schema['prefixItems'])} numbers" if "prefixItems" in schema else "list of fields"
    limits = f", {schema['minimum']} … {schema['maximum']}" if "minimum" in schema else ""
    return f"{schema['type']}{limits}"


def without_empty_fields(given: QueryDict) -> str:
    """The address of a form's answer without the fields that were left empty."""
    filled = [(name, text) for name, texts in given.lists() for text in texts if text]
    return f"/rooms?{urlencode(filled, safe=',:')}" if filled else "/rooms"
