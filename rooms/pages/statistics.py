"""The page `/rooms/stats`: how prices and sizes spread, price against size, and price by district."""

from collections import defaultdict
from statistics import median
from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string

from rooms.api.queries import matching_rooms
from rooms.api.search import Search
from rooms.columns import Column
from rooms.counting import Count
from rooms.database import connection
from rooms.pages import charts, names
from rooms.pages.form import Centre, around
from rooms.pages.listing import RANGES, active_filters, page_url, query_string, where_label
from rooms.pages.map import drop_place
from rooms.places.gazetteer import gazetteer
from rooms.responses import site_url

POINTS = 600
"""Rooms in the chart of price against size, and whose districts are looked up."""

DISTRICTS = 12
SIZES = 8
"""Groups of sizes."""
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
        "distributions": [distribution(column, statistics) for column in RANGES if column.name in statistics],
        "sampled": statistics["sampled"],
        "scatter": charts.scatter([(size, price) for price, size, *_ in rooms if size]),
        "sizes": price_by_size([(size, price) for price, size, *_ in rooms if size]),
        "districts": districts(rooms, search.where),
        "list_url": page_url(search.where),
        "json_url": f"{site_url(request)}/rooms/stats{query_string(search.where)}",
    }
    return render_to_string("rooms/statistics.html", context, request)


def distribution(column: Column, statistics: dict[str, Any]) -> dict[str, Any]:
    """The quartiles and the histogram of a column."""
    own = statistics[column.name]
    bars = charts.histogram(own["histogram"], column, statistics["sampled"])
    return {"column": column, "statistics": own, "bars": bars, **charts.axis(bars)}


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


def price_by_size(points: list[tuple[int, int]]) -> list[dict[str, str]]:
    """The table behind the chart of price against size: the sample in groups of equal number."""
    ordered = sorted(points)
    step = max(len(ordered) // SIZES, FEW)
    groups = [ordered[start : start + step] for start in range(0, len(ordered) - step + 1, step)]
    return [
        {
            "sizes": f"{group[0][0]} to {names.square_metres(group[-1][0])}",
            "price": names.euros(median(price for _, price in group)),
            "rate": f"{median(price / size for size, price in group):.2f}",
        }
        for group in groups
    ]


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
