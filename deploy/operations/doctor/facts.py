"""What the checks look at, gathered once and only when a check asks for it."""

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from deploy.operations import hosts, nodes, patroni, pooling
from deploy.operations.database import Database, identifier, literal
from deploy.operations.database_copy import INCOMING, VOLUME, copy_container
from deploy.operations.docker import Docker
from deploy.operations.doctor import pooler
from deploy.operations.doctor.server import PSQL, Ask
from deploy.operations.doctor.site import Site, WebHost
from deploy.operations.pitr.recovery import container_name
from deploy.operations.pitr.volumes import Volumes
from deploy.operations.rehearsal import code_folder, copies
from deploy.operations.report import Failure


class Facts:
    """The host, the containers, the server and the site of a project."""

    def __init__(self, docker: Docker) -> None:
        self.docker = docker
        self.project = docker.project

    @cached_property
    def now(self) -> datetime:
        return datetime.now(UTC)

    @cached_property
    def config(self) -> dict[str, Any]:
        return self.docker.config()

    @property
    def services(self) -> set[str]:
        return set(self.config["services"]) - {"migrate"}

    @cached_property
    def containers(self) -> list[dict[str, Any]]:
        ids = [one for service in sorted(self.services) for one in self.docker.containers(service)]
        return self.docker.inspect(*ids)

    @cached_property
    def hashes(self) -> dict[str, str]:
        listed = self.docker.compose("config", "--hash", "*").stdout
        return dict(line.split() for line in listed.splitlines())

    @cached_property
    def memory_kills(self) -> dict[str, int]:
        """By the container's id; empty where the kernel does not tell."""
        found = {}
        # Of the second and of the first version of control groups; a host has one of them.
        files = "/sys/fs/cgroup/memory.events", "/sys/fs/cgroup/memory/memory.oom_control"
        for one in self.containers:
            if one["State"]["Running"]:
                events = self.docker("exec", one["Id"], "cat", *files, check=False)
                if killed := re.search(r"^oom_kill (\d+)", events.stdout, re.M):
                    found[one["Id"]] = int(killed[1])
        return found

    @property
    def folders(self) -> list[Path]:
        """The project's and, where it can be seen, the engine's, on which the database lives."""
        root = Path(self.docker("info", "--format", "{{.DockerRootDir}}").stdout.strip() or "/")
        return [self.project.folder, *([root] if root.exists() else [])]

    @property
    def meminfo(self) -> str:
        return Path("/proc/meminfo").read_text()

    @property
    def versions(self) -> dict[str, str]:
        """The engine's parts, nginx and PostgreSQL, as far as they run."""
        engine = json.loads(self.docker("version", "--format", "{{json .Server}}").stdout)
        found = {"Docker": str(engine["Version"])}
        for part in engine.get("Components") or []:
            if part["Name"] in {"containerd", "runc"}:
                found[part["Name"]] = str(part["Version"])
        found["Compose"] = self.docker.compose("version", "--short").stdout.strip()
        for one in self.containers:
            if (
                one["Config"]["Labels"].get("com.docker.compose.service") == "nginx"
                and one["State"]["Running"]
            ):
                said = self.docker("exec", one["Id"], "nginx", "-v", check=False).text
                found["nginx"] = said.rpartition("/")[2]
        if pooling.wanted(self.project):
            with suppress(Failure):  # another check says that it does not answer
                found["PgBouncer"] = pooler.version(self.console)
        return found

    @cached_property
    def newest_time(self) -> float:
        """The latest time that was written down here."""
        files = [self.project.journal, *(self.project.deploy / "backups").glob("rentomatic-*.dump")]
        return max((file.stat().st_mtime for file in files if file.exists()), default=0.0)

    # --- The server

    @cached_property
    def database(self) -> Database | None:
        """None where it is not there, or somebody else's."""
        try:
            found = Database(self.docker)
            found.rows("SELECT 1", timeout=5)
        except (Failure, ValueError):
            return None
        return found

    @cached_property
    def is_closed(self) -> bool:
        """Whether nobody may connect to the application's database."""
        name = literal(self.project.database)
        query = f"SELECT FROM pg_database WHERE datname = {name} AND NOT datallowconn"
        return self.database is not None and bool(self.database.rows(query))

    @property
    def ask(self) -> Ask:
        """Queries in the application's database."""
        assert self.database is not None
        database = self.database
        return lambda query: database.rows(query, database=self.project.database)

    @cached_property
    def nodes(self) -> list[nodes.Node]:
        """The primary and its replicas."""
        return nodes.look_at_all(self.docker)

    @cached_property
    def primary(self) -> str:
        """The service of the server that accepts writes."""
        return self.docker.primary

    @cached_property
    def etcd(self) -> dict[str, bool]:
        """Of each etcd whether it answers, which takes a majority of them."""
        return {name: patroni.etcd_answers(self.docker, name) for name in patroni.ETCD}

    @property
    def is_paused(self) -> bool:
        """Whether Patroni changes nothing by itself."""
        return patroni.is_paused(self.docker)

    @property
    def login_errors(self) -> dict[str, str]:
        """Of each replica that runs and cannot log in at the primary, what that says."""
        errors = {}
        for one in self.nodes:
            if one.answers and one.name != self.primary:
                command = nodes.login(self.primary)
                done = self.docker("exec", self.docker.running(one.name), *command, check=False, timeout=10)
                if not done:
                    errors[one.name] = done.text
        return errors

    def console(self, command: str) -> list[dict[str, Any]]:
        """What the pooler's console says."""
        return pooling.console(self.docker, command)

    @property
    def pooler_login(self) -> str:
        """What the pooler's role is told at the primary; empty where it learns who may log in."""
        command = pooling.login(self.project)
        done = self.docker("exec", self.docker.running(pooling.SERVICE), *command, check=False, timeout=10)
        return pooler.refusal(done, self.project.role)

    @cached_property
    def web_hosts(self) -> dict[str, hosts.Answer]:
        """Of each other host that nginx sends requests to, what it says of itself."""
        return hosts.ask_all(self.project)

    @property
    def own_answer(self) -> hosts.Answer:
        return hosts.own(self.docker)

    @cached_property
    def reason_of_readiness(self) -> str:
        """What a replica says of its database: pending or foreign migrations; empty where it is ready."""
        for one in self.containers:
            if one["Config"]["Labels"].get("com.docker.compose.service") == "web" and one["State"]["Running"]:
                done = self.docker(
                    "exec", one["Id"], "python", "deploy/healthcheck.py", check=False, timeout=20
                )
                return "" if done else done.text
        return "no replica runs"

    # --- The site

    @property
    def chain(self) -> Path:
        return self.project.deploy / "certificates" / "fullchain.pem"

    @property
    def key(self) -> Path:
        return self.project.deploy / "certificates" / "privkey.pem"

    @property
    def host(self) -> str:
        return self.project.setting("SITE_HOST", "localhost")

    @property
    def published(self) -> list[tuple[str, int]]:
        """The addresses at which clients, or the site's host, reach nginx."""
        if self.project.is_web_host:
            return hosts.addresses(self.project, "WEB_ADDRESS", "")
        names = {"HTTP_PORT": "8080", "HTTPS_PORT": "8443"}
        return [("127.0.0.1", int(self.project.setting(*one))) for one in names.items()]

    @property
    def site(self) -> Site:
        address, port = self.published[-1]
        return WebHost(self.host, port, address) if self.project.is_web_host else Site(self.host, port)

    @property
    def is_under_maintenance(self) -> bool:
        return (self.project.deploy / "rendered" / "maintenance").exists()

    # --- What commands that were killed have left

    @cached_property
    def leftovers(self) -> dict[str, str]:
        return dict(self.find_leftovers())

    def find_leftovers(self) -> Iterator[tuple[str, str]]:
        """What it is, and the command that removes it."""
        front = self.project.front
        for one in self.containers:
            name, networks = one["Name"].lstrip("/"), one["NetworkSettings"]["Networks"]
            is_web = one["Config"]["Labels"].get("com.docker.compose.service") == "web"
            if is_web and not (one["State"]["Running"] and front in networks):
                yield f"replica {name}, which serves nobody", f"docker rm -f {name}"
        names = self.docker("ps", "--all", "--format", "{{.Names}}").stdout.split()
        for name in names:
            owner = re.fullmatch(rf"{re.escape(self.project.name)}-task-(\d+)", name)
            if owner and not os.path.exists(f"/proc/{owner[1]}"):
                yield f"container {name}", f"docker rm -f {name}"
        dangling = self.docker(
            "images", "--quiet", "--filter", "dangling=true", "--filter", f"label={self.docker.label}"
        )
        if dangling.stdout.split():
            yield "images without a name", f"docker image prune --force --filter label={self.docker.label}"
        if any((self.project.deploy / "backups").glob(".*.partial")):
            yield "a backup that was cut off", "rm deploy/backups/.*.partial"
        if code_folder(self.project).exists():
            yield "the code of a rehearsal", f"rm -r deploy/{code_folder(self.project).name}"
        if self.is_under_maintenance:
            yield "the maintenance page, in place of the admin", "rm deploy/rendered/maintenance"
        yield from self.leftovers_of_recoveries(names)
        if (self.project.secrets / "secret_key_next").exists():
            yield "a rotation of secret_key", "./deploy/rentomatic rotate secret_key"
        if self.database:
            yield from self.leftovers_of_the_server(self.database)

    def leftovers_of_recoveries(self, names: list[str]) -> Iterator[tuple[str, str]]:
        if container_name(self.project) in names:
            remove = f"docker rm -f {container_name(self.project)}"
            yield "the server of a restore that was killed", remove
        volumes = Volumes(self.docker)
        unfinished = volumes.unfinished()
        for name in volumes.kept():
            why = "of a restore that was killed" if name in unfinished else "replaced by a restore"
            yield f"volume {name}, {why}", volumes.removal(name)

    def leftovers_of_the_server(self, database: Database) -> Iterator[tuple[str, str]]:
        base = self.project.database
        for row in database.rows(
            f"SELECT datname AS name FROM pg_database WHERE datname = {literal(base + '_incoming')} "
            f"OR datname = {literal(base + '_drill')} "
            f"OR starts_with(datname, {literal(base + '_before_')}) ORDER BY 1"
        ):
            drop = f"docker compose exec db dropdb -U postgres {row['name']}"
            yield f"database {row['name']}, of a restore or a drill", drop
        for name in copies(database, self.project):
            yield f"database {name}, of a rehearsal", f"docker compose exec db dropdb -U postgres {name}"
        if self.is_closed:
            return  # nothing more can be asked of it
        yield from self.leftovers_of_upgrades(database)
        role = f"{self.project.role}_rotating"
        if database.rows(f"SELECT 1 FROM pg_roles WHERE rolname = {literal(role)}"):
            yield f"role {role}", "./deploy/rentomatic rotate application_password"

    def leftovers_of_upgrades(self, database: Database) -> Iterator[tuple[str, str]]:
        (row,) = database.rows("SELECT current_setting('server_version_num')::int / 10000 AS major")
        listed = self.docker("exec", database.container, "ls", VOLUME, check=False).stdout.split()
        if "incoming" in listed:
            remove = f"docker rm -f {copy_container(self.project)}; docker compose exec db rm -r {INCOMING}"
            yield "the copy of an upgrade", remove
        for name in listed:
            if name.isdigit() and name != str(row["major"]):
                remove = f"docker compose exec db rm -r {VOLUME}/{name}"
                yield f"data of PostgreSQL {name}, kept for the way back", remove
        base = self.project.database
        if database.rows("SELECT 1 WHERE current_setting('default_transaction_read_only')::bool", base):
            reset = f"ALTER DATABASE {identifier(base)} RESET default_transaction_read_only"
            yield "a database that can only be read", f"{PSQL} -c '{reset}'"
