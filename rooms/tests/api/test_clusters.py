"""The clusters of a map, compared with Python's over the same rooms."""

import random
from collections import defaultdict
from math import ceil, exp, factorial, floor
from statistics import fmean

import pytest
from django.db import connection

from rooms.api.clusters import LOOKED_AT, most_of_few
from rooms.api.geo import WORLD, Box
from rooms.api.grid import MAX_CELLS, MAX_ZOOM, Grid
from rooms.columns import COLUMNS
from rooms.factories import RoomFactory, varied_rooms
from rooms.models import Room

pytestmark = pytest.mark.django_db


def cells(client, query=""):
    """The cells of a map by their south-west corners."""
    response = client.get(f"/rooms/clusters?{query}")
    assert response.status_code == 200, response.content
    return {tuple(cell["bbox"][:2]): cell for cell in response.json()["cells"]}


def corner(room, size):
    """The south-west corner of a room's cell."""
    x = min(floor((room.longitude + 180) / size), round(360 / size) - 1)
    y = min(floor((room.latitude + 90) / size), round(180 / size) - 1)
    return (x * size - 180, y * size - 90)


def wrapped(longitude):
    return (longitude + 180) % 360 - 180


def check(found, rooms, size):
    groups = defaultdict(list)
    for room in rooms:
        groups[corner(room, size)].append(room)
    assert found.keys() == groups.keys()
    for place, group in groups.items():
        cell = found[place]
        prices = sorted(room.price for room in group)
        assert cell["count"] == len(group)
        assert cell["min_price"] == prices[0]
        assert cell["median_price"] == prices[ceil(len(prices) / 2) - 1]
        assert cell["longitude"] == pytest.approx(fmean(room.longitude for room in group), abs=1e-7)
        assert cell["latitude"] == pytest.approx(fmean(room.latitude for room in group), abs=1e-7)
        west, south, east, north = cell["bbox"]
        assert (east - west, north - south) == (size, size)
        if len(group) == 1:
            assert cell["room"] == {
                name: str(value) if name == "code" else value
                for name, value in ((name, getattr(group[0], name)) for name in COLUMNS)
            }
        else:
            assert cell["room"] is None


@pytest.mark.parametrize(("zoom", "size"), [(0, 90), (1, 45), (2, 22.5), (3, 11.25), (9, 11.25), (22, 11.25)])
@pytest.mark.parametrize("count", [1, 30, 400])
def test_cells_have_the_figures_of_their_rooms(client, zoom, size, count):
    rooms = Room.objects.bulk_create(varied_rooms(count))
    check(cells(client, f"zoom={zoom}"), rooms, size)


@pytest.mark.parametrize(
    ("query", "keep"),
    [
        ("filter_price__lt=66", lambda room: room.price < 66),
        ("filter_size__isnull=true", lambda room: room.size is None),
        ("filter_price__gte=62&filter_latitude__gt=0", lambda room: room.price >= 62 and room.latitude > 0),
    ],
)
def test_cells_follow_the_filters(client, query, keep):
    rooms = Room.objects.bulk_create(varied_rooms(200))
    check(cells(client, query), filter(keep, rooms), 11.25)


def test_cells_around_a_point(client):
    rooms = Room.objects.bulk_create(
        RoomFactory.build(longitude=0.5, latitude=n / 100, price=n) for n in range(20)
    )
    check(cells(client, "near=0.5,0&within=5000&zoom=3"), rooms[:5], 11.25)
    check(cells(client, "near=0.5,0&within=5000&zoom=12"), rooms[:5], 90 / 2**12)


@pytest.mark.parametrize("longitude", [179.99, -179.99, 180])
def test_cells_around_a_point_at_the_antimeridian(client, longitude):
    rooms = Room.objects.bulk_create(
        RoomFactory.build(longitude=x, latitude=0.001) for x in (179.98, 180, -180, -179.98, 179.5, -179.5, 0)
    )
    found = cells(client, f"near={longitude},0&within=6000&zoom=10")
    check(found, rooms[:4], 90 / 2**10)


