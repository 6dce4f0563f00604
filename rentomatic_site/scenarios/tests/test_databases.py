"""The databases of scenarios one by one: how they are copied, what their comments say, who is in the way."""

import json
import re
import threading
import time
from dataclasses import replace
from io import StringIO

import psycopg2
import pytest
from django.conf import settings
from psycopg2.extras import LoggingConnection

from rentomatic_site import postgres
from rentomatic_site.scenarios import databases, locks
from rentomatic_site.scenarios.databases import FILE_COPY_FROM
from rentomatic_site.scenarios.tests.workshop import Workshop
from rentomatic_site.testing.rig import wait_until

ONE = "from rooms.seeding import room\ndef run():\n    room(price=30)\n"


@pytest.mark.parametrize(("size", "copies_files"), [(7 * 2**20, False), (64 * 2**20, True)])
def test_files_are_copied_of_large_databases_only(workshop: Workshop, size: int, copies_files: bool) -> None:
    assert FILE_COPY_FROM == 64 * 2**20
    workshop.write("t_one", ONE)
    workshop.load("t_one")
    statements = StringIO()
    opened = psycopg2.connect(**settings.POSTGRES, connection_factory=LoggingConnection)
    opened.initialize(statements)
    opened.autocommit = True
    with opened.cursor() as server:
        (template,) = [
            database
            for database in databases.databases(server)
            if (database.metadata.kind, database.metadata.scenario) == (databases.TEMPLATE, "t_one")
        ]
        databases.create(server, "t_one", replace(template, size=size), template.metadata)
    opened.close()
    assert "CREATE DATABASE" in statements.getvalue()
    assert ("STRATEGY 'FILE_COPY'" in statements.getvalue()) == copies_files


def test_a_comment_of_an_earlier_version_is_that_of_an_incomplete_load(workshop: Workshop) -> None:
    workshop.write("t_one", ONE)
    with postgres.session() as server:
        postgres.create_database(server, "scenario_t_one")
        comment = json.dumps({"rentomatic": {"kind": databases.TARGET, "scenario": "t_one"}})
        postgres.comment_on_database(server, "scenario_t_one", comment)
        metadata = databases.find(server, "scenario_t_one").metadata
    assert (metadata.rooms, metadata.seed, metadata.error) == (0, 0, "")
    listed = workshop.call("list_scenarios").stdout
    assert re.search(r"^t_one +incomplete +\? ", listed, re.MULTILINE)
    assert "filled" in workshop.load("t_one").stdout
    assert workshop.prices("t_one") == [30]


def test_a_database_that_another_process_renames_is_there_or_not(workshop: Workshop) -> None:
    """Each load ends with such a change of names."""
    away, there = "scenario_t_away", "scenario_t_there"
    over = threading.Event()

    def rename() -> None:
        with postgres.session() as server:
            while not over.is_set():
                server.execute(f"ALTER DATABASE {away} RENAME TO {there}")
                server.execute(f"ALTER DATABASE {there} RENAME TO {away}")

    with postgres.session() as server:
        postgres.create_database(server, away)
        databases.write_metadata(server, away, databases.Metadata(databases.TARGET, "t_away"))
        thread = threading.Thread(target=rename)
        thread.start()
        try:
            found = [databases.find(server, there) for _ in range(500)]
        finally:
            over.set()
            thread.join()
    assert {one.name if one else None for one in found} == {there, None}


def test_a_broken_database_of_another_name_stays_and_has_no_size(workshop: Workshop) -> None:
    """It was being dropped; only a load of that name, or drop_scenario, goes on with it."""
    workshop.write("t_one", ONE)
    workshop.load("t_one", "--as", "t_other")
    with postgres.session() as server:
        server.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'scenario_t_other'")
        assert workshop.load("t_one").returncode == 0
        broken = databases.find(server, "scenario_t_other")
    assert (broken.broken, broken.size) == (True, 0)


def test_programs_that_connect_again_and_again_are_named_as_the_cause(
    workshop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program connects between the end of the other sessions and the renaming, which waits for a lock."""
    workshop.write("t_one", ONE)
    workshop.load("t_one")
    monkeypatch.setattr(databases, "ATTEMPTS", 1)
    done = []
    reset = threading.Thread(target=lambda: done.append(workshop.load("t_one", "--reset")))
    with postgres.session() as server, postgres.session() as blocker:
        comment = postgres.database_comment(server, "scenario_t_one")
        blocker.execute("BEGIN")
        postgres.comment_on_database(blocker, "scenario_t_one", comment)
        reset.start()
        waits = "SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE 'COMMENT ON%'"

        def reset_waits() -> bool:
            server.execute(waits)
            return server.fetchone() is not None

        wait_until(reset_waits, "the reset waits for the lock")
        with postgres.session("scenario_t_one"):
            blocker.execute("ROLLBACK")
            reset.join()
    (result,) = done
    assert result.returncode == 1
    assert "scenario_t_one is in use by programs that connect again and again" in result.stderr
    assert workshop.prices("t_one") == [30]


@pytest.mark.parametrize(("scenario", "what"), [("t_one", "scenario t_one"), ("", "migrations")])
def test_who_waits_for_templates_is_told_for_which(workshop: Workshop, scenario: str, what: str) -> None:
    said = []
    waiting = threading.Event()

    def say(line: str) -> None:
        said.append(line)
        waiting.set()

    def wait() -> None:
        with locks.lock_templates(scenario, say):
            pass

    other = threading.Thread(target=wait)
    with locks.lock_templates(scenario):
        other.start()
        assert waiting.wait(60)
    other.join()
    assert said == [f"Waiting for another command that works on {what} …"]


# --- What a load says


def test_a_load_says_how_long_it_took(workshop: Workshop) -> None:
    workshop.write("t_one", ONE)
    for arguments in ([], ["--reset"]):
        began = time.monotonic()
        said = workshop.load("t_one", *arguments).stdout
        elapsed = time.monotonic() - began
        assert 0 < float(re.search(r" in (\d+\.\d\d) s;", said)[1]) <= elapsed + 0.005


def test_the_output_that_a_load_keeps_is_limited(workshop: Workshop) -> None:
    workshop.write("t_talk", "def run():\n    print('x' * 10_001 + 'y')\n")
    assert "x" * 10_001 + "y" in workshop.load("t_talk").stdout
    assert workshop.load("t_talk").stdout.partition("Scenario")[0] == "x" * 10_000


def test_the_first_of_two_errors_is_reported(workshop: Workshop) -> None:
    workshop.write(
        "t_fails",
        """
        import threading

        def fail():
            raise ValueError("the first error")

        def run():
            thread = threading.Thread(target=fail)
            thread.start()
            thread.join()
            raise KeyError("the second error")
        """,
    )
    said = workshop.load("t_fails").stderr
    assert "ValueError: the first error" in said
    assert "the second error" not in said
