"""One member of staff for each thing that one may be allowed to do, and nine rooms to do it with."""

import secrets

from rooms.seeding import room, staff_user

EXPECT = {"": 9}


def run() -> None:
    password = secrets.token_urlsafe(9)
    staff_user("admin", superuser=True, password=password)
    staff_user("editor", group="Room editors", password=password)
    staff_user("viewer", group="Room viewers", password=password)
    for action in ("add", "change", "delete", "import", "export"):
        permissions = ["rooms.view_room", f"rooms.{action}_room"]
        staff_user(f"may_{action}", permissions=permissions, password=password)
    staff_user("nobody", password=password)
    for price in range(40, 130, 10):
        room(price=price)
