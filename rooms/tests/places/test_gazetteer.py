"""The gazetteer's data and its two questions: which places have a name, which place is here."""

import json
import math
import random

import pytest

from rooms.places.gazetteer import describe, gazetteer


def names(text: str) -> list[str]:
    return [place.full for place in gazetteer().complete(text)]


@pytest.mark.parametrize(
    ("text", "first"),
    [
        ("London", "London, United Kingdom"),
        ("gràcia", "Gràcia, Barcelona, Spain"),
        ("GRACIA", "Gràcia, Barcelona, Spain"),
        ("raval", "el Raval, Barcelona, Spain"),
        ("l'hosp", "L'Hospitalet de Llobregat, Spain"),
        ("Londres", "London, United Kingdom"),
        ("München", "Munich, Germany"),
        ("munchen", "Munich, Germany"),
        ("barcelona, v", "Barcelona, Venezuela"),
        ("gracia, barc", "Gràcia, Barcelona, Spain"),
        ("springfield, il", "Springfield, IL, United States"),
        ("łódź", "Łódź, Poland"),
        ("lodz", "Łódź, Poland"),
    ],
)
def test_a_name_completes_to_the_most_populous_place(text, first):
    assert names(text)[0] == first


def test_an_exact_name_comes_before_longer_names_of_larger_places():
    found = names("york")
    assert found[0] == "York, United Kingdom"


def test_completion_is_by_population():
    found = gazetteer().complete("barc")
    populations = [place.population for place in found]
    assert populations == sorted(populations, reverse=True)
    assert len(found) == 8


@pytest.mark.parametrize("text", ["", " ", ",", "qqqq", "東京", "barcelona, qqqq", "'", "\0", "a" * 500])
def test_what_names_no_place_completes_to_nothing(text):
    assert names(text) == []


def test_an_ambiguous_name_has_all_its_places():
    assert len(gazetteer().named("Springfield")) > 5
    assert [place.full for place in gazetteer().named("Gràcia, Barcelona")] == ["Gràcia, Barcelona, Spain"]


@pytest.mark.parametrize(
    ("latitude", "longitude", "where"),
    [
        (41.4036, 2.1744, "in Sagrada Família, Barcelona"),
        (51.5072, -0.1276, "in London"),
        (41.36, 2.10, "in L'Hospitalet de Llobregat"),
        (65, -20, "near Sauðárkrókur"),
        (0, -30, ""),
        (90, 0, ""),
        (-90, 180, ""),
    ],
)
def test_a_point_has_the_name_of_its_district_and_city(latitude, longitude, where):
    assert describe(gazetteer().nearest(latitude, longitude)) == where


def test_the_nearest_place_may_lie_beyond_the_antimeridian():
    place, metres = gazetteer().nearest(-16.78, -179.99)
    assert place.longitude > 0
    assert metres < 100_000


def test_nearest_is_what_a_comparison_with_all_places_finds():
    places = gazetteer()
    positions = list(zip(places.latitudes, places.longitudes, strict=True))
    chance = random.Random(1)
    for _ in range(50):
        latitude, longitude = chance.choice(positions)
        latitude, longitude = latitude + chance.gauss(0, 0.2), longitude + chance.gauss(0, 0.2)
        _, metres = places.nearest(latitude, longitude)
        narrow = math.cos(math.radians(latitude))
        least = min(math.hypot(north - latitude, (east - longitude) * narrow) for north, east in positions)
        assert metres == pytest.approx(111_195 * least)


def test_places_responds_with_coordinates_and_a_radius(client):
    response = client.get("/places?q=gràcia")
    assert response.status_code == 200
    assert response["Cache-Control"] == "public, max-age=86400"
    gracia = response.json()[0]
    assert gracia.pop("population") > 100_000
    assert gracia == {
        "name": "Gràcia, Barcelona, Spain",
        "latitude": 41.4024,
        "longitude": 2.1564,
        "within": 2800,
    }


@pytest.mark.parametrize(
    ("query", "messages"),
    [
        ("", {"q": "is needed: the beginning of a place's name"}),
        ("?q=", {"q": "must be the beginning of a place's name, 1 to 100 characters"}),
        ("?q=%20", {"q": "must be the beginning of a place's name, 1 to 100 characters"}),
        ("?q=" + "a" * 101, {"q": "must be the beginning of a place's name, 1 to 100 characters"}),
        ("?q=%C2%85", {"q": "must be the beginning of a place's name, 1 to 100 characters"}),
        ("?q=a&q=b", {"q": "is given twice"}),
        ("?q=a&limit=3", {"limit": "does not apply to this address"}),
        ("?p=x", {"p": "unknown parameter", "q": "is needed: the beginning of a place's name"}),
    ],
)
def test_a_bad_question_for_places_names_each_mistake_and_a_query_that_works(client, query, messages):
    response = client.get("/places" + query)
    problem = response.json()
    assert response.status_code == 400
    assert {error["parameter"]: error["message"] for error in problem["errors"]} == messages
    assert client.get(problem["try"]).status_code == 200


def test_completion_reads_no_database(client, django_assert_num_queries, db):
    with django_assert_num_queries(0):
        assert json.loads(client.get("/places?q=lon").content)
