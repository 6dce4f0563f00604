"""The history of all rooms, deleted ones too, by everybody."""

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import connection

from rooms.admin import activity
from rooms.admin.history import log_changes
from rooms.factories import RoomFactory
from rooms.models import Job, Room
from rooms.naming import room_name
from rooms.tests.admin.pages import page_text
from rooms.tests.admin.test_bulk import act
from rooms.tests.admin.test_form import page, typed
from rooms.tests.admin.test_undo import raise_prices

ACTIVITY = "/admin/rooms/room/activity/"
pytestmark = pytest.mark.django_db


@pytest.fixture
def as_boss(client, boss):
    client.force_login(boss)
    return client


def delete(client, room):
    asked = act(client, "delete_selected", [room])
    act(client, "delete_selected", [room], confirm="yes", fingerprint=asked.context["fingerprint"])


@pytest.mark.parametrize("part", ["history", "change", "delete"])
def test_a_deleted_rooms_history_is_shown_at_its_old_url(as_boss, part):
    room = RoomFactory(price=39)
    as_boss.post(page(room), typed(as_boss.get(page(room)), price=45))
    delete(as_boss, room)
    response = as_boss.get(f"/admin/rooms/room/{room.pk}/{part}/", follow=True)
    text = page_text(response)
    assert response.redirect_chain[-1][0] == f"{ACTIVITY}?room={room.code}"
    assert "This room was deleted. This is its history." in text
    assert "price 39 → 45" in text
    assert f"Deleted: code {room.code}" in text
    assert f"{room.code} , deleted" in text


def test_a_room_that_never_was_is_still_a_message(as_boss):
    assert "doesn’t exist" in page_text(as_boss.get("/admin/rooms/room/999/history/", follow=True))


def test_everybody_sees_what_others_did_newest_first(as_editor, boss, editor):
    boss.first_name, boss.last_name = "Bea", "Oss"
    boss.save()
    first, second = RoomFactory(), RoomFactory()
    log_changes(boss, CHANGE, [(first, "price 39 → 45")])
    log_changes(editor, ADDITION, [(second, "added by an import")])
    text = page_text(as_editor.get(ACTIVITY))
    names = {room: " ".join(room_name(room).split()) for room in (first, second)}
    assert text.index(f"ed {names[second]} {second.code} Added. added by an import") < text.index(
        f"Bea Oss {names[first]} {first.code} price 39 → 45"
    )
    assert "UTC" in text
    assert ACTIVITY in as_editor.get("/admin/rooms/room/").content.decode()
    assert ACTIVITY in as_editor.get("/admin/").content.decode()


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("who=boss", [0]),
        ("who=nobody", []),
        ("what=added", [1]),
        ("what=deleted", []),
        ("room={code}", [0]),
        ("room={upper}", [0]),
        ("room={code}&what=added", []),
        ("room=x", []),
        ("what=x", []),
        ("before=x", []),
        ("before=99999999999999", []),
        ("who=%00", []),
    ],
)
def test_the_activity_is_filtered(as_editor, boss, editor, query, shown):
    rooms = RoomFactory.create_batch(2)
    log_changes(boss, CHANGE, [(rooms[0], "one")])
    log_changes(editor, ADDITION, [(rooms[1], "two")])
    code = str(rooms[0].code)
    response = as_editor.get(f"{ACTIVITY}?{query.format(code=code, upper=code.upper())}")
    if "%00" in query:
        assert response.status_code == 400
        return
    assert [entry.object_repr for entry, _ in response.context["entries"]] == [
        str(rooms[number].code) for number in shown
    ]


def test_older_entries_are_on_further_pages(as_editor, boss, monkeypatch):
    monkeypatch.setattr(activity, "PER_PAGE", 2)
    room = RoomFactory()
    log_changes(boss, CHANGE, [(room, str(number)) for number in range(5)])
    url, messages = f"{ACTIVITY}?who=boss", []
    while url:
        response = as_editor.get(url)
        messages.append([entry.change_message for entry, _ in response.context["entries"]])
        url = response.context["older"] and f"{ACTIVITY}?{response.context['older']}"
    assert messages == [["4", "3"], ["2", "1"], ["0"]]


