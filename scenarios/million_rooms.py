"""A million rooms in twelve cities of Europe, and a member of staff: how quick is it when it is large?"""

from rooms.seeding import many_rooms, staff_user

EXPECT = {
    "": 1_000_000,
    "filter_price__gt=300&limit=10": 10,
}


def run() -> None:
    many_rooms(1_000_000)
    staff_user("demo", superuser=True)
