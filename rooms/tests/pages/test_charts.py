"""The charts: a bar for each bin, which is a link; points within the axes."""

import re
from html import unescape

import pytest
from django.test import Client

from rooms.columns import COLUMNS
from rooms.factories import RoomFactory
from rooms.pages import charts

HTML = {"Accept": "text/html"}


@pytest.mark.django_db
def test_the_histogram_has_a_bar_for_each_bin_and_each_leads_to_its_rooms(client: Client) -> None:
    for price in (10, 20, 30, 40, 1000):
        RoomFactory(price=price, size=None)
    bins = client.get("/rooms/stats").json()["price"]["histogram"]
    page = client.get("/rooms", headers=HTML).content.decode()
    bars = re.findall(r'<a href="([^"]*)" aria-label="[^"]*: (\d+) (rooms?)" tabindex="-1">', page)
    assert [int(number) for _, number, _ in bars] == [row["count"] for row in bins]
    assert {noun for _, number, noun in bars if number == "1"} == {"room"}
    assert {noun for _, number, noun in bars if number != "1"} == {"rooms"}
    for url, number, _ in bars:
        assert len(client.get(unescape(url)).json()) == int(number)


@pytest.mark.django_db
def test_the_axis_ends_where_the_bars_end(client: Client) -> None:
    for price in [*range(10, 110), 9_999]:
        RoomFactory(price=price, size=None)
    page = client.get("/rooms", headers=HTML).content.decode()
    (axis,) = re.findall(r'<p class="axis" aria-hidden="true"><span>(\d+)</span> <span>(\d+)(\+?)', page)
    assert (axis[0], axis[2]) == ("10", "+")
    assert int(axis[1]) <= 120


def test_a_bar_that_is_not_empty_is_visible() -> None:
    bins = [{"from": 0, "to": 10, "count": 100_000}, {"from": 10, "to": 20, "count": 1}]
    bars = charts.histogram([*bins, {"from": 20, "to": None, "count": 0}], COLUMNS["price"])
    assert [bar["height"] for bar in bars] == [charts.HEIGHT, 1.5, 0]
    assert [(bar["from"], bar["to"], bar["edge"]) for bar in bars] == [
        (0, 9, 10),
        (10, 19, 20),
        (20, None, 20),
    ]


def test_bars_of_a_sample_are_about_numbers() -> None:
    bins = [{"from": 0, "to": 10, "count": 12_345}]
    (bar,) = charts.histogram(bins, COLUMNS["price"], sampled=True)
    assert "about" in bar["label"]


@pytest.mark.parametrize(
    ("values", "own"),
    [([5], 5), ([5, 5, 5], 5), ([1, 2, 3], 100), (range(50, 100), 1), ([0], 9_999), (range(1_000), 500)],
)
def test_the_histogram_of_values_marks_the_own_one_once(values, own) -> None:
    bars = charts.values_histogram(list(values), own)
    assert [bar["own"] for bar in bars].count(True) == 1
    assert len(bars) <= charts.BARS + 1
    assert all(0 <= bar["x"] < charts.WIDTH for bar in bars)


def test_points_of_a_scatter_are_within_its_axes() -> None:
    points = [(size, 10 * size) for size in range(1, 100)] + [(9_999, 5)]
    chart = charts.scatter(points)
    assert (chart["x"], chart["y"]) == (98, 970)
    assert all(0 <= one["x"] <= 2 * charts.WIDTH for one in chart["points"])
    assert all(0 <= one["y"] <= 4 * charts.HEIGHT for one in chart["points"])
    assert "9999 m²" not in str(chart)


def test_a_scatter_without_points_or_with_one_at_zero_is_drawn() -> None:
    assert charts.scatter([])["points"] == []
    assert len(charts.scatter([(0, 0)])["points"]) == 1
