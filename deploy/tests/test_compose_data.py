"""The stack of test_compose.py while its data is saved and put back."""

import json
import os
import re
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from deploy.tests.stack import Stack
from rentomatic_site.testing import rig

pytestmark = pytest.mark.compose

ROOM = (
    "INSERT INTO room(code, size, price, longitude, latitude) "
    "VALUES ('f853578c-fc0f-4e65-81b8-566c5dffa35a', 215, 39, -0.09998975, 51.75436293)"
)


def databases(stack: Stack) -> str:
    query = "SELECT string_agg(datname || datallowconn, ' ' ORDER BY datname) FROM pg_database"
    return stack.inside("db", "psql", "-U", "postgres", "-Atc", query).stdout


def room_count(stack: Stack) -> int:
    return int(stack.sql("SELECT count(*) FROM room"))


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


def changed_copy(stack: Stack, saved: str, folder: Path, old: str, new: str) -> Path:
    """A backup elsewhere, with other words in its manifest."""
    for path in (stack.folder / saved, stack.folder / f"{saved}.json"):
        shutil.copy2(path, folder)
    copy = folder / Path(saved).name
    manifest = copy.with_name(f"{copy.name}.json")
    text = manifest.read_text()
    assert old in text
    manifest.write_text(text.replace(old, new))
    return copy


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
        done = stack.run("./deploy/rentomatic", "restore", file, "--accept", check=False)
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
    done = stack.run("./deploy/rentomatic", "restore", "nothing.dump", "--accept", check=False)
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
        done = stack.run("./deploy/rentomatic", "restore", file, "--accept", check=False)
        clients.wait_for(20, 60)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "everything is as it was" in done.stderr or "nothing was changed" in done.stderr
    assert databases(stack) == before
    assert set(clients.statuses()) == {200}


@pytest.mark.parametrize(
    ("step", "seconds"), [("Reading", 0.1), ("Reading", 0.5), ("Trying", 0.3), ("Changing", 0.3)]
)
def test_ctrl_c_puts_everything_back(stack, saved, step, seconds):
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
        time.sleep(seconds)  # into the step
        os.killpg(restore.pid, signal.SIGINT)
        output = restore.communicate(timeout=120)[1]
        clients.wait_for(20, 60)
    assert restore.returncode == 130
    assert "everything is as it was" in output
    assert databases(stack) == before
    assert stack.sql("SELECT count(*) FROM room") == "0"
    assert set(clients.statuses()) <= {200, 503}
    assert [web["State"]["Running"] for web in stack.containers("web")] == [True, True]


def killed(stack: Stack, saved: str, step: str) -> None:
    """A restore that nobody could end in good order, in the middle of a step."""
    earlier = set(databases(stack).split())

    def names_have_changed() -> bool:
        return any("_before_" in name for name in set(databases(stack).split()) - earlier)

    restore = subprocess.Popen(
        ["./deploy/rentomatic", "restore", saved], cwd=stack.folder, stdout=subprocess.PIPE, text=True
    )
    for line in restore.stdout:
        if line.startswith(step):
            break
    if step == "Changing":
        rig.wait_until(names_have_changed, "databases that have changed names")
    else:
        time.sleep(0.3)  # into the step
    restore.kill()
    restore.wait()


def test_a_killed_restore_is_named_by_doctor_and_cleared_by_the_next(stack, saved):
    before = databases(stack)
    with stack.load() as clients:
        killed(stack, saved, "Trying")
        clients.wait_for(20, 60)
    assert set(clients.statuses()) == {200}
    assert room_count(stack) == 0
    assert "application_incoming" in stack.finding("leftovers")["text"]
    killed(stack, saved, "Changing")
    assert room_count(stack) == 1
    found = stack.findings("leftovers", "login", "database")
    assert "rm deploy/rendered/maintenance" in found["login"]["command"]
    assert "application_before_" in found["leftovers"]["text"]
    assert "application_incoming" not in found["leftovers"]["text"]
    assert found["database"]["level"] == "ok"
    stack.run("./deploy/rentomatic", "restore", "--undo")
    assert room_count(stack) == 0
    found = stack.findings("leftovers", "login")
    assert "maintenance" not in found["leftovers"]["text"]
    assert found["login"]["level"] == "ok"
    (replaced,) = set(databases(stack).split()) - set(before.split())
    stack.inside("db", "dropdb", "-U", "postgres", replaced.removesuffix("true"))
    assert databases(stack) == before


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
    (kept,) = re.findall(r"the database (application_before_\w+)", output)
    query = ["psql", "-U", "postgres", "-d", kept, "-Atc", "SELECT count(*) FROM room"]
    assert stack.inside("db", *query).stdout == "0\n"


