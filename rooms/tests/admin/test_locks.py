"""Lock conflicts in the admin: no submitted form is lost, and locks are short."""

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection

from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.admin.pages import page_text, while_prices_change
from rooms.tests.admin.test_form import ADD, page, typed
from rooms.tests.admin.test_odd_input import fields

LIST = "/admin/rooms/room/"
CODE = "f853578c-fc0f-4e65-81b8-566c5dffa35a"
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def as_boss(client, boss):
    client.force_login(boss)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 50")
    yield client
    connection.close()


def test_saving_a_locked_room_returns_the_form(as_boss, other):
    room = RoomFactory(price=39, size=20)
    form = typed(as_boss.get(page(room)), price=50, size=25)
    other.execute("BEGIN; SELECT FROM room FOR UPDATE")
    held = as_boss.post(page(room), form)
    assert held.status_code == 409
    assert "Other work holds this room, such as an import or a bulk change." in page_text(held)
    assert "Please correct the error" not in page_text(held)
    assert typed(held) == form
    other.execute("ROLLBACK")
    assert as_boss.post(page(room), typed(held)).status_code == 302
    room.refresh_from_db()
    assert (room.price, room.size, room.version) == (50, 25, 2)


def test_adding_a_locked_code_returns_the_form(as_boss, other):
    form = typed(as_boss.get(ADD), code=CODE, size=20, price=39, latitude=51.5, longitude=-0.1)
    other.execute(f"BEGIN; INSERT INTO room (code, price, latitude, longitude) VALUES ('{CODE}', 1, 1, 1)")
    held = as_boss.post(ADD, form)
    assert held.status_code == 409
    assert typed(held) == form
    other.execute("COMMIT")
    refused = as_boss.post(ADD, typed(held))
    assert "Room with this Code already exists." in page_text(refused)
    assert Room.objects.get().price == 1


def test_a_validation_error_is_reported_before_the_lock(as_boss, other):
    room = RoomFactory(price=39)
    form = typed(as_boss.get(page(room)), price=-1)
    other.execute("BEGIN; SELECT FROM room FOR UPDATE")
    assert as_boss.post(page(room), form).status_code == 200


@pytest.mark.parametrize("lock", ["SELECT FROM room FOR UPDATE", "LOCK TABLE room"])
@pytest.mark.parametrize("work", ["prices", "delete", "delete one", "save"])
def test_a_change_of_locked_rooms_has_a_retry_button(as_boss, other, work, lock):
    room = RoomFactory(price=39)
    key = {"_selected_action": str(room.pk), "confirm": "yes"}
    url, form = {
        "prices": (LIST, {"action": "change_prices", "change": "5", "unit": "euros", **key}),
        "delete": (LIST, {"action": "delete_selected", **key}),
        "delete one": (f"{LIST}{room.pk}/delete/", key),
        "save": (page(room), typed(as_boss.get(page(room)), price=44)),
    }[work]
    if work != "save":
        form["fingerprint"] = as_boss.post(url, form).context["fingerprint"]
    other.execute(f"BEGIN; {lock}")
    held = as_boss.post(url, form)
    assert held.status_code == 409
    assert "Other work holds" in page_text(held)
    assert not LogEntry.objects.exists()
    other.execute("ROLLBACK")
    sent = typed(held) if "adminform" in held.context else fields(held.content.decode(), url)
    assert as_boss.post(url, sent).status_code == 302
    assert list(Room.objects.values_list("price", flat=True)) == ([] if "delete" in work else [44])


def test_a_page_of_a_locked_table_is_503_with_the_reason(as_boss, other):
    other.execute("BEGIN; LOCK TABLE room")
    response = as_boss.get(LIST, HTTP_ACCEPT="text/html")
    assert (response.status_code, response["Retry-After"]) == (503, "2")
    assert "Other work holds the rooms" in page_text(response)


def test_a_change_before_locking_shows_the_preview_again(as_boss, other):
    room = RoomFactory(price=39)
    form = {"action": "change_prices", "_selected_action": str(room.pk), "change": "5", "unit": "euros"}
    form |= {"confirm": "yes", "fingerprint": as_boss.post(LIST, form).context["fingerprint"]}
    response = while_prices_change(other, lambda: as_boss.post(LIST, form))
    assert "This is no longer what you were shown." in page_text(response)
    assert f"{room.code} 60 65 +5" in page_text(response)
    assert not LogEntry.objects.exists()


@pytest.mark.parametrize("action", ["change_prices", "delete_selected"])
def test_a_bulk_change_locks_the_rooms_last(as_boss, django_capture_queries, action):
    room = RoomFactory(price=39)
    form = {"action": action, "_selected_action": str(room.pk), "change": "5", "unit": "euros"}
    form |= {"confirm": "yes", "fingerprint": as_boss.post(LIST, form).context["fingerprint"]}
    with django_capture_queries() as queries:
        as_boss.post(LIST, form)
    statements = [query["sql"] for query in queries]
    (locking,) = [index for index, sql in enumerate(statements) if "FOR UPDATE" in sql]
    assert any('INSERT INTO "django_admin_log"' in sql for sql in statements[:locking])
    assert statements[locking + 1].strip().startswith(("UPDATE room", 'DELETE FROM "room"'))
    after = statements[locking + 2 : statements.index("COMMIT", locking)]
    assert all("rooms.job" in sql or "room_job" in sql for sql in after)
