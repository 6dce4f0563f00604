"""Nearest first: the exact order, page by page, and in exports of many rooms, ring by ring."""

import random
import re
from dataclasses import replace
from itertools import pairwise

import pytest
from django.db import connection

from rooms.api import exports, nearest, queries, rings
from rooms.api.geo import Box
from rooms.api.search import Search
from rooms.factories import RoomFactory
from rooms.tests.api.test_geo import CENTRES, distance, point, wrapped
from rooms.tests.api.test_pagination import next_link, walk
from rooms.tests.conftest import insert_rooms

pytestmark = pytest.mark.django_db

PLACES = CENTRES | {
    "Reykjavik": (-21.9, 64.1),
    "opposite of London": (179.8724, -51.5072),
    "the ties": (-58.4, -34.6),
}


def skewed_points(chance):
    """Two dense cities, ties, poles, both sides of the antimeridian, and the rest of the world."""
    for _ in range(3000):
        yield chance.gauss(-0.1276, 0.1), chance.gauss(51.5072, 0.07)
    for _ in range(1500):
        yield wrapped(chance.gauss(180, 0.05)), chance.gauss(-17, 0.05)
    for _ in range(300):
        yield -58.4, -34.6
    for _ in range(200):
        yield chance.uniform(-180, 180), chance.choice([90, -90, chance.uniform(89.8, 90)])
    for _ in range(1500):
        yield chance.uniform(-180, 180), chance.uniform(-90, 90)
    yield from ((180, 0), (-180, 0), (0, 0), (180, -51.5), (-180, 51.5))


@pytest.fixture(scope="module")
def world(stored, django_db_blocker):
    """Rooms all over the world; prices are 0 to 99 whatever the place."""
    chance = random.Random(21)
    rooms = stored(
        RoomFactory.build(longitude=round(x, 8), latitude=round(y, 8), price=chance.randrange(100))
        for x, y in skewed_points(chance)
    )
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("ANALYZE room")
    return rooms


@pytest.fixture(autouse=True)
def divided(monkeypatch):
    """A map of some thousand rooms is divided as one of a million is."""
    monkeypatch.setattr(nearest, "FEW", 20)
    monkeypatch.setattr(nearest, "CELL_ROOMS", 8)


@pytest.fixture
def ringed(monkeypatch):
    """Some thousand rooms are cut into rings and cells as a million are."""
    monkeypatch.setattr(rings, "SORTED", 0)
    monkeypatch.setattr(rings, "STEP", 1)
    monkeypatch.setattr(rings, "STEPS_OF_A_RING", 8)
    monkeypatch.setattr(rings, "CELL_ROOMS", 8)


def in_order(query):
    """The codes as one sort of all rooms gives them."""
    search = Search.parse(query)
    rows, values = queries.select_rows(search)
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT room.code::text, room.distance FROM ({rows}) AS room", values)
        return cursor.fetchall()


@pytest.mark.parametrize("centre", PLACES.values(), ids=PLACES)
@pytest.mark.parametrize(
    "more",
    [
        "",
        "&filter_price__lt=60",
        "&filter_price__gte=95",
        "&filter_longitude__gt=170",
        "&bbox=-1,51,1,52",
        "&within=5000000",
        "&order=-distance",
        "&order=-distance&within=12000000",
        "&order=distance,-price",
        "&order=distance,-price&filter_price__lt=95",
        "&order=distance,-price_per_m2&filter_price__lt=95",
        "&order=price_per_m2&within=5000000",
    ],
)
def test_pages_by_distance_are_those_of_one_sort(client, world, centre, more):
    query = f"near={centre[0]},{centre[1]}{more}"
    expected = in_order(query)
    for limit, pages in ((7, 3), (300, 2)):
        found, url = [], f"/rooms?{query}&limit={limit}"
        for _ in range(pages):
            response = client.get(url)
            found += [room["code"] for room in response.json()]
            url = next_link(response)
            if not url:
                break
        assert found == [code for code, _ in expected[: limit * pages]]
        assert bool(url) == (len(expected) > limit * pages)