def test_a_restore_while_the_site_is_stopped_leaves_it_stopped_and_says_so(stack, saved):
    stack.compose("stop", "web")
    output = stack.run("./deploy/rentomatic", "restore", saved).stdout
    assert "The site is not running. Next: docker compose up -d --wait" in output
    assert not any(web["State"]["Running"] for web in stack.containers("web"))
    stack.up()
    assert stack.get("/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a").status == 200


def test_a_restore_is_undone_and_the_undo_too_by_one_command(stack, saved):
    stack.sql("DELETE FROM room")
    stack.run("./deploy/rentomatic", "restore", saved)
    assert room_count(stack) == 1
    stack.sql("INSERT INTO room(code, price, longitude, latitude) VALUES (gen_random_uuid(), 1, 0, 0)")
    planned = stack.run("./deploy/rentomatic", "restore", "--undo", "--dry-run").stdout
    assert "in the place of application" in planned
    assert room_count(stack) == 2
    for expected in (0, 2):
        with stack.load() as clients:
            stack.run("./deploy/rentomatic", "restore", "--undo")
            clients.wait_for(20, 60)
        assert room_count(stack) == expected
        assert set(clients.statuses()) <= {200, 503}
    kept = [name for name in databases(stack).split() if "_before_" in name]
    assert len(kept) == 2


def test_ctrl_c_in_an_undo_keeps_both_databases(stack, saved):
    before = databases(stack)
    undo = subprocess.Popen(
        ["./deploy/rentomatic", "restore", "--undo"],
        cwd=stack.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in undo.stdout:
        if line.startswith("Changing"):
            break
    time.sleep(0.3)  # into the step
    undo.send_signal(signal.SIGINT)
    output = undo.communicate(timeout=120)[1]
    assert undo.returncode == 130
    assert "everything is as it was" in output
    assert databases(stack) == before


@pytest.mark.parametrize(
    ("old", "new", "reason", "next_step"),
    [
        ('"site": "', '"site": "another-', "is a backup of another site", "--accept"),
        ('"postgresql": 18', '"postgresql": 19', "is of PostgreSQL 19, and 18 serves", "upgrade 19"),
        ('"rooms.0001_room"', '"rooms.9999_later"', "does not know rooms.9999_later", "rollout"),
        ('"room": 1,', '"room": 2,', "room has 1 rows of 2; everything is as it was", ""),
        ('"database_bytes": ', '"database_bytes": 99999', "are needed; nothing was changed", "df -h"),
        ('"format": 1', '"format": 2', "was written by a later version", "git pull"),
    ],
)
def test_a_backup_of_which_the_manifest_says_so_is_refused(
    stack, saved, tmp_path, old, new, reason, next_step
):
    before = databases(stack)
    file = changed_copy(stack, saved, tmp_path, old, new)
    done = stack.run("./deploy/rentomatic", "restore", str(file), "--json", check=False)
    assert done.returncode == 1
    assert reason in done.stderr
    assert next_step in json.loads(done.stdout)["next"]
    assert databases(stack) == before


def test_a_drill_proves_the_newest_backup_beside_what_serves(stack, saved):
    stack.sql("DELETE FROM room")
    before = databases(stack)
    with stack.load() as clients:
        drilled = stack.operate("drill")
        clients.wait_for(20, 60)
    assert set(clients.statuses()) == {200}
    assert databases(stack) == before
    assert room_count(stack) == 0
    assert drilled["file"].endswith(saved)
    assert drilled["rows"]["room"] == 1
    assert drilled["questions"]["total"] == drilled["questions"]["inside"] == 1
    metrics = (stack.folder / "deploy/monitoring/textfile/backup.prom").read_text()
    assert "rentomatic_drill_success 1\n" in metrics
    assert "proven by a drill" in stack.run("./deploy/rentomatic", "status").stdout


def test_a_drill_that_fails_is_an_error_of_doctor_and_leaves_nothing(stack, saved, tmp_path):
    file = changed_copy(stack, saved, tmp_path, '"room": 1,', '"room": 2,')
    before = databases(stack)
    done = stack.run("./deploy/rentomatic", "drill", str(file), check=False)
    assert done.returncode == 1
    assert "room has 1 rows of 2" in done.stderr
    assert databases(stack) == before
    found = stack.run("./deploy/rentomatic", "doctor", "drill", check=False)
    assert found.returncode == 2
    assert "room has 1 rows of 2" in found.stdout
    assert (
        "rentomatic_drill_success 0\n"
        in (stack.folder / "deploy/monitoring/textfile/backup.prom").read_text()
    )
    stack.run("./deploy/rentomatic", "drill", str(stack.folder / saved))
    assert stack.run("./deploy/rentomatic", "doctor", "drill", check=False).returncode == 0


def test_a_damaged_backup_is_refused_and_changes_nothing(stack, saved):
    before = room_count(stack)
    file = stack.folder / saved
    file.write_bytes(file.read_bytes()[:-10])
    done = stack.run("./deploy/rentomatic", "restore", str(file), check=False)
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert room_count(stack) == before
