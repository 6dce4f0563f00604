"""Three database servers: the primary is killed under load and changed on purpose; all is started anew."""

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg2
import pytest

from deploy.operations.promote import FAR_BEHIND
from deploy.tests.stack import Stack, needs_engine
from rentomatic_site.testing import rig
from rentomatic_site.testing.browser import Browser

pytestmark = [pytest.mark.compose, pytest.mark.needs("docker", "git")]

ROOMS = (
    "INSERT INTO room(code, size, price, longitude, latitude) "
    "SELECT gen_random_uuid(), n % 90 + 10, n % 70 + 1, 2.1, 41.4 FROM generate_series(1, 2000) AS n"
)
BOSS = ("boss", "boss-of-all-rooms")
ADD = "/admin/rooms/room/add/"
CODE = "f853578c-fc0f-4e65-81b8-566c5dffa35a"
NODES = ("db", "replica1", "replica2")


class Staff(Browser):
    """Somebody in the admin, over HTTPS."""

    def ask(self, path: str, method: str = "GET", **options: Any) -> rig.Response:
        return super().ask(path, method, Referer=f"{self.server.url}/", **options)


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Stack]:
    """A stack with two replicas, 2,000 rooms and an administrator."""
    needs_engine()
    stack = Stack(tmp_path_factory.mktemp("replicas"))
    stack.set("REPLICAS", "on")
    stack.set("SECOND_FACTOR", "optional")
    try:
        stack.run("./deploy/rentomatic", "rollout")
        sql(stack, "db", ROOMS)
        variables = dict(zip(("USERNAME", "PASSWORD"), BOSS, strict=True)) | {"EMAIL": "boss@example.com"}
        words = [
            word for name, text in variables.items() for word in ("-e", f"DJANGO_SUPERUSER_{name}={text}")
        ]
        stack.compose("exec", "-T", *words, "web", "./manage.py", "createsuperuser", "--noinput")
        yield stack
    finally:
        stack.remove()


@pytest.fixture(scope="module")
def boss(site) -> Staff:
    boss = Staff(site)
    boss.login(*BOSS)
    return boss


def sql(stack: Stack, node: str, statement: str, check: bool = True) -> str:
    command = ["psql", "-U", "postgres", "-d", "application", "-Atc", statement]
    done = stack.inside(node, *command, check=check)
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()


def roles(stack: Stack) -> dict[str, str]:
    """Of each node what `status` says, without numbers."""
    said = dict(line.split(": ") for line in stack.operate("status")["database"])
    return {name: text.partition(",")[0] for name, text in said.items()}


def expect_primary(stack: Stack, primary: str) -> None:
    wanted = {name: "the primary" if name == primary else "a replica" for name in NODES}
    rig.wait_until(lambda: roles(stack) == wanted, f"{primary} is the primary, the others follow", 120)
    stack.expect_ok("replicas")


def kill(stack: Stack, node: str) -> None:
    (container,) = stack.containers(node)
    stack.run("docker", "kill", container["Id"])


UNSENT = (
    "INSERT INTO room(code, size, price, longitude, latitude) VALUES (gen_random_uuid(), 20, 66666, 2, 41)"
)


def hold_back_replicas(stack: Stack) -> None:
    """Let the primary send nothing more, so that it has what no replica has when it is killed."""
    senders = sql(stack, "db", "SELECT string_agg(pid::text, ' ') FROM pg_stat_replication")
    stack.inside("db", "sh", "-c", f"kill -STOP {senders}")


def lose_much(stack: Stack) -> None:
    """Kill the primary with 11 MB and more that no replica has."""
    hold_back_replicas(stack)
    sql(stack, "db", "UPDATE room SET size = size + 1; SELECT pg_switch_wal()")
    sql(stack, "db", "UPDATE room SET size = size + 1")
    kill(stack, "db")


