"""The stack of test_compose.py while its data is saved and put back."""

import os
import re
import signal
import subprocess
import time

import pytest

from deploy.tests.stack import Stack

pytestmark = pytest.mark.compose

ROOM = (
    "INSERT INTO room(code, size, price, longitude, latitude) "
    "VALUES ('f853578c-fc0f-4e65-81b8-566c5dffa35a', 215, 39, -0.09998975, 51.75436293)"
)


def databases(stack: Stack) -> str:
    query = "SELECT string_agg(datname || datallowconn, ' ' ORDER BY datname) FROM pg_database"
    return stack.inside("db", "psql", "-U", "postgres", "-Atc", query).stdout


def dump(stack: Stack, name: str, statement: str) -> str:
    """A dump of the application's database, or of an empty one, after a statement; returns its path."""
    file = f"deploy/backups/{name}.foreign"
    copy = "pg_dump -U postgres -Fc application | pg_restore -U postgres -d foreign"
    stack.inside("db", "createdb", "-U", "postgres", "foreign")
    try:
        if name == "application":
            stack.inside("db", "sh", "-c", copy)
        stack.inside("db", "psql", "-U", "postgres", "-d", "foreign", "-c", statement)
        stack.run("sh", "-c", f"docker compose exec -T db pg_dump -U postgres -Fc foreign > {file}")
    finally:
        stack.inside("db", "dropdb", "-U", "postgres", "--force", "foreign")
    return file


@pytest.fixture(scope="module")
def saved(stack) -> str:
    """A backup with one room, which is deleted afterwards."""
    stack.sql(ROOM)
    file = stack.run("./deploy/rentomatic", "backup").stdout.splitlines()[-1].split(" (")[0]
    assert (stack.folder / file).stat().st_mode & 0o777 == 0o600
    stack.sql("DELETE FROM room")
    return file


@pytest.mark.parametrize("statement", ["SELECT 1", "CREATE TABLE room (id int)"])
def test_a_dump_of_something_else_is_refused_and_changes_nothing(stack, saved, statement):
    file = dump(stack, "empty", statement)
    before = databases(stack)
    with stack.load() as clients:
        done = stack.run("./deploy/rentomatic", "restore", file, check=False)
        clients.wait_for(20, 60)
    assert done.returncode == 1
    assert "is no backup of this application" in done.stderr
    assert "nothing was changed" in done.stderr
    assert databases(stack) == before
    assert set(clients.statuses()) == {200}


@pytest.mark.parametrize("content", [b"", b"CREATE TABLE room ();", b"PGDMP" + bytes(1000)])
def test_what_is_no_dump_is_refused_and_changes_nothing(stack, content):
    (stack.folder / "nothing.dump").write_bytes(content)
    before = databases(stack)
    done = stack.run("./deploy/rentomatic", "restore", "nothing.dump", check=False)
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert databases(stack) == before


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("INSERT INTO django_migrations (app, name, applied) VALUES ('rooms', '9999_later', now())", "newer"),
        ("DELETE FROM django_migrations WHERE app = 'rooms'", "the migration of the backup failed"),
        ("ALTER TABLE room DROP COLUMN price", "/rooms?limit=1 is 50"),
        ("DROP TABLE room CASCADE", "no table room"),
    ],
)
def test_a_backup_that_the_site_cannot_serve_changes_nothing(stack, saved, statement, reason):
    file = dump(stack, "application", statement)
    before = databases(stack)
    with stack.load() as clients:
        done = stack.run("./deploy/rentomatic", "restore", file, check=False)
        clients.wait_for(20, 60)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "everything is as it was" in done.stderr or "nothing was changed" in done.stderr
    assert databases(stack) == before
    assert set(clients.statuses()) == {200}


@pytest.mark.parametrize("step", ["Reading", "Trying", "Changing"])
def test_ctrl_c_puts_everything_back(stack, saved, step):
    before = databases(stack)
    with stack.load() as clients:
        restore = subprocess.Popen(
            ["./deploy/rentomatic", "restore", saved],
            cwd=stack.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for line in restore.stdout:
            if line.startswith(step):
                break
        time.sleep(0.3)  # into the step
        os.killpg(restore.pid, signal.SIGINT)
        output = restore.communicate(timeout=120)[1]
        clients.wait_for(20, 60)
    assert restore.returncode == 130
    assert "everything is as it was" in output
    assert databases(stack) == before
    assert stack.sql("SELECT count(*) FROM room") == "0"
    assert set(clients.statuses()) <= {200, 503}
    assert [web["State"]["Running"] for web in stack.containers("web")] == [True, True]


def test_a_backup_restores_and_what_was_there_stays(stack, saved):
    with stack.load() as clients:
        output = stack.run("./deploy/rentomatic", "restore", saved).stdout
        # From this moment on, every replica reads it.
        restored = stack.get("/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a")
        clients.wait_for(20, 60)
    assert restored.status == 200
    assert "Restored. Rooms: 1; replicas that read them: 2." in output
    assert stack.sql("SELECT count(*) FROM room") == "1"
    assert set(clients.statuses()) <= {200, 503}
    (kept,) = re.findall(r"(application_before_\w+);", output)
    query = ["psql", "-U", "postgres", "-d", kept, "-Atc", "SELECT count(*) FROM room"]
    assert stack.inside("db", *query).stdout == "0\n"


def test_a_restore_while_the_site_is_stopped_leaves_it_stopped_and_says_so(stack, saved):
    stack.compose("stop", "web")
    output = stack.run("./deploy/rentomatic", "restore", saved).stdout
    assert "The site is not running. Next: docker compose up -d --wait" in output
    assert not any(web["State"]["Running"] for web in stack.containers("web"))
    stack.up()
    assert stack.get("/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a").status == 200


def test_a_damaged_backup_is_refused_and_changes_nothing(stack, saved):
    file = stack.folder / saved
    file.write_bytes(file.read_bytes()[:-10])
    done = stack.run("./deploy/rentomatic", "restore", str(file), check=False)
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert stack.sql("SELECT count(*) FROM room") == "1"
