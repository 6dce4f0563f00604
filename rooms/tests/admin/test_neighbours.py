"""From the form of a room to the next and the previous one of the list."""

from urllib.parse import urlencode

import pytest
from django.urls import reverse

from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.admin.pages import page_text
from rooms.tests.admin.test_form import page, typed

pytestmark = pytest.mark.django_db


def step(client, room, direction, query=""):
    """The room to which a step leads."""
    url = reverse(f"admin:rooms_room_{direction}", args=[room.pk])
    filters = urlencode({"_changelist_filters": query}) if query else ""
    response = client.get(f"{url}?{filters}")
    assert response["Location"].endswith(f"?{filters}" if filters else "/")
    return int(response["Location"].split("/")[4])


@pytest.mark.parametrize(
    "query", ["", "o=1", "o=-2", "o=2", "o=3", "o=-3", "o=2.-3", "o=4", "price__gte=20&o=3"]
)
def test_steps_go_through_the_list_in_its_order_and_back(as_editor, query):
    for price, size in ((10, 5), (20, None), (20, 7), (30, None), (40, 5), (20, 7)):
        RoomFactory(price=price, size=size)
    listed = list(as_editor.get(f"/admin/rooms/room/?{query}").context["cl"].result_list)
    forward = [step(as_editor, room, "next", query) for room in listed]
    assert forward == [room.pk for room in [*listed[1:], listed[-1]]]
    back = [step(as_editor, room, "previous", query) for room in listed]
    assert back == [room.pk for room in [listed[0], *listed[:-1]]]


def test_the_end_of_the_list_is_a_message(as_editor):
    room = RoomFactory()
    shown = as_editor.get(f"/admin/rooms/room/{room.pk}/next/", follow=True)
    assert "The list has no further room in this direction." in page_text(shown)


def test_a_room_that_left_its_list_goes_on_from_where_it_was(as_editor):
    rooms = [RoomFactory(price=price) for price in (10, 20, 30)]
    Room.objects.filter(pk=rooms[1].pk).update(price=25)
    assert step(as_editor, rooms[1], "next", "price__gte=26&o=3") == rooms[2].pk


@pytest.mark.parametrize("query", ["nope=1", "price__gte=x", "o=x", "p=99"])
def test_odd_lists_lead_to_a_room(as_editor, query):
    room = RoomFactory()
    assert step(as_editor, room, "next", query) == room.pk


def test_saving_and_going_on_takes_the_next_room_before_the_save_moves_this_one(as_editor):
    rooms = RoomFactory.create_batch(3)
    (first, second, _) = Room.objects.order_by("-updated_at", "-pk")
    response = as_editor.post(
        page(first), typed(as_editor.get(page(first)), price=7, _next="Save and next"), follow=True
    )
    assert response.redirect_chain[-1][0] == page(second)
    text = page_text(response)
    assert f", {first} was saved. Undo…" in text
    assert "Previous" in text
    first.refresh_from_db()
    assert (first.price, len(rooms)) == (7, 3)
    stale = typed(as_editor.get(page(second)), price=8, loaded_version=9, _next="Save and next")
    assert as_editor.post(page(second), stale).status_code == 200


def test_a_step_takes_a_room_and_the_right_to_see_it(as_editor, client, django_user_model):
    room = RoomFactory()
    assert as_editor.get("/admin/rooms/room/0/next/").status_code == 404
    client.force_login(django_user_model.objects.create_user("temp", is_staff=True))
    assert client.get(f"/admin/rooms/room/{room.pk}/next/").status_code == 404
