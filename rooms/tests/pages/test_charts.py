"""The charts of the list page: a bar for each bin, a point for each room, north up."""

import re

import pytest
from django.test import Client

from rooms.factories import RoomFactory

pytestmark = pytest.mark.django_db


def page(client: Client) -> str:
    return client.get("/rooms", headers={"Accept": "text/html"}).content.decode()


def dots(html: str) -> list[tuple[float, float, str]]:
    """x, y and title of each point."""
    found = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="4"><title>([^<]*)', html)
    return [(float(x), float(y), terms) for x, y, terms in found]


def test_each_room_is_a_dot_with_its_price_and_size(client: Client) -> None:
    RoomFactory(price=66, size=50)
    RoomFactory(price=48, size=None)
    assert [terms for _, _, terms in dots(page(client))] == ["66 €, 50 m²", "48 €"]


def test_north_is_up_and_east_is_right(client: Client) -> None:
    RoomFactory(latitude=52, longitude=0)
    RoomFactory(latitude=51, longitude=1)
    (north_x, north_y, _), (east_x, south_y, _) = dots(page(client))
    assert north_y < south_y
    assert north_x < east_x


def test_a_degree_of_longitude_is_drawn_shorter_in_the_north(client: Client) -> None:
    RoomFactory(latitude=59.5, longitude=10)
    RoomFactory(latitude=60.5, longitude=12)
    (x1, y1, _), (x2, y2, _) = dots(page(client))
    assert (x2 - x1) == pytest.approx(y1 - y2, abs=0.5)  # at 60° two degrees east are as far as one north


def test_rooms_on_both_sides_of_the_antimeridian_stay_together(client: Client) -> None:
    RoomFactory(latitude=0, longitude=179.5)
    RoomFactory(latitude=1, longitude=-179.5)
    (west, _, _), (east, _, _) = dots(page(client))
    assert 0 < east - west < 200


def test_one_room_and_rooms_in_one_place_are_drawn_inside(client: Client) -> None:
    RoomFactory.create_batch(2, latitude=51.5, longitude=-0.1)
    assert all(0 <= x <= 600 and 0 <= y <= 160 for x, y, _ in dots(page(client)))


def test_the_histogram_has_a_bar_for_each_bin(client: Client) -> None:
    for price in (10, 20, 30, 40, 1000):
        RoomFactory(price=price)
    bins = client.get("/rooms/stats").json()["price"]["histogram"]
    bars = re.findall(r"<rect [^>]*><title>([^<]*)", page(client))
    assert len(bars) == len(bins)
    counts = [re.search(r": (\d+) (rooms?)$", bar).groups() for bar in bars]
    assert sum(int(count) for count, _ in counts) == 5
    assert {noun for count, noun in counts if count == "1"} == {"room"}
    assert {noun for count, noun in counts if count != "1"} == {"rooms"}
