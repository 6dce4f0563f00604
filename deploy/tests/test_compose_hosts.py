"""The site's host and one with `web` only: two projects that only their published addresses connect."""

import json
import os
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from deploy.operations.hosts import SECRETS
from deploy.tests.stack import Stack, long, needs_engine
from deploy.tests.test_compose_releases import REVERSIBLE, changed, migration
from rentomatic_site.testing import rig
from rentomatic_site.testing.browser import Browser

pytestmark = [
    pytest.mark.compose,
    pytest.mark.skipif(os.environ.get("TEST_POOLER") == "on", reason="a web host has no pooler"),
]

ANN = ("ann-of-two-hosts", "ann-of-all-the-rooms")
LIST = "/admin/rooms/room/"


@dataclass
class Hosts:
    """The site's host and the web host, and the address on which both publish."""

    site: Stack
    web: Stack
    address: str
    port: int

    @property
    def published(self) -> str:
        return f"{self.address}:{self.port}"

    def get(self, path: str, **options: Any) -> rig.Response:
        """A request of the site's nginx to the web host."""
        options = {"Host": self.site.url.removeprefix("https://"), "X_Forwarded_Proto": "https", **options}
        return rig.get(self.port, path, address=self.address, **options)

    def served(self, after: int = 0) -> Counter[str]:
        """How many requests each host has answered, by nginx's log after so many lines."""
        lines = [line for line in self.site.lines()[after:] if line["status"] == 200 and line["upstream"]]
        return Counter(
            "web" if line["upstream"].split(", ")[-1] == self.published else "site" for line in lines
        )


class Staff(Browser):
    """Somebody in the admin, whose requests one host answers."""

    def ask(self, path: str, method: str = "GET", **options: Any) -> rig.Response:
        return super().ask(path, method, Referer=f"{self.origin}/", **options)

    origin = ""


def expect_well(hosts: "Hosts") -> None:
    """A host whose replicas have just been replaced may not answer at the first look."""
    rig.wait_until(lambda: hosts.site.finding("web-hosts")["level"] == "ok", "well web hosts", 60)


def expect_all_answered(hosts: Hosts, clients: rig.Load) -> None:
    failed = [line for line in hosts.site.lines() if int(line["status"]) >= 500]
    assert set(clients.statuses()) == {200}, failed[-10:]


def copy_secrets(site: Stack, web: Stack) -> None:
    """As docs/scaling.md does it, without ssh."""
    folders = site.folder / "deploy/secrets", web.folder / "deploy/secrets"
    command = f"tar -C {folders[0]} -c {' '.join(SECRETS)} | tar -C {folders[1]} -x"
    subprocess.run(command, shell=True, check=True)  # noqa: S602 - the pipe of the document


@pytest.fixture(scope="module")
def hosts(tmp_path_factory) -> Iterator[Hosts]:
    needs_engine()
    gateway = ["docker", "network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}"]
    address = subprocess.check_output(gateway, text=True).strip()
    database, port = rig.free_port(), rig.free_port()
    site = Stack(tmp_path_factory.mktemp("site"))
    web = Stack(tmp_path_factory.mktemp("web"))
    found = Hosts(site, web, address, port)
    try:
        site.run("./deploy/rentomatic", "rollout")
        site.set("DATABASE_ADDRESS", f"{address}:{database}")
        site.run("./deploy/rentomatic", "apply", "--accept")
        copy_secrets(site, web)
        for name, value in {
            "ROLE": "web",
            "WEB_ADDRESS": found.published,
            "POSTGRES_HOSTNAME": address,
            "POSTGRES_PORT": str(rig.free_port()),
            "SITE_ADDRESS": site.url,
        }.items():
            web.set(name, value)
        refused = web.run("./deploy/rentomatic", "rollout", check=False)
        assert refused.returncode == 1
        assert f"the database does not answer at {address}:{web.setting('POSTGRES_PORT')}" in refused.stderr
        web.set("POSTGRES_PORT", str(database))
        web.run("./deploy/rentomatic", "rollout")
        site.set("WEB_HOSTS", found.published)
        with site.load() as clients:
            clients.wait_for(20, 60)
            site.run("./deploy/rentomatic", "apply")
            clients.wait_for(20, 60)
        expect_all_answered(found, clients)
        yield found
    finally:
        web.remove()
        site.remove()


