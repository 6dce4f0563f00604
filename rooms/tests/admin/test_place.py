"""The list of rooms by place: an area of the map, what is near a room, and the map itself."""

import re
from html import unescape
from urllib.parse import quote

import pytest

from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.admin.pages import page_text

LIST = "/admin/rooms/room/"
pytestmark = pytest.mark.django_db

BARCELONA = {"latitude": 41.4, "longitude": 2.15}


def listed(response):
    """The rooms listed, in order."""
    return list(response.context["cl"].result_list)


@pytest.fixture
def rooms():
    """Rooms in Barcelona, 1.1 km north of there, in London, and on both sides of the antimeridian."""
    return {
        name: RoomFactory(price=price, size=20, latitude=latitude, longitude=longitude)
        for name, price, latitude, longitude in (
            ("here", 40, 41.4, 2.15),
            ("north", 60, 41.41, 2.15),
            ("london", 80, 51.5, -0.12),
            ("east", 90, -17.0, 179.9),
            ("west", 95, -17.0, -179.9),
        )
    }


# --- In this area


def test_the_list_is_restricted_to_an_area_and_a_chip_removes_that(as_editor, rooms):
    response = as_editor.get(LIST, {"bbox": "2,41.3,2.3,41.405", "price__lte": "50"})
    assert listed(response) == [rooms["here"]]
    chips = dict(response.context["cl"].chips)
    without = chips["area of the map in la Marina de Port, Barcelona"]
    assert "bbox" not in without
    assert listed(as_editor.get(LIST + without)) == [rooms["here"]]
    assert "Remove the filter area of the map in la Marina de Port, Barcelona" in page_text(response)


def test_an_area_crosses_the_antimeridian(as_editor, rooms):
    response = as_editor.get(LIST, {"bbox": "179,-20,-179,-10", "o": "3"})
    assert listed(response) == [rooms["east"], rooms["west"]]
    assert len(response.context["cl"].chips) == 1


def test_a_bulk_action_on_all_rooms_of_an_area_takes_no_other(client, boss, rooms):
    client.force_login(boss)
    url = f"{LIST}?bbox=2,41.3,2.3,41.5"
    form = {"action": "delete_selected", "_selected_action": rooms["here"].pk, "select_across": "1"}
    page = client.post(url, form)
    fingerprint = re.search(r'name="fingerprint" value="([^"]*)"', page.content.decode())[1]
    client.post(url, form | {"fingerprint": fingerprint, "confirm": "yes"})
    assert set(Room.objects.all()) == {rooms["london"], rooms["east"], rooms["west"]}


def test_an_export_of_an_area_has_its_rooms(as_editor, rooms):
    url = f"{LIST}export/?bbox=2,41.3,2.3,41.5"
    assert "2 rooms" in page_text(as_editor.get(url))
    response = as_editor.post(url, {"format": "0", "resource": "0"})
    lines = b"".join(response.streaming_content).decode().splitlines()
    assert len(lines) == 3


def test_an_export_of_the_rooms_near_a_place_begins_with_the_nearest(as_editor, rooms):
    url = f"{LIST}export/?near=2.15,41.41&within=2000"
    response = as_editor.post(url, {"format": "0", "resource": "0"})
    lines = b"".join(response.streaming_content).decode().splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == [str(rooms["north"].code), str(rooms["here"].code)]


def test_an_area_is_saved_as_a_filter_but_not_what_the_map_shows(as_editor, rooms):
    form = {"name": "Gràcia", "query": "bbox=2,41.3,2.3,41.5&map=9/41.4/2.1&p=2"}
    as_editor.post(f"{LIST}filters/", form)
    (saved,) = as_editor.get(LIST).context["saved_filters"]
    assert saved.query == "bbox=2%2C41.3%2C2.3%2C41.5"


# --- Near a room


def test_rooms_near_a_place_come_nearest_first_with_their_distance(as_editor, rooms):
    response = as_editor.get(LIST, {"near": "2.15,41.41", "within": "2000"})
    assert listed(response) == [rooms["north"], rooms["here"]]
    text = page_text(response).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert "0 m away" in text
    assert "1.1 km away" in text
    assert [label for label, _ in response.context["cl"].chips] == [
        "within 2\N{NARROW NO-BREAK SPACE}km of a place in la Salut, Barcelona"
    ]
    assert listed(as_editor.get(LIST, {"near": "2.15,41.41", "within": "1000"})) == [rooms["north"]]


