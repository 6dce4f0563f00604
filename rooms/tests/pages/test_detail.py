"""The page of a room, the start page and the page of statistics."""

import json
import re
from html import unescape

import pytest

from rooms.factories import RoomFactory
from rooms.pages.detail import Rank
from rooms.pages.surroundings import Comparison, compare_prices

pytestmark = pytest.mark.django_db
HTML = {"Accept": "text/html"}
GRACIA = {"latitude": 41.40237, "longitude": 2.15641}


def page(client, path):
    response = client.get(path, headers=HTML)
    assert response.status_code == 200
    return unescape(response.content.decode()).replace("\N{NARROW NO-BREAK SPACE}", " ")


def test_a_room_is_named_by_its_size_place_and_price(client):
    room = RoomFactory(**GRACIA, size=38, price=66)
    text = page(client, f"/rooms/{room.code}")
    assert "<h1>38 m² room in Gràcia, Barcelona</h1>" in text
    assert "<title>38 m² room in Gràcia, Barcelona, 66 € a day · Rent-o-matic</title>" in text
    assert "1.74 €/m²" in text
    assert f'<link rel="canonical" href="http://testserver/rooms/{room.code}">' in text
    assert '<meta property="og:title" content="38 m² room in Gràcia, Barcelona, 66 € a day">' in text


def test_a_room_far_from_every_place_is_named_by_its_coordinates(client):
    room = RoomFactory(latitude=-60, longitude=-150, size=None)
    assert "<h1>Room at -60.0000, -150.0000</h1>" in page(client, f"/rooms/{room.code}")


def test_a_page_links_the_room_as_json_and_geojson(client):
    room = RoomFactory(**GRACIA)
    text = page(client, f"/rooms/{room.code}")
    for suffix, media_type in (("json", "application/json"), ("geojson", "application/geo+json")):
        url = f"http://testserver/rooms/{room.code}.{suffix}"
        assert text.count(f'href="{url}"') == 2
        response = client.get(url, headers=HTML)
        assert response.headers["Content-Type"].startswith(media_type)
        assert response.content == client.get(f"/rooms/{room.code}", headers={"Accept": media_type}).content


def test_a_page_is_the_same_for_staff_and_cacheable(client, admin_user):
    room = RoomFactory(**GRACIA)
    anonymous = client.get(f"/rooms/{room.code}", headers=HTML)
    client.force_login(admin_user)
    client.cookies["staff"] = "1"
    staff = client.get(f"/rooms/{room.code}", headers=HTML)
    assert staff.content == anonymous.content
    assert staff.headers["Cache-Control"] == "public, max-age=1"
    assert "Cookie" not in staff.headers["Vary"]
    assert staff.cookies == {}


def test_programs_find_the_room_in_the_page_as_json_ld(client):
    room = RoomFactory(**GRACIA, size=38, price=66)
    (text,) = re.findall(
        r'<script type="application/ld\+json">(.*?)</script>', page(client, f"/rooms/{room.code}")
    )
    data = json.loads(text)
    assert data["identifier"] == str(room.code)
    assert data["offers"]["priceSpecification"]["price"] == 66
    assert data["floorSize"]["value"] == 38


def test_a_price_is_ranked_among_those_within_a_kilometre(client):
    for price in range(10, 110, 10):
        RoomFactory(**GRACIA, price=price, size=10)
    RoomFactory(latitude=41.5, longitude=2.3, price=1)
    room = RoomFactory(**GRACIA, price=35, size=10)
    assert "Cheaper than 70 % of the 10 rooms within 1 km" in page(client, f"/rooms/{room.code}")


def test_few_rooms_around_are_no_comparison(client):
    rooms = RoomFactory.create_batch(5, **GRACIA)
    assert "Price here" not in page(client, f"/rooms/{rooms[0].code}")


@pytest.mark.parametrize(("own", "percent"), [(1, 100), (5, 62), (9, 0)])
def test_equal_values_count_half(own, percent):
    assert Rank([3, 5, 7, 8], own).percent_above == percent


def test_a_cheap_room_is_marked_in_the_list(client):
    RoomFactory.create_batch(12, **GRACIA, price=100)
    cheap = RoomFactory(**GRACIA, price=80)
    assert compare_prices([str(cheap.code)]) == {str(cheap.code): Comparison(-20)}
    assert "20 % below the rooms around" in page(client, "/rooms?filter_price__lt=100")


