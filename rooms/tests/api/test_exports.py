"""The limit of concurrent exports in a process."""

import contextlib

import pytest
from django.conf import settings
from django.db import DatabaseError, connection, transaction
from django.test.utils import CaptureQueriesContext

from rooms.api import exports
from rooms.factories import RoomFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def all_slots_taken():
    with contextlib.ExitStack() as held:
        for _ in range(settings.EXPORTS_AT_ONCE):
            exports.slots.acquire()
            held.callback(exports.slots.release)
        yield


@pytest.mark.parametrize(
    "path",
    [
        "/rooms.csv",
        "/rooms.ndjson",
        "/rooms.geojson",
        "/rooms.csv?filter_price__lt=66",
        "/rooms.csv?count=exact",
        "/rooms.ndjson?count=estimated",
    ],
)
def test_an_export_without_a_slot_is_429_without_queries(
    client, all_slots_taken, path, django_assert_num_queries
):
    with django_assert_num_queries(0):
        response = client.get(path)
    assert response.status_code == 429
    assert response["Content-Type"] == "application/problem+json"
    assert int(response["Retry-After"]) > 0
    assert response.json()["message"].endswith("read page by page with limit=1000.")


@pytest.mark.parametrize("path", ["/rooms", "/rooms.csv?limit=10", "/rooms.geojson?limit=10", "/rooms/stats"])
def test_other_responses_need_no_export_slot(client, all_slots_taken, path):
    assert client.get(path).status_code == 200


def test_head_of_an_export_needs_no_slot(client, all_slots_taken):
    assert client.head("/rooms.csv").status_code == 200


@pytest.mark.parametrize("path", ["/rooms.csv?count=exact", "/rooms.csv"])
def test_an_export_that_fails_before_its_first_row_gives_its_slot_back(client, path):
    client.raise_request_exception = False
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE room RENAME TO elsewhere")
    for _ in range(settings.EXPORTS_AT_ONCE + 1):
        before = transaction.savepoint()
        assert client.get(path).status_code == 503
        transaction.savepoint_rollback(before)


@pytest.mark.parametrize("method", ["get", "head"])
def test_an_export_counts_once_where_it_is_asked_to(client, method):
    RoomFactory.create_batch(3)
    with CaptureQueriesContext(connection) as queries:
        response = getattr(client, method)("/rooms.csv?count=exact")
        b"".join(response)
    assert response["X-Total-Count"] == "3"
    assert sum("count(*)" in query["sql"].lower() for query in queries) == 1


def chunks():
    yield "first"
    yield "second"


def failing():
    raise DatabaseError
    yield ""


def test_the_slot_of_an_export_is_released():
    for _ in range(settings.EXPORTS_AT_ONCE + 1):
        assert list(exports.with_slot(chunks())) == ["first", "second"]
        left = exports.with_slot(chunks())
        next(left)
        left.close()
        with pytest.raises(DatabaseError):
            next(exports.with_slot(failing()))


def test_exports_leave_threads_for_everything_else():
    assert 0 < settings.EXPORTS_AT_ONCE < settings.WEB_THREADS
