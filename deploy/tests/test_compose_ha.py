"""
Three database servers with Patroni: the primary dies, freezes and is cut off under load, again and again.

With TEST_LONG=on it is lost twenty times, and the time without writes is measured; else it is cut off once.
"""

import itertools
import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from psycopg2 import errors

from deploy.operations import nodes, patroni
from deploy.tests.stack import LONG, Stack, needs_engine
from rentomatic_site.testing import rig

pytestmark = [pytest.mark.compose, pytest.mark.needs("docker", "git")]

NUMBER = 20 if LONG else 1
PROMISED = 30
"""Seconds without writes, at most, in a long trial, on a host that has little else to do."""
NUMBERS = itertools.count()
"""Of writes: no two tests have the same."""

ROOMS = (
    "INSERT INTO room(code, size, price, longitude, latitude) "
    "SELECT gen_random_uuid(), n % 90 + 10, n % 70 + 1, 2.1, 41.4 FROM generate_series(1, 2000) AS n"
)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Stack]:
    needs_engine()
    stack = Stack(tmp_path_factory.mktemp("ha"))
    stack.set("REPLICAS", "automatic")
    stack.set("WEB_REPLICAS", "1")  # the databases are looked at
    stack.set("WEB_WORKERS", "1")
    try:
        stack.run("./deploy/rentomatic", "rollout")
        with closing(connect(stack, "db", "application")) as connection, connection.cursor() as cursor:
            cursor.execute(ROOMS)
            cursor.execute("CREATE TABLE acknowledged (number bigint)")
        yield stack
    finally:
        stack.remove()


def container(stack: Stack, service: str) -> dict[str, Any]:
    (found,) = stack.containers(service)
    return found


def connect(stack: Stack, node: str, database: str = "application") -> psycopg2.extensions.connection:
    """To a server by its socket, which a network that is cut does not cut."""
    (process,) = stack.processes(node)
    connection = psycopg2.connect(
        host=f"/proc/{process}/root/run/postgresql",
        user="postgres",
        dbname=database,
    )
    connection.autocommit = True
    return connection


@dataclass(frozen=True)
class Write:
    """One that was acknowledged."""

    number: int
    node: str
    timeline: str
    """Of the server's WAL: each change of the primary begins another one."""
    sent: float
    received: float


