"""The attempts at a page, from the cheapest on: which of them are made, and that the page is right."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rooms.api import plans
from rooms.factories import RoomFactory
from rooms.tests.api.test_pagination import in_order, next_link, walk

pytestmark = pytest.mark.django_db

LIMITS = {
    "FIRST_WALK": 10,
    "LONG_WALK": 60,
    "SMALL_PLACE": 4,
    "PLACE": 12,
    "COLLECTED": 40,
    "COLLECTED_AROUND": 30,
}
"""Some hundred rooms are read as a million is."""

SIZES = {
    21: {3, 14},
    22: {2, 40},
    23: {200, 210},
    24: set(range(50, 100)),
    25: set(range(240, 290)),
}
LONGITUDES = {10: {120, 130}, 20: set(range(140, 150)), 30: set(range(150, 180))}
"""The rooms that have this value, by number; the others have another."""


def value(number, values, other):
    return next((value for value, numbers in values.items() if number in numbers), other)


@pytest.fixture(scope="module")
def rooms(stored):
    """300 rooms on the equator, in the order of their prices: the price is the room's number."""
    return stored(
        RoomFactory.build(
            price=number, size=value(number, SIZES, 10), latitude=0, longitude=value(number, LONGITUDES, 0)
        )
        for number in range(300)
    )


@pytest.fixture(autouse=True)
def bounded(monkeypatch):
    for name, limit in LIMITS.items():
        monkeypatch.setattr(plans, name, limit)


ATTEMPTS = {"enable_sort": "long walk", "enable_indexscan": "matches", "enable_seqscan": "place"}
"""The attempts by a setting that they change, the most particular first."""


def attempts(queries):
    """The limited attempts among the statements of a page, with their limits."""
    found = []
    for query in queries:
        numbered = re.search(r"= (\d+) AS last", query["sql"])
        if limit := numbered or re.search(r"OFFSET (\d+)\) AS room\) LIMIT", query["sql"]):
            kind = next(
                (kind for setting, kind in ATTEMPTS.items() if f"LOCAL {setting} = off" in query["sql"]), ""
            )
            found.append(f"{kind or 'walk'} {int(limit[1]) + (0 if numbered else 1)}")
    return found


def read(client, path):
    with CaptureQueriesContext(connection) as queries:
        response = client.get(path)
    return response, attempts(queries)


@pytest.mark.parametrize(
    ("query", "number", "expected"),
    [
        ("order=price", 0, []),
        ("filter_price__gt=7&order=price", 8, []),
        ("filter_size__eq=21&order=price", 3, ["walk 16"]),
        ("filter_size__eq=22&order=price", 2, ["walk 16", "long walk 60"]),
        ("filter_size__eq=23&order=price", 200, ["walk 16", "matches 40"]),
        ("filter_size__eq=24&order=price", 50, ["walk 16", "matches 40", "long walk 60"]),
        ("filter_size__ne=10&order=-longitude", 289, ["walk 16", "long walk 60"]),
        ("bbox=9,-1,11,1&order=price", 120, ["place 4"]),
        ("bbox=19,-1,21,1&order=price", 140, ["place 4", "walk 16", "place 12"]),
        ("bbox=29,-1,31,1&order=price", 150, ["place 4", "walk 16", "place 12", "matches 40"]),
        ("filter_size__ne=10&order=-longitude,price", 2, ["walk 16", "long walk 60", "walk 16"]),
        ("near=20,0&within=1000&filter_price__ne=141", 140, ["place 30"]),
        ("near=20,0&within=1000&filter_price__gt=141", 142, ["matches 30"]),
    ],
)
def test_a_page_takes_the_cheapest_attempts_that_fill_it(client, rooms, query, number, expected):
    response, made = read(client, f"/rooms?{query}&limit=1")
    assert [room["price"] for room in response.json()] == [number]
    assert next_link(response)
    assert made == expected


@pytest.mark.parametrize(
    ("query", "parameter", "expected"),
    [
        ("filter_size__eq=25&order=price", "order", ["walk 16", "matches 40", "long walk 60"]),
        ("near=30,0&within=1000&filter_price__ne=5", "near", ["place 30"]),
    ],
)
def test_a_page_that_no_attempt_fills_is_refused(client, rooms, query, parameter, expected):
    response, made = read(client, f"/rooms?{query}&limit=1")
    assert response.status_code == 400
    assert [error["parameter"] for error in response.json()["errors"]] == [parameter]
    assert made == expected


def test_a_group_of_equal_values_is_read_in_the_order_of_the_next_key(client, rooms):
    response, made = read(client, "/rooms?order=longitude,-price&limit=3")
    assert [room["price"] for room in response.json()] == [299, 298, 297]
    assert made == ["walk 22", "walk 22"]


@pytest.fixture
def collected(monkeypatch):
    """All rooms may be collected, so that no page is refused."""
    monkeypatch.setattr(plans, "COLLECTED", 301)


def test_a_group_that_lacks_one_room_of_the_page_is_followed_by_the_next(client, rooms, collected):
    response = client.get("/rooms?order=longitude,-price&filter_price__gte=52&filter_price__lte=71&limit=20")
    assert [room["price"] for room in response.json()] == [*range(71, 51, -1)]
    assert next_link(response) is None
    response = client.get("/rooms?order=longitude,-price&filter_price__gte=52&filter_price__lte=120&limit=69")
    assert [room["price"] for room in response.json()] == [*range(119, 51, -1), 120]


@pytest.mark.parametrize("order", ["price", "-price", "longitude,-price", "-longitude,price", "size,-price"])
@pytest.mark.parametrize(
    ("query", "chosen"),
    [
        ("filter_price__gte=30&filter_price__lt=200", lambda room: 30 <= room.price < 200),
        ("filter_size__lte=23", lambda room: room.size <= 23),
        ("bbox=15,-1,40,1", lambda room: room.longitude >= 15),
    ],
)
def test_the_pages_have_every_room_once_whatever_attempts_they_take(
    client, rooms, collected, query, chosen, order
):
    found = walk(client, f"/rooms?{query}&order={order}&limit=9")
    assert found == in_order([room for room in rooms if chosen(room)], order)
