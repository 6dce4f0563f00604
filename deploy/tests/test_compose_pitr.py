"""Point in time: a stack with PITR=on loses its rooms, its volume and its receiver, and goes back."""

import json
import os
import re
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import psycopg2
import pytest

from deploy.operations.pitr.archive import Archive
from deploy.operations.project import Project
from deploy.operations.wal import SEGMENT_BYTES
from deploy.tests.stack import Stack, needs_engine
from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs

pytestmark = [pytest.mark.compose, pytest.mark.needs("root", "mount", "mkfs.ext4", "docker", "git")]

ROOMS = (
    "INSERT INTO room(code, size, price, longitude, latitude) "
    "SELECT gen_random_uuid(), n % 90 + 10, n % 70 + 1, 2.1, 41.4 FROM generate_series(1, 16000) AS n"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Stack]:
    """A stack with 16,000 rooms and a base backup before them; its archive is a disk of its own."""
    needs("root", "mount", "mkfs.ext4")
    needs_engine()
    stack = Stack(tmp_path_factory.mktemp("pitr"))
    folder = stack.folder / "deploy/archive"
    folder.mkdir()
    # Not a tmpfs: what is written to one counts as memory of the container that does.
    disk = folder.with_name("archive.img")
    with disk.open("wb") as file:
        file.truncate(1_500_000_000)
    subprocess.run(["mkfs.ext4", "-q", "-m", "0", disk], check=True)
    subprocess.run(["mount", "-o", "loop", disk, folder], check=True)
    shutil.rmtree(folder / "lost+found")
    user, group = map(int, stack.setting("RUN_AS").split(":"))
    os.chown(folder, user, group)
    stack.set("PITR", "on")
    try:
        stack.run("./deploy/rentomatic", "rollout")
        rig.wait_until(lambda: bool(bases(stack)), "a base backup", 120)
        stack.sql(ROOMS)
        yield stack
    finally:
        project = stack.setting("COMPOSE_PROJECT_NAME")
        stack.remove()
        label = f"label=com.docker.compose.project={project}"
        listed = stack.run("docker", "volume", "ls", "--quiet", "--filter", label).stdout.split()
        if listed:
            stack.run("docker", "volume", "rm", "--force", *listed, check=False)
        subprocess.run(["umount", "--lazy", folder], check=True)


def archive(stack: Stack) -> Archive:
    return Archive(Project(stack.folder))


def bases(stack: Stack, timeline: str | None = None) -> list[str]:
    found = archive(stack)
    if not found.served:
        return []
    served = found.served[-1]
    every = found.bases(served.system)
    return [base.folder.name for base in every if base.timeline == (timeline or served.timeline)]


def rentomatic(stack: Stack, *words: str, check: bool = False) -> "subprocess.CompletedProcess[str]":
    return stack.run("./deploy/rentomatic", *words, check=check)


def count(stack: Stack) -> int:
    return int(stack.sql("SELECT count(*) FROM room"))


def unnamed_volumes(stack: Stack) -> set[str]:
    """Those of no container any more, which the engine has named."""
    listed = stack.run("docker", "volume", "ls", "--quiet", "--filter", "dangling=true").stdout.split()
    return {name for name in listed if re.fullmatch("[0-9a-f]{64}", name)}


def volume(stack: Stack) -> str:
    """The one that the running server uses."""
    (container,) = stack.containers("db")
    return next(mount["Name"] for mount in container["Mounts"] if "Name" in mount)


def moment(stack: Stack) -> str:
    """A second between what was written before and what is written afterwards, by the server's clock."""
    time.sleep(1.1)
    text = stack.sql("SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')")
    time.sleep(1.1)
    return text


def is_received(stack: Stack) -> bool:
    """Whether all WAL of this moment is on the disk of the archive."""
    lsn = stack.sql("SELECT pg_current_wal_flush_lsn()")
    senders = f"pg_stat_replication WHERE application_name = 'archive' AND flush_lsn >= '{lsn}'"
    return stack.sql(f"SELECT count(*) FROM {senders}") == "1"


