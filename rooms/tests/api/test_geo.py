"""Boxes and distances, compared with a reference implementation by vectors instead of haversines."""

import random
from math import atan2, cos, degrees, pi, radians, sin, sqrt

import pytest

from rooms.api import counts
from rooms.api.explaining import explain_page
from rooms.api.geo import EARTH_RADIUS, MAX_DISTANCE, Near
from rooms.api.search import Search
from rooms.columns import DECIMALS
from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.api.test_pagination import pages, walk

pytestmark = pytest.mark.django_db


def vector(longitude, latitude):
    across, up = radians(longitude), radians(latitude)
    return (cos(up) * cos(across), cos(up) * sin(across), sin(up))


def distance(a, b):
    """Metres between two points (longitude, latitude), by the angle between their vectors."""
    u, v = vector(*a), vector(*b)
    cross = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    return EARTH_RADIUS * atan2(
        sqrt(sum(x * x for x in cross)), sum(x * y for x, y in zip(u, v, strict=True))
    )


def point(room):
    return (room.longitude, room.latitude)


def store(points):
    """Rooms at these points, with the decimals of a room."""
    return Room.objects.bulk_create(
        RoomFactory.build(longitude=round(longitude, DECIMALS), latitude=round(latitude, DECIMALS))
        for longitude, latitude in points
    )


def wrapped(longitude):
    return (longitude + 180) % 360 - 180


# --- bbox


CORNERS = [(x, y) for x in (-180, -179, -0.2, 0, 0.3, 179, 180) for y in (-90, -51, 0, 51.4, 51.8, 90)]


@pytest.mark.parametrize(
    ("box", "rooms_inside"),
    [
        ((-0.2, 51.4, 0.3, 51.8), 6),
        ((-180, -90, 180, 90), 42),
        ((0, 0, 0, 0), 1),
        ((-0.2, 51.4, -0.2, 51.4), 1),
        ((0.1, 10, 0.2, 11), 0),
        ((179, -51, -179, 51.4), 12),  # over the antimeridian
        ((180, -90, -180, 90), 12),
        ((0.3, -90, 0, 90), 42),  # all but a slice, in which no room is
        ((-180, 90, 180, 90), 7),
        ((-1e-3, -1e-3, 1e-3, 1e-3), 1),
    ],
)
def test_a_box_includes_its_edges(client, box, rooms_inside):
    rooms = store(CORNERS)
    west, south, east, north = box
    inside = {
        str(room.code)
        for room in rooms
        if south <= room.latitude <= north
        and (
            west <= room.longitude <= east
            if west <= east
            else room.longitude >= west or room.longitude <= east
        )
    }
    response = client.get(f"/rooms?bbox={','.join(map(str, box))}")
    assert {room["code"] for room in response.json()} == inside
    assert len(inside) == rooms_inside


def test_a_box_goes_with_filters_and_a_place(client):
    near, cheap, _ = store([(0, 0), (0.01, 0), (0.02, 0)])
    Room.objects.filter(pk=cheap.pk).update(price=1)
    response = client.get("/rooms?bbox=-0.005,-1,0.015,1&near=0.02,0")
    assert [room["code"] for room in response.json()] == [str(cheap.code), str(near.code)]
    response = client.get("/rooms?bbox=-0.005,-1,0.015,1&near=0.02,0&filter_price__eq=1")
    assert [room["code"] for room in response.json()] == [str(cheap.code)]


# --- near and within


CENTRES = {
    "equator": (10, 0),
    "60 degrees north": (18.06, 60),
    "antimeridian": (179.999, -17),
    "antimeridian from the east": (-179.999, 65),
    "on the antimeridian": (180, 10),
    "north pole": (0, 90),
    "by the north pole": (-100, 89.95),
    "south pole": (45, -90),
    "by the south pole": (179.9, -89.9),
    "London": (-0.1276, 51.5072),
}
RADII = [1, 150, 10_000, 300_000, 5_000_000, 10_007_543, 19_000_000, MAX_DISTANCE]


def points_around(centre, radius, chance, count):
    """Points up to twice the radius away in all directions, by the direct formula on the sphere."""
    longitude, latitude = radians(centre[0]), radians(centre[1])
    for _ in range(count):
        angle = min(radius * chance.choice([chance.random(), 1 - 1e-4, 1 + 1e-4, 2]) / EARTH_RADIUS, pi)
        bearing = chance.choice([0, pi / 2, pi, -pi / 2, chance.uniform(-pi, pi)])
        up = sin(latitude) * cos(angle) + cos(latitude) * sin(angle) * cos(bearing)
        north = degrees(atan2(up, sqrt(max(0, 1 - up * up))))
        east = longitude + atan2(sin(bearing) * sin(angle) * cos(latitude), cos(angle) - sin(latitude) * up)
        yield wrapped(degrees(east)), max(-90, min(90, north))


