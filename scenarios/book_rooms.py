"""The four rooms of "Clean Architectures in Python"."""

from django.test import Client

from rooms.seeding import room

EXPECT = {
    "": 4,
    "filter_price__lt=60": 2,
    "filter_price__gt=48&filter_price__lt=66": ["913694c6-435a-4366-ba0d-da5334a611b2"],
    "filter_code__eq=f853578c-fc0f-4e65-81b8-566c5dffa35a": ["f853578c-fc0f-4e65-81b8-566c5dffa35a"],
}


def run() -> None:
    room(
        code="f853578c-fc0f-4e65-81b8-566c5dffa35a",
        size=215,
        price=39,
        longitude=-0.09998975,
        latitude=51.75436293,
    )
    room(
        code="fe2c3195-aeff-487a-a08f-e0bdc0ec6e9a",
        size=405,
        price=66,
        longitude=0.18228006,
        latitude=51.74640997,
    )
    room(
        code="913694c6-435a-4366-ba0d-da5334a611b2",
        size=56,
        price=60,
        longitude=0.27891577,
        latitude=51.45994069,
    )
    room(
        code="eed76e77-55c1-41ce-985d-ca49bf6c0585",
        size=93,
        price=48,
        longitude=0.33894476,
        latitude=51.39916678,
    )


def check(client: Client) -> None:
    """The response has the book's keys and values."""
    (cheapest,) = client.get("/rooms?order=price&limit=1").json()
    assert cheapest == {
        "code": "f853578c-fc0f-4e65-81b8-566c5dffa35a",
        "size": 215,
        "price": 39,
        "latitude": 51.75436293,
        "longitude": -0.09998975,
    }