@pytest.mark.parametrize(
    ("percent", "text"), [(-12, "12 % below the rooms around"), (0, "usual"), (4, "usual"), (5, "5 % above")]
)
def test_small_differences_are_usual(percent, text):
    assert text in str(Comparison(percent))


def test_similar_rooms_are_of_its_price_and_size_and_near(client):
    room = RoomFactory(**GRACIA, price=60, size=30)
    like = RoomFactory(latitude=41.41, longitude=2.16, price=65, size=28)
    RoomFactory(**GRACIA, price=200, size=30)
    RoomFactory(latitude=51.5, longitude=0, price=60, size=30)
    text = page(client, f"/rooms/{room.code}")
    assert re.findall(r'<li class="card" data-code="([^"]*)"', text) == [str(like.code)]


def test_a_code_that_is_gone_has_a_page_with_a_search_field(client):
    response = client.get("/rooms/00000000-0000-4000-8000-000000000000", headers=HTML)
    assert response.status_code == 404
    text = response.content.decode()
    assert 'name="place"' in text
    assert 'href="/rooms"' in text


# --- The start page


def test_every_example_of_the_start_page_has_its_rooms(client):
    for n in range(30):
        RoomFactory(**GRACIA, price=20 + n, size=10 + n)
    text = page(client, "/")
    assert "30 rooms in Barcelona" in text
    examples = re.findall(r'<li><a href="(/rooms\?[^"]*)">([^<]*)</a> <small>(.*?) rooms?</small>', text)
    assert len(examples) == 3
    for url, _, number in examples:
        assert f"{number} room" in re.search(r"<h1[^>]*>([^<]*)", page(client, url))[1]


@pytest.mark.parametrize("rooms", [[], [{"size": None}], [{"latitude": -60, "longitude": -150}]])
def test_the_start_page_fits_few_and_odd_rooms(client, rooms):
    for room in rooms:
        RoomFactory(**room)
    assert 'name="place"' in page(client, "/")


def test_the_start_page_takes_no_parameters(client):
    assert client.get("/?x=1", headers=HTML).status_code == 400
    assert client.get("/?utm_source=x", headers=HTML).headers["Location"] == "/"


# --- The page of statistics


def test_statistics_are_a_page_for_browsers_and_json_for_programs(client):
    for n in range(20):
        RoomFactory(**GRACIA, price=20 + n, size=10 + n)
    assert client.get("/rooms/stats").json()["count"] == 20
    text = page(client, "/rooms/stats?filter_price__gte=25")
    assert "How prices spread: 15 rooms" in text
    assert "Gràcia, Barcelona" in text
    assert len(re.findall(r"<circle ", text)) > 10


def test_every_chart_of_the_statistics_has_its_table_and_an_honest_axis(client):
    for price in [*range(10, 110), 9_999]:
        RoomFactory(price=price, size=price // 4)
    page = client.get("/rooms/stats", headers=HTML).content.decode()
    assert (
        page.count("<svg") - page.count('class="meter"') == page.count("<summary>As a table</summary>") == 3
    )
    assert "all of them are from 10 to 9999" in page
    assert "<span>9999" not in page
    rates = [float(rate) for rate in re.findall(r"<td>(\d+\.\d\d)</td>", page)]
    assert len(rates) >= 8
    assert all(3 < rate < 6 for rate in rates[1:])


def test_a_district_of_the_statistics_leads_to_the_search_in_that_place(client):
    RoomFactory.create_batch(3, latitude=-33.8837, longitude=151.2128)
    (url,) = re.findall(r'<td><a href="([^"]*)">Surry Hills[^<]*</a>', page(client, "/rooms/stats"))
    assert "near=151.2128,-33.8837" in url
    assert '<h1 aria-live="polite">3 rooms around Surry Hills' in page(client, url)


@pytest.mark.parametrize("rooms", [[], [{"size": None}], [{"latitude": 89.9, "longitude": 180}]])
def test_the_page_of_statistics_fits_few_and_odd_rooms(client, rooms):
    for room in rooms:
        RoomFactory(**room)
    assert "How prices spread" in page(client, "/rooms/stats")