def expect_as_before(stack: Stack, before: str, rooms: int) -> None:
    assert volume(stack) == before
    assert count(stack) == rooms
    assert stack.get("/rooms?limit=1").status == 200
    names = stack.run("docker", "ps", "--all", "--format", "{{.Names}}").stdout.split()
    assert f"{stack.setting('COMPOSE_PROJECT_NAME')}-recovery" not in names


class Writer:
    """Writes rooms one by one, and remembers which were acknowledged when, until the server is gone."""

    def __init__(self, stack: Stack) -> None:
        (container,) = stack.containers("db")
        (network,) = container["NetworkSettings"]["Networks"].values()
        secret = (stack.folder / "deploy/secrets/application_password").read_text()
        self.connection = psycopg2.connect(
            host=network["IPAddress"], dbname="application", user="application", password=secret
        )
        self.connection.autocommit = True
        self.acknowledged: list[tuple[float, int]] = []
        self.thread = threading.Thread(target=self.write)

    def __enter__(self) -> "Writer":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.connection.close()
        self.thread.join(30)

    def write(self) -> None:
        insert = (
            "INSERT INTO room(code, size, price, longitude, latitude) "
            "VALUES (gen_random_uuid(), %s, 7, -120, 30)"
        )
        try:
            with self.connection.cursor() as cursor:
                for number in range(1, 100_000):
                    cursor.execute(insert, [number])
                    self.acknowledged.append((time.monotonic(), number))
        except psycopg2.Error:
            pass


# --- Back to the second before


def test_all_rooms_that_were_deleted_under_load_come_back(site):
    before, rooms, unnamed = volume(site), count(site), unnamed_volumes(site)
    cursor = json.loads(site.get("/rooms/changes").body.splitlines()[-1])["cursor"]
    assert site.get(f"/rooms/changes?after={cursor}").status == 200
    second = moment(site)
    with site.load() as clients:
        clients.wait_for(10, 60)
        site.sql("DELETE FROM room")
        assert count(site) == 0
        done = rentomatic(site, "restore", "--at", second, check=True)
        clients.wait_for(20, 60)
    assert f"Rooms: {rooms}." in done.stdout
    assert count(site) == rooms
    assert volume(site) != before
    assert unnamed_volumes(site) == unnamed
    assert set(clients.statuses()) <= {200, 503}
    # Positions of the feed mean nothing on another timeline.
    response = site.get(f"/rooms/changes?after={cursor}")
    assert response.status == 410
    assert b"another history" in response.body
    rig.wait_until(lambda: bool(bases(site)), "a base backup of the new timeline", 120)
    assert site.finding("point-in-time")["level"] == "ok"


def test_an_undo_returns_to_the_volume_before_and_another_forth_again(site):
    restored, rooms = volume(site), count(site)
    site.sql("UPDATE room SET price = 1 WHERE id = (SELECT min(id) FROM room)")
    rentomatic(site, "restore", "--undo", check=True)
    assert count(site) == 0
    assert volume(site) != restored
    rentomatic(site, "restore", "--undo", check=True)
    assert volume(site) == restored
    assert count(site) == rooms
    rig.wait_until(lambda: is_received(site), "WAL that is received", 60)
    assert site.get("/rooms?limit=1").status == 200


def test_a_time_between_two_restores_is_that_of_the_timeline_that_served_then(site):
    """Between the first undo and the second one the site showed no room."""
    at = archive(site).served[-2].time
    planned = site.operate("restore", "--at", f"{at:%Y-%m-%d %H:%M:%S}", "--dry-run")
    assert planned["base"].split("-")[1] == archive(site).served[-2].timeline


@pytest.mark.parametrize(
    ("at", "status", "reason"),
    [
        ("2020-01-01 00:00", 1, "Can be reached: from 20"),
        ("2999-01-01 00:00", 2, "is in the future"),
        ("tomorrow", 2, "is no time"),
    ],
)
def test_a_time_that_cannot_be_reached_is_refused_and_changes_nothing(site, at, status, reason):
    before, rooms = volume(site), count(site)
    done = rentomatic(site, "restore", "--at", at)
    assert done.returncode == status
    assert reason in done.stderr
    assert "nothing was changed" in done.stderr
    expect_as_before(site, before, rooms)


