"""The start page `/`: what this is, a search field, and examples that fit the rooms that are there."""

from collections import Counter
from dataclasses import dataclass
from urllib.parse import urlencode

from django.http import HttpRequest
from django.template.loader import render_to_string

from rooms.api.counts import count
from rooms.api.search import ALL_ROOMS, Search
from rooms.api.statistics import compute_statistics
from rooms.counting import Count
from rooms.database import connection
from rooms.pages import names
from rooms.pages.form import around
from rooms.places.gazetteer import Place, gazetteer
from rooms.responses import site_url

SAMPLE = 100
"""Rooms whose places are looked up for the examples, 0.1 ms each."""


@dataclass(frozen=True)
class Example:
    """A search that has rooms, in words."""

    label: str
    url: str
    total: Count


def render_start(request: HttpRequest) -> str:
    """The HTML of the start page; some nine queries."""
    statistics = compute_statistics(ALL_ROOMS)
    places = Counter(place for place in map(place_of, sample_rooms()) if place)
    examples = list(
        example_searches(statistics["price"]["quartiles"], [place for place, _ in places.most_common(2)])
    )
    context = {
        "total": Count(statistics["count"], exact=not statistics["sampled"]),
        "places": [place.name for place, _ in places.most_common(3)],
        "examples": examples,
        "base": site_url(request),
    }
    return render_to_string("rooms/start.html", context, request)


def sample_rooms() -> list[tuple[float, float]]:
    """Latitude and longitude of some rooms: those that follow random codes in the index."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT room.latitude, room.longitude FROM generate_series(1, %s) AS number"
            " CROSS JOIN LATERAL (SELECT latitude, longitude FROM room"
            " WHERE code >= md5(number::text)::uuid ORDER BY code LIMIT 1) AS room",
            [SAMPLE],
        )
        rows: list[tuple[float, float]] = cursor.fetchall()
    return rows


def place_of(room: tuple[float, float]) -> Place | None:
    """The city of a room, or the place that is nearest."""
    found = gazetteer().nearest(*room)
    if found is None:
        return None
    place = found[0]
    if place.city:
        cities = gazetteer().named(f"{place.city}, {place.country}")
        return cities[0] if cities else place
    return place


def example_searches(quartiles: list[int] | None, places: list[Place]) -> list[Example]:
    """Searches that have rooms."""
    candidates = []
    if quartiles and places:
        candidates.append(
            (
                f"under {names.euros(quartiles[0])} in {places[0].name}",
                around(places[0]) | {"filter_price__lte": str(quartiles[0])},
            )
        )
    candidates.append(("over 30 m², cheapest first", {"filter_size__gte": "30", "order": "price"}))
    if len(places) > 1:
        candidates.append((f"all in {places[1].name}", around(places[1])))
    elif quartiles:
        candidates.append(
            (
                f"from {names.euros(quartiles[2])}, largest first",
                {"filter_price__gte": str(quartiles[2]), "order": "-size"},
            )
        )
    searches = []
    for label, parameters in candidates:
        query = urlencode(parameters, safe=",")
        total = count(Search.parse(f"{query}&count=estimated"))
        if total:
            searches.append(Example(label, f"/rooms?{query}", total))
    return searches
