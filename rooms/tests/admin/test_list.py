"""The list of rooms in the admin: search, filters, order and pages."""

from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.admin.pages import page_text

LIST = "/admin/rooms/room/"
pytestmark = pytest.mark.django_db


def codes(response):
    """The codes listed, in order."""
    return [str(room.code) for room in response.context["cl"].result_list]


def test_a_search_term_is_a_price_or_size_by_its_unit(as_editor):
    price, size = RoomFactory(price=66, size=50), RoomFactory(price=50, size=66)
    RoomFactory(price=1, size=2)
    assert set(codes(as_editor.get(LIST, {"q": "66"}))) == {str(price.code), str(size.code)}
    assert codes(as_editor.get(LIST, {"q": "66€"})) == [str(price.code)]
    assert codes(as_editor.get(LIST, {"q": "66m²"})) == [str(size.code)]
    assert codes(as_editor.get(LIST, {"q": "66€ 50m2"})) == [str(price.code)]
    assert codes(as_editor.get(LIST, {"q": "9999999"})) == []


@pytest.mark.parametrize(
    "term",
    [
        "f853578c-fc0f-4e65-81b8-566c5dffa35a",
        "F853578CFC0F4E6581B8566C5DFFA35A",
        "f853578c",
        "f85",
        "f853578c-fc",
    ],
)
def test_a_code_is_found_by_its_beginning(as_editor, term):
    room = RoomFactory(code="f853578c-fc0f-4e65-81b8-566c5dffa35a")
    RoomFactory(code="0853578c-fc0f-4e65-81b8-566c5dffa35a")
    assert codes(as_editor.get(LIST, {"q": term})) == [str(room.code)]


def test_a_search_counts_no_other_rooms_and_looks_for_no_duplicates(as_editor, django_capture_queries):
    RoomFactory(price=66)
    with django_capture_queries() as queries:
        as_editor.get(LIST, {"q": "66"})
    statements = [query["sql"] for query in queries if 'FROM "room"' in query["sql"]]
    assert len(statements) > 1
    assert all('"room"."price" = 66' in sql and "DISTINCT" not in sql for sql in statements)


def test_an_invalid_search_term_is_an_error(as_editor):
    RoomFactory()
    response = as_editor.get(LIST, {"q": "sunny <b>"})
    assert codes(response) == []
    assert "“sunny” is neither a number nor the beginning of a code" in response.content.decode()


def test_filters_by_range_by_missing_size_and_by_change(as_editor):
    small, large, unknown = (
        RoomFactory(size=10, price=50),
        RoomFactory(size=90, price=70),
        RoomFactory(size=None),
    )
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE room DISABLE TRIGGER room_touch")
    Room.objects.filter(pk=large.pk).update(updated_at="2020-01-01T00:00Z")
    assert codes(as_editor.get(LIST, {"size__gte": "10", "size__lte": "89"})) == [str(small.code)]
    assert codes(as_editor.get(LIST, {"price__gte": "70", "price__lte": "70"})) == [str(large.code)]
    assert codes(as_editor.get(LIST, {"size__isnull": "true"})) == [str(unknown.code)]
    assert set(codes(as_editor.get(LIST, {"changed": "24h"}))) == {str(small.code), str(unknown.code)}
    assert set(codes(as_editor.get(LIST, {"changed": "today"}))) == {str(small.code), str(unknown.code)}


def test_rooms_of_one_price_are_in_the_second_order_then_by_age(as_editor):
    rooms = [RoomFactory(price=10, size=size) for size in (3, 1, 1)]
    listed = codes(as_editor.get(LIST, {"o": "3.2"}))  # price, size
    assert listed == [str(rooms[number].code) for number in (1, 2, 0)]


@pytest.mark.parametrize(("choice", "hours"), [("24h", 24), ("7d", 7 * 24)])
def test_a_room_leaves_a_time_span_at_its_end(as_editor, choice, hours):
    within, before = RoomFactory(), RoomFactory()
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE room DISABLE TRIGGER room_touch")
    for room, age in ((within, hours - 0.5), (before, hours + 0.5)):
        Room.objects.filter(pk=room.pk).update(updated_at=timezone.now() - timedelta(hours=age))
    assert codes(as_editor.get(LIST, {"changed": choice})) == [str(within.code)]