def test_a_chosen_order_replaces_that_by_distance(as_editor, rooms):
    query = {"near": "2.15,41.41", "within": "2000"}
    assert listed(as_editor.get(LIST, query | {"o": "3"})) == [rooms["here"], rooms["north"]]
    heads = as_editor.get(LIST, query).content.decode()
    assert "sorted descending" not in heads.split("</thead>")[0].split("<thead>")[1]


def test_list_and_form_lead_to_the_rooms_nearby(as_editor, rooms):
    url = f"{LIST}?near=2.15,41.4&within=1000"
    assert f'href="{url.replace("&", "&amp;")}"' in as_editor.get(LIST).content.decode()
    form = as_editor.get(f"{LIST}{rooms['here'].pk}/change/").content.decode()
    assert f'href="{url.replace("&", "&amp;")}">Nearby</a>' in form
    assert listed(as_editor.get(url)) == [rooms["here"]]


def test_next_and_previous_follow_the_distance(as_editor, rooms):
    filters = f"_changelist_filters={quote('near=2.15,41.41&within=5000')}"
    for name, direction, other in (
        ("north", "next", "here"),
        ("here", "previous", "north"),
        ("here", "next", "here"),
        ("london", "previous", "here"),
    ):
        response = as_editor.get(f"{LIST}{rooms[name].pk}/{direction}/?{filters}")
        assert response["Location"].startswith(f"{LIST}{rooms[other].pk}/change/"), (name, direction)


def test_a_bulk_action_takes_the_rooms_around_a_place(as_editor, rooms):
    url = f"{LIST}?near=2.15,41.4&within=2000"
    page = as_editor.post(
        url,
        {"action": "change_prices", "_selected_action": rooms["here"].pk, "select_across": "1"},
    )
    assert "2 rooms" in page_text(page)


# --- Odd values


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("bbox=1,2,3", "Area (bbox) must be four numbers: minLon,minLat,maxLon,maxLat, not '1,2,3'."),
        ("bbox=2,42,3,41", "Area (bbox) is upside down: minLat must not be above maxLat, not '2,42,3,41'."),
        ("bbox=nan,0,1,1", "Area (bbox) longitude must be a decimal number, not 'nan,0,1,1'."),
        ("bbox=0,0,1,91", "Area (bbox) latitude must be from -90 to 90, not '0,0,1,91'."),
        ("bbox=0,0,1,1e999", "Area (bbox) latitude must be from -90 to 90, not"),
        ("bbox=1,2,3,4&bbox=1,2,3,5", "The filter bbox is given twice."),
        ("bbox=1,2,3,4);DROP TABLE room", "Area (bbox) latitude must be a decimal number, not"),
        ("bbox=<script>alert(1)</script>,2,3,4", "Area (bbox) longitude must be a decimal number, not"),
        ("near=2.15,41.4", "Near (near) needs within, too, such as within=1000."),
        ("within=5", "Near (within) needs near, too, such as near=2.15,41.4."),
        ("near=2.15&within=5", "Near (near) must be two numbers: lon,lat, not '2.15'."),
        ("near=2.15,41.4&within=0", "Near (within) must be from 1 to 20015115, not '0'."),
        ("near=2.15,41.4&within=1km", "Near (within) must be a whole number, not '1km'."),
    ],
)
def test_an_invalid_place_is_an_error_and_selects_no_room(client, boss, rooms, query, message):
    client.force_login(boss)
    response = client.get(f"{LIST}?{query}")
    assert response.status_code == 200
    assert listed(response) == []
    assert message in page_text(response)
    assert "<script>alert" not in response.content.decode()
    form = {"action": "delete_selected", "_selected_action": rooms["here"].pk, "select_across": "1"}
    assert client.post(f"{LIST}?{query}", form).status_code == 302
    assert client.get(f"{LIST}export/?{query}").status_code == 302
    if query.startswith("bbox"):
        for url in (f"{LIST}map/?{query}&zoom=3", f"{LIST}map.svg?{query}"):
            assert client.get(url).status_code == 400
    assert Room.objects.count() == 5


