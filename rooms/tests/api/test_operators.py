"""Each filter, compared with an implementation in Python."""

import json
import operator

import pytest
from django.db import connection

from rooms.api.operators import FILTERS, OPERATORS
from rooms.factories import RoomFactory, varied_rooms
from rooms.models import Room
from rooms.tests.conftest import BOOK_INSERT

ROOMS = varied_rooms(60)

MEANING = {
    "eq": operator.eq,
    "ne": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}

VALUES = {
    "code": [str(ROOMS[0].code), str(ROOMS[59].code).upper(), "f853578c-fc0f-4e65-81b8-566c5dffa35a"],
    "size": ["1", "50", "51", "99", "100000"],
    "price": ["0", "-0", "1", "065", "66", "500", "1000000"],
    "latitude": ["-90", "0", "-0.0", "0.0000001", "1e-7", "51.5", "51.75436293", "5.15E1", "90"],
    "longitude": ["-180", "-0.1", "-0.09998975", "0", "12.5", "180"],
}


def python_value(field, text):
    """The value of the text, parsed by Python's own types."""
    return {"code": str.lower, "size": int, "price": int, "latitude": float, "longitude": float}[field](text)


def expected(field, key, text):
    """The codes of the matching rooms, in the order of entry."""

    def matches(room):
        value = getattr(room, field)
        value = str(value) if field == "code" else value
        if key == "isnull":
            return (value is None) == (text == "true")
        if value is None:
            return False
        if key == "in":
            return value in [python_value(field, part) for part in text.split(",")]
        return MEANING[key](value, python_value(field, text))

    return [str(room.code) for room in ROOMS if matches(room)]


@pytest.fixture(scope="module", autouse=True)
def _rooms(stored):
    stored(ROOMS)


def codes(client, query):
    response = client.get(f"/rooms?{query}")
    assert response.status_code == 200, response.content
    return [room["code"] for room in response.json()]


CASES = [
    (field, key, text)
    for field, key in ((row.column.name, row.operator.key) for row in FILTERS.values())
    for text in (
        ["true", "false"]
        if key == "isnull"
        else [*VALUES[field], ",".join(VALUES[field]), ",".join(VALUES[field][:2])]
        if key == "in"
        else VALUES[field]
    )
]


@pytest.mark.django_db
@pytest.mark.parametrize(("field", "key", "text"), CASES)
def test_filters_match_their_definition(client, field, key, text):
    assert codes(client, f"filter_{field}__{key}={text}") == expected(field, key, text)


def test_the_cases_tell_the_operators_apart():
    assert len({tuple(expected("price", key, "66")) for key in MEANING}) == len(MEANING)
    assert len({tuple(expected("latitude", key, "51.5")) for key in MEANING}) == len(MEANING)
    assert {field + key for field, key, _ in CASES} == {
        row.column.name + row.operator.key for row in FILTERS.values()
    }
    assert set(OPERATORS) == {*MEANING, "in", "isnull"}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("filter_price__gte=62&filter_price__lt=66", [("price", "gte", "62"), ("price", "lt", "66")]),
        ("filter_size__isnull=false&filter_size__ne=50", [("size", "isnull", "false"), ("size", "ne", "50")]),
        (
            "filter_price__in=60,61,62,63&filter_size__isnull=true&filter_latitude__gt=0",
            [("price", "in", "60,61,62,63"), ("size", "isnull", "true"), ("latitude", "gt", "0")],
        ),
        ("filter_price__lt=60&filter_price__gt=70", [("price", "lt", "60"), ("price", "gt", "70")]),
    ],
)
def test_all_filters_of_a_request_must_hold(client, query, parts):
    every = [set(expected(*part)) for part in parts]
    assert set(codes(client, query)) == set.intersection(*every)


@pytest.mark.django_db
def test_in_takes_a_hundred_values(client):
    assert codes(client, "filter_price__in=" + ",".join(str(n) for n in range(100))) == [
        str(room.code) for room in ROOMS if room.price < 100
    ]


@pytest.mark.django_db
@pytest.mark.parametrize("name", ["code__eq=f853578c-fc0f-4e65-81b8-566c5dffa35a", "price__eq=39"])
def test_the_books_filters_find_the_books_room(client, name):
    RoomFactory(code="f853578c-fc0f-4e65-81b8-566c5dffa35a", price=39)
    assert codes(client, f"filter_{name}") == ["f853578c-fc0f-4e65-81b8-566c5dffa35a"]


@pytest.mark.django_db
def test_the_books_price_limits_are_exclusive(client):
    assert codes(client, "filter_price__lt=1") == [str(room.code) for room in ROOMS if room.price == 0]
    assert codes(client, "filter_price__gt=999999") == [
        str(room.code) for room in ROOMS if room.price == 1_000_000
    ]
    assert codes(client, "filter_price__lt=0") == []
    assert codes(client, "filter_price__gt=1000000") == []


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name", ["code__lt", "code__gt", "code__isnull", "price__isnull", "latitude__isnull"]
)
def test_an_operator_that_does_not_suit_the_field_is_400(client, name):
    response = client.get(f"/rooms?filter_{name}=1")
    assert response.status_code == 400
    assert response.json()["message"] == f"filters: Key {name} cannot be used"


@pytest.mark.django_db
def test_the_body_is_the_books(client):
    Room.objects.all().delete()
    with connection.cursor() as cursor:
        cursor.execute(BOOK_INSERT)
    response = client.get("/rooms")
    assert response.headers["Content-Type"] == "application/json"
    assert json.loads(response.content, object_pairs_hook=list) == [
        [
            ("code", "f853578c-fc0f-4e65-81b8-566c5dffa35a"),
            ("size", 215),
            ("price", 39),
            ("latitude", 51.75436293),
            ("longitude", -0.09998975),
        ]
    ]


@pytest.mark.django_db
def test_no_room_is_an_empty_array(client):
    response = client.get("/rooms?filter_price__gt=1000000")
    assert (response.status_code, response.content) == (200, b"[]")


@pytest.mark.django_db
def test_an_unknown_size_is_null(client):
    RoomFactory(code="f853578c-fc0f-4e65-81b8-566c5dffa35a", size=None)
    (room,) = client.get("/rooms?filter_code__eq=f853578c-fc0f-4e65-81b8-566c5dffa35a").json()
    assert room["size"] is None


@pytest.mark.django_db
def test_rooms_come_in_the_order_of_entry_a_hundred_at_a_time(client):
    RoomFactory.create_batch(60)
    entered = [str(code) for code in Room.objects.order_by("id").values_list("code", flat=True)]
    assert codes(client, "") == entered[:100]


@pytest.mark.django_db
def test_one_room_has_an_address_and_only_its_own_code(client):
    room = ROOMS[3]
    shown = client.get(f"/rooms/{room.code}")
    assert shown.json() == {
        "code": str(room.code),
        "size": room.size,
        "price": room.price,
        "latitude": room.latitude,
        "longitude": room.longitude,
    }
    assert client.get(f"/rooms/{str(room.code).upper()}").json() == shown.json()
    assert client.get("/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a").status_code == 404


@pytest.mark.django_db
def test_floats_come_back_as_they_were_stored(client):
    for latitude in (51.75436293, 1e-7, 1e-8, -0.00012346, 89.99999999):
        code = RoomFactory(latitude=latitude).code
        assert client.get(f"/rooms/{code}").json()["latitude"] == latitude
        assert str(code) in codes(client, f"filter_latitude__eq={latitude!r}")
