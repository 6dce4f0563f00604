"""
OGC API – Features, Part 1: Core (OGC 17-069r4): rooms as one collection of GeoJSON features.

The standard's words for parameters become those of this API; what they select and how a page is read is the
same. Where they differ: a limit that is too large is the greatest one, a property's name means "equals", a
box may have heights, and `datetime` selects all rooms, as a room has no time of its own.
"""

import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from django.http import QueryDict

from rooms.api.errors import FieldError, ParametersError
from rooms.api.formats import GEOJSON, JSON
from rooms.api.geo import WORLD
from rooms.api.pagination import MAX_LIMIT
from rooms.api.parameters import PARSERS
from rooms.api.search import Search
from rooms.api.times import TIME, parse_time
from rooms.columns import COLUMNS, DEGREES, MAX_CHARACTERS, WHOLE_NUMBER
from rooms.counting import Count
from rooms.database import connection

ROOT = "/ogc"
COLLECTION = f"{ROOT}/collections/rooms"
ITEMS = f"{COLLECTION}/items"

CONFORMANCE = [
    f"http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/{name}" for name in ("core", "geojson")
]
"""Not `oas30`: the API's document is OpenAPI 3.1. Not `html`: pages are at /rooms."""
CRS84 = "http://www.opengis.net/def/crs/OGC/1.3/CRS84"
TITLE, DESCRIPTION = "Rooms", "The rooms for rent: size in m², price in euros per day"

EQUALS = {name: f"filter_{name}__eq" for name in COLUMNS}
"""The filter of a property's name."""
ALLOWED = frozenset(PARSERS) - {"count"}

HEIGHTS = 6
"""Numbers of a box with heights."""

Link = dict[str, str]


def parse(given: QueryDict) -> Search:
    """The search of the query string of a request for items; raises ParametersError with all its errors."""
    query = given.copy()
    errors = [error for error in [pop_datetime(query)] if error]
    for name, filter_name in EQUALS.items():
        if name in query:
            query.setlist(filter_name, query.getlist(filter_name) + query.pop(name))
    for name, mend in (("limit", greatest_limit), ("bbox", without_heights)):
        if name in query:
            query.setlist(name, [mend(text) for text in query.getlist(name)])
    try:
        search = Search.parse(query, ALLOWED)
    except ParametersError as error:
        names = {filter_name: name for name, filter_name in EQUALS.items() if name in given}
        errors += [
            replace(each, parameter=names.get(each.parameter, each.parameter)) for each in error.errors
        ]
        raise ParametersError(errors, error.suggestion) from None
    if errors:
        raise ParametersError(errors, query.urlencode(safe=",:"))
    return search


INTERVAL = rf"^({TIME}(/({TIME}|\.\.)?)?|(\.\.)?/{TIME})$"
"""A time, or two with a slash between, one of which may be open."""


def pop_datetime(query: QueryDict) -> FieldError | None:
    """Take `datetime` out of the query; the error of one that the standard does not allow."""
    texts = query.pop("datetime", [])
    if len(texts) > 1:
        return FieldError("datetime", "is given twice")
    hint = "datetime=2026-01-01T00:00:00Z/.."
    for text in texts:
        if not re.fullmatch(INTERVAL, text):
            message = "must be a time of RFC 3339 or an interval of two; .. leaves an end open"
            return FieldError("datetime", message, hint)
        try:
            for end in set(text.split("/")) - {"", ".."}:
                parse_time(end)
        except ValueError:
            return FieldError("datetime", "names a time that does not exist", hint)
    return None


def greatest_limit(text: str) -> str:
    """Requirement fc-limit-response: a limit that is too large is no error."""
    is_number = WHOLE_NUMBER.pattern.fullmatch(text) and len(text) <= MAX_CHARACTERS
    return str(MAX_LIMIT) if is_number and int(text) > MAX_LIMIT else text


def without_heights(text: str) -> str:
    """A box of six numbers without the heights, as rooms have none."""
    numbers = text.split(",")
    if len(numbers) != HEIGHTS or not all(DEGREES.pattern.fullmatch(number) for number in numbers):
        return text
    west, south, _, east, north, _ = numbers
    return ",".join((west, south, east, north))


# --- Documents; `site` is the scheme and the host, as in https://rooms.example


def link(site: str, path: str, relation: str, title: str, media_type: str = JSON.media_type) -> Link:
    return {"href": f"{site}{path}", "rel": relation, "type": media_type, "title": title}


def landing_page(site: str) -> dict[str, Any]:
    return {
        "title": "Rent-o-matic",
        "description": "Rooms for rent, by OGC API – Features",
        "links": [
            link(site, ROOT, "self", "This document"),
            link(
                site,
                "/openapi.json",
                "service-desc",
                "The API's definition",
                "application/vnd.oai.openapi+json;version=3.1",
            ),
            link(site, "/docs", "service-doc", "The API's documentation", "text/html"),
            link(site, f"{ROOT}/conformance", "conformance", "What of the standard is implemented"),
            link(site, f"{ROOT}/collections", "data", "The collections"),
        ],
    }


def collections(site: str) -> dict[str, Any]:
    links = [link(site, f"{ROOT}/collections", "self", "This document")]
    return {"links": links, "collections": [collection(site)]}


def collection(site: str) -> dict[str, Any]:
    """The collection of rooms, with its bounding box; one query."""
    return {
        "id": "rooms",
        "title": TITLE,
        "description": DESCRIPTION,
        "itemType": "feature",
        "crs": [CRS84],
        "extent": {"spatial": {"bbox": [extent()], "crs": CRS84}},
        "links": [
            link(site, COLLECTION, "self", "This document"),
            link(site, ITEMS, "items", "The rooms", GEOJSON.media_type),
        ],
    }


def extent() -> list[float]:
    """West, south, east and north of all rooms, from the ends of two indexes; the world without a room."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT min(longitude), min(latitude), max(longitude), max(latitude) FROM room")
        box: list[float] = list(cursor.fetchone())
    return WORLD.corners if None in box else box


def feature_collection(text: str, links: list[Link], total: Count | None) -> str:
    """
    A FeatureCollection with what the standard adds: links, the time, how many rooms these are, and how many
    match where that is known exactly.
    """
    members: dict[str, Any] = {
        "links": links,
        "timeStamp": datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        "numberReturned": text.count('{"type":"Feature",'),  # no value holds text of people
    }
    if total is not None and total.exact:
        members["numberMatched"] = int(total)
    return f"{text.rstrip()[:-1]},{json.dumps(members)[1:]}"


def feature(text: str, site: str, code: str) -> str:
    """A feature with its links."""
    links = [
        link(site, f"{ITEMS}/{code}", "self", "This room", GEOJSON.media_type),
        link(site, f"/rooms/{code}", "alternate", "This room as a page", "text/html"),
        link(site, COLLECTION, "collection", "The collection"),
    ]
    return f'{text[:-1]},"links":{json.dumps(links)}}}'
