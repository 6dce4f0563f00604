"""
The host is lost, with the database, its archive and all secrets: another one goes on from BACKUP_TO.

With TEST_LONG=on it has a million rooms.
"""

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.tests.stack import LONG, Stack, needs_engine
from deploy.tests.test_compose_pitr import (
    ROOMS,
    Writer,
    archive,
    bases,
    count,
    is_received,
    rentomatic,
)
from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs

pytestmark = [pytest.mark.compose, pytest.mark.needs("root", "docker", "git", "rclone", "openssl")]


MILLION = re.sub(r"generate_series\(1, \d+\)", "generate_series(1, 1000000)", ROOMS)


@pytest.fixture
def host(tmp_path) -> Iterator[Callable[[str], Stack]]:
    """A function that makes a checkout in a folder of its own, as on a host; all are gone afterwards."""
    needs("root", "rclone", "openssl")
    needs_engine()
    made: list[Stack] = []

    def make(name: str) -> Stack:
        (tmp_path / name).mkdir()
        made.append(Stack(tmp_path / name))
        return made[-1]

    yield make
    for stack in made:
        if stack.folder.exists():
            lose(stack)


def lose(stack: Stack) -> None:
    """The containers, the volumes, and the folder with the secrets and the archive."""
    label = f"label=com.docker.compose.project={stack.setting('COMPOSE_PROJECT_NAME')}"
    stack.remove()
    listed = stack.run("docker", "volume", "ls", "--quiet", "--filter", label).stdout.split()
    if listed:
        stack.run("docker", "volume", "rm", "--force", *listed)
    shutil.rmtree(stack.folder)


def test_a_lost_host_comes_back_to_its_last_copy_on_another_one(host, tmp_path):
    place = tmp_path / "nas"
    place.mkdir()
    first = host("lost")
    key = tmp_path / "backup_key"
    for name, value in (("PITR", "on"), ("BACKUP_TO", str(place)), ("ARCHIVE_COPY_EVERY", "1min")):
        first.set(name, value)
    rentomatic(first, "rollout", check=True)
    refused = rentomatic(first, "archive", "--copy")
    assert "there is no key to encrypt it; nothing was copied" in refused.stderr
    rentomatic(first, "rotate", "backup_key", check=True)
    shutil.copy(first.folder / "deploy/secrets/backup_key", key)
    rig.wait_until(lambda: bool(bases(first)), "a base backup", 120)
    rentomatic(first, "backup", check=True)
    first.sql(MILLION if LONG else ROOMS)
    rooms = count(first)
    rig.wait_until(lambda: is_received(first), "WAL that is received", 60)
    assert first.finding("archive-copy")["level"] == "warning"
    rentomatic(first, "archive", "--copy", check=True)
    assert first.finding("archive-copy")["level"] == "ok"
    with Writer(first) as writer:
        rig.wait_until(lambda: len(writer.acknowledged) > 200, "rooms that are written", 60)
        begun = time.monotonic()
        rentomatic(first, "archive", "--copy", check=True)
        seconds = time.monotonic() - begun
        written = len(writer.acknowledged)
        rig.wait_until(lambda: len(writer.acknowledged) > written + 100, "rooms after the copy", 60)
        assert "on another host to any second until 0 minutes ago" in rentomatic(first, "status").stdout
        (container,) = first.containers("db")
        first.run("docker", "kill", "--signal", "KILL", container["Id"])
    ports = first.http, first.https, first.url
    served = archive(first).served
    lose(first)

    began = time.monotonic()
    other = host("new")
    shutil.copy(key, other.folder / "deploy/secrets")
    other.set("BACKUP_TO", str(place))
    settings = rentomatic(other, "restore", "--settings", check=True)
    assert "./deploy/rentomatic archive --fetch" in settings.stdout
    other.http, other.https, other.url = ports
    fetched = rentomatic(other, "archive", "--fetch", check=True).stdout
    assert archive(other).served == served
    (at,) = re.findall(r'restore --at "([-\d]+ [:\d]+)"', fetched)
    rentomatic(other, "rollout", check=True)
    assert count(other) == 0
    rentomatic(other, "restore", "--at", at, check=True)
    back = time.monotonic() - began

    kept = sorted(int(number) for number in other.sql("SELECT size FROM room WHERE longitude = -120").split())
    assert count(other) == rooms + len(kept)
    assert kept == list(range(1, len(kept) + 1))
    # What was acknowledged a second before the copy began has been received, and is there.
    assert len(kept) >= sum(at < begun - 1 for at, _ in writer.acknowledged)
    assert len(kept) >= 1
    assert other.get("/rooms?limit=1").status == 200
    # It copies on, in a folder of its own, with what it has fetched.
    rig.wait_until(lambda: bool(bases(other)), "a base backup", 120)
    before = set(place.glob("archive/*"))
    rentomatic(other, "archive", "--copy", check=True)
    assert len(set(place.glob("archive/*")) - before) == 1
    assert other.finding("archive-copy")["level"] == "ok"
    assert other.finding("point-in-time")["level"] == "ok"
    if report := os.environ.get("LOAD_REPORT"):
        late = [begun + seconds - at for at, number in writer.acknowledged if number > len(kept)]
        with Path(report).open("a") as file:
            file.write(
                f"lost host: the copy took {seconds:.1f} s; the first lost write was acknowledged "
                f"{max(late):.1f} s before its end; the return took {back:.0f} s\n"
            )
