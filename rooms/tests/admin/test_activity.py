"""The history of all rooms, deleted ones too, by everybody."""

import csv
import json
from datetime import date, datetime, timedelta
from io import StringIO

import pytest
from django.contrib.admin.models import ADDITION, CHANGE, LogEntry
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.db import connection
from django.utils import timezone

from rooms.admin import activity
from rooms.admin.history import log_changes
from rooms.factories import RoomFactory
from rooms.models import Job, Room
from rooms.naming import room_name
from rooms.tests.admin.pages import page_text
from rooms.tests.admin.test_bulk import act
from rooms.tests.admin.test_form import page, typed
from rooms.tests.admin.test_speed import rows_read
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
    named = " ".join(room_name(room).split())
    assert f"{named} {room.code} deleted" in text


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
        ("since=2026-02-30", []),
        ("until=x", []),
        ("since=0001-01-01", [1, 0]),
        ("until=9999-12-31", [1, 0]),
        ("until=0001-01-01", []),
        ("since=9999-12-31", []),
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


def test_days_are_those_of_the_operators_time_zone_and_both_included(as_editor, boss, settings):
    settings.TIME_ZONE = "Pacific/Kiritimati"
    room = RoomFactory()
    zone = timezone.get_default_timezone()
    log_changes(boss, CHANGE, [(room, str(number)) for number in range(4)])
    times = ((9, 23, 59), (10, 0, 0), (11, 23, 59), (12, 0, 0))
    for entry, (day, hour, minute) in zip(LogEntry.objects.order_by("pk"), times, strict=True):
        entry.action_time = datetime(2026, 11, day, hour, minute, tzinfo=zone)
        entry.save()
    response = as_editor.get(f"{ACTIVITY}?since=2026-11-10&until=2026-11-11")
    assert [entry.change_message for entry, _ in response.context["entries"]] == ["2", "1"]


def test_the_activity_of_a_filter_is_exported_with_deleted_rooms(as_boss, boss, editor):
    room = RoomFactory(price=39)
    as_boss.post(page(room), typed(as_boss.get(page(room)), price=45))
    log_changes(editor, CHANGE, [(room, "=1+1")])
    delete(as_boss, room)
    link = f"{ACTIVITY.rstrip('/')}.csv?room={room.code}"
    assert f'href="{link}"' in as_boss.get(f"{ACTIVITY}?room={room.code}").content.decode()
    response = as_boss.get(link)
    assert response["Content-Type"].startswith("text/csv")
    assert "activity-" in response["Content-Disposition"]
    rows = list(csv.reader(StringIO(b"".join(response.streaming_content).decode())))
    assert rows[0] == ["time", "user", "code", "what", "change"]
    assert [row[1:4] for row in rows[1:]] == [
        ["boss", str(room.code), "deleted"],
        ["ed", str(room.code), "changed"],
        ["boss", str(room.code), "changed"],
    ]
    assert [row[4] for row in rows[2:]] == ["'=1+1", "price 39 → 45"]
    assert datetime.fromisoformat(rows[1][0]).tzinfo


def test_the_activity_of_a_large_job_is_exported_whole(client, boss, monkeypatch):
    client.force_login(boss)
    rooms = RoomFactory.create_batch(5, price=39)
    raise_prices(client, rooms)
    monkeypatch.setattr(activity, "PER_PAGE", 2)
    response = client.get(f"/admin/rooms/room/activity.csv?job={Job.objects.get().pk}&below=1")
    lines = b"".join(response.streaming_content).decode().splitlines()
    assert {line.split(",")[2] for line in lines[1:]} == {str(room.code) for room in rooms}
    assert len(lines) == 6


def test_an_export_of_a_wrong_filter_is_the_page_that_says_so(as_boss):
    response = as_boss.get("/admin/rooms/room/activity.csv?room=x")
    assert response["Location"] == f"{ACTIVITY}?room=x"


def test_the_activity_is_exported_by_those_who_may_export_rooms(client, django_user_model):
    user = django_user_model.objects.create_user("temp", is_staff=True)
    user.user_permissions.add(Permission.objects.get(codename="view_room"))
    client.force_login(user)
    assert ".csv" not in client.get(ACTIVITY).content.decode()
    assert client.get("/admin/rooms/room/activity.csv").status_code == 403


def test_who_has_a_history_is_not_deleted_with_it(as_boss, editor, viewer):
    log_changes(editor, CHANGE, [(RoomFactory(), "x")])
    url = f"/admin/auth/user/{editor.pk}/delete/"
    assert "the history of ed: take “Active” from this user instead" in page_text(as_boss.get(url))
    as_boss.post(url, {"post": "yes"})
    form = {"action": "delete_selected", "_selected_action": [editor.pk, viewer.pk], "post": "yes"}
    as_boss.post("/admin/auth/user/", form)
    assert set(User.objects.values_list("username", flat=True)) == {"boss", "ed", "vera"}
    as_boss.post(f"/admin/auth/user/{viewer.pk}/delete/", {"post": "yes"})
    assert not User.objects.filter(username="vera").exists()


def test_no_page_of_the_admin_changes_the_history(as_boss):
    assert as_boss.get("/admin/admin/logentry/").status_code == 404


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


@pytest.fixture
def long_history(boss, editor):
    """20,000 entries, an hour apart: the oldest 200 are the editor's, ten of them deletions."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO django_admin_log (action_time, user_id, content_type_id, object_id, object_repr,"
            " action_flag, change_message) SELECT now() - n * interval '1 hour',"
            " CASE WHEN n > 19800 THEN %s ELSE %s END, %s, n, md5(n::text),"
            " CASE WHEN n > 19990 THEN 3 ELSE 2 END, 'x' FROM generate_series(20000, 1, -1) AS n",
            [editor.pk, boss.pk, ContentType.objects.get_for_model(Room).pk],
        )
        cursor.execute("ANALYZE django_admin_log")


@pytest.mark.usefixtures("long_history")
@pytest.mark.parametrize(
    "query",
    [
        {},
        {"room": "x"},
        {"who": "ed"},
        {"who": "ed", "what": "changed"},
        {"what": "deleted"},
        {"what": "deleted", "who": "ed"},
        {"what": "added"},
        {"until": date.today() - timedelta(days=700)},
        {"since": date.today() - timedelta(days=700), "until": date.today() - timedelta(days=699)},
        {"before": 5000},
        {"who": "ed", "before": 150},
    ],
    ids=str,
)
def test_a_page_of_a_long_history_reads_few_entries(query):
    if "before" in query:
        query = query | {"before": LogEntry.objects.earliest("pk").pk + query["before"]}
    arguments = {"who": "", "room": "", "what": "", "since": None, "until": None, "before": None} | query
    entries = activity.find_entries(**arguments)[: activity.PER_PAGE + 1]
    (plan,) = json.loads(entries.explain(format="json", analyze=True))
    assert rows_read(plan["Plan"]) <= 4 * activity.PER_PAGE
