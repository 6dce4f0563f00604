"""Jobs, and undoing them: exactly the rooms of a job, unless somebody has changed them since."""

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.utils import timezone

from rentomatic_site.testing.concurrency import at_once
from rooms.admin.actions import bulk, large
from rooms.factories import RoomFactory
from rooms.models import Job, JobRoom, Room
from rooms.tests.admin.pages import page_text, while_prices_change
from rooms.tests.admin.test_bulk import act, prices
from rooms.tests.admin.test_files import CODES, as_csv, confirm, upload
from rooms.tests.admin.test_form import ADD, page, typed
from rooms.tests.admin.test_large_bulk import JSON, change_prices, finish, page_of, preview

JOBS = "/admin/rooms/room/jobs/"
pytestmark = pytest.mark.django_db


@pytest.fixture
def as_boss(client, boss):
    client.force_login(boss)
    return client


def values():
    """Of all rooms: what people see of them."""
    return list(Room.objects.order_by("id").values("id", "code", "size", "price", "latitude", "created_at"))


def job_page(job=None):
    return f"{JOBS}{(job or Job.objects.latest('pk')).pk}/"


def undo(client, job=None, **fields):
    """Undo a job, by default the latest, as its page does; the page that follows."""
    url = job_page(job)
    shown = client.get(url).context["preview"].fingerprint
    return client.post(url, {"undo": "yes", "fingerprint": shown} | fields, follow=True)


def save(client, room, **changed):
    return client.post(page(room), typed(client.get(page(room)), **changed), follow=True)


def raise_prices(client, rooms, change="5"):
    fields = {"change": change, "unit": "euros"}
    shown = act(client, "change_prices", rooms, **fields)
    return act(
        client,
        "change_prices",
        rooms,
        **fields,
        confirm="yes",
        fingerprint=shown.context["fingerprint"],
    )


def delete(client, rooms):
    shown = act(client, "delete_selected", rooms)
    return act(client, "delete_selected", rooms, confirm="yes", fingerprint=shown.context["fingerprint"])


def test_a_saved_room_gets_its_old_values_back(as_boss, boss):
    room = RoomFactory(price=39, size=None, code=CODES[0])
    before = values()
    saved = save(as_boss, room, price=45, size=20, code=CODES[1])
    assert f'<a href="{job_page()}">Undo…</a>' in saved.content.decode()
    text = page_text(as_boss.get(job_page()))
    assert "by boss" in text
    assert "1 of 1 room changed." in text
    assert "1 room gets its old values back." in text
    assert f"code {CODES[0]}, size unknown, price 39 code {CODES[1]}, size 20, price 45" in text
    done = undo(as_boss)
    assert "Undone: 1 room gets its old values back." in page_text(done)
    assert values() == before
    assert Room.objects.get().version == 3
    entry = LogEntry.objects.latest("pk")
    assert (entry.user, entry.object_id) == (boss, str(room.pk))
    undone = Job.objects.earliest("pk").pk
    assert entry.change_message == (
        f"code {CODES[1]} → {CODES[0]}, size 20 → unknown, price 45 → 39 (undo of job {undone})"
    )


def test_an_added_room_is_deleted_again_and_the_undo_brings_it_back(as_boss):
    as_boss.post(ADD, {"code": CODES[0], "size": "20", "price": "39", "latitude": "1", "longitude": "2"})
    added = values()
    assert "1 added room is deleted again." in page_text(as_boss.get(job_page()))
    undo(as_boss)
    assert values() == []
    assert "Deleted" in page_text(as_boss.get(f"/admin/rooms/room/activity/?room={CODES[0]}"))
    undo(as_boss)
    assert values() == added


def test_deleted_rooms_are_restored_with_key_code_and_times(as_boss):
    rooms = [RoomFactory(size=size) for size in (None, 5, 6)]
    before = values()
    deleted = delete(as_boss, rooms[:2])
    assert "Undo…" in page_text(deleted)
    assert "2 deleted rooms are added again." in page_text(as_boss.get(job_page()))
    undo(as_boss)
    assert values() == before
    assert "Deleted" in page_text(as_boss.get(f"/admin/rooms/room/activity/?room={rooms[0].code}"))
    assert as_boss.get(page(rooms[0])).status_code == 200


def test_prices_in_bulk_are_undone_and_the_undo_is_undone(as_boss):
    rooms = [RoomFactory(price=price) for price in (10, 20, 30)]
    raise_prices(as_boss, rooms[:2])
    assert prices() == [15, 25, 30]
    undo(as_boss)
    assert prices() == [10, 20, 30]
    undo(as_boss)
    assert prices() == [15, 25, 30]
    undo(as_boss)
    assert prices() == [10, 20, 30]
    text = page_text(as_boss.get(JOBS))
    assert text.count("Undo job") == 3
    assert text.count("Change prices by +5 euros per day 2 rooms") == 2


