"""The page `/rooms`: a search form, the rooms that match as cards or a table, and a map of all of them."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict
from django.template.loader import render_to_string
from django.utils.html import format_html

from rooms.api import counts
from rooms.api.errors import FieldError
from rooms.api.formats import FORMATS
from rooms.api.geo import Near
from rooms.api.operators import FILTERS, PREFIX
from rooms.api.pagination import RATE
from rooms.api.parameters import PARAMETERS, WHERE
from rooms.api.queries import ValuesPage, column_names
from rooms.api.search import Search
from rooms.api.statistics import compute_statistics
from rooms.columns import COLUMNS, WHOLE_NUMBER
from rooms.counting import Count
from rooms.pages import charts, names
from rooms.pages.form import PLACE, VIEW, VIEWS, Centre, PageQuery, around
from rooms.pages.map import map_context, tiles_context
from rooms.pages.surroundings import compare_prices

ROOMS = 24
"""Rooms on a page, where the URL has no limit: rows of two or three cards come out even."""

MAX_ROOMS = 100
"""Rooms on a page at most; each costs 0.2 ms."""

ORDERS = {
    "": "as they were entered",
    "price": "cheapest first",
    "-price": "dearest first",
    "price_per_m2": "lowest €/m² first",
    "-price_per_m2": "highest €/m² first",
    "-size": "largest first",
    "size": "smallest first",
}

RADII = (500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000)
"""Metres, the choices around a place."""

SHORTLIST = "filter_code__in"
"""The rooms that a visitor keeps: static/rooms/shortlist.js makes the URL."""

RANGES = [column for column in COLUMNS.values() if column.type is WHOLE_NUMBER]
"""The columns with two fields in the form."""
BOUNDS = {"gte": "from", "lte": "to"}

FORM_FIELDS = {"near", "within", "order", "after", "before"} | {
    f"{PREFIX}{column.name}__{operator}" for column in RANGES for operator in BOUNDS
}
"""The parameters with a field in the form; the others of the URL become hidden fields."""

OWN_MESSAGES = {PLACE, "near"} | {name for name in FORM_FIELDS if name.startswith(PREFIX)}
"""The parameters whose errors stand beside their fields."""

Given = dict[str, str]


def render_list(
    request: HttpRequest, query: PageQuery, search: Search, page: ValuesPage, links: dict[str, str]
) -> str:
    """The HTML of one page of rooms."""
    given = search.without_cursor()
    columns = table_columns(column_names(search))
    statistics = compute_statistics(search)
    total = Count(statistics["count"], exact=not statistics["sampled"])
    centre = Centre.of(search.near)
    chips = list(active_filters(given, query.view))
    context = form_context(given, search, statistics) | {
        "heading": f"Shortlist: {total}"
        if search.where.keys() == {SHORTLIST}
        else f"{total} {where_label(search, centre)}".strip(),
        "chips": chips,
        "place": centre.text if centre else "",
        "namesakes": [
            (place.full, page_url(given | around(place), query.view))
            for place in (centre.namesakes if centre else [])
        ],
        "views": [
            (name, label, page_url(given, view=name), name == query.view) for name, label in VIEWS.items()
        ],
        "view": query.view,
        "rooms": list(room_cards(page, columns)),
        "columns": [column_heading(name, given, query.view) for name in columns],
        "fewer": MAX_ROOMS if int(given.get("limit", 0)) > MAX_ROOMS else 0,
        "json_url": f"/rooms.json{query_string(search.given)}",
        "relaxed": list(relaxed_searches(given, query.view)) if not page.rooms else [],
        "links": links,
        "later": given != search.given,
        "stats_query": query_string(search.where),
        "formats": [{"name": name, "url": f"/rooms.{name}{query_string(search.given)}"} for name in FORMATS],
        "map": map_context(search, query, statistics["bbox"]),
        **tiles_context(),
    }
    return render_to_string("rooms/room_list.html", context, request)


def render_errors(request: HttpRequest, errors: list[FieldError], suggestion: str) -> str:
    """The page with the form as it was sent, and each error beside its field; no rooms."""
    given = {name: request.GET[name] for name in request.GET}
    messages = {error.parameter: error for error in errors}
    context = form_context(given, None, None, messages) | {
        "place": given.get(PLACE) or place_text(given.get("near", "")),
        "place_error": messages.get(PLACE) or messages.get("near"),
        "other_errors": [error for error in errors if error.parameter not in OWN_MESSAGES],
        "suggestion": f"/rooms?{suggestion}" if suggestion else "/rooms",
    }
    return render_to_string("rooms/room_list_errors.html", context, request)


# --- The form


def form_context(
    given: Given,
    search: Search | None,
    statistics: dict[str, Any] | None,
    errors: Mapping[str, FieldError] | None = None,
) -> dict[str, Any]:
    ranges = [range_context(column.name, given, search, statistics) for column in RANGES]
    for field in (field for one in ranges for field in one["fields"]):
        field["error"] = (errors or {}).get(field["name"])
    return {
        "given": given,
        "errors": errors,
        "place_error": None,
        "ranges": ranges,
        "radii": radius_choices(given),
        "orders": order_choices(given),
        "summary": ", ".join(label for label, _ in active_filters(given)) or "none",
        "hidden_fields": {
            name: text
            for name, text in given.items()
            if name not in FORM_FIELDS | {PLACE, VIEW} and name not in (errors or {})
        },
    }


def place_text(near: str) -> str:
    """The text of the field `place` for the parameter `near`, which may be wrong."""
    try:
        centre = Centre.of(Near.parse(near))
    except ValueError:
        return near
    return centre.text if centre else ""


def range_context(
    name: str, given: Given, search: Search | None, statistics: dict[str, Any] | None
) -> dict[str, Any]:
    """The two fields of a column, and the histogram of all rooms that match the other filters."""
    column = COLUMNS[name]
    fields = [
        {
            "name": f"{PREFIX}{name}__{operator}",
            "label": label,
            "value": given.get(f"{PREFIX}{name}__{operator}", ""),
        }
        for operator, label in BOUNDS.items()
    ]
    own = {field["name"] for field in fields}
    distribution = {}
    if search and statistics and name in statistics:
        if own & given.keys():
            others = {key: text for key, text in search.where.items() if key not in own}
            statistics = compute_statistics(Search.parse(urlencode(others)))
        distribution = statistics[name]
    sampled = bool(statistics and statistics["sampled"])
    bars = charts.histogram(distribution.get("histogram", []), column, sampled)
    low, high = (given.get(field["name"], "") for field in fields)
    for bar in bars:
        rest = {key: text for key, text in given.items() if key not in own}
        bounds = {fields[0]["name"]: bar["from"], fields[1]["name"]: bar["to"]}
        bar["url"] = page_url(rest | {key: str(value) for key, value in bounds.items() if value is not None})
        bar["chosen"] = (not low.isdigit() or bar["from"] >= int(low)) and (
            not high.isdigit() or (bar["to"] is not None and bar["to"] <= int(high))
        )
    return {
        "column": column,
        "fields": fields,
        "bars": bars,
        **charts.axis(bars),
    }


def radius_choices(given: Given) -> list[dict[str, Any]]:
    chosen = given.get("within", "")
    radii = {*RADII, int(chosen)} if chosen.isdigit() else RADII
    return [
        {"value": radius, "label": names.metres(radius), "chosen": str(radius) == chosen}
        for radius in sorted(radii)
    ]


def order_choices(given: Given) -> dict[str, str]:
    """The choices of the form's order, with the one of the URL if it is another."""
    order = given.get("order", "")
    choices = dict(ORDERS)
    if "near" in given:
        choices[""] = "nearest first"
    if order not in choices:
        choices[order] = f"by {order}"
    return choices