@pytest.mark.parametrize("centre", PLACES.values(), ids=PLACES)
def test_the_order_is_that_of_great_circle_distances(world, centre):
    exact = {str(room.code): distance(centre, point(room)) for room in world}
    expected = in_order(f"near={centre[0]},{centre[1]}")
    assert {code for code, _ in expected} == exact.keys()
    for code, metres in expected:
        assert metres == pytest.approx(exact[code], abs=0.01 if metres < 19_900_000 else 1)


@pytest.mark.parametrize("name", ["London", "the ties", "north pole", "on the antimeridian"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_a_walk_to_the_end_gives_every_room_once_and_in_order(client, world, name, sign):
    query = f"near={PLACES[name][0]},{PLACES[name][1]}&order={sign}distance"
    found = walk(client, f"/rooms?{query}&limit=1000")
    assert found == [code for code, _ in in_order(query)]
    assert len(found) == len(world)


def previous_link(response):
    match = re.search(r'<([^>]*)>; rel="prev"', response.headers["Link"])
    return match and match[1]


@pytest.mark.parametrize("name", ["London", "the ties", "south pole", "antimeridian"])
@pytest.mark.parametrize("sign", ["", "-"])
def test_previous_pages_are_those_that_the_next_ones_came_from(client, world, name, sign):
    url = f"/rooms?near={PLACES[name][0]},{PLACES[name][1]}&order={sign}distance&limit=170"
    there, back = [], []
    for _ in range(5):
        response = client.get(url)
        there.append(response.json())
        url = next_link(response)
    url = previous_link(response)
    while url:
        response = client.get(url)
        back.append(response.json())
        url = previous_link(response)
    assert back == there[-2::-1]


def test_all_rooms_match_however_far(client, world):
    response = client.get("/rooms?near=0,0&count=exact&limit=1")
    assert response["X-Total-Count"] == str(len(world))
    assert client.get("/rooms/stats?near=0,0").json()["count"] == len(world)
    csv = b"".join(client.get("/rooms.csv?near=0,0")).decode()
    assert [line[:36] for line in csv.splitlines()[1:]] == [code for code, _ in in_order("near=0,0")]


@pytest.mark.parametrize("suffix", ["json", "geojson", "csv", "ndjson"])
def test_a_page_of_every_format_has_the_nearest_rooms(client, world, suffix):
    expected = [code for code, _ in in_order("near=179.99,-17")[:25]]
    response = client.get(f"/rooms.{suffix}?near=179.99,-17&limit=25")
    found = re.findall(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", response.content.decode())
    assert list(dict.fromkeys(found)) == expected


def test_another_order_sorts_all_rooms(client, world):
    rooms = client.get("/rooms?near=0,0&order=price&limit=1000").json()
    assert [room["price"] for room in rooms] == sorted(room.price for room in world)[:1000]


def test_the_distances_of_a_box_bound_those_of_its_points():
    chance = random.Random(4)
    for _ in range(400):
        west, east = sorted(chance.choice([-180, 180, 0, chance.uniform(-180, 180)]) for _ in range(2))
        south, north = sorted(chance.choice([-90, 90, 0, chance.uniform(-90, 90)]) for _ in range(2))
        centre = (
            chance.choice([-180, 180, 0, chance.uniform(-180, 180)]),
            chance.choice([-90, 90, 0, chance.uniform(-90, 90)]),
        )
        least, greatest = Box(west, south, east, north).distances(*centre)
        inside = [(chance.uniform(west, east), chance.uniform(south, north)) for _ in range(20)]
        steps = [n / 60 for n in range(61)]
        inside += [(west + (east - west) * x, south + (north - south) * y) for x in steps for y in (0, 1)]
        inside += [(west + (east - west) * x, south + (north - south) * y) for x in (0, 1) for y in steps]
        metres = [distance(centre, place) for place in inside]
        assert least - 0.5 <= min(metres)
        assert max(metres) <= greatest + 0.5


def test_divided_boxes_share_no_point():
    parts = list(nearest.divide(Box(-0.3, 51.1, 0.1, 51.7), 4))
    assert len(parts) == 16
    edges = sorted({(box.west, box.east) for box in parts})
    assert (edges[0][0], edges[-1][1]) == (-0.3, 0.1)
    for (_, east), (west, _) in pairwise(edges):
        assert east < west < east + 1e-15


def exported(client, query):
    text = b"".join(client.get(f"/rooms.csv?{query}&fields=code")).decode()
    return text.splitlines()[1:]


def parts(query):
    """How many rooms each part of an export has."""
    found = []
    with exports.one_state(), connection.cursor() as cursor:
        for part in rings.parts_by_distance(Search.parse(query)):
            rows, values = queries.select_rows(part)
            cursor.execute(f"SELECT count(*) FROM ({rows}) AS room", values)
            found.append(cursor.fetchone()[0])
    return found


@pytest.mark.parametrize("name", ["London", "the ties", "north pole", "on the antimeridian"])
@pytest.mark.parametrize(
    "more",
    [
        "",
        "&filter_price__lt=60",
        "&filter_longitude__gt=170",
        "&bbox=-1,51,1,52",
        "&bbox=170,-60,-170,60",
        "&within=5000000",
        "&order=-distance",
        "&order=-distance&within=12000000",
        "&order=distance,-price",
    ],
)
def test_an_export_in_rings_is_that_of_one_sort(client, world, ringed, name, more):
    query = f"near={PLACES[name][0]},{PLACES[name][1]}{more}"
    expected = [code for code, _ in in_order(query)]
    assert exported(client, query) == expected
    assert sum(parts(query)) == len(expected)


def test_the_rings_of_an_export_grow_to_their_size(world, ringed):
    sizes = parts("near=0,0")
    assert len(sizes) >= 10
    assert max(sizes) < len(world) / 3  # 300 rooms are at one distance
    assert sizes[0] < max(sizes) / 2


@pytest.mark.parametrize("sign", ["", "-"])
@pytest.mark.parametrize("name", ["London", "the ties"])
@pytest.mark.parametrize("side", ["after", "before"])
def test_an_export_from_a_cursor_is_the_rest_of_the_whole(client, world, ringed, name, sign, side):
    query = f"near={PLACES[name][0]},{PLACES[name][1]}&order={sign}distance"
    whole = exported(client, query)
    search = replace(Search.parse(query), limit=1000)
    for number in (100, 2_500, 5_000):
        code, metres = in_order(query)[number]
        with connection.cursor() as cursor:
            cursor.execute("SELECT id FROM room WHERE code = %s", [code])
            place = search.cursor([str(metres), str(cursor.fetchone()[0])])
        rest = whole[number + 1 :] if side == "after" else whole[:number]
        assert exported(client, f"{query}&{side}={place}") == rest


def test_an_export_of_few_rooms_is_one_statement(world):
    assert len(parts("near=0,0")) == 1
    assert len(parts("near=0,0&order=price")) == 1


@pytest.mark.django_db(transaction=True)
def test_an_export_in_rings_is_of_one_state(client, ringed, other):
    """Rooms that are moved behind the export's place, or deleted, while it is read."""
    insert_rooms(4_000)
    expected = [code for code, _ in in_order("near=0,51.5")]
    response = client.get("/rooms.csv?near=0,51.5&fields=code")
    chunks = iter(response.streaming_content)
    text = next(chunks)
    other.execute("UPDATE room SET longitude = 20 WHERE id % 2 = 0; DELETE FROM room WHERE id % 3 = 0")
    text += b"".join(chunks)
    assert text.decode().splitlines()[1:] == expected