@pytest.mark.parametrize("step", ["Looking", "Unpacking", "Replaying", "Trying"])
def test_ctrl_c_leaves_everything_as_it_was(site, step):
    before, rooms = volume(site), count(site)
    restore = begin(site, step)
    second = rentomatic(site, "restore", "--at", "latest")
    assert second.returncode == 3
    assert "is at work in this folder; nothing was changed" in second.stderr
    restore.send_signal(signal.SIGINT)
    output = restore.communicate(timeout=200)[1]
    assert restore.returncode == 130, output
    expect_as_before(site, before, rooms)


def begin(stack: Stack, step: str) -> "subprocess.Popen[str]":
    """A restore that is in the middle of a step."""
    restore = subprocess.Popen(
        ["./deploy/rentomatic", "restore", "--at", "latest"],
        cwd=stack.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert restore.stdout is not None
    for line in restore.stdout:
        if line.startswith(step):
            break
    time.sleep(0.5)
    return restore


def test_a_killed_restore_is_found_by_doctor_and_the_next_one_removes_what_it_left(site):
    before, rooms = volume(site), count(site)
    restore = begin(site, "Trying")
    restore.kill()
    restore.wait()
    assert volume(site) == before
    assert site.get("/rooms?limit=1").status == 200
    assert "a restore that was killed" in site.finding("leftovers")["text"]
    rentomatic(site, "restore", "--at", "latest", check=True)
    assert count(site) == rooms
    rentomatic(site, "restore", "--undo", check=True)
    expect_as_before(site, before, rooms)


def test_a_restore_that_is_killed_while_it_changes_over_is_finished_by_an_undo(site):
    before, rooms = volume(site), count(site)
    restore = begin(site, "Changing")
    restore.kill()
    restore.wait()
    rentomatic(site, "restore", "--undo", check=True)
    expect_as_before(site, before, rooms)
    (site.folder / "deploy/rendered/maintenance").unlink(missing_ok=True)


# --- The receiver


def receiver(stack: Stack) -> str:
    """Its process, by the engine's host."""
    (container,) = stack.containers("archive")
    listed = stack.run("docker", "top", container["Id"], "-o", "pid,args").stdout
    return next((line.split()[0] for line in listed.splitlines() if "pg_receivewal" in line), "")


def gaps(site: Stack) -> list[str]:
    """What is missing on the way from the newest base backup that leads to what serves, by timelines.

    A newer one may be of a timeline that an undo has left.
    """
    kept = archive(site)
    served = kept.served[-1]
    ways = [kept.way(base, served.timeline) for base in kept.bases(served.system)]
    return [kept.missing(served.system, part) for part in next(filter(None, reversed(ways)), [])]


def test_a_receiver_that_is_killed_goes_on_without_a_gap(site):
    rig.wait_until(lambda: bool(receiver(site)), "a receiver", 60)
    old = receiver(site)
    os.kill(int(old), signal.SIGKILL)
    site.sql("UPDATE room SET price = price + 1")
    site.sql("SELECT pg_switch_wal()")
    rig.wait_until(
        lambda: receiver(site) not in {"", old} and is_received(site), "a receiver that goes on", 60
    )
    found = gaps(site)
    assert found
    assert set(found) == {""}
    rentomatic(site, "restore", "--at", "latest", "--dry-run", check=True)


def test_a_rotated_password_of_the_archive_loses_no_wal_and_the_old_one_lets_nobody_in(site):
    secret = site.folder / "deploy/secrets/archive_password"
    old, owner, before = secret.read_text(), secret.stat().st_uid, bases(site)
    with Writer(site) as writer:
        rig.wait_until(lambda: len(writer.acknowledged) > 50, "rooms that are written", 60)
        rentomatic(site, "rotate", "archive_password", check=True)
        written = len(writer.acknowledged)
        rig.wait_until(lambda: len(writer.acknowledged) > written, "a writer that goes on", 60)
    assert secret.read_text() != old
    assert (secret.stat().st_mode & 0o777, secret.stat().st_uid) == (0o600, owner)
    rig.wait_until(lambda: is_received(site), "all WAL", 60)
    assert set(gaps(site)) == {""}
    assert bases(site) == before  # the same run goes on
    login = f"PGPASSWORD='{old}' psql -h db -U archive -d postgres -c 'SELECT 1'"
    refused = site.inside("archive", "sh", "-c", login, check=False)
    assert "password authentication failed" in refused.stderr
    assert site.finding("point-in-time")["level"] == "ok"
    site.sql("DELETE FROM room WHERE longitude = -120")


def test_a_full_archive_is_an_error_of_doctor_and_what_was_kept_back_comes_later(site):
    folder = site.folder / "deploy/archive"
    status = os.statvfs(folder)
    filler = folder / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, status.f_bavail * status.f_frsize - 2**20)
    try:
        for _ in range(3):
            site.sql("UPDATE room SET price = price + 1 WHERE id % 10 = 0")
            site.sql("SELECT pg_switch_wal()")
        rig.wait_until(lambda: site.finding("point-in-time")["level"] == "error", "an error", 60)
        assert site.get("/rooms?limit=1").status == 200
        refused = rentomatic(site, "basebackup")
        assert refused.returncode == 1
        assert "there is no room for a base backup" in refused.stderr
    finally:
        filler.unlink()
    rig.wait_until(lambda: is_received(site), "the WAL that was kept back", 60)
    assert site.finding("point-in-time")["level"] == "ok"


