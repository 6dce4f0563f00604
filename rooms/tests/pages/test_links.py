"""Links to pages: tracking parameters and a slash at the end lead to the page."""

from urllib.parse import parse_qs, urlsplit

import pytest

from rooms.factories import RoomFactory
from rooms.pages.links import TRACKING

pytestmark = pytest.mark.django_db

CODE = "f853578c-fc0f-4e65-81b8-566c5dffa35a"
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


def browse(client, url, **options):
    return client.get(url, HTTP_ACCEPT=BROWSER, **options)


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("/rooms?fbclid=IwAR0&utm_source=news", "/rooms"),
        (
            "/rooms?utm_source=a&filter_price__lt=66&gclid=x&order=price,-size",
            "/rooms?filter_price__lt=66&order=price,-size",
        ),
        ("/rooms?UTM_Source=a&limit=5", "/rooms?limit=5"),
        ("/rooms?utm_whatever=1&bbox=1&bbox=2&bbox=3&bbox=4", "/rooms?bbox=1&bbox=2&bbox=3&bbox=4"),
        ("/rooms?filter_price__lt=&limit=5&fbclid=1", "/rooms?limit=5"),
        ("/rooms?filter_price__lt=&limit=5", "/rooms?limit=5"),
        ("/rooms/stats?filter_price__lt=&filter_price__gt=5", "/rooms/stats?filter_price__gt=5"),
        (f"/rooms/{CODE}?utm_medium=mail", f"/rooms/{CODE}"),
        ("/docs?mc_cid=1", "/docs"),
    ],
)
def test_a_page_drops_tracking_parameters_by_a_redirect(client, django_assert_num_queries, url, target):
    RoomFactory(code=CODE)
    with django_assert_num_queries(0):
        response = browse(client, url)
    assert (response.status_code, response.headers["Location"]) == (302, target)
    assert "Accept" in response.headers["Vary"]
    assert browse(client, target).status_code == 200


@pytest.mark.parametrize("name", sorted(TRACKING))
def test_every_known_tracking_parameter_leads_to_the_page(client, name):
    response = browse(client, f"/rooms?{name}=1&filter_price__lt=66")
    assert response.headers["Location"] == "/rooms?filter_price__lt=66"


def test_wrong_parameters_stay_errors_of_the_page(client):
    response = browse(client, "/rooms?fbclid=1&prize=66", follow=True)
    assert response.redirect_chain == [("/rooms?prize=66", 302)]
    assert response.status_code == 400
    assert "filter_price__eq" in response.content.decode()


@pytest.mark.parametrize("path", ["/rooms", "/rooms.json", "/rooms.csv", "/rooms/stats", f"/rooms/{CODE}"])
def test_programs_get_400_for_tracking_parameters(client, path):
    response = client.get(f"{path}?fbclid=1&utm_source=x")
    assert response.status_code == 400
    assert [error["parameter"] for error in response.json()["errors"]] == ["fbclid", "utm_source"]


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("/rooms/", "/rooms"),
        ("/rooms/?filter_price__lt=66&order=price,-size", "/rooms?filter_price__lt=66&order=price,-size"),
        ("/rooms/?fbclid=a%20b%25", "/rooms?fbclid=a%20b%25"),
        ("/rooms/stats/?limit=1", "/rooms/stats?limit=1"),
        (f"/rooms/{CODE}/", f"/rooms/{CODE}"),
        ("/docs/", "/docs"),
    ],
)
def test_a_slash_at_the_end_leads_to_the_url_without(client, django_assert_num_queries, url, target):
    with django_assert_num_queries(0):
        response = client.get(url)
    assert (response.status_code, response.headers["Location"]) == (302, target)
    assert client.post(url).status_code == 405


def test_a_shared_link_leads_to_its_rooms(client):
    RoomFactory(price=60)
    RoomFactory(price=70)
    response = browse(client, "/rooms/?filter_price__lt=66&fbclid=IwAR0&utm_source=news", follow=True)
    last, _ = response.redirect_chain[-1]
    assert parse_qs(urlsplit(last).query) == {"filter_price__lt": ["66"]}
    assert '<h1 aria-live="polite">1 room</h1>' in response.content.decode()


def test_a_place_is_taken_away_with_the_field_that_needs_it(client):
    RoomFactory(latitude=0, longitude=0)
    page = browse(client, "/rooms?near=0,0&fields=price,distance&filter_price__gte=0").content.decode()
    assert 'href="/rooms?filter_price__gte=0" aria-label="without near a place"' in page
