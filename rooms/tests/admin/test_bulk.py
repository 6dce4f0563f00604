"""Bulk actions: what the confirmation page shows is done, all or nothing."""

import pytest
from django.contrib.admin.models import LogEntry

from rooms.admin.actions import bulk
from rooms.admin.actions.prices import PriceForm
from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.admin.pages import page_text
from rooms.tests.conftest import insert_rooms

LIST = "/admin/rooms/room/"
pytestmark = pytest.mark.django_db


@pytest.fixture
def as_boss(client, boss):
    client.force_login(boss)
    return client


def act(client, action, rooms, query="", **fields):
    """Post an action with these rooms selected, as the list and the confirmation pages do."""
    keys = [str(room.pk) for room in rooms]
    return client.post(LIST + query, {"action": action, "_selected_action": keys, **fields}, follow=True)


def prices():
    return list(Room.objects.order_by("id").values_list("price", flat=True))


def test_prices_change_by_an_amount_after_a_preview_of_each(as_editor, editor):
    rooms = [RoomFactory(price=39), RoomFactory(price=100), RoomFactory(price=7)]
    asked = act(as_editor, "change_prices", rooms[:2])
    assert "2 rooms selected" in page_text(asked)
    shown = act(as_editor, "change_prices", rooms[:2], change="5", unit="euros", preview="yes")
    assert "2 prices will change by +5 euros per day" in page_text(shown)
    assert f"{rooms[0].code} 39 44 +5" in page_text(shown)
    assert prices() == [39, 100, 7]

    fingerprint = shown.context["fingerprint"]
    done = act(
        as_editor,
        "change_prices",
        rooms[:2],
        change="5",
        unit="euros",
        confirm="yes",
        fingerprint=fingerprint,
    )
    assert "Prices of 2 rooms changed by +5 euros per day." in page_text(done)
    assert prices() == [44, 105, 7]
    assert {(entry.user, entry.object_id, entry.change_message) for entry in LogEntry.objects.all()} == {
        (editor, str(rooms[0].pk), "price 39 → 44 (+5 euros per day)"),
        (editor, str(rooms[1].pk), "price 100 → 105 (+5 euros per day)"),
    }


@pytest.mark.parametrize("unit", ["percent", "euros"])
@pytest.mark.parametrize("change", [50, 10, 1, 0.5, -0.5, -10, -50, -99, -150, 9_999_999])
def test_few_and_many_prices_are_rounded_alike(change, unit):
    form = PriceForm({"change": change if unit == "percent" else int(change) or 1, "unit": unit})
    assert form.is_valid(), form.errors
    for price in [*range(1, 60), 100, 150, 250, 4_050, 1_000_000]:
        RoomFactory(price=price)
    few = [form.new_price(price) for price in prices()]
    many = Room.objects.annotate(new_price=form.new_price_sql()).order_by("id")
    assert list(many.values_list("new_price", flat=True)) == few


def test_percent_are_rounded_to_whole_euros_half_up(as_editor):
    rooms = [RoomFactory(price=price) for price in (10, 5, 1, 39)]
    shown = act(as_editor, "change_prices", rooms, change="-10", unit="percent", preview="yes")
    assert "2 prices will change by -10 %" in page_text(shown)
    assert "The other 2 stay the same after rounding." in page_text(shown)
    act(
        as_editor,
        "change_prices",
        rooms,
        change="-10",
        unit="percent",
        confirm="yes",
        fingerprint=shown.context["fingerprint"],
    )
    assert prices() == [9, 5, 1, 35]
    assert LogEntry.objects.count() == 2


def test_percent_that_round_to_the_same_price_change_nothing(as_editor):
    room = RoomFactory(price=5)
    shown = act(as_editor, "change_prices", [room], change="1", unit="percent", preview="yes", confirm="yes")
    assert "No price would change" in page_text(shown)
    assert LogEntry.objects.count() == 0


def test_prices_beyond_the_limits_are_an_error_and_none_changes(as_editor):
    rooms = [RoomFactory(price=3), RoomFactory(price=100)]
    shown = act(as_editor, "change_prices", rooms, change="-5", unit="euros", preview="yes")
    text = page_text(shown)
    assert "1 of the rooms would leave the limits of 0 to 1,000,000 euros per day." in text
    act(
        as_editor,
        "change_prices",
        rooms,
        change="-5",
        unit="euros",
        confirm="yes",
        fingerprint=shown.context["fingerprint"],
    )
    assert prices() == [3, 100]


