"""The stack of test_compose.py with POOLER=on: switched on and off, full, rotated and killed under load."""

import http.client
import itertools
import json
import os
import re
import subprocess
from collections.abc import Iterator
from typing import Any

import pytest

from deploy.tests.stack import Stack, long
from rentomatic_site.testing import rig
from rentomatic_site.testing.browser import Browser

pytestmark = [
    pytest.mark.compose,
    pytest.mark.needs("docker", "git"),
    pytest.mark.skipif(os.environ.get("TEST_POOLER") == "on", reason="the stack has the pooler already"),
]

SIZE = 20
ANN = ("ann-of-the-pooler", "ann-of-all-the-rooms")
LIST = "/admin/rooms/room/"
OURS = "FROM pg_stat_activity WHERE usename LIKE 'application%'"
ROOMS = (
    "INSERT INTO room(code, size, price, longitude, latitude) "
    "SELECT gen_random_uuid(), n % 90 + 10, 43210, 0, 0 FROM generate_series(1, 2000) AS n"
)
AS_BEFORE = {"POOLER": "off", "WEB_THREADS": "4", "REQUEST_TIMEOUT": "15"}
POOLER_CHECKS = ("pooler", "pooler-clients", "pooler-login", "connections")


class Staff(Browser):
    """Somebody in the admin, over HTTPS."""

    def ask(self, path: str, method: str = "GET", **options: Any) -> rig.Response:
        return super().ask(path, method, Referer=f"{self.server.url}/", **options)


def applied(stack: Stack, **settings: str) -> tuple[dict[str, Any], set[int | str]]:
    """What `apply` of these variables says, and what clients got meanwhile."""
    for name, value in settings.items():
        stack.set(name, value)
    with stack.load() as clients:
        clients.wait_for(20, 60)
        told = stack.operate("apply")
        clients.wait_for(20, 60)
    return told, set(clients.statuses())


@pytest.fixture(scope="module")
def pooled(stack) -> Iterator[Stack]:
    """The stack with 200 threads, 2,000 rooms more, and somebody who may change them."""
    told, statuses = applied(stack, POOLER="on", WEB_THREADS="50", REQUEST_TIMEOUT="60")
    assert statuses == {200}
    assert told["changes"]["pooler"] == ["to be started"]
    stack.sql(ROOMS)
    script = (
        "from django.contrib.auth.models import Group, User; "
        f"ann = User.objects.create_user({ANN[0]!r}, password={ANN[1]!r}, is_staff=True); "
        "ann.groups.set(Group.objects.filter(name='Room editors'))"
    )
    stack.inside("web", "./manage.py", "shell", "-c", script)
    yield stack
    stack.sql("DELETE FROM room WHERE price > 43000")
    if stack.setting("POOLER") == "on":
        applied(stack, **AS_BEFORE)


def addresses(stack: Stack, service: str) -> list[str]:
    return [
        network["IPAddress"]
        for one in stack.containers(service)
        for name, network in one["NetworkSettings"]["Networks"].items()
        if name.endswith("_data")
    ]


def console(stack: Stack, command: str) -> str:
    login = "host=/tmp port=6432 user=pgbouncer dbname=pgbouncer"
    return stack.inside("pooler", "psql", "-XAtqc", command, login).stdout


def test_it_is_well_and_only_the_pooler_connects_to_the_server(pooled):
    for number in range(40):
        assert pooled.get(f"/rooms?filter_price__gte={number}&limit=1").status == 200
    pooled.expect_ok(*POOLER_CHECKS)
    said = pooled.finding("pooler")["text"]
    assert re.match(r"PgBouncer 1\.\d+\.\d+ shares out 20 connections to db", said)
    assert pooled.sql(f"SELECT DISTINCT host(client_addr) {OURS}").split() == addresses(pooled, "pooler")


def test_no_password_and_no_verifier_is_in_what_the_engine_shows(pooled):
    shown = json.dumps(pooled.containers("pooler") + pooled.containers("web"))
    secrets = pooled.folder / "deploy/secrets"
    for name in ("pooler_password", "application_password"):
        assert (secrets / name).read_text().strip() not in shown
    assert "SCRAM" not in shown


def test_200_threads_are_served_by_20_connections(pooled):
    numbers = itertools.count()
    replicas = addresses(pooled, "web")
    headers = {"Host": "localhost", "X-Forwarded-Proto": "https", "Accept": "application/json"}

    def request() -> int:
        number = next(numbers)
        # Past nginx, which lets no one address have so many connections.
        connection = http.client.HTTPConnection(replicas[number % len(replicas)], 8000, timeout=60)
        connection.request("GET", f"/rooms?count=exact&filter_price__gte={number}", headers=headers)
        return connection.getresponse().status

    clients, servers = [], []
    console(pooled, "SET query_wait_timeout = 60")  # for a busy machine, as is REQUEST_TIMEOUT
    with rig.Load(request, clients=200) as load:
        load.wait_for(600, 120)  # on a busy machine 200 logins at once take too long for some
        before = len(load.responses)
        for _ in range(5):
            load.wait_for(150, 120)
            servers.append(int(pooled.sql(f"SELECT count(*) {OURS}")))
            clients.append(console(pooled, "SHOW CLIENTS").count("|application|application|"))
    console(pooled, "RELOAD")
    assert set(load.statuses()) <= {200, 503}
    assert {status for _, _, status in load.responses[before + 200 :]} == {200}
    assert max(servers) <= SIZE
    assert max(clients) >= 150


