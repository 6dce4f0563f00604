"""The tiles of the background map."""

import re
from html import unescape
from itertools import accumulate

import pytest

from rooms.map import tiles
from rooms.map.geometry import clip, degrees, mercator


def tile_of(latitude: float, longitude: float, zoom: int) -> tuple[int, int, int]:
    x, y = mercator(latitude, longitude)
    return zoom, int(x * 2**zoom), int(y * 2**zoom)


def texts(latitude: float, longitude: float, zoom: int) -> list[str]:
    return [name for name, _ in positions(*tile_of(latitude, longitude, zoom))]


def is_land(latitude: float, longitude: float, zoom: int) -> bool:
    """Whether a point is inside of an odd number of a tile's rings."""
    zoom, x, y = tile_of(latitude, longitude, zoom)
    across, down = (part * 2**zoom * tiles.SIZE % tiles.SIZE for part in mercator(latitude, longitude))
    inside = False
    for path in tiles.paths(zoom, x, y):
        numbers = [int(number) for number in re.findall(r"-?\d+", path)]
        points = list(zip(accumulate(numbers[::2]), accumulate(numbers[1::2]), strict=True))
        for (x1, y1), (x2, y2) in zip(points, points[1:] + points[:1], strict=True):
            if (y1 > down) != (y2 > down) and across < x1 + (down - y1) / (y2 - y1) * (x2 - x1):
                inside = not inside
    return inside


@pytest.mark.parametrize("zoom", [0, 2, 3, 5, 6, 9, 12])
@pytest.mark.parametrize(
    ("latitude", "longitude", "land"),
    [
        (41.45, 2.05, True),  # inland of Barcelona
        (40.5, 3.2, False),  # the Mediterranean
        (0, -30, False),  # the Atlantic
        (66.5, -179, True),  # Chukotka, beyond the antimeridian
        (66, 179, True),
        (-84, 0, True),  # Antarctica
        (-15, -47, True),  # Brazil
    ],
)
def test_land_is_land_and_sea_is_sea_at_every_zoom(latitude, longitude, land, zoom):
    assert is_land(latitude, longitude, zoom) == land


def test_names_come_with_the_zoom():
    assert "Barcelona" in texts(41.38879, 2.15899, 6)
    assert "Barcelona" not in texts(41.38879, 2.15899, 2)
    assert "Gràcia" not in texts(41.40237, 2.15641, 10)
    assert "la Vila de Gràcia" in texts(41.40315, 2.15687, 15)


def test_a_name_across_an_edge_is_drawn_in_both_tiles():
    for zoom, x, y in [(9, 259, 191), (7, 64, 47), (12, 2072, 1529), (13, 4093, 2724)]:
        left, right = (dict(positions(zoom, column, y)) for column in (x, x + 1))
        crossing = {name for name, at in left.items() if at + tiles.width(name) / 2 > tiles.SIZE}
        assert crossing <= set(right)


def positions(zoom: int, x: int, y: int) -> list[tuple[str, float]]:
    found = re.findall(r'<text[^>]* x="(-?[0-9]+)"[^>]*>([^<]+)</text>', tiles.tile(zoom, x, y))
    return [(unescape(name), float(left)) for left, name in found]


def test_the_projection_has_an_inverse():
    for latitude, longitude in [(0, 0), (85, 180), (-85, -180), (41.4, 2.15)]:
        assert degrees(*mercator(latitude, longitude)) == pytest.approx((latitude, longitude))


def test_clipping_cuts_a_triangle_at_both_bounds():
    triangle = [(0, 0), (10, 0), (0, 10)]
    assert sorted(clip(triangle, 0, 2, 5)) == [(2, 0), (2, 8), (5, 0), (5, 5)]
    assert clip(triangle, 0, 11, 12) == []


def test_a_tile_is_an_svg_image_that_caches_keep_for_a_day(client):
    response = client.get("/map/6/32/23.svg")
    assert response["Content-Type"] == "image/svg+xml"
    assert response["Cache-Control"] == "public, max-age=86400"
    again = client.get("/map/6/32/23.svg", headers={"If-None-Match": response["ETag"]})
    assert again.status_code == 304


@pytest.mark.parametrize("url", ["/map/19/0/0.svg", "/map/3/8/0.svg", "/map/3/0/8.svg", "/map/3/-1/0.svg"])
def test_a_tile_that_does_not_exist_is_a_404(client, url):
    assert client.get(url).status_code == 404


def test_the_whole_first_zooms_can_be_drawn():
    for zoom in range(5):
        for x in range(2**zoom):
            for y in range(2**zoom):
                assert tiles.tile(zoom, x, y).endswith("</svg>")
