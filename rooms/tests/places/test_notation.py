"""Coordinates in the forms that people write, and in the URLs of maps."""

import doctest

import pytest

from rooms.places import notation
from rooms.places.notation import parse_coordinates


def test_the_examples_of_the_module_are_true():
    assert doctest.testmod(notation) == (0, 3)


@pytest.mark.parametrize(
    "text",
    [
        "41.4036, 2.1744",
        " 41.4036 , 2.1744 ",
        "41.4036 2.1744",
        "41.4036;2.1744",
        "(41.4036, 2.1744)",
        "41.4036°, 2.1744°",
        "41,4036 2,1744",
        "41,4036; 2,1744",
        "41.4036° N, 2.1744° E",
        "N 41.4036° E 2.1744°",
        "41°24.216'N 2°10.464'E",
        "41°24'12.96\"N 2°10'27.84\"E",
        "41° 24′ 12.96″ n, 2° 10′ 27.84″ e",
        "geo:41.4036,2.1744",
        "geo:41.4036,2.1744?z=17",
        "geo:41.4036,2.1744;u=35",
        "https://www.openstreetmap.org/#map=17/41.4036/2.1744",
        "https://www.openstreetmap.org/?mlat=41.4036&mlon=2.1744#map=12/40.0/3.0",
        "https://www.openstreetmap.org/#map=17/41.4036/2.1744&layers=T",
        "https://www.google.com/maps/@41.4036,2.1744,17z",
        "https://www.google.com/maps/place/X/@40.0,3.0,17z/data=!3m1!4b1!8m2!3d41.4036!4d2.1744!16z",
        "https://www.google.com/maps/search/?api=1&query=41.4036%2C2.1744",
        "https://www.google.com/maps/place/41.4036,2.1744",
        "https://maps.google.com/?q=41.4036,2.1744",
        "https://maps.google.com/maps?q=loc:41.4036,2.1744",
        "https://maps.apple.com/?ll=41.4036,2.1744&q=Pin",
        "https://maps.apple.com/place?coordinate=41.4036,2.1744&name=Pin",
        "https://www.bing.com/maps?cp=41.4036~2.1744&lvl=15",
        "https://www.bing.com/maps?cp=41.4036%7E2.1744",
        "https://www.bing.com/maps?sp=point.41.4036_2.1744_Sagrada",
    ],
)
def test_every_usual_form_of_a_place_is_understood(text):
    assert parse_coordinates(text) == (41.4036, 2.1744)


def test_south_and_west_are_negative():
    assert parse_coordinates("33°52'S 70°30'W") == (-33.86666667, -70.5)
    assert parse_coordinates("33.5°S, 70.5°O") == (-33.5, -70.5)
    assert parse_coordinates("−33.5, −70.5") == (-33.5, -70.5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Gràcia",
        "41.4",
        "41.4,",
        "1,2,3",
        "41.4 N",
        "https://example.com/",
        "geo:",
        "12 rooms 3",
        "1e5, 2",
    ],
)
def test_other_text_is_no_coordinates(text):
    assert parse_coordinates(text) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("91, 2", "latitude 91 must be from -90 to 90 degrees"),
        ("2, 181", "longitude 181 must be from -180 to 180 degrees"),
        ("https://maps.app.goo.gl/abc", "is a shortened address; open it and copy the long one"),
    ],
)
def test_impossible_places_are_refused_in_words(text, message):
    with pytest.raises(ValueError, match=message):
        parse_coordinates(text)
