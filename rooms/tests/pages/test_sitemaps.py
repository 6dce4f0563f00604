"""What search engines read: robots.txt and sitemaps."""

import re

import pytest

from rooms.factories import RoomFactory
from rooms.pages import sitemaps

pytestmark = pytest.mark.django_db


def locations(client, path):
    response = client.get(path)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "application/xml"
    found = re.findall(r"<loc>http://testserver(/[^<]*)</loc>", response.content.decode())
    assert response.content.decode().count("<loc>") == len(found)
    return found


@pytest.mark.parametrize("number", [0, 1, 40])
def test_the_sitemaps_have_every_room_once(client, number):
    codes = {f"/rooms/{room.code}" for room in RoomFactory.create_batch(number)}
    found = [url for path in locations(client, "/sitemap.xml") for url in locations(client, path)]
    assert set(found) == codes
    assert len(found) == number


@pytest.mark.parametrize(("share", "files"), [(50, 1), (10, 16), (0.01, 256)])
def test_many_rooms_are_spread_over_files_by_their_code(client, monkeypatch, share, files):
    rooms = RoomFactory.create_batch(40)
    monkeypatch.setattr(sitemaps, "SHARE", share)
    index = locations(client, "/sitemap.xml")
    assert len(index) == files
    assert sum(len(locations(client, path)) for path in index) == len(rooms)


def test_robots_names_the_sitemap_and_keeps_filters_out(client):
    text = client.get("/robots.txt").content.decode()
    assert re.findall(r"^Sitemap: (.*)", text, re.MULTILINE) == ["http://testserver/sitemap.xml"]
    assert "Disallow: /rooms?" in text
    assert "Disallow: /rooms\n" not in text