# --- What is searched for, in words


def where_label(search: Search, centre: Centre | None) -> str:
    if centre:
        return f"around {centre.label}"
    return "in this area" if "bbox" in search.given else ""


def active_filters(given: Given, view: str = "cards") -> Iterator[tuple[str, str]]:
    """The filters as chips: a label, and the URL without it. Both bounds of a column are one chip."""
    done = set()
    for name, text in given.items():
        if name not in WHERE or name in done or name == "within":
            continue
        chip = {name}
        label = filter_label(name, text, given)
        if name in FILTERS and FILTERS[name].operator.key in BOUNDS:
            column = FILTERS[name].column
            chip = {f"{PREFIX}{column.name}__{operator}" for operator in BOUNDS} & given.keys()
            label = range_label(column.name, given)
        done |= chip
        rest = given
        for key in chip:
            rest = remove_parameter(key, rest)
        yield label, page_url(rest, view)


def range_label(name: str, given: Given) -> str:
    """As in "30 – 80 € per day", "from 20 m²", "up to 80 € per day"."""
    column = COLUMNS[name]
    low, high = (given.get(f"{PREFIX}{name}__{operator}", "") for operator in BOUNDS)
    if low and high:
        return f"{low} – {high} {column.symbol}"
    return f"from {low} {column.symbol}" if low else f"up to {high} {column.symbol}"