@pytest.mark.parametrize("query", ["bbox=", "near=&within=", "map=", "map=x", "map=99/0/0", "map=1/2/3&map="])
def test_an_empty_place_and_any_view_filter_nothing(as_editor, rooms, query):
    assert len(listed(as_editor.get(f"{LIST}?{query}"))) == 5


# --- The map


def test_the_map_has_the_clusters_of_the_rooms_that_the_list_has(as_editor, rooms):
    url = re.search(r'data-clusters="([^"]*)"', as_editor.get(LIST, {"price__lte": "60"}).content.decode())[1]
    found = as_editor.get(f"{unescape(url)}&bbox=-180,-85,180,85&zoom=2").json()
    assert found["count"] == 2
    assert found == as_editor.get("/rooms/clusters?filter_price__lte=60&bbox=-180,-85,180,85&zoom=2").json()


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("", 5),
        ("q=40", 1),
        ("q=20m²", 5),
        ("changed=24h&price__gte=80", 3),
        ("size__isnull=true", 0),
        ("near=2.15,41.4&within=2000", 2),
        ("near=2.15,41.4&within=2000&q=40", 1),
    ],
)
def test_every_filter_of_the_list_holds_on_its_map(as_editor, rooms, query, number):
    found = as_editor.get(f"{LIST}map/?{query}&bbox=-180,-85,180,85&zoom=2").json()
    assert found["count"] == number
    assert len(listed(as_editor.get(f"{LIST}?{query}"))) == number


def test_the_map_opens_on_the_rooms_that_match(as_editor, rooms):
    zoom, latitude, longitude = as_editor.get(f"{LIST}map/?price__lte=60").json()["view"].split("/")
    assert int(zoom) >= 12
    assert (float(latitude), float(longitude)) == pytest.approx((41.405, 2.15), abs=0.01)
    assert as_editor.get(f"{LIST}map/?price__lte=1").json() == {"view": "2/30/10"}


def test_without_scripts_the_map_is_an_image_that_links_move(as_editor, rooms):
    first = as_editor.get(LIST).content.decode()
    assert "<img" not in first.split('id="map"')[1].split("</details>")[0]
    fit = unescape(re.search(r'<a href="([^"]*)#map">Show the map', first)[1])
    page = as_editor.get(f"{LIST}{fit}&price__lte=60")
    pane = page.content.decode().split('id="map"')[1].split("</details>")[0]
    image = unescape(re.search(r'<img src="([^"]*)"', pane)[1])
    svg = as_editor.get(image)
    assert svg["Content-Type"] == "image/svg+xml"
    assert "Map of the rooms of this list" in svg.content.decode()
    assert svg.content.decode().count('class="pin"') == 2
    for label in ("Zoom in", "Zoom out", "Move west", "Move north", "Move south", "Move east"):
        link = unescape(re.search(rf'<a href="([^"#]*)#map" aria-label="{label}"', pane)[1])
        moved = as_editor.get(LIST + link)
        assert "price__lte=60" in link
        assert len(listed(moved)) == 2
    area = unescape(re.search(r'<a href="([^"]*)">List only this area', pane)[1])
    assert listed(as_editor.get(LIST + area)) == [rooms["north"], rooms["here"]]
    assert "map=" not in area


def test_who_may_not_see_rooms_sees_no_map_of_them(client, django_user_model):
    for url in (f"{LIST}map/?zoom=1", f"{LIST}map.svg"):
        assert client.get(url).status_code == 302
    client.force_login(django_user_model.objects.create_user("nobody", is_staff=True))
    for url in (f"{LIST}map/?zoom=1", f"{LIST}map/", f"{LIST}map.svg"):
        assert client.get(url).status_code == 403


def test_viewers_see_the_map(client, viewer, rooms):
    client.force_login(viewer)
    assert client.get(f"{LIST}map/?bbox=-180,-85,180,85&zoom=2").json()["count"] == 5
    assert 'id="room-map"' in client.get(LIST).content.decode()


def test_a_pin_leads_to_the_form_with_the_lists_filters(as_editor, rooms):
    page = as_editor.get(LIST, {"price__lte": "60"}).content.decode()
    room = unescape(re.search(r'data-room="([^"]*)"', page)[1]).replace("CODE", str(rooms["here"].code))
    response = as_editor.get(room)
    assert response["Location"] == f"{LIST}{rooms['here'].pk}/change/?_changelist_filters=price__lte%3D60"