def test_lists_a_login_a_bulk_change_and_an_export_work_through_it(pooled):
    assert len(json.loads(pooled.get("/rooms?limit=1000&filter_price__gt=43000").body)) == 1000
    ann = Staff(pooled)
    ann.login(*ANN)
    query = f"{LIST}?price__gte=43000"
    keys = pooled.sql("SELECT id FROM room WHERE price > 43000 LIMIT 1").split()
    form = {"action": "change_prices", "_selected_action": keys[0], "select_across": "1"}
    form |= {"change": "5", "unit": "euros"}
    shown = ann.post(query, ann.token(LIST), **form, preview="yes")
    (fingerprint,) = re.findall(rb'name="fingerprint" value="([^"]+)"', shown.body)
    saved = ann.post(query, ann.token(LIST), **form, confirm="yes", fingerprint=fingerprint.decode())
    assert saved.status == 302, saved.body
    changed = "SELECT count(*) FROM room WHERE price = 43215"
    rig.wait_until(lambda: pooled.sql(changed) == "2000", "2,000 changed rooms", 60)
    export = pooled.get("/rooms.csv?filter_price__gt=43000")
    assert (export.status, len(export.body.splitlines())) == (200, 2001)


def test_another_number_of_connections_replaces_no_container(pooled):
    before = [one["Id"] for service in ("pooler", "web") for one in pooled.containers(service)]
    told, statuses = applied(pooled, POOLER_SIZE="7")
    assert (statuses, told["changes"]["pooler"]) == ({200}, ["its configuration"])
    check = pooled.finding("pooler")
    assert "shares out 7 connections" in check["text"]
    assert [one["Id"] for service in ("pooler", "web") for one in pooled.containers(service)] == before
    assert not any(pooled.operate("apply")["changes"].values())
    pooled.set("POOLER_SIZE", str(SIZE))


@long
def test_a_new_password_of_the_role_fails_no_request(pooled):
    limits = "SELECT setconfig::text FROM pg_db_role_setting WHERE setrole = 'application_rotating'::regrole"
    before = (pooled.folder / "deploy/secrets/application_password").read_text()
    pooled.set("WEB_THREADS", "4")  # of the new replicas: 200 logins a minute are enough for one test
    with pooled.load() as clients:
        clients.wait_for(20, 60)
        rotation = subprocess.Popen(
            ["./deploy/rentomatic", "rotate", "application_password"],
            cwd=pooled.folder,
            stdout=subprocess.DEVNULL,
        )
        other = "SELECT count(*) FROM pg_roles WHERE rolname = 'application_rotating'"
        rig.wait_until(lambda: pooled.sql(other) == "1", "another role", 60)
        rig.wait_until(lambda: "role=application" in pooled.sql(limits), "its settings", 10)
        settings = pooled.sql(limits)
        rotation.wait(300)
        clients.wait_for(20, 60)
    assert rotation.returncode == 0
    assert set(clients.statuses()) == {200}
    # A pooler drops what connections ask for: the other role has the limits of requests, too.
    assert "statement_timeout=5000" in settings
    assert (pooled.folder / "deploy/secrets/application_password").read_text() != before
    assert pooled.sql(other) == "0"


def test_a_new_password_of_its_own_fails_no_request(pooled):
    before = (pooled.folder / "deploy/secrets/pooler_password").read_text()
    with pooled.load() as clients:
        clients.wait_for(20, 60)
        pooled.operate("rotate", "pooler_password")
        clients.wait_for(20, 60)
    assert set(clients.statuses()) == {200}
    assert (pooled.folder / "deploy/secrets/pooler_password").read_text() != before
    pooled.expect_ok("pooler-login")


def test_a_killed_pooler_is_503_with_retry_after_and_comes_back_by_itself(pooled):
    with pooled.load() as clients:
        clients.wait_for(20, 60)
        pooled.kill("pooler")
        rig.wait_until(lambda: pooled.containers("pooler")[0]["RestartCount"] == 1, "a restart", 60)
        before = len(clients.responses)

        def serves() -> bool:
            """To all threads, which connect anew one after the other."""
            last = clients.responses[before:][-50:]
            return len(last) == 50 and {status for _, _, status in last} == {200}

        rig.wait_until(serves, "no request fails any more", 60)
    assert set(clients.statuses()) <= {200, 503}
    pooled.compose("stop", "pooler")
    try:
        away = pooled.get("/rooms?filter_size__gte=992", timeout=60)  # which no load has left in the cache
        check = pooled.finding("pooler")
    finally:
        pooled.compose("start", "pooler")
    assert (away.status, bool(away.headers["Retry-After"])) == (503, True)
    assert (check["level"], "docker compose up -d pooler" in check["command"]) == ("error", True)
    rig.wait_until(lambda: pooled.get("/rooms?filter_size__gte=993").status == 200, "it serves", 60)


def test_switched_off_it_is_gone_without_a_failed_request(pooled):
    told, statuses = applied(pooled, **AS_BEFORE)
    assert statuses == {200}
    assert told["changes"]["surplus"] == ["pooler"]
    assert pooled.containers("pooler") == []
    assert pooled.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'pooler'") == "0"
    assert pooled.sql("SELECT count(*) FROM pg_namespace WHERE nspname = 'pooler'") == "0"
    assert not any(pooled.operate("apply")["changes"].values())
