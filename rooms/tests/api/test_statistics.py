"""The statistics of a search, compared with Python's over the same rooms."""

import random
from collections import Counter
from itertools import pairwise
from math import ceil

import pytest

from rooms.api.statistics import round_width
from rooms.factories import RoomFactory, varied_rooms
from rooms.models import Room

pytestmark = pytest.mark.django_db


def quartiles(values):
    """percentile_disc: the smallest value that a share of the rooms does not exceed."""
    values = sorted(values)
    return [values[ceil(share * len(values)) - 1] for share in (0.25, 0.5, 0.75)]


def check_histogram(histogram, values):
    """Adjacent bins of one round width that contain every value once; the last may be open."""
    widths = {row["to"] - row["from"] for row in histogram if row["to"] is not None}
    assert len(widths) == 1
    (width,) = widths
    assert str(width).rstrip("0") in {"1", "2", "5"}
    assert 1 <= len(histogram) <= 22
    assert histogram[0]["from"] % width == 0
    assert histogram[0]["from"] <= min(values) < histogram[0]["from"] + width
    for before, after in pairwise(histogram):
        assert before["to"] == after["from"]
    for row in histogram:
        assert row["count"] == sum(
            row["from"] <= value and (row["to"] is None or value < row["to"]) for value in values
        )
    assert sum(row["count"] for row in histogram) == len(values)


def check(statistics, rooms):
    prices = [room.price for room in rooms]
    sizes = [room.size for room in rooms if room.size is not None]
    assert statistics["count"] == len(rooms)
    assert statistics["sampled"] is False
    for name, values in (("price", prices), ("size", sizes)):
        reported = statistics[name]
        assert (reported["min"], reported["max"]) == (min(values), max(values))
        assert reported["quartiles"] == quartiles(values)
        check_histogram(reported["histogram"], values)
    assert statistics["size"]["unknown"] == len(rooms) - len(sizes)
    points = [[room.longitude for room in rooms], [room.latitude for room in rooms]]
    assert statistics["bbox"] == [*map(min, points), *map(max, points)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 60, 400])
@pytest.mark.parametrize("seed", [1, 2])
def test_statistics_match_the_rooms(client, count, seed):
    chance = random.Random(seed)
    rooms = varied_rooms(count, seed)
    for room in rooms:
        room.price = int(chance.lognormvariate(4, 0.7))
        room.size = chance.choice([None, room.size, chance.randint(1, 300)]) or (
            5 if room is rooms[0] else None
        )
    Room.objects.bulk_create(rooms)
    check(client.get("/rooms/stats").json(), rooms)


@pytest.mark.parametrize(
    "prices",
    [
        [0],
        [1_000_000],
        [0, 1_000_000],
        [5] * 40,
        [*range(100)],
        [10] * 98 + [999_999] * 2,
        [10] * 97 + [999_999] * 3,
        [999_999, 1_000_000],
    ],
)
def test_extreme_prices_have_sensible_bins(client, prices):
    rooms = Room.objects.bulk_create(RoomFactory.build(price=price, size=50) for price in prices)
    check(client.get("/rooms/stats").json(), rooms)


def test_outliers_share_an_open_bin(client):
    Room.objects.bulk_create(RoomFactory.build(price=price) for price in [*range(20, 119), 900_000])
    histogram = client.get("/rooms/stats").json()["price"]["histogram"]
    assert histogram[-1]["to"] is None
    assert histogram[-1]["count"] == 1 + sum(price >= histogram[-1]["from"] for price in range(20, 119))
    assert histogram[0] == {"from": 20, "to": 25, "count": 5}


@pytest.mark.parametrize(
    ("query", "keep"),
    [
        ("filter_price__lt=66", lambda room: room.price < 66),
        ("filter_size__isnull=true", lambda room: room.size is None),
        ("bbox=-180,0,180,90&filter_price__gte=62", lambda room: room.latitude >= 0 and room.price >= 62),
    ],
)
def test_statistics_follow_the_filter(client, query, keep):
    rooms = [room for room in Room.objects.bulk_create(varied_rooms(80)) if keep(room)]
    statistics = client.get(f"/rooms/stats?{query}").json()
    assert statistics["count"] == len(rooms)
    assert statistics["price"]["quartiles"] == quartiles(room.price for room in rooms)
    assert statistics["size"]["unknown"] == sum(room.size is None for room in rooms)


def test_statistics_around_a_point(client):
    Room.objects.bulk_create(RoomFactory.build(longitude=0, latitude=n / 100, price=n) for n in range(20))
    statistics = client.get("/rooms/stats?near=0,0&within=5000").json()
    assert (statistics["count"], statistics["price"]["max"], statistics["bbox"]) == (5, 4, [0, 0, 0, 0.04])


def test_statistics_of_no_room_are_null(client):
    nothing = {"min": None, "max": None, "quartiles": None, "histogram": []}
    assert client.get("/rooms/stats").json() == {
        "count": 0,
        "sampled": False,
        "price": nothing,
        "size": nothing | {"unknown": 0},
        "bbox": None,
    }


def test_rooms_of_unknown_size_alone(client):
    RoomFactory.create_batch(3)
    Room.objects.update(size=None)
    size = client.get("/rooms/stats").json()["size"]
    assert size == {"min": None, "max": None, "quartiles": None, "histogram": [], "unknown": 3}


def test_widths_are_round_and_wide_enough():
    for tenths in range(1, 100_000, 7):
        width = round_width(tenths / 10)
        assert width >= tenths / 10
        assert str(width).rstrip("0") in {"1", "2", "5"}
        assert width <= max(1, tenths / 10 * 2.5 + 1)


@pytest.mark.parametrize("query", ["", "?filter_price__gte=21", "?near=0,51.5&within=20000000"])
def test_statistics_of_many_rooms_are_sampled(client, seventy_thousand, query):
    statistics = client.get(f"/rooms/stats{query}").json()
    rooms = Room.objects.filter(price__gte=21) if "price" in query else Room.objects.all()
    prices = sorted(rooms.values_list("price", flat=True))
    assert statistics["sampled"] is True
    assert statistics["count"] == pytest.approx(len(prices), rel=0.1)
    ranks = Counter(prices)
    for share, reported in zip((0.25, 0.5, 0.75), statistics["price"]["quartiles"], strict=True):
        below = sum(count for price, count in ranks.items() if price < reported) / len(prices)
        upto = below + ranks[reported] / len(prices)
        assert below - 0.02 <= share <= upto + 0.02
    assert sum(row["count"] for row in statistics["price"]["histogram"]) == pytest.approx(
        statistics["count"], rel=0.01
    )
    for row in statistics["price"]["histogram"][:-1]:
        true = sum(count for price, count in ranks.items() if row["from"] <= price < row["to"])
        assert row["count"] == pytest.approx(true, rel=0.2, abs=150)
    assert statistics["size"]["unknown"] == pytest.approx(len(prices) / 10, rel=0.15)
    assert client.get(f"/rooms/stats{query}").json() == statistics  # always the same sample


def test_few_of_many_rooms_are_described_exactly(client, seventy_thousand):
    statistics = client.get("/rooms/stats?filter_price__gt=900").json()
    assert statistics["sampled"] is False
    assert statistics["count"] == Room.objects.filter(price__gt=900).count()
