"""What the map shows: its viewport for a search, and the image with links for browsers without scripts."""

import re
from html import unescape

import pytest
from django.test import Client

from rooms.api.geo import Box
from rooms.factories import RoomFactory
from rooms.map.geometry import MAX_LATITUDE
from rooms.pages.map import Viewport

HTML = {"Accept": "text/html"}


@pytest.mark.parametrize(
    "box",
    [
        Box(2.0, 41.3, 2.3, 41.5),
        Box(-180, -60, 180, 75),
        Box(179.5, -1, -179.5, 1),
        Box(170, 50, -130, 72),
        Box(-0.1, 80, 0.1, 84),
        Box(10, 10, 10, 10),
        Box(-180, -90, 180, 90),
    ],
)
def test_a_box_fits_its_viewport(box):
    shown = Viewport.around(box).box
    inner, outer = (
        (one.east - one.west) % 360 or (360 if one.west < one.east else 0) for one in (box, shown)
    )
    assert outer >= inner
    assert shown.south <= max(box.south, -85) <= min(box.north, 85) <= shown.north
    if outer < 360:
        assert (box.west - shown.west) % 360 <= outer
        assert (box.east - shown.west) % 360 <= outer


def test_one_point_is_shown_with_its_streets_around():
    assert Viewport.around(Box(2.1, 41.4, 2.1, 41.4)) == Viewport(15, 41.4, 2.1)


def test_a_box_across_the_antimeridian_is_shown_as_one():
    viewport = Viewport.around(Box(179.5, -1, -179.5, 1))
    assert abs(viewport.longitude) == 180
    assert viewport.zoom >= 8
    assert viewport.box.west > viewport.box.east


@pytest.mark.parametrize("latitude", [89.9, -89.9, 85.06, 0])
@pytest.mark.parametrize("longitude", [180, -180, 179.99999, -122.41942])
def test_poles_and_antimeridian_have_a_viewport_that_can_be_read_again(latitude, longitude):
    viewport = Viewport.around(Box(longitude, latitude, longitude, latitude))
    assert abs(viewport.latitude) <= MAX_LATITUDE
    assert Viewport.parse(viewport.text) == viewport