def test_a_change_after_the_preview_shows_it_again(as_editor):
    rooms = [RoomFactory(price=39), RoomFactory(price=100)]
    shown = act(as_editor, "change_prices", rooms, change="5", unit="euros", preview="yes")
    Room.objects.filter(pk=rooms[0].pk).update(price=50)
    again = act(
        as_editor,
        "change_prices",
        rooms,
        change="5",
        unit="euros",
        confirm="yes",
        fingerprint=shown.context["fingerprint"],
    )
    assert "This is no longer what you were shown." in page_text(again)
    assert f"{rooms[0].code} 50 55 +5" in page_text(again)
    assert prices() == [50, 100]


def test_another_price_change_gets_its_own_preview(as_editor):
    room = RoomFactory(price=100)
    shown = act(as_editor, "change_prices", [room], change="-10", unit="percent", preview="yes")
    mark = shown.context["fingerprint"]
    again = act(
        as_editor, "change_prices", [room], change="-50", unit="percent", confirm="yes", fingerprint=mark
    )
    assert "This is no longer what you were shown." in page_text(again)
    assert f"{room.code} 100 50 -50" in page_text(again)
    assert prices() == [100]


def test_all_rooms_of_a_filtered_list_are_changed_and_no_others(as_editor):
    rooms = [RoomFactory(price=10), RoomFactory(price=20), RoomFactory(price=500)]
    query = "?price__lte=100"
    shown = act(
        as_editor,
        "change_prices",
        rooms[:1],
        query,
        select_across="1",
        change="1",
        unit="euros",
        preview="yes",
    )
    assert "2 rooms selected" in page_text(shown)
    act(
        as_editor,
        "change_prices",
        rooms[:1],
        query,
        select_across="1",
        change="1",
        unit="euros",
        confirm="yes",
        fingerprint=shown.context["fingerprint"],
    )
    assert prices() == [11, 21, 500]


@pytest.mark.parametrize(
    ("change", "unit", "message"),
    [
        ("", "euros", "This field is required."),
        ("0", "euros", "Zero changes nothing."),
        ("0.5", "euros", "Prices are whole euros."),
        ("abc", "euros", "Enter a number."),
        ("NaN", "percent", "Enter a number."),
        ("1e9", "percent", "Ensure that there are no more than"),
        ("5\0", "euros", "Enter a number."),
        ("5", "bananas", "Select a valid choice."),
    ],
)
def test_an_invalid_price_change_is_a_form_error(as_editor, change, unit, message):
    room = RoomFactory(price=39)
    response = act(as_editor, "change_prices", [room], change=change, unit=unit, confirm="yes")
    assert message in page_text(response)
    assert prices() == [39]


def test_deleting_rooms_is_confirmed_and_logged(as_boss):
    rooms = [RoomFactory(price=39, size=20), RoomFactory(), RoomFactory()]
    asked = act(as_boss, "delete_selected", rooms[:2])
    assert "Delete 2 rooms?" in page_text(asked)
    assert str(rooms[1].code) in page_text(asked)
    assert Room.objects.count() == 3
    done = act(as_boss, "delete_selected", rooms[:2], confirm="yes", fingerprint=asked.context["fingerprint"])
    assert "2 rooms deleted." in page_text(done)
    assert list(Room.objects.all()) == [rooms[2]]
    messages = dict(LogEntry.objects.values_list("object_id", "change_message"))
    assert messages[str(rooms[0].pk)].startswith(f"code {rooms[0].code}, size 20, price 39, latitude")


def test_one_room_is_deleted_after_a_page_and_logged(as_boss):
    room = RoomFactory()
    url = f"/admin/rooms/room/{room.pk}/delete/?_changelist_filters=price__gte%3D1"
    asked = as_boss.get(url)
    assert str(room.code) in page_text(asked)
    done = as_boss.post(url, {"confirm": "yes", "fingerprint": asked.context["fingerprint"]})
    assert done["Location"] == f"{LIST}?price__gte=1"
    assert not Room.objects.exists()
    entry = LogEntry.objects.get()
    assert entry.is_deletion()
    assert f"price {room.price}" in entry.change_message


def test_deleting_one_room_detects_a_change_meanwhile(as_boss):
    room = RoomFactory(price=39)
    url = f"/admin/rooms/room/{room.pk}/delete/"
    asked = as_boss.get(url)
    Room.objects.update(price=45)
    again = as_boss.post(url, {"confirm": "yes", "fingerprint": asked.context["fingerprint"]})
    assert "This is no longer what you were shown." in page_text(again)
    assert f"{room.code} {room.size} 45" in page_text(again)
    assert prices() == [45]
    as_boss.post(url, {"confirm": "yes", "fingerprint": again.context["fingerprint"]})
    assert prices() == []


