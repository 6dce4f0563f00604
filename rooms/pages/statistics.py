"""The page `/rooms/stats`: how prices and sizes spread, price against size, and price by district."""

from collections import defaultdict
from statistics import median
from typing import Any

from django.db import connection
from django.http import HttpRequest
from django.template.loader import render_to_string

from rooms.api.queries import matching_rooms
from rooms.api.search import Search
from rooms.counting import Count
from rooms.pages import charts, names
from rooms.pages.form import Centre, around
from rooms.pages.listing import RANGES, active_filters, page_url, query_string, where_label
from rooms.pages.map import drop_place
from rooms.places.gazetteer import gazetteer

POINTS = 600
"""Rooms in the chart of price against size, and whose districts are looked up."""

DISTRICTS = 12
FEW = 3
"""Rooms of a district; with fewer there is no median."""


def render_statistics(request: HttpRequest, search: Search, statistics: dict[str, Any]) -> str:
    """The HTML of the statistics of a search."""
    rooms = sample(search)
    total = Count(statistics["count"], exact=not statistics["sampled"])
    context = {
        "heading": f"{total} {where_label(search, Centre.of(search.near))}".strip(),
        "chips": [
            (label, f"/rooms/stats{url.removeprefix('/rooms')}")
            for label, url in active_filters(search.given)
        ],
        "distributions": [
            {
                "column": column,
                "statistics": statistics[column.name],
                "bars": charts.histogram(statistics[column.name]["histogram"], column, statistics["sampled"]),
            }
            for column in RANGES
            if column.name in statistics
        ],
        "sampled": statistics["sampled"],
        "scatter": charts.scatter([(size, price) for price, size, *_ in rooms if size]),
        "districts": districts(rooms, search.where),
        "list_url": page_url(search.where),
        "json_url": f"/rooms/stats{query_string(search.where)}",
    }
    return render_to_string("rooms/statistics.html", context, request)


def sample(search: Search) -> list[tuple[int, int | None, float, float]]:
    """Price, size, latitude and longitude of some hundred rooms that match, spread over all of them."""
    rows, values = matching_rooms(search)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT room.price, room.size, room.latitude, room.longitude FROM ("
            f" SELECT room.* {rows} LIMIT 20000) AS room ORDER BY uuid_hash(room.code) LIMIT {POINTS}",
            values,
        )
        found: list[tuple[int, int | None, float, float]] = cursor.fetchall()
    return found


def districts(
    rooms: list[tuple[int, int | None, float, float]], where: dict[str, str]
) -> list[dict[str, Any]]:
    """The districts with most rooms of the sample: how many, the median price, and the URL of their rooms."""
    prices = defaultdict(list)
    for price, _, latitude, longitude in rooms:
        found = gazetteer().nearest(latitude, longitude)
        if found:
            prices[found[0]].append(price)
    common = sorted(prices.items(), key=lambda item: -len(item[1]))[:DISTRICTS]
    rest = drop_place(where)
    most = max((median(values) for _, values in common), default=1) or 1
    table = [
        {
            "name": place.short,
            "share": round(100 * len(values) / len(rooms)),
            "median": median(values),
            "price": names.euros(median(values)),
            "width": round(charts.WIDTH * median(values) / most),
            "url": page_url(around(place) | rest),
        }
        for place, values in common
        if len(values) >= FEW
    ]
    return sorted(table, key=lambda row: -row["median"])
