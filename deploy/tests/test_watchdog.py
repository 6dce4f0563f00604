"""The watchdog cuts the connection of a request that waits too long, and of no other."""

import contextlib
import logging
import os
import resource
import socket
import threading
import time

import pytest
from django.db import OperationalError, connection

from deploy.watchdog import Watchdog
from rentomatic_site.testing.rig import wait_until


def sleep(seconds: float) -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


def sleeps_over_the_limit() -> bool:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT 1 FROM pg_stat_activity WHERE wait_event = 'PgSleep'"
            " AND datname = current_database() AND clock_timestamp() > query_start + interval '0.5 s'"
        )
        return cursor.fetchone() is not None


@pytest.fixture
def reopened():
    """Close the test's connection at the end; it may be cut."""
    yield
    with contextlib.suppress(OperationalError):
        connection.close()


@pytest.fixture
def client():
    """Both ends of a client's connection; the first is the server's."""
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def watchdog():
    """0.4 s for a wait for the database, a minute for a request."""
    watchdog = Watchdog(database=0.4, whole=60)
    watchdog.start()
    return watchdog


@pytest.mark.django_db(transaction=True)
def test_a_wait_for_the_database_over_the_limit_is_cut(watchdog, client, reopened, caplog):
    with pytest.raises(OperationalError), watchdog.watch("GET /rooms", client[0], "0123456789"):
        sleep(60)
    connection.close()
    with watchdog.watch("GET /rooms", client[0]):
        sleep(0)  # the next request connects anew
    (record,) = [record for record in caplog.records if record.name.endswith("watchdog")]
    assert record.getMessage() == "GET /rooms hangs: its connection to the database is cut"
    assert record.request_id == "0123456789"
    assert not watchdog.requests


@pytest.mark.django_db(transaction=True)
def test_a_request_that_computes_over_the_limit_is_left_alone(watchdog, client, reopened, caplog):
    with watchdog.watch("GET /rooms", client[0]):
        sleep(0)
        used = time.process_time()
        while time.process_time() - used < 1.2:
            pass
        sleep(0)
    assert "cut" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_many_short_statements_over_the_limit_are_left_alone(watchdog, client, reopened, caplog):
    with watchdog.watch("GET /rooms", client[0]):
        ends = time.monotonic() + 1.2
        while time.monotonic() < ends:
            sleep(0.01)
    assert "cut" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_slow_log_cuts_no_later_request(watchdog, client, reopened):
    logged = threading.Event()

    class SlowLog(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logged.wait(10)

    slow = SlowLog()
    logger = logging.getLogger("deploy.watchdog")
    logger.addHandler(slow)
    try:
        with pytest.raises(OperationalError), watchdog.watch("GET /rooms", client[0]):
            sleep(60)
        connection.close()
        for _ in range(20):
            with watchdog.watch("GET /rooms", client[0]):
                sleep(0)
        logged.set()
        for _ in range(20):
            with watchdog.watch("GET /rooms", client[0]):
                sleep(0.01)
    finally:
        logged.set()
        logger.removeHandler(slow)


@pytest.mark.parametrize(
    ("database", "interval", "checks"), [(0.5, 0.125, 4), (2, 0.5, 4), (2.5, 0.625, 4), (20, 1, 20)]
)
def test_a_wait_is_looked_at_four_times_or_each_second(database, interval, checks):
    watchdog = Watchdog(database=database, whole=60)
    assert (watchdog.interval, watchdog.max_checks) == (interval, checks)


def test_no_request_ends_between_the_decision_to_cut_it_and_the_cut(client):
    watchdog = Watchdog(database=60, whole=60)
    over = threading.Event()

    def request() -> None:
        with watchdog.watch("GET /rooms", client[0]):
            pass
        over.set()

    with watchdog.lock:  # as check() holds it
        thread = threading.Thread(target=request)
        thread.start()
        assert not over.wait(0.2)
    thread.join(10)
    assert over.is_set()


def test_a_client_that_never_reads_is_cut_off_after_the_longest_time(client, caplog):
    watchdog = Watchdog(database=0.4, whole=0.5)
    watchdog.start()
    with pytest.raises(BrokenPipeError), watchdog.watch("GET /rooms.csv", client[0]):
        client[0].sendall(b"x" * 100_000_000)
    message = "GET /rooms.csv takes too long to be read: its client is cut off"
    wait_until(lambda: message in caplog.text, "the line in the log, written after the cut")
    assert caplog.text.count(message) == 1


@pytest.mark.django_db(transaction=True)
def test_a_slow_reader_within_the_longest_time_is_left_alone(watchdog, client, reopened, caplog):
    with watchdog.watch("GET /rooms.csv", client[0]):
        sleep(0)
        reader = threading.Timer(1.2, lambda: client[1].recv(10_000_000, socket.MSG_WAITALL))
        reader.start()
        client[0].sendall(b"x" * 10_000_000)  # three times the limit for the database
        sleep(0)
    reader.join()
    assert "cut" not in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_cut_that_failed_is_made_at_the_next_look(client, reopened, caplog):
    watchdog = Watchdog(database=0.4, whole=60)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    errors = []

    def request() -> None:
        try:
            with watchdog.watch("GET /rooms", client[0]):
                sleep(60)
        except OperationalError as error:
            errors.append(error)
        connection.close()

    thread = threading.Thread(target=request)
    thread.start()
    wait_until(sleeps_over_the_limit, "a statement over the limit")
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # no descriptor is left to cut with
        for _ in range(watchdog.max_checks + 2):
            watchdog.check()
            time.sleep(0.01)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert "is cut" not in caplog.text
    watchdog.check()
    thread.join()
    assert caplog.text.count("its connection to the database is cut") == 1
    assert len(errors) == 1


def test_a_client_that_was_cut_off_keeps_its_descriptor_until_its_owner_closes_it(client):
    watchdog = Watchdog(database=0.4, whole=0)
    with watchdog.watch("GET /rooms.csv", client[0]):
        time.sleep(0.01)
        watchdog.check()
        assert client[1].recv(1) == b""
        os.fstat(client[0].fileno())
        watchdog.check()  # once is enough
