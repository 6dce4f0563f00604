"""The search form: a place that is typed becomes a search of the API, mistakes stay beside their field."""

from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from django.http import QueryDict
from django.test import Client

from rooms.factories import RoomFactory
from rooms.pages import form
from rooms.pages.names import degrees

HTML = {"Accept": "text/html"}


def sent(client: Client, query: str) -> dict[str, str]:
    """The parameters of the search that a submitted form leads to."""
    response = client.get(f"/rooms?{query}", headers=HTML)
    assert response.status_code == 302, response.content
    return dict(parse_qsl(urlsplit(response.headers["Location"]).query))


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("place=41.40275,2.15", {"near": "2.15,41.40275"}),
        ("place=37.77493,-122.41942", {"near": "-122.41942,37.77493"}),
        ("place=", {}),
        ("place=&near=1,2&within=500&filter_price__lte=9", {"filter_price__lte": "9"}),
        ("place=&near=1,2&order=-distance", {}),
        ("place=41.4,2.15&near=1,2&within=500", {"near": "2.15,41.4", "within": "500"}),
        ("place=2,1&near=1,2&within=500", {"near": "1,2", "within": "500"}),
        ("place=41.4,2.15&bbox=1,2,3,4&after=xyz&order=price", {"near": "2.15,41.4", "order": "price"}),
    ],
)
def test_a_place_becomes_near_and_within(client, query, expected):
    assert sent(client, query) == expected


def test_a_name_is_searched_within_the_size_of_its_place(client):
    city, district = sent(client, "place=Barcelona"), sent(client, "place=gracia, barcelona")
    assert int(city["within"]) > int(district["within"]) >= 500
    assert sent(client, "place=Barcelona&within=1")["within"] == city["within"]


@pytest.mark.django_db
@pytest.mark.parametrize(
    "name", ["Barcelona, Spain", "San Francisco, CA, United States", "Sydney, Australia"]
)
def test_the_name_of_a_place_stands_in_the_field_again(client, name):
    url = client.get("/rooms", {"place": name}, headers=HTML).headers["Location"]
    page = client.get(url, headers=HTML).content.decode()
    assert f'name="place" value="{name}"' in page
    again = client.get(f"{url}&{QueryDict(f'place={name}').urlencode()}", headers=HTML)
    assert parse_qs(urlsplit(again.headers["Location"]).query) == parse_qs(urlsplit(url).query)


@pytest.mark.django_db
def test_an_ambiguous_name_offers_its_other_places(client):
    page = client.get("/rooms?place=Valencia", headers=HTML, follow=True).content.decode()
    assert "Other places of this name" in page
    assert (
        ">Valencia, Venezuela</a>" in page or ">València, Spain</a>" in page or ">Valencia, Spain</a>" in page
    )


@pytest.mark.parametrize(
    ("query", "parts"),
    [
        ("place=qqqqq&filter_price__lte=99", ['value="qqqqq"', "is in no gazetteer", 'value="99"']),
        ("place=95,2", ["latitude 95 must be from -90 to 90"]),
        ("filter_price__lte=abc&filter_size__gte=7", ['value="abc"', 'value="7"', "field-error"]),
        ("place=qqqqq&filter_price__lte=abc&order=nope", ["is in no gazetteer", 'value="abc"', "nope"]),
        ("filter_floor__lte=1", ["filter_floor__lte"]),
        ("filter_price__lte=abc", ["“abc” must be a whole number"]),
        (
            "near=2.159,41.3888&filter_size__gte=-4",
            ['value="Barcelona, Spain"', "“-4” must be from 1 to 100000"],
        ),
        ("within=5", ["<code>within</code> needs a place"]),
        ("order=nope&after=x", ["<code>order</code> must name fields"]),
    ],
)
def test_mistakes_stand_in_the_form_as_it_was_sent(client, query, parts):
    response = client.get(f"/rooms?{query}", headers=HTML)
    assert response.status_code == 400
    assert [part for part in parts if part not in response.content.decode()] == []


def test_what_the_form_has_no_field_for_is_not_sent_again(client):
    page = client.get("/rooms?foo=1&filter_price__ne=x&filter_price__eq=5", headers=HTML).content.decode()
    assert 'name="filter_price__eq"' in page
    assert 'name="foo"' not in page
    assert 'name="filter_price__ne"' not in page


@pytest.mark.django_db
@pytest.mark.parametrize(
    "query", ["view=nonsense", "map=nonsense", "view=table&view=cards", "map=1/2/3&map=x"]
)
def test_what_is_only_of_the_page_never_fails(client, query):
    RoomFactory()
    assert client.get(f"/rooms?{query}", headers=HTML).status_code == 200


@pytest.mark.parametrize("name", [form.MAP, form.PLACE, form.VIEW])
def test_the_api_refuses_what_is_only_of_the_page(client, name):
    response = client.get(f"/rooms.json?{name}=table")
    assert response.status_code == 400
    assert response.json()["errors"][0]["parameter"] == name


@pytest.mark.django_db
def test_filters_are_noindex_and_the_first_list_is_not(client):
    RoomFactory()
    noindex = '<meta name="robots" content="noindex'
    assert noindex not in client.get("/rooms", headers=HTML).content.decode()
    assert noindex in client.get("/rooms?filter_price__lte=99", headers=HTML).content.decode()


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (41.402754, "41.40275"),
        (-122.41942, "-122.41942"),
        (2.0, "2"),
        (-0.0000001, "0"),
        (180, "180"),
        (100, "100"),
    ],
)
def test_degrees_are_written_to_a_metre(value, text):
    assert degrees(value) == text