def test_only_published_ports_connect_the_hosts_and_the_web_host_has_no_database(hosts):
    networks = [
        {name for service in ("web", "nginx", "db") for one in stack.containers(service)
         for name in one["NetworkSettings"]["Networks"]}
        for stack in (hosts.site, hosts.web)
    ]  # fmt: skip
    assert all(networks)
    assert not networks[0] & networks[1]
    config = json.loads(hosts.web.compose("config", "--format", "json").stdout)
    assert config["services"].keys() == {"web", "nginx"}
    assert config["secrets"].keys() == set(SECRETS)
    assert list(config["networks"]) == ["front", "outside"]


def test_both_hosts_answer_and_all_is_well(hosts):
    before = len(hosts.site.lines())
    with hosts.site.load() as clients:
        clients.wait_for(200, 60)
    expect_all_answered(hosts, clients)
    served = hosts.served(before)
    assert min(served["site"], served["web"]) > 0.3 * served.total(), served
    assert hosts.site.finding("web-hosts")["text"].startswith("1 web hosts are ready, with this host's")
    assert f"{hosts.published}: ready" in hosts.site.run("./deploy/rentomatic", "status").stdout
    assert "a web host" in hosts.web.run("./deploy/rentomatic", "status").stdout
    ill = {name: one for name, one in hosts.web.findings().items() if one["level"] in {"warning", "error"}}
    assert set(ill) <= {"disk", "memory", "clock", "versions"}, ill


def test_a_login_at_one_host_is_one_at_the_other(hosts):
    script = (
        "from django.contrib.auth.models import Group, User; "
        f"ann = User.objects.create_user({ANN[0]!r}, password={ANN[1]!r}, is_staff=True); "
        "ann.groups.set(Group.objects.filter(name='Room editors'))"
    )
    hosts.web.inside("web", "./manage.py", "shell", "-c", script)
    at_web, at_site = Staff(hosts), Staff(hosts.site)
    at_web.origin = at_site.origin = hosts.site.url
    at_web.login(*ANN)
    hosts.web.compose("stop", "nginx")
    try:
        at_site.cookies = dict(at_web.cookies)
        assert at_site.ask(LIST).status == 200
        at_site.cookies = {}
        assert at_site.ask(LIST).status == 302
        at_site.login(*ANN)
    finally:
        hosts.web.up()
    at_web.cookies = dict(at_site.cookies)
    rig.wait_until(lambda: at_web.ask(LIST).status == 200, "the web host takes the login", 60)


def test_a_release_with_a_migration_goes_over_both_hosts_without_a_failed_request(hosts):
    path, text = migration(hosts.site, REVERSIBLE)
    with hosts.site.load() as clients:
        clients.wait_for(50, 60)
        with changed(hosts.web.folder / path.relative_to(hosts.site.folder), text):
            too_early = hosts.web.run("./deploy/rentomatic", "rollout", check=False)
        path.write_text(text)
        hosts.site.operate("rollout")
        clients.wait_for(50, 60)
        between = hosts.site.finding("web-hosts")
        (hosts.web.folder / path.relative_to(hosts.site.folder)).write_text(text)
        hosts.web.operate("rollout")
        clients.wait_for(100, 60)
    assert too_early.returncode == 1
    assert f"migrations pending: rooms.{path.stem}" in too_early.stderr
    assert "./deploy/rentomatic rollout on the site's host, then here" in too_early.stderr
    expect_all_answered(hosts, clients)
    assert (between["level"], "the schema is newer" in between["text"]) == ("error", True)
    expect_well(hosts)


def test_a_rollback_goes_over_both_hosts_without_a_failed_request(hosts):
    with hosts.site.load() as clients:
        clients.wait_for(50, 60)
        too_early = hosts.site.run("./deploy/rentomatic", "rollback", check=False)
        hosts.web.operate("rollback")
        clients.wait_for(50, 60)
        told = hosts.site.operate("rollback", "--accept")  # a column goes
        clients.wait_for(100, 60)
    assert too_early.returncode == 1
    assert f"{hosts.published} serves the version that needs rooms." in too_early.stderr
    assert told["taken_back"]
    expect_all_answered(hosts, clients)
    expect_well(hosts)