@pytest.mark.parametrize("kind", ["flipped", "cut off", "missing"])
def test_damaged_wal_is_refused_with_the_second_that_can_be_reached(site, kind):
    before, rooms = volume(site), count(site)
    second = moment(site)
    site.sql("UPDATE room SET price = price + 1 WHERE id % 10 = 0")
    for _ in range(2):
        site.sql("SELECT pg_switch_wal()")
        site.sql("UPDATE room SET price = price + 1 WHERE id % 100 = 0")
    rig.wait_until(lambda: is_received(site), "WAL that is received", 60)
    path = damaged_segment(site)
    content = path.read_bytes()
    if kind == "flipped":
        path.write_bytes(content[:50_000] + bytes([content[50_000] ^ 1]) + content[50_001:])
    elif kind == "cut off":
        path.write_bytes(content[:100_000])
    else:
        path.unlink()
    try:
        done = rentomatic(site, "restore", "--at", "latest")
        assert done.returncode == 1
        assert "Can be reached" in done.stderr
        assert "restore --at" in done.stderr
        assert "nothing was changed" in done.stderr
        planned = rentomatic(site, "restore", "--at", second, "--dry-run")
        assert planned.returncode == 0, planned.stderr
    finally:
        path.write_bytes(content)
    rentomatic(site, "restore", "--at", "latest", "--dry-run", check=True)
    expect_as_before(site, before, rooms)


def damaged_segment(stack: Stack) -> Path:
    """The last whole segment that is used from its first page on: what is before it can be reached."""
    served = archive(stack).served[-1]
    whole = [
        path
        for path, timeline, _, is_whole in archive(stack).segments(served.system)
        if timeline == served.timeline and is_whole and path.stat().st_size == SEGMENT_BYTES
    ]
    return whole[-1]


def test_a_damaged_base_backup_is_passed_over_for_the_one_before(site):
    rentomatic(site, "basebackup", check=True)
    rentomatic(site, "basebackup", check=True)
    served = archive(site).served[-1]
    older, newest = archive(site).bases(served.system)[-2:]
    file = newest.folder / "base.tar.gz"
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    done = rentomatic(site, "restore", "--at", "latest", "--dry-run", "--json", check=True)
    assert f"the base backup {newest.folder.name} is damaged" in done.stderr
    assert json.loads(done.stdout)["base"] == older.folder.name
    file.write_bytes(content)


def test_a_base_backup_of_another_version_is_refused_with_the_way_to_it(site):
    served, before, rooms = archive(site).served[-1], volume(site), count(site)
    names = {
        base.folder: base.folder.with_name(f"{base.folder.name[:-2]}17")
        for base in archive(site).bases(served.system)
    }
    for folder, other in names.items():
        folder.rename(other)
    try:
        done = rentomatic(site, "restore", "--at", "latest")
    finally:
        for folder, other in names.items():
            other.rename(folder)
    assert done.returncode == 1
    assert "is of PostgreSQL 17, and 18 serves" in done.stderr
    assert "nothing was changed" in done.stderr
    assert "./deploy/rentomatic upgrade --back" in done.stderr
    expect_as_before(site, before, rooms)


