"""What the bulk action makes of prices, and the figures of its preview."""

import pytest
from django.contrib.admin.models import LogEntry

from rooms.admin.actions import bulk
from rooms.admin.actions.prices import PriceForm
from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.admin.pages import page_text
from rooms.tests.admin.test_bulk import act, prices

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"change": "49", "unit": "set"}, [49, 49, 49, 49]),
        ({"change": "0", "unit": "set"}, [0, 0, 0, 0]),
        ({"change": "0", "unit": "euros", "ending": "5"}, [10, 45, 100, 995]),
        ({"change": "0", "unit": "euros", "ending": "9"}, [9, 49, 99, 999]),
        ({"change": "10", "unit": "percent", "ending": "9"}, [9, 49, 109, 1089]),
        ({"change": "10", "unit": "percent", "ending": "5"}, [15, 50, 110, 1095]),
        ({"change": "-3", "unit": "euros", "ending": "5"}, [10, 40, 95, 990]),
        ({"change": "47", "unit": "set", "ending": "9"}, [49, 49, 49, 49]),
    ],
    ids=str,
)
def test_a_rule_gives_the_same_prices_in_python_and_in_the_database(fields, expected):
    for price in (12, 44, 99, 994):
        RoomFactory(price=price)
    form = PriceForm(fields)
    assert form.is_valid(), form.errors
    rooms = Room.objects.order_by("pk").annotate(new_price=form.new_price_sql())
    assert list(rooms.values_list("new_price", flat=True)) == expected
    assert [form.new_price(room.price) for room in rooms] == expected


def test_prices_are_set_to_an_amount_and_the_title_says_so(as_editor):
    rooms = [RoomFactory(price=39), RoomFactory(price=60)]
    fields = {"change": "47", "unit": "set", "ending": "9"}
    shown = act(as_editor, "change_prices", rooms, **fields)
    assert "2 prices will change to 47 euros per day, ending in 9" in page_text(shown)
    confirmation = {"confirm": "yes", "fingerprint": shown.context["fingerprint"]}
    done = act(as_editor, "change_prices", rooms, **fields, **confirmation)
    assert "Prices of 2 rooms changed to 47 euros per day, ending in 9." in page_text(done)
    assert prices() == [49, 49]
    messages = set(LogEntry.objects.values_list("change_message", flat=True))
    assert "price 39 → 49 (to 47 euros per day, ending in 9)" in messages


@pytest.mark.parametrize("most", [10, 2], ids=["few rooms", "many rooms"])
def test_the_preview_has_figures_and_the_largest_changes_first(as_editor, monkeypatch, most):
    monkeypatch.setattr(bulk, "MAX_ROOMS", most)
    rooms = [RoomFactory(price=price) for price in (40, 1000, 61)]
    fields = {"change": "50", "unit": "set", "select_across": "1"}
    shown = act(as_editor, "change_prices", rooms[:1], **fields)
    text = page_text(shown)
    assert (
        "Of 3 rooms Now, €/day New, €/day Sum 1,101 150 Average 367 50 Lowest 40 50 Highest 1,000 50" in text
    )
    assert [change.room for change in shown.context["changes"]] == [rooms[1], rooms[2], rooms[0]]


def test_an_average_has_one_decimal(as_editor):
    rooms = [RoomFactory(price=price) for price in (40, 41)]
    text = page_text(act(as_editor, "change_prices", rooms, change="10", unit="percent"))
    assert "Sum 81 89 Average 40.5 44.5" in text


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"change": "0", "unit": "euros"}, "Zero changes nothing."),
        ({"change": "0.5", "unit": "set"}, "Prices are whole euros."),
        ({"change": "-1", "unit": "set"}, "1 of the rooms would leave the limits"),
        ({"change": "1000001", "unit": "set"}, "1 of the rooms would leave the limits"),
        ({"change": "-30", "unit": "euros", "ending": "9"}, "1 of the rooms would leave the limits"),
        ({"change": "5", "unit": "euros", "ending": "7"}, "Select a valid choice."),
    ],
    ids=str,
)
def test_a_rule_that_makes_no_price_is_an_error(as_editor, fields, message):
    room = RoomFactory(price=30)
    shown = act(as_editor, "change_prices", [room], **fields)
    assert message in page_text(shown)
    confirmation = {"confirm": "yes", "fingerprint": shown.context["fingerprint"]}
    act(as_editor, "change_prices", [room], **fields, **confirmation)
    assert prices() == [30]