def test_an_import_is_undone_with_what_it_added_and_changed(as_boss):
    RoomFactory(code=CODES[0], price=39)
    before = values()
    confirm(as_boss, upload(as_boss, as_csv((CODES[0], "", 45, 1, 1), (CODES[1], 30, 50, 2, 2))))
    assert Job.objects.get().title == "Import rooms.csv"
    text = page_text(as_boss.get(job_page()))
    assert "1 room gets its old values back, 1 added room is deleted again." in text
    undo(as_boss)
    assert values() == before


def test_rooms_with_later_versions_stay_and_are_named(as_boss):
    rooms = [RoomFactory(price=price) for price in (10, 20, 30)]
    raise_prices(as_boss, rooms)
    job = Job.objects.get()
    save(as_boss, rooms[1], size=7)
    delete(as_boss, rooms[2:])
    shown = as_boss.get(job_page(job))
    text = page_text(shown)
    assert "1 room gets its old values back." in text
    assert "2 rooms changed since" in text
    assert [room.code for room in shown.context["refused"]] == [str(room.code) for room in rooms[1:]]
    later = [room.later_job for room in shown.context["refused"]]
    assert later == list(Job.objects.exclude(pk=job.pk).order_by("pk").values_list("pk", flat=True))
    assert f"price 25 job {later[0]}" in text
    assert f"deleted job {later[1]}" in text
    Room.objects.filter(pk=rooms[0].pk).update(price=70)
    assert "price 70 another program" in page_text(as_boss.get(job_page(job)))
    Room.objects.filter(pk=rooms[0].pk).update(price=15)
    JobRoom.objects.filter(room_id=rooms[0].pk).update(version=4)
    undo(as_boss, job)
    assert prices() == [10, 25]


def test_later_jobs_are_undone_first_then_earlier_ones(as_boss):
    rooms = RoomFactory.create_batch(2, price=10)
    for change in ("5", "7", "9"):
        raise_prices(as_boss, rooms, change)
    first, second, third = Job.objects.order_by("pk")
    assert "Nothing is left to undo." in page_text(as_boss.get(job_page(first)))
    undo(as_boss, third)
    assert prices() == [22, 22]
    undo(as_boss, second)
    assert prices() == [15, 15]
    undo(as_boss, first)
    assert prices() == [10, 10]
    assert "Nothing is left to undo." in page_text(as_boss.get(job_page(third)))


def test_a_deleted_room_is_not_restored_where_its_code_is_taken(as_boss):
    room = RoomFactory(code=CODES[0])
    delete(as_boss, [room])
    RoomFactory(code=CODES[0], price=1)
    text = page_text(as_boss.get(job_page()))
    assert "Nothing is left to undo." in text
    assert "or another room has the code" in text


def test_a_room_that_was_restored_and_deleted_again_is_restored_by_the_later_job_only(as_boss):
    room = RoomFactory(price=10)
    delete(as_boss, [room])
    first = Job.objects.get()
    undo(as_boss)
    save(as_boss, room, price=70)
    room.refresh_from_db()
    delete(as_boss, [room])
    assert "Nothing is left to undo." in page_text(as_boss.get(job_page(first)))
    undo(as_boss)
    assert prices() == [70]


def test_a_form_that_was_open_before_a_room_was_deleted_and_restored_is_stale(as_boss):
    room = RoomFactory(price=10)
    open_form = typed(as_boss.get(page(room)), price=50)
    save(as_boss, room, price=20)
    room.refresh_from_db()
    delete(as_boss, [room])
    undo(as_boss)
    assert "Theirs" in page_text(as_boss.post(page(room), open_form))
    assert prices() == [20]


def test_a_column_that_is_younger_than_the_job_keeps_its_value(as_boss):
    room = RoomFactory(price=39, size=20)
    save(as_boss, room, price=45)
    noted = JobRoom.objects.get()
    del noted.before["size"]  # as if the job was from before the migration
    JobRoom.objects.update(before=noted.before)
    assert "price 39 price 45" in page_text(as_boss.get(job_page()))
    undo(as_boss)
    room.refresh_from_db()
    assert (room.price, room.size) == (39, 20)


def test_a_save_without_changes_is_no_job(as_boss):
    saved = save(as_boss, RoomFactory())
    assert JOBS + "1" not in saved.content.decode()
    assert not Job.objects.exists()


