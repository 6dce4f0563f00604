"""The form of a room in the admin, and concurrent edits."""

import re
from datetime import timedelta
from urllib.parse import urlencode

import pytest
from django.contrib.admin.models import CHANGE, LogEntry
from django.test import Client
from django.utils import timezone

from rentomatic_site.testing.concurrency import at_once
from rooms.admin.history import last_log_entry, log_changes
from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.admin.pages import page_text

ADD = "/admin/rooms/room/add/"


def page(room):
    return f"/admin/rooms/room/{room.pk}/change/"


def typed(response, **values):
    """What a browser would send from the form that a page shows, after typing these values."""
    form = response.context["adminform"].form
    fields = {}
    for bound in form:
        fields[bound.html_name] = "" if bound.value() is None else str(bound.value())
        if bound.field.show_hidden_initial:
            fields[bound.html_initial_name] = "" if bound.initial is None else str(bound.initial)
            if form.is_bound:
                fields[bound.html_initial_name] = form.data[bound.html_initial_name]
    return fields | {name: str(value) for name, value in values.items()}


@pytest.mark.django_db
def test_a_room_is_added_as_typed(as_editor):
    code = "f853578c-fc0f-4e65-81b8-566c5dffa35a"
    response = as_editor.post(
        ADD, {"code": code, "size": "", "price": "39", "latitude": "51.75436293", "longitude": "-0.09998975"}
    )
    assert response.status_code == 302
    room = Room.objects.get()
    assert (str(room.code), room.size, room.price, room.latitude, room.longitude, room.version) == (
        code,
        None,
        39,
        51.75436293,
        -0.09998975,
        1,
    )


@pytest.mark.django_db
def test_the_map_of_a_new_room_has_no_place_and_no_code_yet(as_editor):
    assert 'data-place="" data-code=""' in as_editor.get(ADD).content.decode()
    room = RoomFactory(latitude=51.5, longitude=-0.1)
    shown = f'data-place="51.5, -0.1" data-code="{room.code}"'
    assert shown in as_editor.get(page(room)).content.decode()


@pytest.mark.django_db
def test_a_saved_change_increments_the_version_and_is_logged(as_editor):
    room = RoomFactory(price=39, size=None)
    as_editor.post(page(room), typed(as_editor.get(page(room)), price=45, size=20))
    room.refresh_from_db()
    assert (room.price, room.size, room.version) == (45, 20, 2)
    assert LogEntry.objects.get().change_message == "price 39 → 45, size unknown → 20"
    assert "price 39 → 45, size unknown → 20" in page_text(
        as_editor.get(f"/admin/rooms/room/{room.pk}/history/")
    )


@pytest.mark.django_db
def test_times_of_the_history_name_their_zone(as_editor, settings):
    settings.TIME_ZONE = "Europe/Madrid"
    room = RoomFactory()
    as_editor.post(page(room), typed(as_editor.get(page(room)), price=45))
    moment = timezone.localtime(LogEntry.objects.get().action_time)
    text = page_text(as_editor.get(f"/admin/rooms/room/{room.pk}/history/"))
    assert f"{moment:%-d %b %Y, %H:%M %Z}" in text


@pytest.mark.django_db
def test_saving_an_unchanged_room_keeps_its_version(as_editor):
    room = RoomFactory()
    as_editor.post(page(room), typed(as_editor.get(page(room))))
    room.refresh_from_db()
    assert room.version == 1
    assert not LogEntry.objects.exists()


@pytest.mark.django_db
def test_a_stale_save_is_rejected_and_keeps_the_input(as_editor, boss):
    room = RoomFactory(price=39, size=20, latitude=51.5)
    mine = typed(as_editor.get(page(room)), price=50)
    other = Client()
    other.force_login(boss)
    other.post(page(room), typed(other.get(page(room)), price=45, size=25))

    refused = as_editor.post(page(room), mine)
    assert refused.status_code == 200
    room.refresh_from_db()
    assert (room.price, room.size, room.version) == (45, 25, 2)
    text = page_text(refused)
    assert "boss changed this room on" in text
    assert "Field Was Theirs Yours Price 39 45 50 Size 20 25 not edited" in text
    assert "Latitude" not in text[text.index("boss changed") : text.index("Price:")]
    assert "Changed by somebody else" in text
    assert "Please correct the error" not in text

    assert as_editor.post(page(room), typed(refused)).status_code == 302
    room.refresh_from_db()
    assert (room.price, room.size, room.version) == (50, 25, 3)


@pytest.mark.django_db
def test_a_conflict_with_an_import_is_reported_as_such(as_editor):
    room = RoomFactory(price=39)
    mine = typed(as_editor.get(page(room)), size=7)
    Room.objects.update(price=45)
    assert "Somebody (an import or another program) changed this room" in page_text(
        as_editor.post(page(room), mine)
    )


@pytest.mark.django_db(transaction=True)
def test_one_of_two_concurrent_saves_is_rejected(boss):
    room = RoomFactory(price=39)
    clients = [Client(), Client()]
    for client in clients:
        client.force_login(boss)
    forms = {client: typed(client.get(page(room)), price=price) for price, client in enumerate(clients, 50)}
    responses = at_once(lambda client: client.post(page(room), forms[client]), *clients)
    room.refresh_from_db()
    assert (sorted(response.status_code for response in responses), room.version) == ([200, 302], 2)


@pytest.mark.django_db(transaction=True)
def test_concurrent_adds_of_one_code_give_one_form_error(boss):
    values = {"code": "f853578c-fc0f-4e65-81b8-566c5dffa35a", "price": "1", "latitude": "1", "longitude": "1"}
    clients = [Client(), Client()]
    for client in clients:
        client.force_login(boss)
    responses = at_once(lambda client: client.post(ADD, values), *clients)
    assert sorted(response.status_code for response in responses) == [200, 302]
    (refused,) = [response for response in responses if response.status_code == 200]
    assert "Room with this Code already exists." in page_text(refused)
    assert Room.objects.count() == 1


