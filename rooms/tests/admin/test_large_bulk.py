"""Bulk changes in batches: any number of rooms, each once, and none that somebody else has changed."""

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from rooms.admin import place_filters
from rooms.admin.actions import bulk, large
from rooms.factories import RoomFactory
from rooms.models import Job, Room
from rooms.tests.admin.pages import page_text
from rooms.tests.admin.test_bulk import act, prices

pytestmark = pytest.mark.django_db(transaction=True)

JSON = {"Accept": "application/json"}


@pytest.fixture
def as_boss(client, boss, monkeypatch):
    """A client of a superuser, where two rooms are one transaction's and more are many."""
    monkeypatch.setattr(bulk, "MAX_ROOMS", 2)
    monkeypatch.setattr(large, "BATCH", 2)
    client.force_login(boss)
    yield client
    connection.close()


def preview(client, query="", **fields):
    return act(client, rooms=[], query=query, select_across="1", _selected_action="1", **fields)


def change_prices(client, query="", change="5", unit="euros", **fields):
    """Preview and confirm; the page of the change, which has not begun."""
    fields = {"action": "change_prices", "change": change, "unit": unit, **fields}
    shown = preview(client, query, **fields)
    return preview(client, query, **fields, confirm="yes", fingerprint=shown.context["fingerprint"])


def page_of(response):
    return response.redirect_chain[-1][0].partition("?")[0]


def finish(client, page):
    """Continue as the page's script does; the last state."""
    for _ in range(20):
        state = client.post(page, headers=JSON).json()
        if not state["running"]:
            return state
    raise AssertionError(state)


def test_prices_of_all_rooms_that_match_change_in_batches(as_boss, boss):
    rooms = [RoomFactory(price=price) for price in (10, 20, 30, 40, 50, 500)]
    query = "?price__lte=100"
    fields = {"action": "change_prices", "change": "10", "unit": "percent"}
    shown = preview(as_boss, query, **fields)
    text = page_text(shown)
    assert "5 prices will change by +10 %" in text
    assert f"{rooms[4].code} 50 55 +5" in text
    begun = preview(as_boss, query, **fields, confirm="yes", fingerprint=shown.context["fingerprint"])
    assert "0 of 5 rooms changed." in page_text(begun)
    assert prices() == [10, 20, 30, 40, 50, 500]
    assert finish(as_boss, page_of(begun))["text"] == "5 of 5 rooms changed."
    assert prices() == [11, 22, 33, 44, 55, 500]
    entries = LogEntry.objects.order_by("object_id")
    assert {(entry.user, entry.object_repr, entry.change_message) for entry in entries} == {
        (boss, str(room.code), f"price {room.price} → {room.price * 11 // 10} (+10 %)") for room in rooms[:5]
    }
    assert {entry.get_edited_object() for entry in entries} == set(rooms[:5])


@pytest.mark.parametrize("many", [False, True], ids=["few in the place", "many in the place"])
@pytest.mark.parametrize(
    "query", ["?bbox=-0.2,51.4,0,51.6", "?near=-0.1,51.5&within=9000", "?near=-0.1,51.5&within=9000&o=3"]
)
def test_rooms_of_a_place_change_in_batches_and_no_others(as_boss, monkeypatch, query, many):
    monkeypatch.setattr(place_filters, "MAX_COUNTED", -1 if many else 10_000)
    inside = [RoomFactory(price=10, latitude=51.5, longitude=-0.1 - n * 0.01) for n in range(5)]
    RoomFactory(price=10, latitude=41.4, longitude=2.15)
    begun = change_prices(as_boss, query, change="5")
    assert finish(as_boss, page_of(begun))["text"] == "5 of 5 rooms changed."
    assert prices() == [15] * len(inside) + [10]