def test_no_room_is_an_empty_map(client):
    assert client.get("/rooms/clusters").json() == {
        "cell_size": 11.25,
        "sampled": False,
        "count": 0,
        "cells": [],
    }


@pytest.mark.parametrize("zoom", [0, 4, 8, 12, 16, MAX_ZOOM])
def test_a_cell_is_the_same_in_every_box(client, zoom):
    """Whole cells are described, also where the box has only a part of them."""
    chance = random.Random(zoom)
    size = 90 / 2**zoom
    RoomFactory.create_batch(40, longitude=2.35, latitude=48.85)
    Room.objects.bulk_create(
        RoomFactory.build(
            longitude=round(wrapped(2.35 + chance.uniform(-2, 2) * size), 8),
            latitude=round(max(-90, min(48.85 + chance.uniform(-2, 2) * size, 90)), 8),
        )
        for _ in range(60)
    )
    seen = {}
    for _ in range(12):
        west = 2.35 + chance.uniform(-2, 0) * size
        south = max(48.85 + chance.uniform(-2, 0) * size, -90)
        east, north = wrapped(west + 2 * size), min(south + 2 * size, 90)
        bbox = f"{west:.8f},{south:.8f},{east:.8f},{north:.8f}"
        for place, cell in cells(client, f"bbox={bbox}&zoom={zoom}").items():
            assert seen.setdefault(place, cell) == cell
    assert sum(cell["count"] for cell in seen.values()) <= 100


def test_a_box_across_the_antimeridian_has_the_cells_of_both_sides(client):
    rooms = Room.objects.bulk_create(
        RoomFactory.build(longitude=longitude, latitude=latitude)
        for longitude in (-180, -179.9, -178, 0, 178, 179.9, 180)
        for latitude in (-90, -1, 0, 1, 90)
    )
    found = cells(client, "bbox=177,-2,-177,2&zoom=8")
    size = 90 / 2**8
    check(found, [r for r in rooms if abs(r.latitude) < 2 and abs(r.longitude) > 177], size)
    assert {place[0] for place in found} == {177.890625, 179.6484375, -180, -178.2421875}


@pytest.mark.parametrize("bbox", ["-180,89,180,90", "-180,-90,180,-89"])
def test_the_poles_are_in_the_last_rows(client, bbox):
    rooms = Room.objects.bulk_create(
        RoomFactory.build(longitude=longitude, latitude=latitude)
        for longitude in (-180, 0.5, 180)
        for latitude in (-90, -89.9, 89.9, 90)
    )
    north = "89" in bbox.split(",")
    body = client.get(f"/rooms/clusters?bbox={bbox}&zoom=5").json()
    assert body["cell_size"] == 2.8125
    check(
        {tuple(cell["bbox"][:2]): cell for cell in body["cells"]},
        [room for room in rooms if (room.latitude > 0) == north],
        2.8125,
    )


def test_a_box_around_the_world_into_its_first_cell_has_each_cell_once(client):
    rooms = Room.objects.bulk_create(varied_rooms(50))
    check(cells(client, "bbox=10,-90,9.9,90&zoom=2"), rooms, 22.5)


# --- The grid


def boxes():
    chance = random.Random(7)
    for _ in range(300):
        width, height = 360 * chance.random() ** 6, 180 * chance.random() ** 6
        west, south = chance.uniform(-180, 180), chance.uniform(-90, 90 - height)
        yield Box(west, south, wrapped(west + width), south + height)
    yield WORLD
    yield Box(0, 0, 0, 0)
    yield Box(180, 90, -180, 90)
    yield Box(-180, 51, 180, 51.0001)


def test_no_box_and_no_zoom_has_more_cells_than_the_limit():
    for box in boxes():
        for zoom in range(MAX_ZOOM + 1):
            grid = Grid.covering(box, zoom)
            assert 1 <= len(grid.cells(box)) <= grid.most_cells(box) <= MAX_CELLS
            assert grid.level <= zoom + 2


