"""The corners of the earth and of the table: poles, antimeridian, limits, missing sizes, ties everywhere."""

import re

from django.test import Client

from rooms.seeding import room

POLES = {"00000000-0000-4000-8000-000000000001", "00000000-0000-4000-8000-000000000002"}
ANTIMERIDIAN = {
    "00000000-0000-4000-8000-000000000003",
    "00000000-0000-4000-8000-000000000004",
    "00000000-0000-4000-8000-000000000005",
    "00000000-0000-4000-8000-000000000006",
}
TIES = [f"00000000-0000-4000-8000-0000000001{n:02}" for n in range(20)]

EXPECT = {
    "": 31,
    "filter_latitude__in=90,-90": POLES,
    "bbox=179,-20,-179,-15": ANTIMERIDIAN,  # Fiji: the box crosses the antimeridian
    "near=180,-17.5&within=30000": ANTIMERIDIAN,
    "near=0,90&within=1000": 1,  # every longitude is the same place at a pole
    "filter_price__eq=0": 1,
    "filter_size__isnull=true": 2,
    "filter_price__eq=77": TIES,  # ties come in the order of entry, whatever they are sorted by …
    "filter_price__eq=77&order=price": TIES,
    "filter_price__eq=77&order=size": TIES,
    "filter_price__eq=77&order=latitude,longitude": TIES,
    "filter_price__eq=77&order=-price": TIES[::-1],  # … and backwards where that is
}


def run() -> None:
    room(code="00000000-0000-4000-8000-000000000001", latitude=90, longitude=0)
    room(code="00000000-0000-4000-8000-000000000002", latitude=-90, longitude=135)
    room(code="00000000-0000-4000-8000-000000000003", latitude=-17.5, longitude=180)
    room(code="00000000-0000-4000-8000-000000000004", latitude=-17.5, longitude=-180)
    room(code="00000000-0000-4000-8000-000000000005", latitude=-17.5, longitude=179.8)
    room(code="00000000-0000-4000-8000-000000000006", latitude=-17.5, longitude=-179.8)
    room(price=0, latitude=0, longitude=0)
    room(price=1_000_000, size=100_000)
    room(price=1, size=1)
    room(price=2, size=None)
    room(price=3, size=None)
    for code in TIES:
        room(code=code, price=77, size=20, latitude=51.5, longitude=-0.1)


def check(client: Client) -> None:
    """Pages of rooms with ties contain every room once."""
    codes: list[str] = []
    url: str | None = "/rooms?filter_price__eq=77&order=price,-size&limit=7"
    while url:
        response = client.get(url)
        codes += [found["code"] for found in response.json()]
        following = re.search('<([^>]+)>; rel="next"', response.headers["Link"])
        url = following and following[1]
    assert sorted(codes) == TIES
