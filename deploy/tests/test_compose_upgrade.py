"""A site that runs PostgreSQL 17 on a disk of its own, and its way to 18 and back."""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.tests.stack import Stack
from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs

pytestmark = [pytest.mark.compose, pytest.mark.needs("root", "mount", "docker", "git")]

IMAGES = Path(__file__).parent / "images"
ROOMS = (
    "INSERT INTO room(code, size, price, longitude, latitude) "
    "SELECT gen_random_uuid(), n % 90 + 10, n % 70 + 1, 2.1, 41.4 FROM generate_series(1, 20000) AS n"
)


def docker(*arguments: str) -> bool:
    return subprocess.run(["docker", *arguments], capture_output=True).returncode == 0


@pytest.fixture(scope="module")
def older(tmp_path_factory) -> Iterator[Stack]:
    """A stack of PostgreSQL 17, whose data are in a small file system that belongs to `postgres`."""
    needs("docker", "git")
    if not docker("image", "inspect", "postgres:17") and not docker("pull", "postgres:17"):
        file = str(IMAGES / "postgres-17.Dockerfile")
        assert docker("build", "--tag", "postgres:17", "--file", file, str(IMAGES))
    disk = tmp_path_factory.mktemp("disk")
    user = ["docker", "run", "--rm", "--entrypoint", "id", "postgres:17", "-u", "postgres"]
    owner = subprocess.check_output(user, text=True).strip()
    options = f"size=260m,uid={owner},mode=700"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", disk], check=True)
    stack = Stack(tmp_path_factory.mktemp("older"))
    try:
        stack.set("POSTGRES_VERSION", "17")
        stack.set("DATABASE_VOLUME", str(disk))
        stack.run("./deploy/rentomatic", "rollout")
        stack.sql(ROOMS)
        stack.sql("CREATE ROLE reporting LOGIN PASSWORD 'of the operator'; GRANT SELECT ON room TO reporting")
        yield stack
    finally:
        stack.remove()
        subprocess.run(["umount", disk], check=True)


def version(stack: Stack) -> str:
    return stack.sql("SELECT current_setting('server_version_num')::int / 10000")


def folders(stack: Stack) -> list[str]:
    listed = stack.inside("db", "ls", "/var/lib/postgresql").stdout.split()
    return [name for name in listed if name != "data"]  # where images before 18 have a volume of their own


def expect_as_before(stack: Stack) -> None:
    assert version(stack) == "17"
    assert folders(stack) == ["17"]
    assert stack.sql("UPDATE room SET price = price WHERE id = (SELECT min(id) FROM room)") == "UPDATE 1"
    assert stack.finding("leftovers")["level"] == "ok"
    assert stack.get("/rooms?limit=1").status == 200


def test_a_folder_as_the_volume_holds_the_data(older):
    disk = Path(older.setting("DATABASE_VOLUME"))
    assert (disk / "17/docker/PG_VERSION").read_text() == "17\n"
    assert version(older) == "17"
    assert "./deploy/rentomatic upgrade 18" in older.finding("versions")["command"]


def test_an_upgrade_for_which_the_disk_is_too_small_is_refused(older):
    done = older.run("./deploy/rentomatic", "upgrade", "18", check=False)
    assert done.returncode == 1
    assert re.search(r"has [\d.]+ MB free, and the upgrade needs [\d.]+ MB; nothing was changed", done.stderr)
    expect_as_before(older)
    subprocess.run(["mount", "-o", "remount,size=3g", older.setting("DATABASE_VOLUME")], check=True)


@pytest.mark.parametrize(("words", "reason"), [("17", "17 serves"), ("99", "no image postgres:99")])
def test_a_version_that_is_none_to_go_to_is_refused(older, words, reason):
    done = older.run("./deploy/rentomatic", "upgrade", words, check=False)
    assert done.returncode == 1
    assert reason in done.stderr
    assert "nothing was changed" in done.stderr


def test_a_dry_run_and_a_rehearsal_change_nothing(older):
    planned = older.run("./deploy/rentomatic", "upgrade", "18", "--dry-run").stdout
    assert "PostgreSQL 17 to 18 (postgres:18)" in planned
    expect_as_before(older)
    with older.load() as clients:
        output = older.run("./deploy/rentomatic", "upgrade", "18", "--rehearse").stdout
        clients.wait_for(20, 60)
    assert re.search(r"Trying the copy, which took \d+ s", output)
    assert set(clients.statuses()) == {200}
    expect_as_before(older)


