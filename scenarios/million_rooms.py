"""A million rooms in twelve cities of Europe: how quick is it when it is large?"""

from rooms.seeding import many_rooms

EXPECT = {
    "": 1_000_000,
    "filter_price__gt=300&limit=10": 10,
}


def run() -> None:
    many_rooms(1_000_000)
