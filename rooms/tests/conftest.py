"""Fixtures of the tests of rooms: many rooms, rooms that a module shares, and Chromium."""

import os
from contextlib import contextmanager

import pytest
from django.db import connection

from rentomatic_site import postgres
from rentomatic_site.scenarios import databases, discovery, isolation, loading, names
from rooms.models import Room

BOOK_INSERT = (
    "INSERT INTO room(code, size, price, longitude, latitude) "
    "VALUES ('f853578c-fc0f-4e65-81b8-566c5dffa35a', 215, 39, -0.09998975, 51.75436293);"
)
"""The statement as the book prints it."""


@pytest.fixture(scope="module")
def stored(django_db_setup, django_db_blocker):
    """`stored(rooms)` commits rooms once for all tests of a module, which only read them."""

    def store(rooms):
        with django_db_blocker.unblock():
            return Room.objects.bulk_create(rooms)

    yield store
    with django_db_blocker.unblock():
        Room.objects.all().delete()


def insert_rooms(count: int, seed: float = 0.5) -> None:
    """
    Store thousands of rooms with one statement, and analyze the table: every tenth has no size, prices have
    ties, coordinates are around London. The codes are the same in each run.
    """
    with postgres.long_statements(), connection.cursor() as cursor:
        cursor.execute("SELECT setseed(%s)", [seed])
        cursor.execute(
            "INSERT INTO room (code, size, price, latitude, longitude)"
            " SELECT md5(n::text)::uuid, CASE WHEN n %% 10 > 0 THEN 5 + (random() * 300)::int END,"
            " 20 + (random() ^ 3 * 900)::int, 51 + random(), -1 + 2 * random()"
            " FROM (SELECT count(*) AS last FROM room) AS before, generate_series(1, %s) AS number,"
            " LATERAL (SELECT last + number AS n) AS next",
            [count],
        )
        cursor.execute("ANALYZE room")


@contextmanager
def committed(blocker, count):
    """A table of so many rooms, analyzed, for the tests of a module."""
    with blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE room")
        insert_rooms(count)
        cursor.execute("VACUUM ANALYZE room")  # dead rows of earlier tests would be read, too
    yield
    with blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("TRUNCATE room")
        cursor.execute("ANALYZE room")


@pytest.fixture(scope="module")
def twenty_thousand(django_db_setup, django_db_blocker):
    """Enough rooms for the planner to choose indexes."""
    with committed(django_db_blocker, 20_000):
        yield


@pytest.fixture(scope="module")
def thirty_thousand(django_db_setup, django_db_blocker):
    """More rooms than an estimate counts."""
    with committed(django_db_blocker, 30_000):
        yield


@pytest.fixture(scope="module")
def seventy_thousand(django_db_setup, django_db_blocker):
    """More rooms than exact statistics have."""
    with committed(django_db_blocker, 70_000):
        yield


@pytest.fixture(scope="module")
def million_rooms(django_db_setup, django_db_blocker):
    """The rooms of the scenario of this name, for a module; its own tests use the same template."""
    target = names.target_name(f"test_million_{os.getpid()}")
    with django_db_blocker.unblock():
        loading.load(discovery.find("million_rooms"), reset=True, target=target)
        with isolation.django_on(target):
            yield
        with postgres.session() as server:
            databases.drop(server, target)


@pytest.fixture
def other():
    """A cursor of another session on the tests' database; the test's own connection is closed afterwards."""
    with postgres.session(connection.settings_dict["NAME"]) as cursor:
        yield cursor
    connection.close()


SWITCHES = (
    "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync"
)


@pytest.fixture(scope="module")
def chromium():
    playwright = pytest.importorskip("playwright.sync_api")
    # Playwright runs an event loop in this thread, in which Django would refuse to query.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path="/usr/bin/chromium", args=SWITCHES.split())
        yield browser
        browser.close()
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def open_window(chromium, live_server):
    """
    `open_window(path, cookies=…, **how)` opens a window of the site in a browser of its own.

    Console errors (Content Security Policy, scripts, missing files) and requests to other servers fail the
    test at its end.
    """
    contexts, messages = [], []

    def note(message):
        # ERR_NETWORK_CHANGED: another program has added a network interface.
        if message.type in {"error", "warning"} and "ERR_NETWORK_CHANGED" not in message.text:
            messages.append(message.text)

    def watch(request):
        if not request.url.startswith((live_server.url, "data:")):
            messages.append(f"asked {request.url}")

    def run(path, cookies=(), **how):
        context = chromium.new_context(
            base_url=live_server.url, **{"viewport": {"width": 1280, "height": 900}} | how
        )
        contexts.append(context)
        context.add_cookies(list(cookies))
        page = context.new_page()
        page.set_default_timeout(60_000)
        page.on("console", note)
        page.on("pageerror", lambda error: messages.append(str(error)))
        page.on("request", watch)
        page.goto(path)
        return page

    yield run
    for context in contexts:
        context.close()
    assert messages == []