def test_a_batch_is_one_transaction_and_a_stop_ends_after_it(as_boss, monkeypatch):
    monkeypatch.setattr("rooms.admin.jobs.pages.SECONDS", 0)
    RoomFactory.create_batch(5, price=10)
    page = page_of(change_prices(as_boss))
    assert as_boss.post(page, headers=JSON).json()["changed"] == 2
    assert prices() == [15, 15, 10, 10, 10]
    stopped = as_boss.post(page, {"cancel": "yes"}, headers=JSON).json()
    assert (stopped["running"], stopped["text"]) == (
        False,
        "Stopped: 2 of 5 rooms changed. The others are as they were.",
    )
    as_boss.post(page, headers=JSON)
    assert prices() == [15, 15, 10, 10, 10]
    assert LogEntry.objects.count() == 2


@pytest.fixture
def slow_writes():
    """A statement that writes four rooms is ended by its timeout, one that writes two is not."""
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '1s'")
        cursor.execute(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN PERFORM pg_sleep(0.3); RETURN NEW; END $$"
        )
        cursor.execute("CREATE TRIGGER wait BEFORE UPDATE ON room FOR EACH ROW EXECUTE FUNCTION wait()")
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP TRIGGER wait ON room")
        cursor.execute("DROP FUNCTION wait()")
        cursor.execute("RESET statement_timeout")


def test_batches_that_take_too_long_are_halved(as_boss, monkeypatch, slow_writes):
    monkeypatch.setattr(large, "BATCH", 4)
    RoomFactory.create_batch(5, price=10)
    state = finish(as_boss, page_of(change_prices(as_boss)))
    assert (state["text"], prices()) == ("5 of 5 rooms changed.", [15] * 5)
    assert Job.objects.get().batch_size <= 2
    assert LogEntry.objects.count() == 5


def test_an_undo_in_batches_that_take_too_long_goes_on_with_half(as_boss, monkeypatch, slow_writes):
    RoomFactory.create_batch(5, price=10)
    page = page_of(change_prices(as_boss))
    finish(as_boss, page)
    monkeypatch.setattr(large, "BATCH", 4)
    fields = {"undo": "yes", "fingerprint": as_boss.get(page).context["preview"].fingerprint}
    begun = as_boss.post(page, fields, follow=True)
    assert finish(as_boss, page_of(begun))["text"] == "5 of 5 rooms brought back."
    assert Job.objects.latest("pk").batch_size <= 2
    assert prices() == [10] * 5


def test_a_change_of_which_one_room_takes_too_long_is_503(as_boss, slow_writes):
    RoomFactory.create_batch(3, price=10)
    page = page_of(change_prices(as_boss))
    with connection.cursor() as cursor:
        cursor.execute("SET statement_timeout = '200ms'")
    as_boss.raise_request_exception = False
    responses = [as_boss.post(page, headers=JSON).status_code for _ in range(2)]
    assert (responses[-1], prices()) == (503, [10] * 3)


def test_an_interrupted_change_says_how_far_it_came_and_continues(as_boss, monkeypatch):
    monkeypatch.setattr("rooms.admin.jobs.pages.SECONDS", 0)
    RoomFactory.create_batch(5, price=10)
    page = page_of(change_prices(as_boss))
    as_boss.post(page, headers=JSON)
    opened = as_boss.get(page)
    assert "2 of 5 rooms changed." in page_text(opened)
    assert 'data-begins="no"' in opened.content.decode()
    without_script = as_boss.post(page, follow=True)
    assert "5 of 5 rooms changed." in page_text(without_script)
    assert prices() == [15] * 5


def test_rooms_that_others_change_or_add_after_the_preview_are_left_alone(as_boss):
    rooms = RoomFactory.create_batch(5, price=10)
    fields = {"action": "change_prices", "change": "5", "unit": "euros"}
    shown = preview(as_boss, **fields)
    Room.objects.filter(pk=rooms[0].pk).update(price=70)
    RoomFactory(price=80)
    begun = preview(as_boss, **fields, confirm="yes", fingerprint=shown.context["fingerprint"])
    Room.objects.filter(pk=rooms[3].pk).update(size=9)
    Room.objects.filter(pk=rooms[4].pk).delete()
    state = finish(as_boss, page_of(begun))
    assert state["text"] == (
        "2 of 5 rooms changed. Others changed or deleted 3 since the preview; these were left alone."
    )
    assert prices() == [70, 15, 15, 10, 80]