class Writers:
    """A client at each server that writes whenever that one takes it, and keeps what was acknowledged."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.numbers = NUMBERS
        self.acknowledged: list[Write] = []
        self.over = threading.Event()
        self.threads = [threading.Thread(target=self.run, args=[node], daemon=True) for node in nodes.NODES]

    def __enter__(self) -> "Writers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        for thread in self.threads:
            thread.join(60)

    def run(self, node: str) -> None:
        while not self.over.is_set():
            try:
                with closing(connect(self.stack, node)) as connection, connection.cursor() as cursor:
                    cursor.execute("SET log_min_messages = panic")  # of what a replica refuses
                    while not self.over.is_set():
                        self.write(node, cursor)
            except (psycopg2.Error, ValueError, AssertionError):
                self.over.wait(0.5)

    def write(self, node: str, cursor: psycopg2.extensions.cursor) -> None:
        number, sent = next(self.numbers), time.monotonic()
        try:
            cursor.execute(
                "INSERT INTO acknowledged VALUES (%s) "
                "RETURNING left(pg_walfile_name(pg_current_wal_lsn()), 8)",
                [number],
            )
        except errors.ReadOnlySqlTransaction:
            self.over.wait(0.1)
            return
        (timeline,) = cursor.fetchone()
        self.acknowledged.append(Write(number, node, timeline, sent, time.monotonic()))
        self.over.wait(0.02)  # it is to notice failures, not to take the processor from what it looks at

    @property
    def primary(self) -> str:
        """The server that has acknowledged last."""
        return self.acknowledged[-1].node

    def wait_for(self, writes: int) -> None:
        """Until so many were acknowledged that were sent later than now."""
        now = time.monotonic()

        def enough() -> bool:
            return sum(one.sent > now for one in self.acknowledged[-10 * writes :]) >= writes

        rig.wait_until(enough, f"{writes} writes", 120)

    def pause(self, since: float) -> float:
        """The longest time between two acknowledged writes."""
        times = [one.received for one in self.acknowledged if one.received >= since]
        return max(after - before for before, after in itertools.pairwise([since, *times]))


# --- What happens to a primary, and how it is mended


def kill_all_of_it(stack: Stack, node: str) -> None:
    """The engine starts it again at once."""
    stack.kill(node)


def kill_postgres(stack: Stack, node: str) -> None:
    stack.inside(node, "sh", "-c", 'kill -9 "$(head -n 1 "$PGDATA/postmaster.pid")"')


def engine(*words: str) -> Callable[[Stack, str], None]:
    """`docker WORDS CONTAINER`."""

    def do(stack: Stack, node: str) -> None:
        stack.run("docker", *words, container(stack, node)["Id"])

    return do


def network(stack: Stack) -> str:
    return f"{stack.setting('COMPOSE_PROJECT_NAME')}_data"


def cut(stack: Stack, node: str) -> None:
    stack.run("docker", "network", "disconnect", network(stack), container(stack, node)["Id"])


def join(stack: Stack, node: str) -> None:
    stack.run("docker", "network", "connect", "--alias", node, network(stack), container(stack, node)["Id"])


def nothing(stack: Stack, node: str) -> None:
    """It comes back by itself."""


FAULTS: dict[str, tuple[Callable[[Stack, str], None], Callable[[Stack, str], None]]] = {
    "cut off": (cut, join),
    "killed, and started again": (kill_all_of_it, nothing),
    "stopped": (engine("stop"), engine("start")),
    "killed": (engine("kill"), engine("start")),
    "frozen": (engine("pause"), engine("unpause")),
    "PostgreSQL killed": (kill_postgres, nothing),
}


def wait_for_followers(stack: Stack, writers: Writers) -> None:
    """Until a commit of the primary waits for one of two replicas."""
    query = "SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming' AND sync_state = 'quorum'"

    def follow() -> bool:
        try:
            with closing(connect(stack, writers.primary)) as connection, connection.cursor() as cursor:
                cursor.execute(query)
                return cursor.fetchone() == (2,)
        except psycopg2.Error:
            return False

    rig.wait_until(follow, "two replicas follow", 120)


def report(line: str) -> None:
    if name := os.environ.get("LOAD_REPORT"):
        with Path(name).open("a") as file:
            file.write(f"{line}\n")


# --- As it is from the first start on


def test_one_server_is_the_primary_and_the_others_follow_with_the_settings_of_compose(site):
    roles = dict(line.partition(",")[0].split(": ") for line in site.operate("status")["database"])
    assert roles == {"db": "the primary", "replica1": "a replica", "replica2": "a replica"}
    site.expect_ok("primary", "replicas", "replica-logins", "etcd", "slots", "secrets")
    words = container(site, "db")["Config"]["Cmd"]
    wanted = dict(word.split("=", 1) for word in words if "=" in word)
    with closing(connect(site, "db")) as connection, connection.cursor() as cursor:
        cursor.execute(
            "SELECT name, current_setting(name) FROM pg_settings WHERE name = ANY (%s)", [list(wanted)]
        )
        assert dict(cursor.fetchall()) == wanted | {"effective_cache_size": "1536MB"}
        cursor.execute("SHOW data_checksums")
        assert cursor.fetchone() == ("on",)


def test_no_password_is_in_a_definition_or_in_a_list_of_processes(site):
    services = (*nodes.NODES, *patroni.ETCD)
    text = "".join(json.dumps(site.containers(name)) for name in services)
    text += "".join(site.compose("top", name).stdout for name in services)
    for file in (site.folder / "deploy/secrets").iterdir():
        secret = file.read_text().strip()
        assert not secret or secret not in text, file.name


def test_etcd_and_patroni_take_no_order_without_the_password(site):
    refused = site.inside("etcd1", "etcdctl", "put", "/service/rentomatic/leader", "me", check=False)
    assert "user name is empty" in refused.stderr
    ask = (
        "import urllib.request as r; r.urlopen(r.Request('http://db:8008/switchover', b'{}', method='POST'))"
    )
    assert "HTTP Error 401" in site.inside("web", "python", "-c", ask, check=False).stderr


def test_promote_names_the_command_of_patroni(site):
    refused = site.operate("promote", check=False)
    assert "Patroni decides" in refused["error"]
    assert refused["next"] == "docker compose exec db patronictl switchover"


# --- The primary dies


def test_no_acknowledged_write_is_lost_and_no_search_fails_when_the_primary_dies(site):
    faults = list(itertools.islice(itertools.cycle(FAULTS), NUMBER))
    pauses: list[tuple[str, float]] = []
    with Writers(site) as writers, site.load() as clients:
        for name in faults:
            hurt, mend = FAULTS[name]
            writers.wait_for(20)
            wait_for_followers(site, writers)
            node, began = writers.primary, time.monotonic()
            hurt(site, node)
            writers.wait_for(50)
            mend(site, node)
            writers.wait_for(20)
            pauses.append((name, writers.pause(began)))
            report(f"{name}: no writes for {pauses[-1][1]:.1f} s")
        wait_for_followers(site, writers)
        clients.wait_for(20, 60)
    report(f"{len(writers.acknowledged)} writes were acknowledged")
    expect_each_exactly_once(site, writers)
    expect_one_primary_at_a_time(writers.acknowledged)
    assert set(clients.statuses()) == {200}
    if LONG:
        assert [pause for pause in pauses if pause[1] > PROMISED] == []
    assert len({one.timeline for one in writers.acknowledged}) > 1


def expect_each_exactly_once(stack: Stack, writers: Writers) -> None:
    with closing(connect(stack, writers.primary)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT number FROM acknowledged")
        stored = [number for (number,) in cursor.fetchall()]
    assert len(stored) == len(set(stored))
    assert {one.number for one in writers.acknowledged} - set(stored) == set()


def expect_one_primary_at_a_time(acknowledged: list[Write]) -> None:
    """After the first acknowledged write of a timeline none is sent that an earlier one acknowledges."""
    by_timeline: dict[str, list[Write]] = {}
    for one in acknowledged:
        by_timeline.setdefault(one.timeline, []).append(one)
    for own in by_timeline.values():
        assert len({one.node for one in own}) == 1
    for before, after in itertools.combinations(sorted(by_timeline), 2):
        last_sent = max(one.sent for one in by_timeline[before])
        assert last_sent < min(one.received for one in by_timeline[after]), (before, after)


# --- Its tools


def ctl(stack: Stack, *words: str) -> str:
    done = stack.inside("db", "patronictl", *words)
    return done.stdout + done.stderr


def test_a_change_on_purpose_loses_no_acknowledged_write_and_fails_no_search(site):
    with Writers(site) as writers, site.load() as clients:
        writers.wait_for(20)
        wait_for_followers(site, writers)
        former = writers.primary
        assert "Successfully switched over" in ctl(site, "switchover", "rentomatic", "--force")
        rig.wait_until(lambda: writers.primary != former, "another primary", 60)
        writers.wait_for(50)
        wait_for_followers(site, writers)
        clients.wait_for(20, 60)
    expect_each_exactly_once(site, writers)
    expect_one_primary_at_a_time(writers.acknowledged)
    assert set(clients.statuses()) == {200}


def test_a_replica_is_copied_anew_while_the_others_serve(site):
    with Writers(site) as writers, site.load() as clients:
        writers.wait_for(20)
        wait_for_followers(site, writers)
        replica = next(name for name in nodes.NODES if name != writers.primary)
        site.inside(replica, "sh", "-c", 'touch "$PGDATA/of-the-former-copy"')
        assert "Success: reinitialize" in ctl(site, "reinit", "rentomatic", replica, "--force", "--wait")
        wait_for_followers(site, writers)
        clients.wait_for(20, 60)
    assert "of-the-former-copy" not in site.inside(replica, "sh", "-c", 'ls "$PGDATA"').stdout
    assert set(clients.statuses()) == {200}


def test_a_patroni_that_is_paused_is_an_error_and_its_command_ends_that(site):
    ctl(site, "pause", "--wait")
    check = site.finding("failover")
    assert (check["level"], "Patroni is paused" in check["text"]) == ("error", True)
    refused = site.operate("rotate", patroni.PASSWORD, check=False)
    assert (refused["ok"], refused["next"]) == (False, check["command"])
    site.run(*check["command"].split())
    site.expect_ok("failover")


def password(stack: Stack) -> str:
    return (stack.folder / "deploy/secrets" / patroni.PASSWORD).read_text()


def accepts(stack: Stack, secret: str) -> bool:
    """Whether etcd does."""
    command = ["docker", "exec", "-i", container(stack, "etcd2")["Id"], "sh", "/etcd.sh", "has-password"]
    return subprocess.run(command, input=secret, text=True, check=False, capture_output=True).returncode == 0


def test_a_rotated_password_changes_no_primary_and_the_old_one_opens_nothing(site):
    old = password(site)
    with Writers(site) as writers, site.load() as clients:
        writers.wait_for(20)
        site.operate("rotate", patroni.PASSWORD)
        writers.wait_for(50)
        clients.wait_for(20, 60)
    assert len({one.timeline for one in writers.acknowledged}) == 1
    assert set(clients.statuses()) == {200}
    assert (accepts(site, password(site)), accepts(site, old)) == (True, False)
    site.expect_ok("etcd", "failover", "primary", "replicas", "secrets")
    assert "Reload request received" in ctl(site, "reload", "rentomatic", "--force")


def test_a_rotation_that_was_killed_is_finished_by_the_same_again(site):
    """Killed when etcd has the new password and the file has not: the worst moment."""
    old, new = password(site), "a-password-that-etcd-has-got-already"
    coming = site.folder / "deploy/secrets" / f"{patroni.PASSWORD}_next"
    ctl(site, "pause", "--wait")
    with Writers(site) as writers:
        writers.wait_for(20)
        coming.write_text(new)
        command = ["docker", "exec", "-i", container(site, "etcd1")["Id"], "sh", "/etcd.sh", "take-password"]
        subprocess.run(command, input=new, text=True, check=True, capture_output=True)
        writers.wait_for(200)
        site.operate("rotate", patroni.PASSWORD)
        writers.wait_for(50)
    assert password(site) == new
    assert not coming.exists()
    assert len({one.timeline for one in writers.acknowledged}) == 1
    assert (accepts(site, new), accepts(site, old)) == (True, False)
    site.expect_ok("etcd", "failover", "primary", "replicas")


# --- What Patroni agrees by


def test_an_etcd_that_is_away_is_a_warning_of_doctor_and_writes_go_on(site):
    site.compose("stop", "etcd2")
    try:
        with Writers(site) as writers:
            writers.wait_for(50)
        check = site.finding("etcd")
        assert (check["level"], check["text"].split(";")[0]) == ("warning", "etcd2 does not answer")
    finally:
        site.up("etcd2")
    site.expect_ok("etcd")
