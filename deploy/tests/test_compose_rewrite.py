"""
The type of a column that lists are read by is changed while the site serves reads and writes.

With TEST_LONG=on a million rooms are there, and the plain way is counted beside the one that rollout
names. That takes half an hour, and is for the table in docs/deployment.md.
"""

import os
import threading
from pathlib import Path

import pytest

from deploy.tests.stack import LONG, Stack, long
from deploy.tests.test_compose_releases import STAYS, changed, migration, migrations

pytestmark = pytest.mark.compose

ROOMS = 1_000_000 if LONG else 5000


IMPORTS = "from django.db import migrations, models\nfrom rooms.online import AlterFieldOnline\n\n\n"
ONLINE = "AlterFieldOnline('room', 'price', models.BigIntegerField())"
PLAIN = "migrations.AlterField('room', 'price', models.IntegerField())"

BREAKS_THE_OLD_VERSION = "migrations.RunSQL('ALTER TABLE room RENAME size TO area', migrations.RunSQL.noop)"


@pytest.fixture(scope="module")
def large(stack: Stack) -> Stack:
    """The stack, with so many rooms more."""
    stack.sql(
        "INSERT INTO room (code, size, price, latitude, longitude) "
        "SELECT gen_random_uuid(), n % 90 + 10, n % 400 + 1, 41 + n % 100 / 100.0, 2 + n % 97 / 100.0 "
        f"FROM generate_series(1, {ROOMS}) AS n"
    )
    stack.inside("db", "vacuumdb", "-U", "postgres", "--analyze", "application")
    return stack


def type_of_price(stack: Stack) -> str:
    return stack.sql(
        "SELECT format_type(atttypid, atttypmod) FROM pg_attribute "
        "WHERE attrelid = 'room'::regclass AND attname = 'price'"
    )


class Writer(threading.Thread):
    """Changes one room after the other for the time of a block, with a request's limits."""

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack = stack
        self.written = 0
        self.refused: list[str] = []
        self.over = threading.Event()

    def run(self) -> None:
        first = int(self.stack.sql("SELECT max(id) FROM room")) - ROOMS + 1
        limits = "SET lock_timeout = 2000; SET statement_timeout = 5000"
        while not self.over.wait(0.5):
            write = f"UPDATE room SET price = price + 1 WHERE id = {first + self.written * 7}"
            psql = ["psql", "-U", "application", "-d", "application", "-q", "-v", "ON_ERROR_STOP=1"]
            done = self.stack.inside("db", *psql, "-c", limits, "-c", write, check=False)
            if done.returncode:
                self.refused.append(done.stderr)
            self.written += 1

    def __enter__(self) -> "Writer":
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.join()
        if report := os.environ.get("LOAD_REPORT"):
            with Path(report).open("a") as file:
                file.write(f"    {len(self.refused)} of {self.written} writes were refused\n")


def online(stack: Stack, operation: str) -> tuple[Path, str]:
    path, text = migration(stack, operation)
    text = IMPORTS + text.partition("\n\n\n")[2].replace(
        "    operations", "    atomic = False\n    operations"
    )
    return path, text


def versions(stack: Stack) -> str:
    return stack.sql("SELECT sum(version) FROM room")


def test_a_version_that_fails_its_rehearsal_is_not_migrated_and_leaves_nothing(stack):
    known, databases = migrations(stack), stack.sql("SELECT count(*) FROM pg_database")
    with stack.load() as clients, changed(*migration(stack, BREAKS_THE_OLD_VERSION)):
        clients.wait_for(20)
        done = stack.run("./deploy/rentomatic", "rollout", "--rehearse", "--accept", check=False)
    assert done.returncode == 1
    assert "does not work on the new schema: read rooms.Room" in done.stdout
    assert f"the rehearsal found what would go wrong (above); nothing was migrated; {STAYS}" in done.stderr
    assert set(clients.statuses()) == {200}
    assert migrations(stack) == known
    assert stack.sql("SELECT count(*) FROM pg_database") == databases
    assert not (stack.folder / "deploy" / ".rehearsal").exists()


@long
def test_a_rehearsal_with_a_million_rooms_fails_no_request(large):
    with changed(*online(large, ONLINE)), large.load() as clients, Writer(large) as writer:
        clients.wait_for(20, 60)
        output = large.run("./deploy/rentomatic", "rollout", "--dry-run", "--rehearse", timeout=3600).stdout
    assert "✓ nothing would go wrong" in output
    assert set(clients.statuses()) == {200}
    assert writer.refused == []
    assert type_of_price(large) == "integer"


def test_another_type_of_a_column_fails_no_request_and_refuses_no_write(large):
    path, text = online(large, ONLINE)
    before = int(versions(large))
    path.write_text(text)  # it stays, so that what follows is a version after it
    with large.load() as clients, Writer(large) as writer:
        clients.wait_for(20, 60)
        rehearse = [] if LONG else ["--rehearse"]  # which the test before has tried
        large.run("./deploy/rentomatic", "rollout", *rehearse, timeout=3600)
        clients.wait_for(50, 60)
    assert set(clients.statuses()) == {200}
    assert writer.written > 10
    assert writer.refused == []
    assert f"rooms.{path.stem}" in migrations(large)
    assert type_of_price(large) == "bigint"
    # Each write is one change of a room; filling the column is none.
    assert int(versions(large)) - before == writer.written


@long
def test_the_plain_way_to_another_type_is_refused_and_blocks_a_million_rooms(large):
    path, text = migration(large, PLAIN)
    path.write_text(text.replace("import migrations", "import migrations, models"))
    refused = large.run("./deploy/rentomatic", "rollout", check=False)
    assert "AlterFieldOnline (rooms/online)" in refused.stderr
    with large.load() as clients, Writer(large):
        clients.wait_for(20, 60)
        large.run("./deploy/rentomatic", "rollout", "--accept", timeout=3600)
        clients.wait_for(50, 60)
    assert set(clients.statuses()) != {200}