def save_price(client, room, price):
    client.post(page(room), typed(client.get(page(room)), price=price))
    return Job.objects.latest("pk")


def changes(response):
    return [(entry.object_repr, entry.change_message) for entry, _ in response.context["entries"]]


def test_the_activity_of_a_job_is_what_it_did(as_editor, boss):
    first, second = RoomFactory(price=39), RoomFactory(price=39)
    job, other = save_price(as_editor, first, 45), save_price(as_editor, second, 50)
    log_changes(boss, CHANGE, [(first, "at the same time, by the boss")])
    LogEntry.objects.filter(user=boss).update(action_time=job.created_at)
    assert changes(as_editor.get(f"{ACTIVITY}?job={job.pk}")) == [(str(first.code), "price 39 → 45")]
    assert changes(as_editor.get(f"{ACTIVITY}?job={other.pk}")) == [(str(second.code), "price 39 → 50")]
    assert changes(as_editor.get(f"{ACTIVITY}?job={job.pk}&room={second.code}")) == []
    assert f'href="{ACTIVITY}?job={job.pk}"' in as_editor.get(job.get_absolute_url()).content.decode()


def test_the_activity_of_a_job_keeps_the_rooms_that_it_deleted(as_boss):
    rooms = RoomFactory.create_batch(2)
    for room in rooms:
        save_price(as_boss, room, room.price + 1)
    delete(as_boss, rooms[0])
    found = changes(as_boss.get(f"{ACTIVITY}?job={Job.objects.latest('pk').pk}"))
    assert [code for code, _ in found] == [str(rooms[0].code)]


@pytest.mark.parametrize("job", ["0", "-1", "x", "99", "99999999999999999999", "1.5", "9223372036854775807"])
def test_the_activity_of_no_job_is_empty(as_editor, job):
    save_price(as_editor, RoomFactory(price=39), 45)
    if job != str(Job.objects.get().pk):
        assert changes(as_editor.get(f"{ACTIVITY}?job={job}")) == []


def test_the_activity_of_a_large_job_has_pages(client, boss, monkeypatch, django_assert_num_queries):
    client.force_login(boss)
    rooms = RoomFactory.create_batch(5, price=39)
    raise_prices(client, rooms)
    monkeypatch.setattr(activity, "PER_PAGE", 2)
    url, pages = f"{ACTIVITY}?job={Job.objects.get().pk}", []
    while url:
        response = client.get(url)
        pages.append({code for code, _ in changes(response)})
        url = response.context["older"] and f"{ACTIVITY}?{response.context['older']}"
    codes = [str(room.code) for room in reversed(rooms)]
    assert pages == [set(codes[:2]), set(codes[2:4]), set(codes[4:])]


def test_entries_about_users_are_not_shown(as_boss):
    as_boss.post("/admin/auth/group/add/", {"name": "Cleaners"})
    assert LogEntry.objects.exists()
    assert as_boss.get(ACTIVITY).context["entries"] == []


def test_the_activity_takes_the_right_to_see_rooms(client, django_user_model):
    client.force_login(django_user_model.objects.create_user("temp", is_staff=True))
    assert client.get(ACTIVITY).status_code == 403


@pytest.mark.parametrize("which", ["newest", "a room", "older"])
def test_a_page_of_a_long_history_is_read_from_an_index(boss, which):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_admin_log (action_time, user_id, content_type_id, object_id, object_repr,"
            " action_flag, change_message) SELECT now(), %s, %s, n, md5(n::text), 2, 'x'"
            " FROM generate_series(1, 20000) AS n",
            [boss.pk, ContentType.objects.get_for_model(Room).pk],
        )
        cursor.execute("ANALYZE django_admin_log")
    arguments = {"who": "", "room": "", "what": "", "before": None}
    if which == "a room":
        arguments["room"] = "x"
    if which == "older":
        arguments["before"] = LogEntry.objects.latest("pk").pk - 5000
    plan = activity.find_entries(**arguments)[:101].explain()
    assert "Seq Scan on django_admin_log" not in plan
    assert "Sort" not in plan