def test_deleting_a_room_that_is_gone_is_a_message(as_boss):
    room = RoomFactory()
    url = f"/admin/rooms/room/{room.pk}/delete/"
    asked = as_boss.get(url)
    room.delete()
    gone = as_boss.post(url, {"confirm": "yes", "fingerprint": asked.context["fingerprint"]}, follow=True)
    assert "doesn’t exist" in page_text(gone)


def test_a_forged_confirmation_deletes_nothing(as_boss):
    room = RoomFactory()
    for fingerprint in ("", "x", "\0"):
        response = act(as_boss, "delete_selected", [room], confirm="yes", fingerprint=fingerprint)
        assert "nothing was done yet" in page_text(response)
    assert Room.objects.count() == 1


def test_up_to_ten_thousand_rooms_are_one_transaction_and_a_hundred_are_shown(as_boss):
    insert_rooms(10_001)
    rooms = list(Room.objects.order_by("id"))
    many = page_text(act(as_boss, "delete_selected", rooms[:1], select_across="1"))
    assert "So many rooms are deleted in batches" in many
    assert "The first 100 of 10,001." in many
    rooms[0].delete()
    shown = page_text(act(as_boss, "delete_selected", rooms[1:2], select_across="1"))
    assert "in batches" not in shown
    assert [str(room.code) in shown for room in rooms[1:102]] == [True] * 100 + [False]


def test_more_ticked_rooms_than_one_transaction_takes_is_an_error(as_boss, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_ROOMS", 2)
    rooms = RoomFactory.create_batch(3)
    assert "More than 2 rooms are ticked." in page_text(act(as_boss, "delete_selected", rooms))
    assert Room.objects.count() == 3


@pytest.mark.parametrize("key", ["x", "\0", "-1", "1 OR 1=1", "9" * 30])
def test_a_malformed_selection_is_400(as_boss, key):
    RoomFactory()
    response = as_boss.post(LIST, {"action": "delete_selected", "_selected_action": [key]})
    assert response.status_code == 400
    assert Room.objects.count() == 1


@pytest.mark.parametrize(
    "fields", [{"action": "nothing"}, {"action": ""}, {"index": "x"}, {"select_across": "x"}]
)
def test_odd_action_forms_are_pages(as_boss, fields):
    room = RoomFactory()
    assert act(as_boss, **{"action": "change_prices", "rooms": [room], **fields}).status_code == 200


@pytest.mark.parametrize(
    ("prices_before", "change", "prices_after"),
    [((5, 9), "-5", [0, 4]), ((999_990, 7), "10", [1_000_000, 17])],
    ids=["lowest", "highest"],
)
def test_prices_may_reach_their_limit(as_editor, prices_before, change, prices_after):
    rooms = [RoomFactory(price=price) for price in prices_before]
    shown = act(as_editor, "change_prices", rooms, change=change, unit="euros")
    confirmation = {"confirm": "yes", "fingerprint": shown.context["fingerprint"]}
    act(as_editor, "change_prices", rooms, change=change, unit="euros", **confirmation)
    assert prices() == prices_after


@pytest.mark.parametrize(("price", "change"), [(5, "-6"), (999_990, "11")], ids=["lowest", "highest"])
def test_prices_one_euro_past_their_limit_are_refused(as_editor, price, change):
    rooms = [RoomFactory(price=price), RoomFactory(price=100)]
    shown = act(as_editor, "change_prices", rooms, change=change, unit="euros")
    assert "1 of the rooms would leave the limits" in page_text(shown)
    confirmation = {"confirm": "yes", "fingerprint": shown.context["fingerprint"]}
    act(as_editor, "change_prices", rooms, change=change, unit="euros", **confirmation)
    assert prices() == [price, 100]


def test_as_many_rooms_as_an_action_takes_are_changed(as_editor, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_ROOMS", 2)
    rooms = [RoomFactory(price=39), RoomFactory(price=40)]
    shown = act(as_editor, "change_prices", rooms, change="5", unit="euros")
    confirmation = {"confirm": "yes", "fingerprint": shown.context["fingerprint"]}
    act(as_editor, "change_prices", rooms, change="5", unit="euros", **confirmation)
    assert prices() == [44, 45]