def test_a_walk_around_the_world_comes_back():
    viewport = Viewport(3, 10, 170)
    for _ in range(8 * 256 * 2 // 640 * 10):
        viewport = viewport.moved(0.5, 0)
        assert -180 <= viewport.longitude <= 180
    for _ in range(20):
        viewport = viewport.moved(0, -0.5)
    assert viewport.latitude <= 85.06
    assert viewport.zoomed(100).zoom == viewport.zoomed(101).zoom
    assert viewport.zoomed(-100).zoom == 0


@pytest.mark.parametrize(
    "text",
    ["", "1", "1/2", "a/b/c", "3/nan/0", "3/0/inf", "-1/0/0", "99/0/0", "3/90/0", "3/0/181", "3/0/0/0"],
)
def test_text_that_is_no_viewport_is_ignored(text):
    assert Viewport.parse(text) is None


@pytest.mark.django_db
def test_the_map_opens_on_the_search(client: Client) -> None:
    RoomFactory(latitude=41.4, longitude=2.15)
    RoomFactory(latitude=51.5, longitude=-0.1)

    def opened(query: str) -> Viewport:
        page = client.get(f"/rooms{query}", headers=HTML).content.decode()
        return Viewport.parse(re.search(r'data-view="([^"]*)"', page)[1])

    everything, circle, box = opened(""), opened("?near=2.15,41.4&within=1000"), opened("?bbox=-1,51,1,52")
    assert 41.4 < everything.latitude < 51.5
    assert (circle.latitude, circle.longitude) == pytest.approx((41.4, 2.15), abs=0.01)
    assert circle.zoom > box.zoom > everything.zoom
    assert opened("?bbox=-1,51,1,52&map=5/10/20") == Viewport(5, 10, 20)


@pytest.mark.django_db
def test_the_links_of_the_map_lead_to_the_first_page_of_a_search(client: Client) -> None:
    RoomFactory.create_batch(3)
    page = client.get("/rooms?limit=1", headers=HTML).content.decode()
    for relation in ("next", "next", "prev"):
        (url,) = re.findall(rf'<link rel="{relation}" href="([^"]*)"', page)
        page = client.get(unescape(url), headers=HTML).content.decode()
    assert "before=" in url
    (area,) = re.findall(r'class="area" href="([^"]*)"', page)
    (west,) = re.findall(r'<a href="([^"]*)" aria-label="Move west"', page)
    for url in (area, west):
        assert "before=" not in url
        assert client.get(unescape(url), headers=HTML).status_code == 200


@pytest.mark.django_db
@pytest.mark.parametrize("url", ["https://tiles.example/{z}/{x}/{y}.png", ""])
def test_tiles_of_a_service_are_drawn_where_they_are_set(client: Client, settings, url: str) -> None:
    settings.MAP_TILES_URL = url
    room = RoomFactory()
    for path in ("/rooms", f"/rooms/{room.code}"):
        page = client.get(path, headers=HTML).content.decode()
        assert f'data-tiles="{url}" data-attribution=' in page if url else "data-tiles" not in page


@pytest.mark.django_db
def test_without_rooms_the_map_shows_the_world(client: Client) -> None:
    page = client.get("/rooms", headers=HTML).content.decode()
    assert 'data-view="2/30/10"' in page


@pytest.mark.django_db
def test_pan_and_zoom_of_the_image_are_links_that_keep_the_search(client: Client) -> None:
    RoomFactory(latitude=41.4, longitude=2.15, price=50)
    page = client.get("/rooms?filter_price__lte=60", headers=HTML).content.decode()
    moves = dict(re.findall(r'<a href="([^"]*)" aria-label="((?:Zoom|Move) \w+)"', page))
    assert len(moves) == 6
    zooms = {}
    for url, label in moves.items():
        moved = client.get(unescape(url).partition("#")[0], headers=HTML)
        assert "1 room" in moved.content.decode()
        zooms[label] = int(re.search(r'data-view="(\d+)/', moved.content.decode())[1])
    assert zooms["Zoom in"] - zooms["Move west"] == zooms["Move west"] - zooms["Zoom out"] == 1
    area = unescape(re.search(r'class="area" href="([^"]*)"', page)[1]).partition("#")[0]
    assert "bbox=" in area
    assert "filter_price__lte=60" in area
    assert "1 room in this area" in client.get(area, headers=HTML).content.decode()


@pytest.mark.django_db
def test_the_image_has_a_mark_for_each_room_or_cluster(client: Client) -> None:
    RoomFactory(latitude=41.4, longitude=2.15, price=66)
    RoomFactory.create_batch(3, latitude=41.5, longitude=2.3, price=77)
    page = client.get("/rooms", headers=HTML).content.decode()
    image = client.get(unescape(re.search(r'<img src="(/rooms/map\.svg[^"]*)"', page)[1]))
    assert image.headers["Content-Type"] == "image/svg+xml"
    assert re.findall(r'<text class="count"[^>]*>([^<]*)', image.content.decode()) == [
        "66\N{NARROW NO-BREAK SPACE}€",
        "3",
    ]
    assert "from 77\N{NARROW NO-BREAK SPACE}€" in image.content.decode()


@pytest.mark.django_db
def test_marks_on_both_sides_of_the_antimeridian_are_beside_each_other(client: Client) -> None:
    RoomFactory(latitude=0, longitude=179.9, price=1)
    RoomFactory(latitude=0, longitude=-179.9, price=2)
    image = client.get("/rooms/map.svg?map=8/0/180").content.decode()
    places = {text: int(x) for x, text in re.findall(r'<text class="count" x="(\d+)"[^>]*>([^<]*)', image)}
    assert 0 < places["1\N{NARROW NO-BREAK SPACE}€"] < 320 < places["2\N{NARROW NO-BREAK SPACE}€"] < 640


@pytest.mark.django_db
def test_a_map_of_what_is_no_search_is_refused(client: Client) -> None:
    response = client.get("/rooms/map.svg?prize=1")
    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == "prize"
