"""One price has 90 % of 100,000 rooms: does the planner see that `price = 50` is no narrow filter?"""

from rooms.seeding import between, many_rooms, mostly

EXPECT = {"": 100_000}

EXPECT_PLAN = {
    "order=price,-size": "room_price",
    "order=-size": "room_size",
    "order=latitude": "room_latitude",
    "order=-longitude": "room_longitude",
}


def run() -> None:
    many_rooms(100_000, price=mostly(50, 0.9, otherwise=between(10, 500)))
