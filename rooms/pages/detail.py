"""The page of one room: its facts, its place among the prices around it, and similar rooms."""

import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.http import HttpRequest
from django.template.loader import render_to_string

from rooms.api.queries import ValuesPage, values_page
from rooms.api.search import Search
from rooms.columns import COLUMNS
from rooms.pages import charts, names
from rooms.pages.listing import room_cards
from rooms.pages.map import Viewport, tiles_context
from rooms.pages.surroundings import prices_around
from rooms.responses import site_url

EXCLUDED = {"code", "latitude", "longitude"}
"""Columns that the template renders in another way than as a value with its unit."""

FEW = 5
"""Rooms around; with fewer there is no comparison."""

SIMILAR = 6

ZOOM = 15


@dataclass(frozen=True)
class Rank:
    """A room's value among those around it."""

    values: list[int]
    own: int

    @property
    def percent_above(self) -> int:
        """How many per cent of the others have a greater value; ties count half."""
        less = sum(value < self.own for value in self.values)
        equal = self.values.count(self.own)
        return round(100 * (1 - (less + equal / 2) / len(self.values)))


def render_detail(request: HttpRequest, room: dict[str, Any]) -> str:
    """The HTML of a room's page; some six queries."""
    around = prices_around(room)
    prices = Rank([price for price, _ in around], room["price"])
    rates = [round(100 * price / size) for price, size in around if size]
    viewport = Viewport(ZOOM, room["latitude"], room["longitude"])
    place = names.place_of(room)
    title = names.title(room, place)
    url = f"{site_url(request)}/rooms/{room['code']}"
    description = f"{title}, {names.euros(room['price'])} a day"
    context = {
        "room": room,
        "title": title,
        "description": description,
        "url": url,
        "price": names.euros(room["price"]),
        "rate": names.per_square_metre(room),
        "facts": [
            {
                "column": column,
                "known": room[column.name] is not None,
                "value": column.display(room[column.name]),
            }
            for column in COLUMNS.values()
            if column.name not in EXCLUDED
        ],
        "place": place,
        "around": names.number(len(around)),
        "prices": prices if len(around) >= FEW else None,
        "rates": Rank(rates, round(100 * room["price"] / room["size"]))
        if room["size"] and len(rates) >= FEW
        else None,
        "bars": charts.values_histogram(prices.values, room["price"]) if len(around) >= FEW else [],
        "similar": list(room_cards(similar_rooms(room), [])),
        "viewport": viewport,
        "clusters": "/rooms/clusters",
        **tiles_context(),
        "staff_cookie": settings.STAFF_COOKIE,
        "structured_data": structured_data(room, description, url),
    }
    return render_to_string("rooms/room_detail.html", context, request)


def similar_rooms(room: dict[str, Any]) -> ValuesPage:
    """The nearest rooms of about the same price and size, within 10 km."""
    near = {"near": f"{room['longitude']},{room['latitude']}", "within": "10000"}
    bounds = {
        "filter_price__gte": room["price"] * 3 // 4,
        "filter_price__lte": room["price"] * 5 // 4 + 1,
        "filter_code__ne": room["code"],
    }
    if room["size"]:
        bounds |= {
            "filter_size__gte": max(room["size"] * 3 // 4, 1),
            "filter_size__lte": room["size"] * 5 // 4 + 1,
        }
    parameters = near | {name: str(value) for name, value in bounds.items()} | {"limit": str(SIMILAR)}
    return values_page(Search.parse(urlencode(parameters)))


def structured_data(room: dict[str, Any], description: str, url: str) -> str:
    """The room as JSON-LD (schema.org), safe within a script element."""
    data: dict[str, Any] = {
        "@context": "https://schema.org",
        "@type": "Room",
        "name": description,
        "url": url,
        "identifier": str(room["code"]),
        "geo": {
            "@type": "GeoCoordinates",
            "latitude": room["latitude"],
            "longitude": room["longitude"],
        },
        "offers": {
            "@type": "Offer",
            "priceSpecification": {
                "@type": "UnitPriceSpecification",
                "price": room["price"],
                "priceCurrency": "EUR",
                "unitCode": "DAY",
            },
        },
    }
    if room["size"]:
        data["floorSize"] = {"@type": "QuantitativeValue", "value": room["size"], "unitCode": "MTK"}
    return json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