def test_a_disk_without_room_for_the_restored_files_is_refused(site, tmp_path):
    """Of a folder as the volume: the disk of the engine cannot be filled for a test."""
    before, rooms = volume(site), count(site)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=20m,mode=777", "none", tmp_path], check=True)
    variables = (site.folder / ".env").read_text()
    site.set("DATABASE_VOLUME", str(tmp_path))
    try:
        done = rentomatic(site, "restore", "--at", "latest")
    finally:
        (site.folder / ".env").write_text(variables)
        subprocess.run(["umount", tmp_path], check=True)
    assert done.returncode == 1
    assert re.search(
        r"has [\d.]+ MB free, and the restore needs \d{3}[\d.]* MB; nothing was changed", done.stderr
    )
    expect_as_before(site, before, rooms)


def test_a_corrupt_page_is_mended_from_the_wal_and_gets_into_no_base_backup(site):
    rooms, checksum = count(site), site.sql("SELECT sum(price), sum(size) FROM room")
    rig.wait_until(lambda: is_received(site), "WAL that is received", 60)
    (container,) = site.containers("db")
    data = next(mount["Source"] for mount in container["Mounts"] if mount.get("Name") == volume(site))
    path = Path(data, "18/docker", site.sql("SELECT pg_relation_filepath('room')"))
    site.compose("stop", "db")
    with path.open("r+b") as file:
        file.seek(8192 + 4000)
        file.write(bytes(range(256)))
    site.up("db")
    broken = site.inside(
        "db", "psql", "-U", "postgres", "-d", "application", "-c", "SELECT sum(size) FROM room", check=False
    )
    assert "invalid page in block 1" in broken.stderr
    refused = rentomatic(site, "basebackup")
    assert refused.returncode == 1
    assert "checksum verification failed" in refused.stderr
    rentomatic(site, "restore", "--at", "latest", check=True)
    assert (count(site), site.sql("SELECT sum(price), sum(size) FROM room")) == (rooms, checksum)
    assert site.get("/rooms?limit=1").status == 200


def test_the_second_before_a_bad_migration_comes_back(site):
    """With the pooler, which leads to what serves: the trial must not take its answer for the recovery's."""
    pooled = site.setting("POOLER")
    site.set("POOLER", "on")
    site.operate("apply")
    before, rooms = volume(site), count(site)
    second = moment(site)
    site.sql("ALTER TABLE room DROP COLUMN price CASCADE")
    site.sql("INSERT INTO django_migrations (app, name, applied) VALUES ('rooms', '9999_bad', now())")
    assert site.get("/rooms?filter_price__gt=3").status >= 500
    rentomatic(site, "restore", "--at", second, check=True)
    assert count(site) == rooms
    assert volume(site) != before
    assert site.get("/rooms?filter_price__gt=3").status == 200
    site.set("POOLER", pooled)
    site.operate("apply")


def test_a_slot_that_is_lost_begins_anew_with_a_base_backup(site):
    """As when the receiver was away until the server had to remove WAL."""
    site.compose("stop", "archive")
    site.sql("ALTER SYSTEM SET max_slot_wal_keep_size = '16MB'")
    site.sql("SELECT pg_reload_conf()")
    lost = "SELECT count(*) FROM pg_replication_slots WHERE slot_name = 'archive' AND wal_status = 'lost'"
    for _ in range(20):
        site.sql("UPDATE room SET price = price + 1 WHERE id % 10 = 0")
        site.sql("SELECT pg_switch_wal()")
        site.sql("CHECKPOINT")
        if site.sql(lost) == "1":
            break
    found = site.finding("point-in-time")
    assert found["level"] == "error"
    assert "docker compose up -d archive" in found["command"]
    old = bases(site)
    site.run("./deploy/rentomatic", "apply")
    rig.wait_until(lambda: set(bases(site)) - set(old), "a base backup", 120)
    rig.wait_until(lambda: site.finding("point-in-time")["level"] == "ok", "no error", 60)
    assert site.sql("SHOW max_slot_wal_keep_size") == "4GB"
    rentomatic(site, "restore", "--at", "latest", "--dry-run", check=True)