def test_a_change_that_was_not_yet_committed_at_the_preview_is_left_alone(as_boss, other):
    rooms = RoomFactory.create_batch(3, price=10)
    other.execute(f"BEGIN; UPDATE room SET price = 60 WHERE id = {rooms[1].pk}")
    page = page_of(change_prices(as_boss))
    other.execute("COMMIT")
    assert "2 of 3 rooms changed." in finish(as_boss, page)["text"]
    assert prices() == [15, 60, 15]


def test_a_room_that_changes_while_a_batch_waits_for_it_is_left_alone(as_boss, other):
    from rooms.tests.admin.pages import while_prices_change

    RoomFactory.create_batch(3, price=10)
    page = page_of(change_prices(as_boss))
    response = while_prices_change(other, lambda: as_boss.post(page, headers=JSON))
    assert response.json()["text"].startswith("0 of 3 rooms changed. Others changed or deleted 3")
    assert prices() == [60, 60, 60]
    assert not LogEntry.objects.exists()


def test_a_batch_waits_for_locked_rooms_without_losing_its_place(as_boss, other):
    rooms = RoomFactory.create_batch(5, price=10)
    page = page_of(change_prices(as_boss))
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 50")
    other.execute(f"BEGIN; SELECT FROM room WHERE id = {rooms[3].pk} FOR UPDATE")
    state = as_boss.post(page, headers=JSON).json()
    assert (state["running"], state["waits"], state["changed"]) == (True, True, 2)
    assert "Other work holds the next rooms" in state["text"]
    other.execute("ROLLBACK")
    assert finish(as_boss, page)["changed"] == 5
    assert prices() == [15] * 5


def test_the_same_confirmation_twice_changes_each_room_once(as_boss):
    RoomFactory.create_batch(5, price=10)
    fields = {"action": "change_prices", "change": "5", "unit": "euros"}
    fields["fingerprint"] = preview(as_boss, **fields).context["fingerprint"]
    pages = [page_of(preview(as_boss, **fields, confirm="yes")) for _ in range(2)]
    finish(as_boss, pages[0])
    assert finish(as_boss, pages[1])["text"].startswith("0 of 5 rooms changed. Others")
    assert prices() == [15] * 5
    assert LogEntry.objects.count() == 5


def test_many_rooms_are_deleted_in_batches_with_what_they_were(as_boss):
    rooms = [RoomFactory(price=price, size=None) for price in (10, 20, 30, 40, 500)]
    query = "?price__lte=100"
    shown = preview(as_boss, query, action="delete_selected")
    assert "Delete 4 rooms?" in page_text(shown)
    fingerprint = shown.context["fingerprint"]
    begun = preview(as_boss, query, action="delete_selected", confirm="yes", fingerprint=fingerprint)
    assert finish(as_boss, page_of(begun))["text"] == "4 of 4 rooms deleted."
    assert list(Room.objects.all()) == rooms[4:]
    entry = LogEntry.objects.get(object_id=str(rooms[0].pk))
    assert entry.is_deletion()
    assert entry.change_message.startswith(f"code {rooms[0].code}, size unknown, price 10, latitude")


def test_a_time_filter_counts_from_the_preview(as_boss, boss, monkeypatch):
    RoomFactory.create_batch(3, price=10)
    page = page_of(change_prices(as_boss, "?changed=today"))
    tomorrow = timezone.now() + timedelta(hours=23, minutes=59)
    monkeypatch.setattr(timezone, "now", lambda: tomorrow)
    as_boss.force_login(boss)  # the session has ended
    assert finish(as_boss, page)["changed"] == 3


