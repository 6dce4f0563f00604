"""A managed PostgreSQL, and the whole deployment on each of two hosts: they share only the database."""

import itertools
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

import pytest

from deploy.tests.stack import Stack, needs_engine
from deploy.tests.test_compose_hosts import LIST, Staff
from deploy.tests.test_compose_releases import REVERSIBLE, migration
from rentomatic_site.testing import rig

pytestmark = [
    pytest.mark.compose,
    pytest.mark.skipif(os.environ.get("TEST_POOLER") == "on", reason="a managed database has its own pooler"),
]

IMAGE = "postgres:18"
ANN = ("ann-of-two-sites", "ann-of-all-the-rooms")
SHARED = ("secret_key", "secret_key_fallbacks", "database_url")


class Managed:
    """The provider's server: it gives away a role that owns a database, and no superuser."""

    def __init__(self, address: str) -> None:
        self.address, self.port = address, rig.free_port()
        words = ["run", "--detach", "--rm", "--publish", f"{address}:{self.port}:5432"]
        self.id = self.docker(*words, "--env", "POSTGRES_PASSWORD=of-the-provider", IMAGE)
        rig.wait_until(lambda: self.sql("SELECT 1", check=False) == "1", "the managed server", 60)
        self.sql("CREATE ROLE rooms LOGIN PASSWORD 'of-the-rooms'")
        self.sql("CREATE DATABASE rooms OWNER rooms")

    @property
    def url(self) -> str:
        return f"postgres://rooms:of-the-rooms@{self.address}:{self.port}/rooms"

    def docker(self, *words: str, check: bool = True) -> str:
        done = subprocess.run(["docker", *words], check=check, capture_output=True, text=True)
        return done.stdout.strip()

    def sql(self, statement: str, *, check: bool = True) -> str:
        """As the provider, by TCP: the socket answers while the server makes itself."""
        command = ["exec", self.id, "psql", "-h", "localhost", "-U", "postgres", "-Atc", statement]
        return self.docker(*command, check=check)

    def remove(self) -> None:
        self.docker("rm", "--force", "--volumes", self.id)


@dataclass
class Balancer:
    """What stands in front of both: it sends a request to the other host where one does not answer."""

    first: Stack
    second: Stack

    def get(self, path: str, *stacks: Stack) -> rig.Response:
        for stack in stacks or (self.first, self.second):
            with suppress(OSError):
                response = rig.get(stack.https, path, tls=True, Host=self.name)
                if response.status != 502:
                    return response
        raise ConnectionError("neither host answers")

    @property
    def name(self) -> str:
        return self.first.url.removeprefix("https://")

    def load(self) -> rig.Load:
        """Clients whose requests go to both hosts in turn."""
        prices, turns = (
            itertools.count(),
            itertools.cycle([(self.first, self.second), (self.second, self.first)]),
        )

        def request() -> int:
            time.sleep(0.02)
            return self.get(f"/rooms?filter_price__gte={next(prices)}", *next(turns)).status

        return rig.Load(request)


@pytest.fixture(scope="module")
def hosts(tmp_path_factory) -> Iterator[Balancer]:
    needs_engine()
    gateway = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    address = subprocess.check_output(gateway, text=True).strip()
    database = Managed(address)
    both = Balancer(*(Stack(tmp_path_factory.mktemp(name)) for name in ("first", "second")))
    try:
        owner = (both.first.folder / "deploy/secrets/secret_key").stat()
        for stack in (both.first, both.second):
            stack.set("COMPOSE_FILE", "compose.yml:deploy/compose.managed.yml")
            stack.set("SITE_ADDRESS", both.first.url)
            for name in SHARED[:2]:
                (stack.folder / "deploy/secrets" / name).write_text(
                    (both.first.folder / "deploy/secrets" / name).read_text()
                )
            secret = stack.folder / "deploy/secrets/database_url"
            secret.write_text(database.url)
            secret.chmod(0o600)
            os.chown(secret, owner.st_uid, owner.st_gid)
            stack.run("./deploy/rentomatic", "rollout")
        yield both
    finally:
        both.second.remove()
        both.first.remove()
        database.remove()


def test_a_login_at_one_host_is_one_at_the_other(hosts):
    script = (
        "from django.contrib.auth.models import Group, User; "
        f"ann = User.objects.create_user({ANN[0]!r}, password={ANN[1]!r}, is_staff=True); "
        "ann.groups.set(Group.objects.filter(name='Room editors'))"
    )
    hosts.second.inside("web", "./manage.py", "shell", "-c", script)
    at_first = Staff(hosts.first)
    at_first.origin = hosts.first.url
    at_first.login(*ANN)
    cookies = "; ".join(f"{name}={value}" for name, value in at_first.cookies.items())
    response = rig.get(hosts.second.https, LIST, tls=True, Host=hosts.name, Cookie=cookies)
    assert response.status == 200
    assert rig.get(hosts.second.https, LIST, tls=True, Host=hosts.name).status == 302


def test_a_release_with_a_migration_goes_over_both_hosts_and_back_without_a_failed_request(hosts):
    path, text = migration(hosts.first, REVERSIBLE)
    with hosts.load() as clients:
        clients.wait_for(50, 60)
        for stack in (hosts.first, hosts.second):
            (stack.folder / path.relative_to(hosts.first.folder)).write_text(text)
            told = stack.operate("rollout")
            assert told["migrations"] == ([f"rooms.{path.stem}"] if stack is hosts.first else [])
            clients.wait_for(50, 60)
        hosts.second.compose("stop", "nginx")
        assert hosts.first.operate("rollback", "--accept")["taken_back"] == [f"rooms.{path.stem}"]
        assert hosts.second.operate("rollback")["taken_back"] == []
        hosts.second.up("--no-deps", "nginx")
        clients.wait_for(100, 60)
    assert set(clients.statuses()) == {200}


def test_a_host_that_is_lost_fails_no_search_and_comes_back(hosts):
    with hosts.load() as clients:
        clients.wait_for(50, 60)
        hosts.first.compose("kill")
        clients.wait_for(100, 60)
        hosts.first.up()
        clients.wait_for(50, 60)
    assert set(clients.statuses()) == {200}
    assert hosts.get("/rooms?limit=1", hosts.first).status == 200