@pytest.mark.parametrize("centre", CENTRES.values(), ids=CENTRES)
def test_near_finds_the_rooms_within_the_distance_nearest_first(client, centre):
    chance = random.Random(11)
    found_some = set()
    for radius in RADII:
        Room.objects.all().delete()
        opposite = (wrapped(centre[0] + 180), -centre[1])
        rooms = store([centre, opposite, *points_around(centre, radius, chance, 80)])
        response = client.get(f"/rooms?near={centre[0]},{centre[1]}&within={radius}&limit=1000")
        found = {room["code"]: room["distance"] for room in response.json()}
        exact = {str(room.code): distance(centre, point(room)) for room in rooms}
        # A room on the circle, within rounding, may be in or out.
        rounding = 1e-6 + radius * 1e-9
        surely = {code for code, metres in exact.items() if metres < radius - rounding}
        maybe = {code for code, metres in exact.items() if metres < radius + rounding}
        assert surely <= set(found) <= maybe, radius
        assert len(maybe - surely) < 3
        for code, metres in found.items():
            assert metres == pytest.approx(exact[code], abs=0.06 + (metres > 19_900_000)), (
                radius
            )  # a decimetre
        assert list(found.values()) == sorted(found.values())
        found_some.add(0 < len(found) < len(rooms))
    assert True in found_some


def test_the_room_at_the_centre_is_at_no_distance(client):
    for longitude, latitude in CENTRES.values():
        room = RoomFactory(longitude=longitude, latitude=latitude)
        (first, *_) = client.get(f"/rooms?near={longitude},{latitude}&within=1").json()
        assert (first["code"], first["distance"]) == (str(room.code), 0)
        room.delete()


@pytest.mark.parametrize("longitude", [-180, -77.7, 0, 180])
def test_every_longitude_is_the_same_place_at_a_pole(client, longitude):
    store([(x, y) for x in (-180, -90, 0, 133.3, 180) for y in (90, -90)])
    for latitude in (90, -90):
        found = client.get(f"/rooms?near={longitude},{latitude}&within=1").json()
        assert len(found) == 5
        assert {room["distance"] for room in found} == {0}


def test_the_antipode_is_at_the_maximum_distance(client):
    for longitude, latitude in CENTRES.values():
        Room.objects.all().delete()
        RoomFactory(longitude=wrapped(longitude + 180), latitude=-latitude)
        (room,) = client.get(f"/rooms?near={longitude},{latitude}&within={MAX_DISTANCE}").json()
        assert room["distance"] == pytest.approx(pi * EARTH_RADIUS, abs=1)


def test_nearest_is_by_metres_and_not_by_degrees(client):
    # At 60° north a degree east is half as long as a degree north.
    east, north = store([(18.06 + 0.015, 60), (18.06, 60.01)])
    found = client.get("/rooms?near=18.06,60").json()
    assert [room["code"] for room in found] == [str(east.code), str(north.code)]


def test_within_limits_the_distance_and_near_alone_does_not(client):
    inside, outside = store([(0, 0.0899), (0, 0.09)])
    assert distance((0, 0), point(inside)) < 10_000 < distance((0, 0), point(outside))
    found = client.get("/rooms?near=0,0&within=10000").json()
    assert [room["code"] for room in found] == [str(inside.code)]
    found = client.get("/rooms?near=0,0").json()
    assert [room["code"] for room in found] == [str(inside.code), str(outside.code)]


def test_the_distance_is_the_last_key(client):
    store([(0, 0)])
    (room,) = client.get("/rooms?near=0,0").json()
    assert list(room) == ["code", "size", "price", "latitude", "longitude", "distance"]
    assert client.get("/rooms.csv?near=0,0").streaming_content
    csv = b"".join(client.get("/rooms.csv?near=0,0")).decode()
    assert csv.splitlines()[0].endswith(",distance")
    (feature,) = client.get("/rooms.geojson?near=0,0&limit=5").json()["features"]
    assert feature["properties"]["distance"] == 0
    assert "distance" not in client.get("/rooms").json()[0]


@pytest.mark.parametrize(
    "order", ["", "&order=distance", "&order=-distance", "&order=price,distance", "&order=-price"]
)
def test_pages_by_distance_give_every_room_once(client, order):
    chance = random.Random(5)
    centre = CENTRES["antimeridian"]
    rooms = store([centre, centre, centre, *points_around(centre, 50_000, chance, 60)])
    exact = {str(room.code): distance(centre, point(room)) for room in rooms}
    inside = {code for code, metres in exact.items() if metres <= 50_000}
    url = f"/rooms?near={centre[0]},{centre[1]}&within=50000{order}"
    for limit in (1, 7, 100):
        found = walk(client, f"{url}&limit={limit}")
        assert len(found) == len(set(found))
        assert set(found) == inside
    assert found == [room["code"] for room in client.get(f"{url}&limit=1000").json()]
    if order.endswith("=-distance"):
        assert found == sorted(found, key=lambda code: -round(exact[code], 6))