@pytest.mark.parametrize("secret", ["application_password", pytest.param("secret_key", marks=long)])
def test_a_rotation_in_the_order_of_the_document_fails_no_request(hosts, secret):
    before = (hosts.web.folder / "deploy/secrets" / secret).read_text()
    with hosts.site.load() as clients:
        clients.wait_for(50, 60)
        hosts.web.compose("stop", "nginx")
        hosts.site.operate("rotate", secret)
        copy_secrets(hosts.site, hosts.web)
        hosts.web.operate("apply", "--force")
        hosts.web.compose("start", "nginx")
        clients.wait_for(100, 60)
    assert (hosts.web.folder / "deploy/secrets" / secret).read_text() != before
    expect_all_answered(hosts, clients)
    expect_well(hosts)


def test_a_web_host_that_dies_or_stops_fails_no_search_and_comes_back(hosts):
    with hosts.site.load() as clients:
        clients.wait_for(50, 60)
        hosts.web.compose("kill")
        clients.wait_for(100, 60)
        away = hosts.site.finding("web-hosts")
        hosts.web.up()
        clients.wait_for(50, 60)
        hosts.web.compose("stop")
        clients.wait_for(50, 60)
        hosts.web.up()
        before = len(hosts.site.lines())
        rig.wait_until(lambda: hosts.served(before)["web"] > 10, "the web host serves again", 60)
    expect_all_answered(hosts, clients)
    assert (away["level"], "0 of 1 web hosts are ready" in away["text"]) == ("error", True)


def test_without_replicas_of_its_own_the_sites_nginx_is_served_by_the_web_host(hosts):
    with hosts.site.load() as clients:
        clients.wait_for(50, 60)
        hosts.site.compose("stop", "web")
        before = len(hosts.site.lines())
        clients.wait_for(100, 60)
        hosts.site.up()
        clients.wait_for(50, 60)
    expect_all_answered(hosts, clients)
    assert hosts.served(before)["web"] >= 90


def test_a_host_that_no_packet_reaches_is_left_out(hosts):
    """As one that is switched off: nothing refuses, each connection has to be given up."""
    nowhere = hosts.address.rpartition(".")[0] + ".254"
    hosts.site.set("WEB_HOSTS", f"{hosts.published},{nowhere}:8000")
    try:
        with hosts.site.load() as clients:
            hosts.site.operate("apply")
            clients.wait_for(50, 60)
            clients.wait_for(300, 120)
        hosts.site.compose("restart", "nginx")
        rig.wait_until(lambda: hosts.site.finding("answer")["level"] == "ok", "nginx starts with it", 60)
        assert nowhere in hosts.site.finding("web-hosts")["text"]
    finally:
        hosts.site.set("WEB_HOSTS", hosts.published)
        hosts.site.operate("apply")
    tried = [line for line in hosts.site.lines() if nowhere in line["upstream"]]
    assert tried
    expect_all_answered(hosts, clients)
    assert len(tried) < 0.2 * len(clients.responses)


def test_another_secret_key_is_an_error_of_doctor(hosts):
    file = hosts.web.folder / "deploy/secrets/secret_key"
    before = file.read_text()
    file.write_text(before[::-1])
    try:
        hosts.web.operate("apply", "--force")
        words = "has another SECRET_KEY"
        rig.wait_until(lambda: words in hosts.site.finding("web-hosts")["text"], words, 60)
        assert hosts.site.finding("web-hosts")["level"] == "error"
    finally:
        file.write_text(before)
        hosts.web.operate("apply", "--force")
    expect_well(hosts)


@long
def test_a_wrong_password_at_the_first_start_is_named(hosts):
    file = hosts.web.folder / "deploy/secrets/application_password"
    before = file.read_text()
    image = hosts.web.setting("IMAGE")
    hosts.web.compose("down")
    file.write_text("wrong")
    hosts.web.set("IMAGE", "")
    try:
        done = hosts.web.run("./deploy/rentomatic", "rollout", image, check=False)
    finally:
        file.write_text(before)
    assert done.returncode == 1
    assert "password authentication failed" in done.stdout + done.stderr
    assert "application_password in deploy/secrets" in done.stderr
    hosts.web.run("./deploy/rentomatic", "rollout", image)