def test_old_base_backups_go_with_the_wal_that_only_they_need(site):
    served = archive(site).served[-1]
    site.set("PITR_KEEP", "1")
    site.run("./deploy/rentomatic", "apply")
    rentomatic(site, "basebackup", check=True)
    (kept,) = archive(site).bases(served.system)
    starts = [
        start + SEGMENT_BYTES
        for _, timeline, start, _ in archive(site).segments(served.system)
        if timeline == served.timeline
    ]
    assert min(starts) > kept.start
    rentomatic(site, "restore", "--at", "latest", "--dry-run", check=True)


# --- Another server was the primary


def wait_for_timeline(stack: Stack, after: str) -> None:
    """Until the archive follows a new primary, with a base backup of it."""
    rig.wait_until(lambda: archive(stack).served[-1].timeline != after, "the new timeline", 60)
    rig.wait_until(lambda: bool(bases(stack)), "its base backup", 120)


def test_times_before_and_after_a_promotion_are_reached(site):
    """
    Those before the archive follows, too, which is kept away meanwhile: the new primary has writes of the old
    one that never came to it.
    """
    site.set("PITR_KEEP", "7")
    site.set("REPLICAS", "on")
    rentomatic(site, "apply", "--accept", check=True)
    rig.wait_until(lambda: is_received(site), "all WAL in the archive", 60)
    rooms, before = count(site), moment(site)
    first = archive(site).served[-1].timeline
    site.compose("stop", "archive")
    site.sql(delete(7))
    rentomatic(site, "promote", "replica1", check=True)
    site.sql(delete(5), "replica1")
    between = moment(site)
    site.sql(delete(3), "replica1")
    site.up("archive")
    wait_for_timeline(site, after=first)
    second = archive(site).served[-1].timeline
    rentomatic(site, "promote", "db", check=True)
    wait_for_timeline(site, after=second)
    slots = "SELECT count(*) FROM pg_replication_slots"
    assert (site.sql(slots, "replica1"), site.sql(slots, "db")) == ("0", "1")
    site.set("REPLICAS", "off")
    rentomatic(site, "apply", "--accept", check=True)
    assert count(site) == rooms - 15
    rentomatic(site, "restore", "--at", between, check=True)
    assert count(site) == rooms - 12
    rentomatic(site, "restore", "--at", before, check=True)
    assert count(site) == rooms


def delete(number: int) -> str:
    return f"DELETE FROM room WHERE code IN (SELECT code FROM room LIMIT {number})"


# --- The volume is lost


def test_at_most_a_second_of_acknowledged_writes_is_lost_with_the_volume(site):
    rig.wait_until(lambda: is_received(site), "WAL that is received", 60)
    rooms, lost = count(site), volume(site)
    (container,) = site.containers("db")
    with Writer(site) as writer:
        rig.wait_until(lambda: len(writer.acknowledged) > 200, "rooms that are written", 60)
        site.run("docker", "kill", "--signal", "KILL", container["Id"])
    site.run("docker", "rm", "--force", container["Id"])
    site.run("docker", "volume", "rm", lost)
    done = rentomatic(site, "restore", "--at", "latest", check=True)
    assert "Restored in" in done.stdout
    kept = {int(number) for number in site.sql("SELECT size FROM room WHERE longitude = -120").split()}
    last = writer.acknowledged[-1][0]
    missing = [last - at for at, number in writer.acknowledged if number not in kept]
    assert max(missing, default=0) < 1
    assert len(kept) >= len(writer.acknowledged) - len(missing)
    assert count(site) == rooms + len(kept)
    assert site.get("/rooms?limit=1").status == 200
    refused = rentomatic(site, "restore", "--undo")
    assert refused.returncode == 1
    assert "is not kept; nothing was changed" in refused.stderr
    if report := os.environ.get("LOAD_REPORT"):
        with Path(report).open("a") as file:
            file.write(
                f"lost volume: {len(missing)} of {len(writer.acknowledged)} acknowledged writes lost\n"
            )


def test_off_takes_the_receiver_and_its_slot_away(site):
    site.set("PITR", "off")
    site.run("./deploy/rentomatic", "apply")
    assert not site.containers("archive")
    assert site.sql("SELECT count(*) FROM pg_replication_slots") == "0"
    assert datetime.now(UTC) > archive(site).served[-1].time  # what was received is kept