def test_an_edit_between_preview_and_undo_shows_the_preview_again(as_boss):
    rooms = RoomFactory.create_batch(2, price=10)
    raise_prices(as_boss, rooms)
    shown = as_boss.get(job_page()).context["preview"].fingerprint
    Room.objects.filter(pk=rooms[0].pk).update(size=3)
    again = as_boss.post(job_page(), {"undo": "yes", "fingerprint": shown}, follow=True)
    assert "This is no longer what you were shown." in page_text(again)
    assert prices() == [15, 15]


@pytest.mark.parametrize("fingerprint", ["", "x", "1:2:3", "\0"])
def test_a_forged_undo_changes_nothing(as_boss, fingerprint):
    raise_prices(as_boss, [RoomFactory(price=10)])
    assert undo(as_boss, fingerprint=fingerprint).status_code == 200
    assert prices() == [15]


def test_changes_by_other_programs_belong_to_no_job(as_boss):
    room = RoomFactory(price=10)
    raise_prices(as_boss, [room])
    Room.objects.update(price=60)
    RoomFactory()
    assert JobRoom.objects.count() == 1


@pytest.mark.parametrize(
    ("work", "right"),
    [
        (lambda client, room: save(client, room, price=45), "change"),
        (lambda client, room: delete(client, [room]), "add"),
        (
            lambda client, room: client.post(
                ADD, {"code": CODES[0], "size": "", "price": "1", "latitude": "1", "longitude": "1"}
            ),
            "delete",
        ),
    ],
    ids=["change", "delete", "add"],
)
def test_an_undo_takes_the_right_to_do_what_it_does(as_boss, django_user_model, work, right):
    work(as_boss, RoomFactory(price=39))
    before = values()
    user = django_user_model.objects.create_user("temp", is_staff=True)
    rights = Permission.objects.filter(content_type__model="room")
    user.user_permissions.set(rights.exclude(codename=f"{right}_room"))
    client = Client()
    client.force_login(user)
    shown = client.get(job_page())
    assert f"you need the right to {right} rooms" in page_text(shown)
    assert b'name="undo"' not in shown.content
    fields = {"undo": "yes", "fingerprint": shown.context["preview"].fingerprint}
    assert client.post(job_page(), fields).status_code == 403
    assert values() == before
    user.user_permissions.set(rights.filter(codename__in=[f"{right}_room", "view_room"]))
    client.force_login(django_user_model.objects.get(pk=user.pk))
    assert client.post(job_page(), fields).status_code == 302
    assert values() != before


def test_jobs_take_the_right_to_see_rooms_and_a_token(as_boss, boss, django_user_model):
    raise_prices(as_boss, [RoomFactory(price=10)])
    stranger = Client()
    stranger.force_login(django_user_model.objects.create_user("temp", is_staff=True))
    assert [stranger.get(url).status_code for url in (JOBS, job_page())] == [403, 403]
    assert Client().get(job_page()).status_code == 302
    fields = {"undo": "yes", "fingerprint": as_boss.get(job_page()).context["preview"].fingerprint}
    cross_site = Client(enforce_csrf_checks=True)
    cross_site.force_login(boss)
    assert cross_site.post(job_page(), fields).status_code == 403
    assert prices() == [15]
    for url in (f"{JOBS}0/", f"{JOBS}{'9' * 30}/", f"{JOBS}x/"):
        assert as_boss.get(url, follow=True).status_code in (200, 404)
    assert as_boss.post(job_page(), {"continue": "yes"}).status_code == 403


def test_a_job_of_a_deleted_user_is_still_there(as_boss, editor):
    other = Client()
    other.force_login(editor)
    save(other, RoomFactory(price=10), price=20)
    editor.delete()
    assert "by somebody who is no longer here" in page_text(as_boss.get(job_page()))
    assert "nobody who is here" in page_text(as_boss.get(JOBS))
    undo(as_boss)
    assert prices() == [10]


def test_older_jobs_are_on_further_pages(as_boss, monkeypatch):
    monkeypatch.setattr("rooms.admin.jobs.pages.PER_PAGE", 2)
    room = RoomFactory(price=1)
    for price in (2, 3, 4):
        save(as_boss, room, price=price)
    first = as_boss.get(JOBS)
    assert [job.title for job, _ in first.context["jobs"]] == [
        "Change a room: price 3 → 4",
        "Change a room: price 2 → 3",
    ]
    rest = as_boss.get(f"{JOBS}?before={first.context['older']}")
    assert len(rest.context["jobs"]) == 1
    for odd in ("x", "-1", "9" * 40, "²"):
        assert as_boss.get(JOBS, {"before": odd}).status_code == 200