@pytest.mark.django_db
def test_a_room_deleted_meanwhile_is_offered_to_be_added_again(as_editor):
    room = RoomFactory(price=39)
    mine = typed(as_editor.get(page(room)), price=50)
    room.delete()
    offered = as_editor.post(page(room), mine, follow=True)
    assert "This room was deleted while you had it open." in page_text(offered)
    assert as_editor.post(ADD, typed(offered)).status_code == 302
    again = Room.objects.get()
    assert (again.code, again.price) == (room.code, 50)


@pytest.mark.django_db
def test_save_as_new_makes_another_room_with_a_code_of_its_own(as_editor):
    room = RoomFactory(price=39)
    form = typed(as_editor.get(page(room)), price=50, _saveasnew="Save as new")
    assert as_editor.post(page(room), form).status_code == 302
    copy = Room.objects.exclude(pk=room.pk).get()
    assert (copy.price, copy.latitude) == (50, room.latitude)
    assert copy.code != room.code
    room.refresh_from_db()
    assert (room.price, room.version) == (39, 1)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("code", "x"),
        ("code", "\0"),
        ("code", ""),
        ("size", "0"),
        ("size", "100001"),
        ("size", "99999999999999999999"),
        ("size", "9" * 5000),
        ("size", "1.5"),
        ("price", "-1"),
        ("price", ""),
        ("price", "1\0"),
        ("price", "1000001"),
        ("latitude", "91"),
        ("latitude", "nan"),
        ("latitude", "1e999"),
        ("longitude", "-180.1"),
        ("longitude", "\ud800"),
        ("loaded_version", "x"),
        ("loaded_version", ""),
        ("loaded_version", "\0"),
        ("loaded_version", "99999999999999999999"),
    ],
)
def test_odd_values_are_form_errors(as_editor, field, value):
    room = RoomFactory(price=39)
    fields = typed(as_editor.get(page(room)))
    body = urlencode(fields | {field: value}, errors="surrogatepass")
    response = as_editor.post(page(room), body, content_type="application/x-www-form-urlencoded")
    assert response.status_code == 200
    assert response.context["adminform"].form.errors
    room.refresh_from_db()
    assert room.version == 1


@pytest.mark.django_db
def test_what_the_browser_must_not_decide_is_not_taken_from_it(as_editor):
    room = RoomFactory(price=39)
    as_editor.post(
        page(room), typed(as_editor.get(page(room)), price=77, version=900, id=1, created_at="2000-01-01")
    )
    assert Room.objects.get(pk=room.pk).version == 2


@pytest.mark.django_db
def test_the_page_leads_to_the_room_on_the_site(as_editor):
    room = RoomFactory()
    content = as_editor.get(page(room)).content.decode()
    link = re.search(r'href="(/admin/r/[^"]+)" class="viewsitelink"', content)[1]
    assert as_editor.get(link)["Location"].endswith(f"/rooms/{room.code}")


@pytest.mark.django_db
@pytest.mark.parametrize("key", ["0", "x", "99999999999999999999", "_quote_", "1_00", "%E2%82%AC"])
def test_a_room_that_is_not_there_is_a_message(as_editor, key):
    response = as_editor.get(f"/admin/rooms/room/{key}/change/", follow=True)
    assert response.status_code == 200
    assert "doesn’t exist" in page_text(response)


LIMITS = {
    "price": ("0", "1000000", "-1", "1000001"),
    "size": ("1", "100000", "0", "100001"),
    "latitude": ("-90", "90", "-90.00000001", "90.00000001"),
    "longitude": ("-180", "180", "-180.00000001", "180.00000001"),
}
"""Of each field: its lowest and highest value, and the nearest ones that are none."""


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, row in LIMITS.items() for value in row[:2]]
)
def test_a_value_at_its_limit_is_saved(as_editor, field, value):
    room = RoomFactory(price=39, size=20, latitude=1.5, longitude=1.5)
    assert as_editor.post(page(room), typed(as_editor.get(page(room)), **{field: value})).status_code == 302
    room.refresh_from_db()
    assert getattr(room, field) == float(value)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field, row in LIMITS.items() for value in row[2:]]
)
def test_a_value_just_past_its_limit_is_an_error_of_its_field(as_editor, field, value):
    room = RoomFactory(price=39, size=20, latitude=1.5, longitude=1.5)
    refused = as_editor.post(page(room), typed(as_editor.get(page(room)), **{field: value}))
    assert list(refused.context["adminform"].form.errors) == [field]
    room.refresh_from_db()
    assert room.version == 1


@pytest.mark.django_db
@pytest.mark.parametrize(("seconds", "shown"), [(1.9, True), (2.1, False)])
def test_a_log_entry_is_the_last_changes_up_to_two_seconds_before_it(editor, seconds, shown):
    room = RoomFactory()
    room.refresh_from_db()
    (entry,) = log_changes(editor, CHANGE, [(room, "price 39 → 45")])
    LogEntry.objects.update(action_time=room.updated_at - timedelta(seconds=seconds))
    assert last_log_entry(room) == (entry if shown else None)


@pytest.mark.django_db
def test_a_value_beyond_its_bounds_is_told_with_bounds_and_unit(as_editor):
    room = RoomFactory()
    text = page_text(as_editor.post(page(room), typed(as_editor.get(page(room)), price=-1, latitude=91)))
    assert "Price is from 0 to 1,000,000 € per day." in text
    assert "Latitude is from -90 to 90°." in text