@contextmanager
def promoting(stack: Stack, node: str) -> Iterator["subprocess.Popen[str]"]:
    """A promotion, from the moment on when the server accepts writes."""
    command = ["./deploy/rentomatic", "promote", node]
    with subprocess.Popen(command, cwd=stack.folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert any("accepts writes" in line for line in process.stdout)
        yield process


class Writer:
    """Writes rooms one by one, on whichever server takes them, and remembers which were acknowledged."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.password = (stack.folder / "deploy/secrets/application_password").read_text()
        self.acknowledged: list[int] = []
        self.over = threading.Event()
        self.thread = threading.Thread(target=self.write)

    def __enter__(self) -> "Writer":
        self.thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self.thread.join(60)

    def hosts(self) -> str:
        networks = [
            one["NetworkSettings"]["Networks"] for node in NODES for one in self.stack.containers(node)
        ]
        return ",".join(own["IPAddress"] for each in networks for own in each.values() if own["IPAddress"])

    def write(self) -> None:
        number = 0
        while not self.over.is_set():
            try:
                connection = psycopg2.connect(
                    host=self.hosts(),
                    dbname="application",
                    user="application",
                    password=self.password,
                    target_session_attrs="primary",
                    connect_timeout=2,
                )
                connection.autocommit = True
                with connection.cursor() as cursor:
                    while not self.over.is_set():
                        number += 1
                        cursor.execute(
                            "INSERT INTO room(code, size, price, longitude, latitude) "
                            "VALUES (gen_random_uuid(), 77, %s, -120, 30)",
                            [number],
                        )
                        self.acknowledged.append(number)
            except psycopg2.Error:
                time.sleep(0.1)

    def wait_for(self, writes: int) -> None:
        goal = len(self.acknowledged) + writes
        rig.wait_until(lambda: len(self.acknowledged) >= goal, f"{writes} writes", 60)


# --- As it is from the first start on


def test_both_replicas_stream_and_anonymous_reads_reach_them(site):
    expect_primary(site, "db")
    for number in range(40):
        assert site.get(f"/rooms?filter_price__gte={number}&limit=1").status == 200
    scans = "SELECT coalesce(sum(seq_scan + idx_scan), 0) FROM pg_stat_user_tables WHERE relname = 'room'"
    for node in ("replica1", "replica2"):
        rig.wait_until(lambda node=node: int(sql(site, node, scans)) > 0, f"reads on {node}", 30)
    site.expect_ok("primary", "replicas", "replica-logins", "secrets")


def test_a_write_to_a_replica_is_refused(site):
    assert "read-only transaction" in sql(site, "replica1", "DELETE FROM room", check=False)


# --- The primary dies


def test_reads_go_on_when_the_primary_is_killed_and_writes_after_a_promotion(site, boss):
    token = boss.token(ADD)
    with site.load() as clients:
        clients.wait_for(20, 60)
        hold_back_replicas(site)
        sql(site, "db", UNSENT)
        kill(site, "db")
        clients.wait_for(40, 60)
        refused = boss.post(ADD, token, price="33", latitude="41", longitude="2", size="20")
        assert refused.status == 503
        assert refused.headers["Retry-After"]
        check = site.finding("primary")
        assert (check["level"], check["command"]) == ("error", "./deploy/rentomatic promote")
        told = site.operate("promote")
        clients.wait_for(40, 60)
    assert set(clients.statuses()) == {200}
    assert told["former"] == "db"
    assert told["away"] == []
    assert told["lost_bytes"] > 0
    assert f"{told['lost_bytes']:,} bytes of WAL are lost" in told["warnings"][0]
    assert site.setting("DATABASE_SERVICE") == told["primary"]
    expect_primary(site, told["primary"])
    for node in NODES:
        assert sql(site, node, "SELECT count(*) FROM room WHERE price = 66666") == "0"
    log = site.compose("logs", "--no-color", "--no-log-prefix", "db").stdout.splitlines()
    said = [line for line in log if "node: " in line or "pg_rewind" in line]
    assert "pg_rewind: Done!" in "\n".join(said), said
    assert "read-only transaction" in sql(site, "db", "DELETE FROM room", check=False)
    # The session was not lost with the primary, and writes go through it.
    saved = boss.post(ADD, boss.token(ADD), code=CODE, price="33", latitude="41", longitude="2", size="20")
    assert saved.status == 302, saved.body
    assert sql(site, told["primary"], "SELECT count(*) FROM room WHERE price = 33 AND latitude = 41") == "1"


def test_other_commands_use_the_new_primary(site):
    primary = site.setting("DATABASE_SERVICE")
    assert site.operate("backup")["ok"]
    assert site.operate("drill")["ok"]
    refused = site.operate("upgrade", "19", check=False)
    assert "promote db" in refused["next"]
    site.set("REPLICAS", "off")
    try:
        refused = site.operate("apply", check=False)
    finally:
        site.set("REPLICAS", "on")
    assert f"{primary} is the primary" in refused["error"]


def test_a_restart_of_everything_comes_up_with_the_promoted_primary(site):
    primary = site.setting("DATABASE_SERVICE")
    before = sql(site, primary, "SELECT count(*) FROM room")
    site.compose("down")
    site.up()
    expect_primary(site, primary)
    assert sql(site, "db", "SELECT count(*) FROM room") == before
    assert site.get("/rooms?limit=1").status == 200


# --- The password that replicas follow with


def test_a_rotated_password_lets_replicas_in_and_fails_no_request(site):
    password = site.folder / "deploy/secrets/replicator_password"
    former = password.read_text()
    primary = site.setting("DATABASE_SERVICE")
    with site.load() as clients:
        clients.wait_for(20, 60)
        site.operate("rotate", "replicator_password")
        clients.wait_for(20, 60)
    assert set(clients.statuses()) == {200}
    assert password.read_text() != former
    expect_primary(site, primary)
    check = site.finding("replica-logins")
    assert check["level"] == "ok", check
    login = ["psql", f"host={primary} dbname=postgres user=replicator password={former}", "-c", "SELECT 1"]
    assert "password authentication failed" in site.inside("db", *login, check=False).stderr


# --- A change on purpose


def test_a_planned_promotion_loses_no_acknowledged_write(site):
    with Writer(site) as writer, site.load() as clients:
        writer.wait_for(20)
        told = site.operate("promote", "db")
        writer.wait_for(20)
        clients.wait_for(20, 60)
    assert set(clients.statuses()) == {200}
    assert (told["primary"], told["lost_bytes"], told["away"]) == ("db", 0, [])
    assert site.setting("DATABASE_SERVICE") == ""
    expect_primary(site, "db")
    kept = set(map(int, sql(site, "db", "SELECT price FROM room WHERE longitude = -120").split()))
    assert set(writer.acknowledged) - kept == set()


def test_a_trial_says_what_it_would_do_and_changes_nothing(site):
    before = [(one["Id"], one["State"]["StartedAt"]) for node in NODES for one in site.containers(node)]
    done = site.run("./deploy/rentomatic", "promote", "replica2", "--dry-run")
    assert "Would make replica2 the primary in the place of db, and stop it cleanly first." in done.stdout
    assert [
        (one["Id"], one["State"]["StartedAt"]) for node in NODES for one in site.containers(node)
    ] == before
    expect_primary(site, "db")


def test_a_promotion_that_is_interrupted_goes_on_to_its_end(site):
    """Ctrl-C when the primary is stopped, and nothing accepts writes."""
    command = ["./deploy/rentomatic", "promote", "replica1"]
    with Writer(site) as writer:
        writer.wait_for(20)
        with subprocess.Popen(command, cwd=site.folder, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            rig.wait_until(lambda: "Stopping db" in str(process.stdout.readline()), "the stop", 60)
            process.send_signal(signal.SIGINT)
            said = process.stdout.read()
        writer.wait_for(20)
    assert "replica1 accepts writes" in said
    assert roles(site)["db"] != "a replica"
    told = site.operate("promote")
    assert (told["primary"], told["away"]) == ("replica1", [])
    expect_primary(site, "replica1")
    kept = set(map(int, sql(site, "replica1", "SELECT price FROM room WHERE longitude = -120").split()))
    assert set(writer.acknowledged) - kept == set()


def test_a_frozen_primary_is_killed_before_another_one_is_promoted(site):
    site.operate("promote", "replica1")
    (container,) = site.containers("replica1")
    with site.load() as clients:
        clients.wait_for(20, 60)
        site.run("docker", "pause", container["Id"])
        told = site.operate("promote", "db")
        clients.wait_for(20, 60)
    assert set(clients.statuses()) == {200}
    assert (told["primary"], told["former"]) == ("db", "replica1")
    expect_primary(site, "db")
    assert "read-only transaction" in sql(site, "replica1", "DELETE FROM room", check=False)


@pytest.mark.parametrize("statement", ["SELECT", "CHECKPOINT"])
def test_much_that_no_replica_has_is_given_up_by_accept_only(site, statement):
    """Also before the first checkpoint after a promotion: pg_controldata still tells of the one before."""
    site.operate("promote", "replica1")
    site.operate("promote", "db")
    sql(site, "db", statement)
    lose_much(site)
    refused = site.operate("promote", check=False)
    assert not refused["ok"], refused
    assert "bytes of WAL of db would be lost" in refused["error"]
    assert refused["error"].endswith("everything is as it was")
    assert refused["next"].endswith("or promote with --accept")
    assert "docker compose up -d db" in refused["next"]
    site.up("db")
    expect_primary(site, "db")
    lose_much(site)
    told = site.operate("promote", "--accept")
    assert told["lost_bytes"] > FAR_BEHIND
    expect_primary(site, told["primary"])
    site.operate("promote", "db")
    expect_primary(site, "db")


def timeline(stack: Stack, node: str) -> int:
    return int(sql(stack, node, "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"), 16)


KEPT = "SELECT string_agg(DISTINCT price::text, ' ') FROM room WHERE price IN (55555, 66666)"


@pytest.fixture
def lost_twice(site) -> Iterator[int]:
    """
    db was lost, then replica1, which had taken its place and whose timeline this is; db runs again.

    It has a room (66666) that was left behind, and more bytes of WAL than replica2, which has what was
    written since (55555).
    """
    (former,) = site.containers("db")
    (network,) = former["NetworkSettings"]["Networks"]
    sql(site, "db", "DELETE FROM room WHERE price IN (55555, 66666)")
    hold_back_replicas(site)
    sql(site, "db", f"{UNSENT}; SELECT pg_logical_emit_message(false, '', repeat('x', 500000), true)")
    site.run("docker", "network", "disconnect", network, former["Id"])
    kill(site, "db")
    with promoting(site, "replica1") as promotion:
        promotion.kill()  # before it brings back the other ones
    sql(site, "replica1", UNSENT.replace("66666", "55555"))
    rig.wait_until(lambda: sql(site, "replica2", KEPT) == "55555", "the second server has it", 30)
    site.compose("start", "db")
    rig.wait_until(lambda: sql(site, "db", KEPT, check=False) == "66666", "the former primary answers", 30)
    number = timeline(site, "replica1")
    kill(site, "replica1")
    site.run("docker", "network", "connect", "--alias", "db", network, former["Id"])
    yield number
    site.operate("promote")
    rig.wait_until(lambda: site.finding("replicas")["level"] == "ok", "both follow", 120)
    site.operate("promote", "db")
    expect_primary(site, "db")


def test_a_former_primary_with_more_bytes_is_not_taken_for_one_that_has_followed(site, lost_twice):
    refused = site.operate("promote", "db", check=False)
    assert "db lacks what was written since timeline " in refused["error"]
    assert refused["next"] == "./deploy/rentomatic promote replica2"
    assert site.operate("promote")["primary"] == "replica2"
    assert sql(site, "replica2", KEPT) == "55555"


def test_a_timeline_that_is_given_up_by_accept_is_not_used_again(site, lost_twice):
    site.compose("stop", "replica2")
    try:
        refused = site.operate("promote", "db", check=False)
        assert "bytes of WAL of replica1 would be lost" in refused["error"]
        told = site.operate("promote", "db", "--accept")
        assert (told["primary"], told["lost_bytes"] > 0) == ("db", True)
        assert timeline(site, "db") == lost_twice + 1
    finally:
        site.compose("start", "replica2")
    assert sql(site, "db", KEPT) == "66666"


def test_a_restore_is_seen_by_readers_of_the_replicas_at_once(site):
    rooms = sql(site, "db", "SELECT count(*) FROM room")
    backup = site.operate("backup")["file"]
    sql(site, "db", "DELETE FROM room")
    site.operate("restore", backup)
    for number in range(10):
        response = site.get(f"/rooms?count=exact&limit=1&filter_price__lt={900_000 + number}")
        assert response.headers["X-Total-Count"] == rooms