def test_the_size_of_cells_does_not_change_while_one_pans():
    for zoom in range(3, MAX_ZOOM):
        width, height = 5 * 360 / 2**zoom / 2, 3 * 180 / 2**zoom / 2
        grids = {
            Grid.covering(Box(w, s, w + width, s + height), zoom) for w in (-180, 0.1, 77) for s in (-90, 0)
        }
        assert grids == {Grid(zoom + 2)}


@pytest.mark.parametrize("level", [1, 5, 12, 24])
def test_edges_belong_to_the_cell_that_begins_there(level):
    grid = Grid(level)
    chance = random.Random(level)
    with connection.cursor() as cursor:
        for _ in range(50):
            number = chance.randrange(grid.columns * grid.rows)
            box = grid.cell(number)
            cursor.execute(
                f"SELECT {grid.number_sql}"
                " FROM (VALUES (%s::float8, %s::float8)) AS room(longitude, latitude)",
                [box.west, box.south],
            )
            assert cursor.fetchone() == (number,)
            cursor.execute(
                f"SELECT {grid.box_sql} = box(point(%s, %s), point(%s, %s))"
                " FROM (VALUES (%s::bigint)) AS cell(number)",
                [box.west, box.south, box.east, box.north, number],
            )
            assert cursor.fetchone() == (True,)


# --- The wire


def test_geojson_is_by_suffix_and_by_accept(client):
    room = RoomFactory(longitude=0.5, latitude=51.5, price=39)
    by_suffix = client.get("/rooms/clusters.geojson?zoom=3")
    by_accept = client.get("/rooms/clusters?zoom=3", HTTP_ACCEPT="application/geo+json")
    assert by_suffix.headers["Content-Type"] == "application/geo+json"
    assert by_suffix.content == by_accept.content
    assert by_suffix.json() == {
        "type": "FeatureCollection",
        "cell_size": 11.25,
        "sampled": False,
        "count": 1,
        "features": [
            {
                "type": "Feature",
                "bbox": [0, 45, 11.25, 56.25],
                "geometry": {"type": "Point", "coordinates": [0.5, 51.5]},
                "properties": {
                    "count": 1,
                    "min_price": 39,
                    "median_price": 39,
                    "room": client.get(f"/rooms/{room.code}").json(),
                },
            }
        ],
    }
    assert client.get("/rooms/clusters.json").content == client.get("/rooms/clusters").content


def test_an_unchanged_map_is_a_304(client):
    RoomFactory()
    first = client.get("/rooms/clusters")
    again = client.get("/rooms/clusters", HTTP_IF_NONE_MATCH=first.headers["ETag"])
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("query", "parameter", "message"),
    [
        ("zoom=23", "zoom", "must be from 0 to 22"),
        ("zoom=-1", "zoom", "must be from 0 to 22"),
        ("zoom=1.5", "zoom", "must be a whole number"),
        ("zoom=", "zoom", "must be a whole number"),
        ("zoom=3&zoom=4", "zoom", "is given twice"),
        ("bbox=1,2,3", "bbox", "must be four numbers: minLon,minLat,maxLon,maxLat"),
        ("limit=5", "limit", "does not apply to this address"),
        ("order=price", "order", "does not apply to this address"),
        ("zom=3", "zom", "unknown parameter"),
    ],
)
def test_a_mistake_is_named(client, django_assert_num_queries, query, parameter, message):
    with django_assert_num_queries(0):
        response = client.get(f"/rooms/clusters?{query}")
    assert response.status_code == 400
    assert [(e["parameter"], e["message"]) for e in response.json()["errors"]] == [(parameter, message)]
    assert client.get(response.json()["try"]).status_code == 200


def test_zoom_is_of_the_map_only(client):
    for path in ("/rooms", "/rooms.csv", "/rooms/stats"):
        assert client.get(f"{path}?zoom=3").json()["errors"] == [
            {"parameter": "zoom", "message": "does not apply to this address"}
        ]