@pytest.mark.django_db(transaction=True)
class TestWithOthers:
    @pytest.fixture
    def as_boss(self, client, boss, monkeypatch):
        monkeypatch.setattr(bulk, "MAX_ROOMS", 2)
        monkeypatch.setattr(large, "BATCH", 2)
        client.force_login(boss)
        yield client
        connection.close()

    def test_many_rooms_are_undone_in_batches(self, as_boss, monkeypatch):
        monkeypatch.setattr("rooms.admin.jobs.pages.SECONDS", 0)
        RoomFactory.create_batch(5, price=10)
        finish(as_boss, page_of(change_prices(as_boss)))
        assert prices() == [15] * 5
        begun = undo(as_boss)
        assert "0 of 5 rooms brought back." in page_text(begun)
        assert as_boss.post(page_of(begun), headers=JSON).json()["changed"] == 2
        assert prices() == [10, 10, 15, 15, 15]
        assert finish(as_boss, page_of(begun))["text"] == "5 of 5 rooms brought back."
        assert prices() == [10] * 5
        finish(as_boss, page_of(undo(as_boss)))
        assert prices() == [15] * 5

    def test_many_deleted_rooms_are_restored_in_batches(self, as_boss):
        RoomFactory.create_batch(5)
        before = values()
        shown = preview(as_boss, action="delete_selected")
        begun = preview(
            as_boss, action="delete_selected", confirm="yes", fingerprint=shown.context["fingerprint"]
        )
        finish(as_boss, page_of(begun))
        assert values() == []
        finish(as_boss, page_of(undo(as_boss)))
        assert values() == before

    def test_a_stopped_change_is_undone_as_far_as_it_came(self, as_boss, monkeypatch):
        monkeypatch.setattr("rooms.admin.jobs.pages.SECONDS", 0)
        RoomFactory.create_batch(5, price=10)
        started = page_of(change_prices(as_boss))
        as_boss.post(started, headers=JSON)
        still = as_boss.post(started, {"undo": "yes", "fingerprint": "x"}, follow=True)
        assert "Stop it first" in page_text(still)
        as_boss.post(started, {"cancel": "yes"}, headers=JSON)
        undo(as_boss)
        assert prices() == [10] * 5

    def test_a_change_that_nobody_finished_in_a_day_is_undone_by_others(self, as_boss, editor, monkeypatch):
        monkeypatch.setattr("rooms.admin.jobs.pages.SECONDS", 0)
        RoomFactory.create_batch(5, price=10)
        as_boss.post(page_of(change_prices(as_boss)), headers=JSON)
        assert prices() == [15, 15, 10, 10, 10]
        as_editor = Client()
        as_editor.force_login(editor)
        assert b'name="undo"' not in as_editor.get(job_page()).content
        Job.objects.update(seen_at=timezone.now() - large.LIFETIME)
        assert "Stopped: 2 of 5 rooms changed." in page_text(as_editor.get(job_page()))
        undo(as_editor)
        assert prices() == [10] * 5

    def test_of_two_undos_at_once_one_is_done(self, as_boss, boss):
        raise_prices(as_boss, RoomFactory.create_batch(2, price=10))
        url = job_page()
        fields = {"undo": "yes", "fingerprint": as_boss.get(url).context["preview"].fingerprint}
        clients = [Client(), Client()]
        for client in clients:
            client.force_login(boss)
        responses = at_once(lambda client: client.post(url, fields, follow=True), *clients)
        assert sorted("Undone: 2 rooms" in page_text(response) for response in responses) == [False, True]
        assert prices() == [10, 10]
        assert list(Room.objects.values_list("version", flat=True)) == [3, 3]
        assert Job.objects.count() == 2

    def test_an_edit_that_an_undo_waits_for_is_kept(self, as_boss, other):
        raise_prices(as_boss, RoomFactory.create_batch(2, price=10))
        url = job_page()
        fields = {"undo": "yes", "fingerprint": as_boss.get(url).context["preview"].fingerprint}
        response = while_prices_change(other, lambda: as_boss.post(url, fields, follow=True))
        assert "This is no longer what you were shown." in page_text(response)
        assert prices() == [60, 60]
        assert Job.objects.count() == 1

    def test_an_undo_of_locked_rooms_offers_to_try_again(self, as_boss, other):
        raise_prices(as_boss, RoomFactory.create_batch(2, price=10))
        url = job_page()
        fields = {"undo": "yes", "fingerprint": as_boss.get(url).context["preview"].fingerprint}
        with connection.cursor() as cursor:
            cursor.execute("SET lock_timeout = 50")
        other.execute("BEGIN; SELECT FROM room FOR UPDATE")
        held = as_boss.post(url, fields)
        assert held.status_code == 409
        other.execute("ROLLBACK")
        as_boss.post(url, fields)
        assert prices() == [10, 10]