@pytest.mark.parametrize("fingerprint", ["", "x", "\0", "eyJ9:1:x"])
def test_a_forged_confirmation_shows_the_preview(as_boss, fingerprint):
    RoomFactory.create_batch(3, price=10)
    for fields in (
        {"action": "change_prices", "change": "5", "unit": "euros"},
        {"action": "delete_selected"},
    ):
        shown = preview(as_boss, **fields, confirm="yes", fingerprint=fingerprint)
        assert "This is no longer what you were shown." in page_text(shown)
    assert not Job.objects.exists()


def test_another_selection_or_amount_than_previewed_is_not_confirmed(as_boss):
    RoomFactory.create_batch(3, price=10)
    fields = {"action": "change_prices", "change": "5", "unit": "euros"}
    fingerprint = preview(as_boss, **fields).context["fingerprint"]
    for query, changed in (("?price__gte=1", {}), ("", {"change": "4"}), ("", {"action": "delete_selected"})):
        shown = preview(as_boss, query, **fields | changed, confirm="yes", fingerprint=fingerprint)
        assert "This is no longer what you were shown." in page_text(shown)
    assert not Job.objects.exists()


def test_many_prices_beyond_the_limits_are_an_error(as_boss):
    rooms = [RoomFactory(price=price) for price in (3, 10, 20)]
    shown = preview(as_boss, action="change_prices", change="-5", unit="euros")
    assert "1 of the rooms would leave the limits of 0 to 1,000,000 euros per day." in page_text(shown)
    assert f"{rooms[0].code} 3 -2 -5" in page_text(shown)
    assert "confirm" not in shown.content.decode().partition("submit-row")[2].partition("</div>")[0]


@pytest.mark.parametrize("number", [1, 4], ids=["few rooms", "many rooms"])
def test_more_than_five_times_the_prices_has_to_be_meant(as_boss, number):
    RoomFactory.create_batch(number, price=10)
    fields = {"action": "change_prices", "change": "450", "unit": "percent"}
    fields["_selected_action"] = str(Room.objects.first().pk)
    fields["select_across"] = "1"
    shown = act(as_boss, rooms=[], **fields)
    assert "more than five times as high" in page_text(shown)
    fields |= {"confirm": "yes", "fingerprint": shown.context["fingerprint"]}
    assert "Tick this to go on." in page_text(act(as_boss, rooms=[], **fields))
    assert prices() == [10] * number
    done = act(as_boss, rooms=[], **fields, sure="on")
    if number > 1:
        finish(as_boss, page_of(done))
    assert prices() == [55] * number


def test_only_who_began_a_change_continues_or_stops_it(as_boss, editor, viewer):
    RoomFactory.create_batch(3, price=10)
    page = page_of(change_prices(as_boss))
    as_editor, as_viewer = Client(), Client()
    as_editor.force_login(editor)
    as_viewer.force_login(viewer)
    assert "boss began this" in page_text(as_editor.get(page))
    assert as_editor.post(page, headers=JSON).status_code == 403
    assert as_editor.post(page, {"cancel": "yes"}).status_code == 403
    assert as_viewer.get(page).status_code == 200
    assert as_viewer.post(page, headers=JSON).status_code == 403
    assert as_boss.get(page.replace(str(Job.objects.get().pk), "0")).status_code == 404
    assert prices() == [10] * 3


def test_a_change_is_not_continued_after_a_day(as_boss):
    RoomFactory.create_batch(3, price=10)
    page = page_of(change_prices(as_boss))
    Job.objects.update(seen_at=Job.objects.get().seen_at - large.LIFETIME)
    assert not as_boss.post(page, headers=JSON).json()["running"]
    assert prices() == [10] * 3


def test_old_and_frozen_rows_are_in_the_snapshot(as_boss):
    RoomFactory(price=10)
    with connection.cursor() as cursor:
        cursor.execute("VACUUM FREEZE room")
    snapshot = large.current_snapshot()
    Room.objects.create(price=1, latitude=1, longitude=1)
    with transaction.atomic():
        assert [room.price for room in large.in_snapshot(Room.objects.all(), snapshot)] == [10]
