"""What statements, logins, jobs and exports add to the metrics."""

import subprocess
import sys

import pytest
from django.contrib.auth.models import User
from django.db import DatabaseError, connection, transaction
from django.http import HttpResponse, StreamingHttpResponse
from django.test import RequestFactory
from django.urls import URLPattern, get_resolver
from prometheus_client import REGISTRY

from rentomatic_site.metrics import requests
from rentomatic_site.testing.plugin import PROJECT
from rooms.admin.jobs.record import recorded
from rooms.factories import RoomFactory
from rooms.models import Job

OFF = ("prometheus", "rentomatic_site.metrics", "opentelemetry", "rentomatic_site.tracing")
"""What is not even imported without METRICS_BIND and OTEL_EXPORTER_OTLP_ENDPOINT."""


def value(name, **labels):
    return REGISTRY.get_sample_value(f"rentomatic_{name}", labels) or 0


@pytest.fixture
def added():
    """What a metric has more than at the first call with it."""
    first = {}

    def difference(name, **labels):
        now = value(name, **labels)
        return now - first.setdefault((name, *labels.items()), now)

    return difference


@pytest.fixture(scope="module", autouse=True)
def _connected():
    """As METRICS_BIND does it, for this process until it ends: what it counts, nobody reads."""
    requests.connect()


@pytest.fixture
def measured(transactional_db):
    """The connection of the test, opened while statements are measured."""
    connection.close()
    connection.ensure_connection()


@pytest.mark.usefixtures("measured")
def test_statements_of_a_stream_are_time_of_its_route(added):
    def rows():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.01)")
        yield b"a"

    added("database_seconds_total", route="none")
    response = requests.middleware(lambda request: StreamingHttpResponse(rows()))(RequestFactory().get("/x"))
    assert b"".join(response) == b"a"
    assert added("database_seconds_total", route="none") == 0
    response.close()
    assert added("database_seconds_total", route="none") >= 0.01


@pytest.mark.usefixtures("measured")
@pytest.mark.parametrize(
    ("kind", "statements"),
    [
        ("statement_timeout", ["SET LOCAL statement_timeout = 10", "SELECT pg_sleep(5)"]),
        ("other", ["SELECT 1 / 0"]),
    ],
)
def test_a_failed_statement_is_counted_by_its_kind(kind, statements, added):
    added("database_errors_total", kind=kind)
    *before, failing = statements
    with transaction.atomic(), connection.cursor() as cursor:
        for statement in before:
            cursor.execute(statement)
        with pytest.raises(DatabaseError), transaction.atomic():
            cursor.execute(failing)
    assert added("database_errors_total", kind=kind) == 1


@pytest.mark.django_db(transaction=True)
def test_a_connection_is_open_until_it_is_closed(added):
    connection.close()
    added("database_connections")
    added("database_connections_opened_total")
    connection.ensure_connection()
    assert (added("database_connections"), added("database_connections_opened_total")) == (1, 1)
    assert connection.execute_wrappers.count(requests.measure_statement) == 1
    connection.close()
    assert (added("database_connections"), added("database_connections_opened_total")) == (0, 1)


@pytest.mark.django_db(transaction=True)
def test_a_connection_that_opens_within_another_wrapper_is_measured_ever_after(client):
    connection.close()
    connection.execute_wrappers.clear()
    client.get("/rooms")  # times its statements with a wrapper of its own
    assert connection.execute_wrappers == [requests.measure_statement]


@pytest.mark.django_db(transaction=True)
@pytest.mark.unpooled("nothing is prepared there")
def test_a_prepared_statement_is_a_miss_once_then_hits(client, added):
    connection.close()
    RoomFactory()
    counts = [added("prepared_statements_total", cache=cache) for cache in ("miss", "hit")]
    for _ in range(3):
        client.get("/rooms?limit=1")
    counts = [added("prepared_statements_total", cache=cache) for cache in ("miss", "hit")]
    assert counts == [1, 2]


@pytest.mark.django_db
def test_logins_failures_and_lock_outs_are_counted(client, added, settings):
    User.objects.create_user("ann", password="right", is_staff=True)
    results = ("success", "failure", "locked_out")
    for result in results:
        added("logins_total", result=result)
    client.post("/admin/login/", {"username": "ann", "password": "right"})
    client.logout()
    settings.AXES_FAILURE_LIMIT = 2
    for _ in range(2):
        client.post("/admin/login/", {"username": "bob", "password": "wrong"})
    assert [added("logins_total", result=result) for result in results] == [1, 2, 1]


@pytest.mark.django_db(transaction=True)
def test_a_job_is_counted_when_it_is_committed(added):
    user = User.objects.create_user("ann")
    room = RoomFactory()
    added("jobs_total", state="done")
    with transaction.atomic():
        with recorded(user, "dearer"):
            room.price += 1
            room.save()
        transaction.set_rollback(True)
    assert added("jobs_total", state="done") == 0
    with recorded(user, "dearer"):
        room.price += 1
        room.save()
    assert added("jobs_total", state="done") == 1
    assert Job.objects.count() == 1


def test_a_response_that_no_view_made_is_counted_as_none(added):
    labels = {"route": "none", "method": "GET", "status": "400"}
    added("http_requests_total", **labels)
    requests.middleware(lambda request: HttpResponse(status=400))(RequestFactory().get("/a/b"))
    assert added("http_requests_total", **labels) == 1


def test_every_url_of_rooms_has_a_name():
    patterns = get_resolver("rooms.urls").url_patterns
    assert [
        pattern.pattern for pattern in patterns if isinstance(pattern, URLPattern) and not pattern.name
    ] == []


def test_nothing_is_loaded_while_it_is_off():
    script = "import django, sys; django.setup(); import rentomatic_site.wsgi; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT,
        env={"ENV_FILE": "/dev/null", "DEBUG": "on", "DJANGO_SETTINGS_MODULE": "rentomatic_site.settings"},
        capture_output=True,
        text=True,
        check=True,
    )
    modules = done.stdout.split()
    assert "rentomatic_site.middleware" in modules
    assert [name for name in modules if name.startswith(OFF)] == []
