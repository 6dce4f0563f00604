"""How long undo reaches back."""

import io
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.core.management import call_command
from django.utils import timezone

from rooms.admin.actions import bulk, large
from rooms.admin.jobs import prune
from rooms.factories import RoomFactory
from rooms.models import Job, JobRoom, Room
from rooms.tests.admin.pages import page_text
from rooms.tests.admin.test_bulk import prices
from rooms.tests.admin.test_undo import job_page, raise_prices, save, undo

pytestmark = pytest.mark.django_db


@pytest.fixture
def as_boss(client, boss):
    client.force_login(boss)
    return client


def make_older(days, *jobs):
    keys = [job.pk for job in jobs]
    Job.objects.filter(pk__in=keys).update(created_at=timezone.now() - timedelta(days=days, minutes=1))


def run(*arguments):
    out = io.StringIO()
    call_command("prune_jobs", *arguments, stdout=out)
    return out.getvalue()


@pytest.fixture
def jobs(as_boss, settings):
    """Two jobs, of three rooms and of one, a hundred days old and one."""
    settings.UNDO_DAYS = 30
    rooms = RoomFactory.create_batch(3, price=39)
    raise_prices(as_boss, rooms)
    save(as_boss, rooms[0], price=60)
    old, young = Job.objects.order_by("pk")
    make_older(100, old)
    make_older(29, young)
    return old, young


def test_what_is_older_is_not_undone_any_more_and_the_rest_is(as_boss, jobs):
    old, young = jobs
    assert run() == "Undo reaches back 30 days: records of 3 rooms in 1 older jobs deleted.\n"
    text = page_text(as_boss.get(job_page(old)))
    assert "What the rooms were before is not recorded any more" in text
    assert "3 of 3 rooms changed." in text
    undo(as_boss, young)
    assert prices() == [44, 44, 44]
    assert run() == "Undo reaches back 30 days: records of 0 rooms in 0 older jobs deleted.\n"


def test_rooms_history_and_the_list_of_jobs_stay(as_boss, jobs):
    before = (list(Room.objects.order_by("pk").values()), LogEntry.objects.count(), Job.objects.count())
    run()
    assert (
        list(Room.objects.order_by("pk").values()),
        LogEntry.objects.count(),
        Job.objects.count(),
    ) == before
    listed = page_text(as_boss.get("/admin/rooms/room/jobs/"))
    assert "Undo reaches back 30 days." in listed
    assert jobs[0].title in listed


def test_a_dry_run_deletes_nothing(jobs):
    assert (
        run("--dry-run")
        == "Undo reaches back 30 days: records of 3 rooms in 1 older jobs would be deleted.\n"
    )
    assert JobRoom.objects.count() == 4


def test_zero_days_are_for_ever(settings, jobs):
    settings.UNDO_DAYS = 0
    assert "for ever" in run()
    assert JobRoom.objects.count() == 4


def test_a_job_that_somebody_is_undoing_is_left_until_that_ends(as_boss, jobs, monkeypatch):
    monkeypatch.setattr(bulk, "MAX_ROOMS", 1)
    undo(as_boss, jobs[0])
    undoing = Job.objects.latest("pk")
    assert undoing.state == Job.State.RUNNING
    run()
    assert JobRoom.objects.filter(job=jobs[0]).count() == 3
    Job.objects.filter(pk=undoing.pk).update(created_at=timezone.now() - large.LIFETIME)
    run()
    assert JobRoom.objects.filter(job=jobs[0]).count() == 0


def test_an_undo_stays_after_what_it_undid_is_pruned(as_boss, jobs):
    old, young = jobs
    undo(as_boss, young)
    undo(as_boss, old)
    latest = Job.objects.latest("pk")
    run()
    undo(as_boss, latest)
    assert prices() == [44, 44, 44]


def test_many_rooms_are_pruned_in_batches(jobs, monkeypatch):
    monkeypatch.setattr(prune, "BATCH", 2)
    assert prune.prune(jobs[0]) == 3
    assert JobRoom.objects.count() == 1


def test_the_page_of_a_job_names_rooms_as_people_do(as_boss):
    room = RoomFactory(size=38, price=39, latitude=41.4026, longitude=2.1566)
    save(as_boss, room, price=45)
    name = "38 m² in Gràcia, Barcelona"
    assert f"{name} {room.code} price 39 price 45" in page_text(as_boss.get(job_page()))
    job = Job.objects.latest("pk")
    room.delete()
    assert f"{name} {room.code}" in page_text(as_boss.get(job_page(job)))