def test_a_disk_that_fills_up_in_the_rehearsal_leaves_everything_as_it_was(older):
    disk = older.setting("DATABASE_VOLUME")
    with older.load() as clients:
        upgrade = subprocess.Popen(
            ["./deploy/rentomatic", "upgrade", "18"],
            cwd=older.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in upgrade.stdout:
            if line.startswith("Rehearsing"):
                break
        status = os.statvfs(disk)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        subprocess.run(["mount", "-o", f"remount,size={used + 20_000_000}", disk], check=True)
        try:
            output = upgrade.communicate(timeout=200)[1]
        finally:
            subprocess.run(["mount", "-o", "remount,size=3g", disk], check=True)
        clients.wait_for(20, 60)
    assert upgrade.returncode == 1
    assert re.search("No space left on device|Check free disk space", output)
    assert "everything is as it was. Next: docker compose exec db df -h" in output
    assert set(clients.statuses()) == {200}
    expect_as_before(older)


@pytest.mark.parametrize("step", ["Rehearsing", "Trying", "Copying"])
def test_ctrl_c_leaves_everything_as_it_was(older, step):
    with older.load() as clients:
        upgrade = subprocess.Popen(
            ["./deploy/rentomatic", "upgrade", "18"],
            cwd=older.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        for line in upgrade.stdout:
            if line.startswith(step):
                break
        time.sleep(2)  # into the step
        os.killpg(upgrade.pid, signal.SIGINT)
        output = upgrade.communicate(timeout=200)[1]
        clients.wait_for(20, 60)
    assert upgrade.returncode == 130, output
    assert set(clients.statuses()) <= {200, 503}
    expect_as_before(older)


def test_a_killed_upgrade_is_found_by_doctor_and_mended_by_the_next(older):
    upgrade = subprocess.Popen(
        ["./deploy/rentomatic", "upgrade", "18"], cwd=older.folder, stdout=subprocess.PIPE, text=True
    )
    for line in upgrade.stdout:
        if line.startswith("Copying"):
            break
    read_only = (
        "SELECT count(*) FROM pg_db_role_setting WHERE 'default_transaction_read_only=on' = ANY(setconfig)"
    )
    rig.wait_until(lambda: older.sql(read_only) == "1", "a database that can only be read", 60)
    os.kill(upgrade.pid, signal.SIGKILL)
    upgrade.wait()
    found = older.finding("leftovers")["text"]
    assert "the copy of an upgrade" in found
    assert "a database that can only be read" in found
    assert "the maintenance page" in found
    assert older.get("/rooms?limit=1").status == 200
    older.run("./deploy/rentomatic", "upgrade", "18", "--rehearse")
    expect_as_before(older)


def test_an_upgrade_keeps_all_rows_and_roles_and_the_old_data(older):
    query = "SELECT count(*), sum(price), min(code::text) FROM room WHERE latitude > 2"
    rows = older.sql(query)
    insert = "INSERT INTO room(code, price, longitude, latitude) VALUES (gen_random_uuid(), 1, 0, 1)"
    write = ["psql", "-U", "postgres", "-d", "application", "-c", insert]
    admin, accepted = [], []
    with older.load() as clients:
        clients.wait_for(20, 60)
        upgrade = subprocess.Popen(
            ["./deploy/rentomatic", "upgrade", "18", "--json"],
            cwd=older.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in upgrade.stderr:
            if line.startswith("Copying"):
                break
        while upgrade.poll() is None:
            response = older.get("/admin/login/")
            admin.append((response.status, response.headers["Retry-After"]))
            accepted.append(older.inside("db", *write, check=False).returncode == 0)
            time.sleep(0.5)
        result = json.loads(upgrade.communicate()[0])
        clients.wait_for(50, 60)
    assert result["ok"] is True
    assert result["upgrade_seconds"] > 0
    assert (503, "60") in admin
    assert False in accepted
    assert older.sql("SELECT count(*) FROM room WHERE latitude = 1") == str(sum(accepted))
    assert set(clients.statuses()) <= {200, 503}
    assert version(older) == "18" == older.setting("POSTGRES_VERSION")
    assert older.sql(query) == rows
    assert older.sql("SELECT has_table_privilege('reporting', 'room', 'SELECT')") == "t"
    assert older.sql("UPDATE room SET price = price WHERE id = (SELECT min(id) FROM room)") == "UPDATE 1"
    assert folders(older) == ["17", "18"]
    leftovers = older.finding("leftovers")
    assert "data of PostgreSQL 17" in leftovers["text"]
    older.up()
    assert version(older) == "18"


def test_the_way_back_asks_first_and_serves_the_former_data(older):
    older.sql("DELETE FROM room")
    refused = older.run("./deploy/rentomatic", "upgrade", "--back", check=False)
    assert refused.returncode == 1
    assert "loses what was written since the upgrade; nothing was changed" in refused.stderr
    assert version(older) == "18"
    older.run("./deploy/rentomatic", "upgrade", "--back", "--accept")
    assert version(older) == "17"
    assert older.sql("SELECT count(*) FROM room WHERE latitude > 2") == "20000"
    assert older.get("/rooms?limit=1").status == 200
    again = older.run("./deploy/rentomatic", "upgrade", "18", check=False)
    assert "docker compose exec db rm -r /var/lib/postgresql/18" in again.stderr
    older.inside("db", "rm", "-r", "/var/lib/postgresql/18")
    expect_as_before(older)