@pytest.mark.parametrize("value", ["abc", "1.5", " 5", "-1", "99999999999999999999", "1_0"])
def test_an_invalid_range_is_an_error_and_lists_no_room(as_editor, value):
    RoomFactory()
    response = as_editor.get(LIST, {"price__gte": value})
    assert codes(response) == []
    assert "Price must be" in response.content.decode()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("size__isnull=True", "Size known (size__isnull) must be true or false, not 'True'."),
        ("size__isnull=0", "not '0'"),
        ("changed=30d", "Last change (changed) must be today, 24h or 7d, not '30d'."),
        ("price__gte=50&price__lte=10", "Price is from 50 to 10, which no room is: swap the two."),
        ("size__gte=50&size__lte=10", "Size is from 50 to 10"),
        ("price__gte=1&price__gte=abc", "The filter price__gte is given twice."),
        ("changed=7d&changed=today", "The filter changed is given twice."),
        ("price__gt=5", "The list has no filter 'price__gt'; there are bbox, changed, near, price__gte,"),
        ("code__regex=(", "The list has no filter 'code__regex'"),
        ("q=1+2+3+4+5+6+7+8+9+10+11", "A search takes 10 words at most, not 11."),
        ("q=66&q=67", "Two searches are given at once."),
        ("q=sunny&changed=x", "“sunny” is neither a number nor the beginning of a code."),
    ],
)
def test_an_invalid_list_filter_is_an_error_and_selects_no_room(client, boss, query, message):
    client.force_login(boss)
    room = RoomFactory(price=39, size=20)
    url = f"{LIST}?{query}"
    response = client.get(url)
    assert codes(response) == []
    assert page_text(response).count(message) == (2 if "from 50 to 10" in message else 1)  # beside the filter
    for more in ({}, {"select_across": "1"}):
        form = {"action": "delete_selected", "_selected_action": room.pk, **more}
        refused = client.post(url, form, follow=True)
        assert refused.redirect_chain == [(url, 302)]
        assert message in page_text(refused)
    exported = client.post(f"{LIST}export/?{query}", {"format": "0", "resource": "0"})
    assert exported["Location"] == url
    assert Room.objects.count() == 1


@pytest.mark.parametrize(
    "query", ["price__gte=&changed=", "size__isnull=&q=", "price__gte=39&price__lte=39", "_popup=1"]
)
def test_an_empty_filter_filters_nothing(as_editor, query):
    RoomFactory(price=39)
    assert len(codes(as_editor.get(f"{LIST}?{query}"))) == 1


@pytest.mark.parametrize(
    "parameters", [{"p": "0"}, {"p": "-3"}, {"p": "x"}, {"o": "99"}, {"o": "x.y"}, {"all": ""}]
)
def test_odd_pages_and_orders_are_pages_too(as_editor, parameters):
    RoomFactory()
    assert as_editor.get(LIST, parameters).status_code == 200


def test_the_index_page_shows_statistics(as_editor):
    RoomFactory.create_batch(2)
    RoomFactory(size=None)
    text = page_text(as_editor.get("/admin/"))
    assert "3 rooms 3 changed today 1 without a size" in text


def test_one_room_is_no_plural(as_editor):
    RoomFactory(size=None)
    assert "1 room 1 changed today 1 without a size" in page_text(as_editor.get("/admin/"))


@pytest.mark.django_db
def test_today_and_times_are_those_of_the_operators_time_zone(as_editor, settings):
    settings.TIME_ZONE = "Pacific/Kiritimati"
    now = timezone.localtime()
    assert now.utcoffset().total_seconds() == 14 * 3600
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    rooms = RoomFactory.create_batch(2)
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE room DISABLE TRIGGER USER")
        for room, second in zip(rooms, (0, -1), strict=True):
            moment = midnight + timedelta(seconds=second)
            cursor.execute("UPDATE room SET updated_at = %s WHERE id = %s", [moment, room.pk])
        cursor.execute("ALTER TABLE room ENABLE TRIGGER USER")
    response = as_editor.get("/admin/rooms/room/?changed=today")
    assert list(response.context["cl"].result_list) == rooms[:1]
    assert f"{midnight:%-d %b %Y}, 00:00 +14" in page_text(response)