@pytest.mark.parametrize("path", ["/rooms/clusters.csv", "/rooms/clusters.html", "/rooms/clusters/"])
def test_other_formats_of_the_map_are_not_there(client, path):
    assert client.get(path).status_code == 404


def test_a_map_is_no_page_and_no_csv(client):
    assert client.get("/rooms/clusters", HTTP_ACCEPT="text/csv").status_code == 406
    assert client.post("/rooms/clusters").status_code == 405


# --- Samples


def test_a_map_of_many_rooms_is_sampled(client, thirty_thousand):
    body = client.get("/rooms/clusters?bbox=-1,51,1,52").json()
    assert body["sampled"] is True
    assert body["count"] == pytest.approx(30_000, rel=0.1)
    assert len(body["cells"]) > 200
    assert client.get("/rooms/clusters?bbox=-1,51,1,52").json() == body  # always the same sample


@pytest.mark.parametrize("query", ["", "filter_price__ne=66", "near=-150,10&within=20015115"])
@pytest.mark.parametrize("zoom", [0, 3, 22])
def test_single_rooms_are_on_a_sampled_map_at_every_zoom(client, thirty_thousand, query, zoom):
    rooms = [
        RoomFactory(longitude=longitude, latitude=latitude, price=77)
        for longitude in range(-175, -90, 23)
        for latitude in (-90, -40, 12, 55)
    ]
    body = client.get(f"/rooms/clusters?zoom={zoom}&{query}").json()
    assert body["sampled"] is True
    found = {tuple(cell["bbox"][:2]): cell for cell in body["cells"] if cell["bbox"][2] <= -90}
    check(found, rooms, body["cell_size"])


def taken_for_many(share):
    """By the Poisson distribution, how often a sample has more of LOOKED_AT rooms than `most_of_few`."""
    mean, most = LOOKED_AT * share, floor(most_of_few(share))
    return 1 - sum(exp(-mean) * mean**rooms / factorial(rooms) for rooms in range(most + 1))


@pytest.mark.parametrize(("share", "chance"), [(1 / 8, 6.2e-5), (1 / 64, 3.1e-4)])
def test_few_rooms_are_taken_for_many_as_often_as_is_said(share, chance):
    assert taken_for_many(share) == pytest.approx(chance, rel=0.01)


def test_few_rooms_are_taken_for_many_once_in_a_thousand_at_most():
    assert max(taken_for_many(n / 16_000) for n in range(1, 2_001)) < 1e-3


def test_a_sampled_cell_of_few_rooms_is_exact(client, thirty_thousand):
    rooms = RoomFactory.create_batch(LOOKED_AT, longitude=-120, latitude=30)
    RoomFactory.create_batch(LOOKED_AT + 1, longitude=-60, latitude=-30)
    found = cells(client, "zoom=3")
    assert found[corner(rooms[0], 11.25)]["count"] == LOOKED_AT
    assert found[(-67.5, -33.75)]["room"] is None


def test_a_cell_that_the_sample_misses_has_the_rooms_that_were_looked_at(client, thirty_thousand):
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT code FROM (SELECT gen_random_uuid() AS code FROM generate_series(1, 400)) AS made"
            " WHERE uuid_hash(code) > 0 LIMIT %s",
            [2 * LOOKED_AT],
        )
        codes = [code for (code,) in cursor.fetchall()]
    Room.objects.bulk_create(RoomFactory.build(code=code, longitude=-120, latitude=30) for code in codes)
    assert cells(client, "zoom=3")[(-123.75, 22.5)]["count"] == LOOKED_AT + 1


def test_a_match_among_many_rooms_of_a_sparse_cell_is_no_single_room(client, thirty_thousand):
    """Only the first rooms of the cell are looked at: others may match, too."""
    RoomFactory(longitude=-120, latitude=30, price=900_000)
    RoomFactory.create_batch(100, longitude=-120, latitude=30, price=2)
    cell = cells(client, "zoom=3&filter_price__ne=2").get((-123.75, 22.5))
    assert cell is None or cell["room"] is None