def test_rooms_by_distance_come_once_while_others_come_and_go(client):
    chance = random.Random(6)
    rooms = store(points_around((0, 0), 9_000, chance, 60))
    inside = {str(room.code) for room in rooms if distance((0, 0), point(room)) <= 10_000}
    found, gone = [], set()
    for page in pages(client, "/rooms?near=0,0&limit=4"):
        found += [room["code"] for room in page]
        gone.add(found[-1])
        Room.objects.filter(code=found[-1]).delete()
        store(points_around((0, 0), 9_000, chance, 2))
        if len(found) > 500:
            break
    assert len(found) == len(set(found))
    assert inside - gone <= set(found)


def test_the_boxes_hold_the_whole_circle():
    chance = random.Random(8)
    for centre in [
        *CENTRES.values(),
        *((chance.uniform(-180, 180), chance.uniform(-90, 90)) for _ in range(30)),
    ]:
        for radius in RADII:
            boxes = Near(*centre, radius).boxes()
            assert all(box.west <= box.east and box.south <= box.north for box in boxes)
            assert all(abs(box.west) <= 180.0000001 and abs(box.east) <= 180.0000001 for box in boxes)
            for point in points_around(centre, radius, chance, 40):
                if distance(centre, point) <= radius:
                    assert any(
                        box.west <= point[0] <= box.east and box.south <= point[1] <= box.north
                        for box in boxes
                    ), (centre, radius, point)


@pytest.mark.parametrize(
    ("query", "indexes"),
    [
        ("near=0.1,51.5&within=2000", ["room_place"]),
        ("near=0.1,51.5&within=2000&order=price", ["room_place"]),
        ("bbox=0.1,51.5,0.11,51.51", ["room_place"]),
    ],
)
def test_a_place_is_found_through_its_index(twenty_thousand, query, indexes):
    search = Search.parse(query)
    plan = "\n".join(line for _, lines in explain_page(search) for line in lines)
    assert all(index in plan for index in indexes), plan
    assert "Seq Scan" not in plan


@pytest.mark.parametrize(
    ("query", "boxes"),
    [
        ("filter_latitude__gt=52&filter_longitude__gt=-15&filter_longitude__lt=-9", [(-15, 52, -9, 90)]),
        ("filter_latitude__eq=52&filter_longitude__gte=1", [(1, 52, 180, 52)]),
        ("filter_latitude__lt=52&filter_longitude__lt=1", [(-180, -90, 1, 52)]),
        ("bbox=0,50,10,60&filter_latitude__lte=55", [(0, 50, 10, 55)]),
        ("bbox=170,-10,-170,10", [(170, -10, 180, 10), (-180, -10, -170, 10)]),
        ("bbox=170,-10,-170,10&filter_longitude__gt=0", [(170, -10, 180, 10)]),
        ("bbox=0,0,1,1&filter_latitude__gt=2", []),
    ],
)
def test_bounds_of_both_axes_are_boxes(query, boxes):
    found = Search.parse(query).boxes
    assert [(box.west, box.south, box.east, box.north) for box in found] == boxes


@pytest.mark.parametrize(
    "query", ["", "filter_latitude__gt=52&filter_latitude__lt=53", "filter_longitude__gt=1", "near=0,0"]
)
def test_bounds_of_one_axis_are_no_box(query):
    assert Search.parse(query).boxes is None


@pytest.mark.parametrize("order", ["", "price", "-size", "longitude", "size,price"])
def test_a_box_without_rooms_is_an_empty_page(client, order):
    RoomFactory(latitude=51, longitude=0)
    for query in (
        "bbox=0,0,1,1&filter_latitude__gt=2",
        "near=0,0&within=5&bbox=50,50,51,51",
        "bbox=1,52,2,53",
    ):
        response = client.get(f"/rooms?{query}&order={order}".removesuffix("&order="))
        assert (response.status_code, response.json()) == (200, [])


def test_an_exact_count_around_a_place_is_refused_above_its_limit(client, monkeypatch):
    monkeypatch.setattr(counts, "MAX_CIRCLE", 3)
    RoomFactory.create_batch(2, latitude=51, longitude=0)
    path = "/rooms?near=0,51&within=500&count=exact"
    assert client.get(path).headers["X-Total-Count"] == "2"
    RoomFactory(latitude=51, longitude=0)
    response = client.get(path)
    (error,) = response.json()["errors"]
    assert (response.status_code, error["parameter"], error["hint"]) == (400, "count", "count=estimated")
    assert client.get(response.json()["try"]).status_code == 200
    assert client.get(f"{path}&bbox=1,50,2,51").headers["X-Total-Count"] == "0"


def test_an_exact_count_that_would_cost_too_much_is_refused(client, monkeypatch):
    RoomFactory()
    assert client.get("/rooms?count=exact").headers["X-Total-Count-Precision"] == "exact"
    monkeypatch.setattr(counts, "MAX_COST", 1)
    response = client.get("/rooms?count=exact&filter_price__gt=5")
    (error,) = response.json()["errors"]
    assert (response.status_code, error["parameter"], error["hint"]) == (400, "count", "count=estimated")
    assert response.json()["try"] == "/rooms?count=estimated&filter_price__gt=5"
