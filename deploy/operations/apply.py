"""`apply`: what was changed in .env, compose.yml, deploy/nginx or deploy/certificates takes effect."""

import argparse
import json
from dataclasses import dataclass, field
from typing import Any

from deploy.operations import hosts, nodes, overlays, patroni, pitr, pooling
from deploy.operations.docker import Docker
from deploy.operations.nginx import Nginx
from deploy.operations.project import Project
from deploy.operations.replicas import Replicas
from deploy.operations.report import Failure, Report

HELP = """\
Let what was changed in .env, compose.yml, deploy/nginx and deploy/certificates take effect, without a failed
request.

It says what differs from what runs. Then new replicas of the version that serves take the place of the old
ones, each after a trial, and nginx takes its configuration and certificate by a reload, after a trial too.
What cannot be changed without refusing connections for seconds, such as a published port or PostgreSQL's
options, is named and left, unless --accept is given. Nothing is built and nothing is migrated."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--accept", action="store_true", help="also make containers anew that nobody can stand in for"
    )
    parser.add_argument("--force", action="store_true", help="new replicas also where nothing differs")


def run(options: argparse.Namespace, report: Report) -> None:
    project = Project()
    with project.lock("apply", options.wait):
        overlays.choose(project, report, dry=options.dry_run)
        Apply(Docker(project), report, options).run()


BESIDE = (
    "acme",
    "archive",
    *patroni.ETCD,
    "prometheus",
    "postgres_exporter",
    *nodes.EXPORTING,
    "nginx_exporter",
    "node_exporter",
    "grafana",
)
"""Services that answer no request: they are made anew without asking."""


@dataclass
class Changes:
    """What differs between what runs and what the files say."""

    web: list[str] = field(default_factory=list)
    pooler: list[str] = field(default_factory=list)
    """What it takes before the replicas are replaced: its start, its configuration."""
    nginx: list[str] = field(default_factory=list)
    made_anew: dict[str, list[str]] = field(default_factory=dict)
    """Services of which there is only one container, with what differs."""
    beside: list[str] = field(default_factory=list)
    """Services that answer no request and are not there yet, or not as the files say."""
    surplus: list[str] = field(default_factory=list)
    """Services that no file names any more."""

    def __bool__(self) -> bool:
        return bool(self.web or self.pooler or self.nginx or self.made_anew or self.beside or self.surplus)


class Apply:
    """One `apply`."""

    def __init__(self, docker: Docker, report: Report, options: argparse.Namespace) -> None:
        self.docker = docker
        self.report = report
        self.options = options
        self.nginx = Nginx(docker)
        self.replicas = Replicas(docker, report)
        self.config = docker.config()

    def run(self) -> None:
        serving = self.docker.inspect(*self.replicas.serving())
        if not serving:
            raise Failure("nothing is running, so nothing was changed", "docker compose up -d --wait")
        changes = self.changes(serving)
        self.tell(changes)
        if self.options.dry_run:
            return
        hosts.expect_the_database(self.docker.project)
        self.replicas.remove_leftovers()
        slot = self.nginx.prepare()
        if pooling.wanted(self.docker.project):
            self.prepare_pooler(changes)
        if changes.web or self.options.force:
            self.replace(serving, slot)
        elif slot:
            self.nginx.reload(slot)
        if self.options.accept:
            for service in changes.made_anew:
                self.report.step(f"Making {service} anew …")
                # Not --no-deps: Compose would take a container that was made so for a changed one.
                self.docker.compose("up", "--detach", "--wait", service)
        if pitr.wanted(self.docker.project):
            pitr.prepare(self.docker)
        for service in changes.beside:
            self.report.step(f"Starting {service} …")
            # One replica after the other, so that one is there to be read from; a first copy may take long.
            wait = ["--wait", "--wait-timeout", "60"] if service in nodes.NODES else []
            self.docker.compose("up", "--detach", *wait, "--no-deps", service, check=not wait)
        for service in changes.surplus:
            self.report.step(f"Removing {service} …")
            self.docker("rm", "--force", *self.docker.containers(service), check=False)
        if "archive" in changes.surplus:
            pitr.retire(self.docker)
        if pooling.SERVICE in changes.surplus:
            pooling.retire(self.docker)
        if changes or self.options.force:
            self.docker.project.note("apply", changes=self.report.data["changes"])
        self.report.say("Done." if changes or self.options.force else "Nothing differs; nothing was done.")

    def prepare_pooler(self, changes: Changes) -> None:
        """Before the replicas that use it."""
        if changes.pooler:
            pooling.start(self.docker, self.report)
        else:
            pooling.prepare(self.docker)
        if changes.web:
            pooling.give_limits(self.docker)

    def replace(self, serving: list[dict[str, Any]], slot: str | None) -> None:
        count = self.wanted_replicas()
        before = environment(serving[0]).get("ALLOWED_HOSTS", "")
        host = self.docker.project.setting("SITE_HOST", "localhost")
        self.report.step(f"Starting {count} new beside {len(serving)} old …")
        if host == before:
            self.replicas.replace(count)
            if slot:
                self.nginx.reload(slot)
            return
        # Until nginx has the new name requests come with the old one, and both have to be answered.
        self.replicas.replace(count, {"SITE_HOST": f"{host},{before}"})
        if slot:
            self.nginx.reload(slot)
        self.replicas.replace(count)

    def wanted_replicas(self) -> int:
        return int(self.config["services"]["web"]["deploy"]["replicas"])

    def changes(self, serving: list[dict[str, Any]]) -> Changes:
        hashes = dict(
            line.split() for line in self.docker.compose("config", "--hash", "*").stdout.splitlines()
        )
        found = Changes(nginx=self.nginx.differences())
        outdated = [one for one in serving if config_hash(one) != hashes["web"]]
        if outdated:
            found.web = self.variables("web", outdated[0]) or ["its definition in compose.yml"]
        if len(serving) != self.wanted_replicas():
            found.web.append(f"WEB_REPLICAS: {len(serving)} → {self.wanted_replicas()}")
        primary, *followers = nodes.services(self.docker.project, self.docker.primary)
        for service in (primary, "nginx", pooling.SERVICE):
            for container in self.docker.inspect(*self.docker.containers(service)):
                if service in hashes and config_hash(container) != hashes[service]:
                    differing = self.variables(service, container)
                    found.made_anew[service] = differing or ["its definition in compose.yml, or its ports"]
        of_database = followers or [name for name in nodes.NODES if name != primary]
        for service in (*BESIDE, *of_database, pooling.SERVICE):
            running = self.docker.inspect(*self.docker.containers(service))
            if service not in hashes:
                found.surplus += [service] if running else []
            elif service == pooling.SERVICE:
                found.pooler = self.of_pooler(running, found)
            elif [config_hash(one) for one in running if one["State"]["Running"]] != [hashes[service]]:
                found.beside.append(service)
        return found

    def of_pooler(self, containers: list[dict[str, Any]], found: Changes) -> list[str]:
        """What differs of the pooler, and costs no request."""
        if not any(one["State"]["Running"] for one in containers):
            return ["to be started"]
        if any(one["Image"] != pooling.built(self.docker) for one in containers):
            found.made_anew.setdefault(pooling.SERVICE, ["its image"])
        return ["its configuration"] if pooling.differs(self.docker.project) else []

    def variables(self, service: str, container: dict[str, Any]) -> list[str]:
        """The variables that differ, `NAME: old → new`."""
        wanted = {k: v or "" for k, v in (self.config["services"][service].get("environment") or {}).items()}
        return differences(environment(container), {k: v.replace("$$", "$") for k, v in wanted.items()})

    def tell(self, changes: Changes) -> None:
        self.report.data["changes"] = {
            "web": changes.web,
            "pooler": changes.pooler,
            "nginx": changes.nginx,
            "made_anew": changes.made_anew,
            "beside": changes.beside,
            "surplus": changes.surplus,
        }
        for service in changes.beside:
            self.report.say(f"{service:6} to be started, as the files say")
        for service in changes.surplus:
            self.report.say(f"{service:6} to be removed")
        for line in changes.web:
            self.report.say(f"web    {line}")
        for line in changes.pooler:
            self.report.say(f"pooler {line}")
        for line in changes.nginx:
            self.report.say(f"nginx  {line}")
        for service, lines in changes.made_anew.items():
            for line in lines:
                self.report.say(f"{service:6} {line}")
            if not self.options.accept:
                self.report.warn(
                    f"{service} has to be made anew for this, which refuses requests for some seconds; it "
                    "was left as it is. Next: ./deploy/rentomatic apply --accept, at a quiet time"
                )


def config_hash(container: dict[str, Any]) -> str:
    return str(container["Config"]["Labels"].get("com.docker.compose.config-hash", ""))


def environment(container: dict[str, Any]) -> dict[str, str]:
    """A container's variables; one that is named and not set is empty."""
    return {name: text for name, _, text in (line.partition("=") for line in container["Config"]["Env"])}


def differences(runs: dict[str, str], wanted: dict[str, str]) -> list[str]:
    """
    The variables of `wanted` that run with another value.

    What the image sets besides is not compared; a variable that was taken out of .env shows as empty.
    """
    changed = [name for name in sorted(wanted) if runs.get(name, "") != wanted[name]]
    return [f"{name}: {shown(runs.get(name, ''))} → {shown(wanted[name])}" for name in changed]


def shown(value: str) -> str:
    return json.dumps(value, ensure_ascii=False) if not value or " " in value else value