def filter_label(name: str, text: str, given: Given) -> str:
    """A parameter and its value as text, such as "price is less than 66 euros per day"."""
    if name == "near":
        within = given.get("within", "")
        return f"within {names.metres(int(within))}" if within.isdigit() else "near a place"
    if name == "bbox":
        return "in an area of the map"
    column, operator = FILTERS[name].column, FILTERS[name].operator
    if operator.key == "isnull":
        return f"{column.name} is unknown" if text == "true" else f"{column.name} is known"
    if name == SHORTLIST:
        return "a shortlist"
    return f"{column.name} {operator.label} {text} {column.unit}".strip()


def remove_parameter(name: str, given: Given) -> Given:
    """The parameters without this one and those that require it."""
    return {
        other: text
        for other, text in given.items()
        if other != name
        and not (other in PARAMETERS and PARAMETERS[other].needs == name)
        and not (name == "near" and other in {"order", "fields"} and "distance" in text)
    }


def relaxed_searches(given: Given, view: str) -> Iterator[dict[str, Any]]:
    """For a search without rooms: each filter that, taken away, gives some, with how many."""
    for label, url in active_filters(given, view):
        rest = QueryDict(url.partition("?")[2])
        search = Search.parse(urlencode({name: text for name, text in rest.items() if name in WHERE}))
        total = counts.count(search)
        if total:
            yield {"label": label, "url": url, "total": total}


# --- The rooms


def table_columns(fields: Sequence[str]) -> list[str]:
    """The columns of the table behind the place: what people compare comes first, the code last."""
    first = [name for name in ("price", "size") if name in fields]
    rate = [RATE] if len(first) == 2 else []
    distance = [name for name in fields if name == "distance"]
    rest = [name for name in fields if name not in {"price", "size", "distance", "code"}]
    return [*first, *rate, *distance, *rest, *(name for name in fields if name == "code")]


def room_cards(page: ValuesPage, columns: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rooms in the words of their cards, and the cells of the table's columns."""
    comparisons = compare_prices([str(room["code"]) for room in page.rooms])
    for room in page.rooms:
        place = names.place_of(room)
        yield {
            "code": room["code"],
            "room": room,
            "title": names.title(room, place),
            "price": names.euros(room["price"]),
            "size": names.square_metres(room["size"]) if room["size"] else "size unknown",
            "rate": names.per_square_metre(room),
            "place": place,
            "distance": names.metres(room["distance"]) if "distance" in room else "",
            "comparison": comparisons.get(str(room["code"])),
            "cells": [cell(name, room) for name in columns],
        }


def cell(name: str, room: dict[str, Any]) -> str:
    """A room's value as the table shows it."""
    if name == RATE:
        return names.rate(room)
    if name == "code":
        return format_html("<code>{}</code>", room[name])
    return names.metres(room[name]) if name == "distance" else COLUMNS[name].display(room[name])


def column_heading(name: str, given: Given, view: str) -> dict[str, str]:
    """A heading that links to its column's order, descending where it is already ascending."""
    order = f"-{name}" if given.get("order") == name else name
    arrow = {name: "↑", f"-{name}": "↓"}.get(given.get("order", ""), "")
    return {
        "label": "€/m²" if name == RATE else name.capitalize(),
        "unit": COLUMNS[name].symbol if name in COLUMNS else "",
        "arrow": arrow,
        "url": page_url(given | {"order": order}, view=view),
    }


# --- URLs


def page_url(given: Given, view: str = "cards") -> str:
    """The URL of a search from its first page on."""
    rest = {name: text for name, text in given.items() if name not in {"after", "before", VIEW, PLACE}}
    return f"/rooms{query_string(rest if view == 'cards' else rest | {VIEW: view})}"


def query_string(given: Given) -> str:
    return f"?{urlencode(given, safe=',:')}" if given else ""
