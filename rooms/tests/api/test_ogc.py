"""OGC API – Features: its documents, its parameters, and GDAL as a client."""

import json
import re
import subprocess

import pytest

from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.conftest import insert_rooms

pytestmark = pytest.mark.django_db

ITEMS = "/ogc/collections/rooms/items"


def links_of(document):
    return {link["rel"]: link["href"] for link in document["links"]}


def test_every_document_is_found_from_the_landing_page(client):
    room = RoomFactory(longitude=2.17, latitude=41.38)
    landing = client.get("/ogc").json()
    links = links_of(landing)
    assert {"self", "service-desc", "service-doc", "conformance", "data"} == links.keys()
    for url in links.values():
        assert client.get(url).status_code == 200
    conforms = client.get(links["conformance"]).json()["conformsTo"]
    assert [url.rpartition("/")[2] for url in conforms] == ["core", "geojson"]
    (rooms,) = client.get(links["data"]).json()["collections"]
    assert rooms["extent"]["spatial"]["bbox"] == [[2.17, 41.38, 2.17, 41.38]]
    assert client.get(links_of(rooms)["self"]).json() == rooms
    page = client.get(links_of(rooms)["items"])
    assert page.headers["Content-Type"] == "application/geo+json"
    (feature,) = page.json()["features"]
    assert feature["id"] == str(room.code)
    one = client.get(f"{ITEMS}/{room.code}").json()
    assert links_of(one).keys() == {"self", "alternate", "collection"}
    assert {name: one[name] for name in feature} == feature


def test_the_extent_of_no_room_is_the_world(client):
    (box,) = client.get("/ogc/collections/rooms").json()["extent"]["spatial"]["bbox"]
    assert box == [-180, -90, 180, 90]


def test_pages_are_linked_and_counted(client):
    rooms = RoomFactory.create_batch(5)
    found, url = [], f"{ITEMS}?limit=2"
    while url:
        page = client.get(url).json()
        assert page["numberMatched"] == 5
        assert page["numberReturned"] == len(page["features"])
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", page["timeStamp"])
        found += [feature["id"] for feature in page["features"]]
        assert client.get(links_of(page)["self"]).json()["features"] == page["features"]
        if len(found) > 2:
            before = client.get(links_of(page)["prev"]).json()["features"]
            assert [feature["id"] for feature in before] == found[-len(page["features"]) - 2 :][:2]
        url = links_of(page).get("next")
    assert found == [str(room.code) for room in rooms]


def test_a_number_that_is_not_known_exactly_is_left_out(client):
    insert_rooms(15_000)
    assert "numberMatched" not in client.get(f"{ITEMS}?limit=1").json()
    assert client.get(f"{ITEMS}?limit=1&price=20").json()["numberMatched"] < 10_000


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("price=66", [0]),
        ("size=40&price=70", [1]),
        ("bbox=2,41,3,42", [0]),
        ("bbox=2,41,-100,3,42,100", [0]),
        ("bbox=170,-20,-170,-10", [1]),
        ("filter_price__lt=68", [0]),
        ("near=179,-17", [1, 0]),
        ("datetime=2020-01-01T00:00:00Z", [0, 1]),
        ("datetime=2020-01-01T00:00:00Z/..", [0, 1]),
        ("datetime=/2020-01-01T00:00:00.5%2B01:00", [0, 1]),
        ("limit=100000", [0, 1]),
    ],
)
def test_parameters_select_features(client, query, expected):
    rooms = [
        RoomFactory(price=66, size=30, longitude=2.17, latitude=41.38),
        RoomFactory(price=70, size=40, longitude=-179.9, latitude=-17),
    ]
    response = client.get(f"{ITEMS}?{query}")
    assert response.status_code == 200, response.content
    found = [feature["id"] for feature in response.json()["features"]]
    assert found == [str(rooms[index].code) for index in expected]


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("price=x", "price"),
        ("price=1&price=2", "price"),
        ("prize=5", "prize"),
        ("limit=0", "limit"),
        ("limit=x", "limit"),
        ("bbox=1,2,3", "bbox"),
        ("bbox=1,2,3,4,5,6,7", "bbox"),
        ("bbox=1,2,x,3,4,5", "bbox"),
        (f"limit={'9' * 51}", "limit"),
        ("bbox=0,50,0,10", "bbox"),
        ("datetime=yesterday", "datetime"),
        ("datetime=2020-01-01", "datetime"),
        ("datetime=2020-13-01T00:00:00Z", "datetime"),
        ("datetime=../..", "datetime"),
        ("datetime=..", "datetime"),
        ("datetime=", "datetime"),
        ("count=exact", "count"),
        ("after=x", "after"),
    ],
)
def test_bad_parameters_are_named(client, query, parameter, django_assert_num_queries):
    with django_assert_num_queries(0):
        response = client.get(f"{ITEMS}?{query}")
    assert response.status_code == 400
    body = response.json()
    assert [error["parameter"] for error in body["errors"]] == [parameter]
    assert client.get(body["try"]).status_code == 200


@pytest.mark.parametrize(
    "path", [f"{ITEMS}/00000000-0000-4000-8000-000000000000", f"{ITEMS}/x", "/ogc/collections/houses"]
)
def test_what_is_not_there_is_404(client, path):
    response = client.get(path)
    assert (response.status_code, response.json()["type"]) == (404, "ResourceError")


def test_pages_of_other_sites_may_read_it(client):
    for path in ("/ogc", ITEMS):
        response = client.get(path, HTTP_ORIGIN="https://elsewhere.example")
        assert response.headers["Access-Control-Allow-Origin"] == "*"


@pytest.mark.needs("ogrinfo")
@pytest.mark.django_db(transaction=True)
def test_gdal_reads_all_rooms_of_a_box(live_server):
    insert_rooms(3_000)
    inside = Room.objects.filter(longitude__range=(-0.5, 0.5), latitude__range=(51.2, 51.8))
    expected = {str(code) for code in inside.values_list("code", flat=True)}
    assert 500 < len(expected) < 1500
    run = subprocess.run(
        [
            *("ogr2ogr", "-f", "GeoJSON", "/vsistdout/", f"OAPIF:{live_server.url}/ogc", "rooms"),
            *("-spat", "-0.5", "51.2", "0.5", "51.8", "-oo", "PAGE_SIZE=100"),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert "ERROR" not in run.stderr
    features = json.loads(run.stdout)["features"]
    assert {feature.get("id") or feature["properties"]["code"] for feature in features} == expected
    assert len(features) == len(expected)
    summary = subprocess.run(
        ["ogrinfo", "-so", "-oo", "PAGE_SIZE=1000", f"OAPIF:{live_server.url}/ogc", "rooms"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Feature Count: 3000" in summary.stdout, summary.stdout + summary.stderr
    assert "price: Integer" in summary.stdout
