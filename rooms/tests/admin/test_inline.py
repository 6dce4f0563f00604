"""Prices and sizes that are edited in the list."""

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection
from django.test import Client

from rooms.factories import RoomFactory
from rooms.models import Job, Room
from rooms.tests.admin.test_undo import undo

LIST = "/admin/rooms/room/"
pytestmark = pytest.mark.django_db


def edit(client, room, name="price", value="45", version=1):
    return client.post(f"{LIST}{room.pk}/cell/", {"name": name, "value": value, "version": version})


@pytest.mark.parametrize(
    ("name", "value", "stored", "shown"),
    [("price", "45", 45, "45"), ("size", " 1234 ", 1234, "1,234"), ("size", "", None, "missing")],
)
def test_a_value_is_stored_with_its_history_and_can_be_undone(as_editor, editor, name, value, stored, shown):
    room = RoomFactory(price=39, size=20)
    saved = edit(as_editor, room, name, value).json()
    assert (saved["shown"], saved["version"], saved["message"]) == (shown, 2, "Saved.")
    room.refresh_from_db()
    assert (getattr(room, name), room.version) == (stored, 2)
    entry = LogEntry.objects.get()
    assert (entry.user, entry.object_id) == (editor, str(room.pk))
    assert entry.change_message.startswith(f"{name} ")
    assert saved["undo"] == f"{LIST}jobs/{Job.objects.get().pk}/"
    undo(as_editor)
    room.refresh_from_db()
    assert (room.price, room.size) == (39, 20)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("price", "", "Price is empty."),
        ("price", "x", "Price must be a whole number, not 'x'."),
        ("price", "-1", "Price must be from 0 to 1000000, not '-1'."),
        ("size", "0", "Size must be from 1 to 100000, not '0'."),
        ("size", "9" * 60, "Size must be a whole number of 50 characters at most"),
        ("size", "\0", "Size must be a whole number"),
    ],
)
def test_a_value_that_the_column_does_not_take_is_refused(as_editor, name, value, message):
    room = RoomFactory(price=39)
    refused = edit(as_editor, room, name, value).json()
    assert (refused["saved"], refused["invalid"]) == (False, True)
    assert refused["message"].startswith(message)
    assert Room.objects.get().version == 1


@pytest.mark.parametrize("version", ["1", "3", "", "x", "99999999999999999999"])
def test_another_version_than_was_shown_is_a_conflict(as_editor, version):
    room = RoomFactory(price=39)
    Room.objects.update(price=60)
    told = edit(as_editor, room, version=version).json()
    assert (told["saved"], told["invalid"]) == (False, False)
    assert "changed this room meanwhile: its price is 60." in told["message"]
    assert (told["shown"], told["version"]) == ("60", 2)
    assert Room.objects.get().price == 60
    assert not LogEntry.objects.exists()


def test_the_same_value_is_no_change(as_editor):
    room = RoomFactory(price=39)
    assert edit(as_editor, room, value="39").json()["undo"] == ""
    assert (Room.objects.get().version, LogEntry.objects.count(), Job.objects.count()) == (1, 0, 0)


@pytest.mark.parametrize("name", ["code", "latitude", "version", "id", ""])
def test_other_columns_are_not_edited_in_the_list(as_editor, name):
    assert edit(as_editor, RoomFactory(), name, "1").status_code == 404


def test_an_edit_takes_the_right_to_change_rooms_a_room_and_a_token(client, viewer, boss):
    room = RoomFactory(price=39)
    client.force_login(viewer)
    assert edit(client, room).status_code == 403
    assert "list.js" not in client.get(LIST).content.decode()
    client.force_login(boss)
    assert "list.js" in client.get(LIST).content.decode()
    assert client.get(f"{LIST}{room.pk}/cell/").status_code == 405
    for key in ("0", "9" * 30):
        assert client.post(f"{LIST}{key}/cell/", {"name": "price", "value": "1"}).status_code == 404
    cross_site = Client(enforce_csrf_checks=True)
    cross_site.force_login(boss)
    assert edit(cross_site, room).status_code == 403
    assert Room.objects.get().price == 39


@pytest.mark.django_db(transaction=True)
def test_an_edit_of_a_locked_room_is_a_conflict(as_editor, other):
    room = RoomFactory(price=39)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 50")
    other.execute("BEGIN; SELECT FROM room FOR UPDATE")
    held = edit(as_editor, room).json()
    assert (held["saved"], held["invalid"], held["message"][:10]) == (False, True, "Other work")
    other.execute("ROLLBACK")
    assert edit(as_editor, room).json()["saved"]
