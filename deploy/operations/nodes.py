"""
REPLICAS: three database servers, one of them the primary, in the services `db`, `replica1`, `replica2`.

REPLICAS=on: deploy/postgres/node is their entry point. It decides by the data which one accepts writes; .env
only says where commands find that one (DATABASE_SERVICE). REPLICAS=automatic: deploy/patroni/node is their
entry point. Patroni decides, and commands ask the servers.
"""

import secrets
from dataclasses import dataclass
from functools import partial

from deploy.operations import patroni, process
from deploy.operations.database import Database, literal
from deploy.operations.docker import SERVERS, Docker
from deploy.operations.https import give
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report
from deploy.operations.setup import scram
from deploy.operations.wal import position

OVERLAY = "deploy/compose.replicas.yml"
MONITORING = "deploy/compose.monitoring.yml"
EXPORTERS = "deploy/compose.monitoring-replicas.yml"
"""Where there are replicas, behind the one before."""

NODES = SERVERS
EXPORTING = ("replica1_exporter", "replica2_exporter")
PASSWORD, VERIFIER = "replicator_password", "replicator_verifier"
"""
Files of deploy/secrets, a folder that only its owner may look into. They are readable for all, because the
user of the servers is the image's and not the owner.
"""


def wanted(project: Project) -> bool:
    """Whether .env asks for replicas."""
    on = project.switched_on("REPLICAS", instead="replicas", values=("on", "automatic"))
    if project.primary not in NODES:
        raise Failure(
            f"DATABASE_SERVICE={project.primary} in .env is no database; nothing was changed",
            f"one of {', '.join(NODES)}",
        )
    if not on and project.primary != "db":
        raise Failure(
            f"REPLICAS is off in .env, and {project.primary} is the primary; nothing was changed",
            "REPLICAS=on, ./deploy/rentomatic promote db, then REPLICAS=off",
        )
    if project.automatic:
        patroni.refuse(project)
    elif patroni.OVERLAY in project.setting("COMPOSE_FILE"):
        raise Failure(
            "the servers' data has Patroni's settings, which have to be taken out first; nothing was changed",
            f"REPLICAS=automatic in .env; {BACK}",
        )
    return on


BACK = "docs/scaling.md has the steps back to one server"


def refuse(project: Project, what: str) -> None:
    """Failure where replicas follow the server that a command would replace."""
    if wanted(project) and project.automatic:
        raise Failure(f"{what} replaces the server that Patroni looks after; nothing was changed", BACK)
    if wanted(project):
        raise Failure(
            f"{what} replaces the server that replicas follow; nothing was changed",
            "./deploy/rentomatic promote db, REPLICAS=off in .env, ./deploy/rentomatic apply --accept; "
            "then again, and REPLICAS=on",
        )


def choose(project: Project, report: Report, *, dry: bool = False) -> None:
    """Name the overlay in COMPOSE_FILE, or not, as .env says, and make its secrets."""
    on = wanted(project)
    project.choose_overlay(OVERLAY, on, report, dry=dry)
    project.choose_overlay(patroni.OVERLAY, project.automatic, report, dry=dry)
    monitored = MONITORING in project.setting("COMPOSE_FILE").split(":")
    project.choose_overlay(EXPORTERS, on and monitored, report, dry=dry)
    if not on or dry:
        return
    if not all((project.secrets / name).exists() for name in (PASSWORD, VERIFIER)):
        make_password(project)
    if project.automatic and not (project.secrets / patroni.PASSWORD).exists():
        project.write_secret(patroni.PASSWORD, secrets.token_urlsafe(50))
    share(project)


def make_password(project: Project) -> str:
    """A new password of the role `replicator`, which servers read when they start; returns its verifier."""
    password = secrets.token_urlsafe(50)
    verifier = scram(password)
    project.write_secret(PASSWORD, password)
    project.write_secret(VERIFIER, verifier)
    share(project)
    return verifier


def share(project: Project) -> None:
    """Let the servers read their secrets."""
    for file in (project.secrets / name for name in (PASSWORD, VERIFIER, patroni.PASSWORD)):
        if file.exists():
            file.chmod(0o644)
            give(file, project.setting("RUN_AS"))


def services(project: Project, primary: str = "") -> tuple[str, ...]:
    """The services of the database, the primary first: that of .env, or the one that was found."""
    if not wanted(project):
        return ("db",)
    first = primary or project.primary
    return (first, *(name for name in NODES if name != first))


STATE = """
SELECT pg_is_in_recovery() AS is_replica,
    system_identifier::text AS system,
    current_setting('server_version_num')::int / 10000 AS version,
    (CASE WHEN pg_is_in_recovery()
        THEN greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())
        ELSE pg_current_wal_flush_lsn() END)::text AS place,
    (CASE WHEN pg_is_in_recovery()
        THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_flush_lsn() END)::text AS shown,
    (SELECT max(left(name, 8)) FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{24}$') AS timeline,
    (SELECT count(*) FROM pg_stat_wal_receiver WHERE status = 'streaming' AND received_tli >=
        (SELECT coalesce(max(('x' || left(name, 8))::bit(32)::int), 1)
            FROM pg_ls_waldir() WHERE name ~ '^[0-9A-F]{8}[.]history$')) = 1 AS streams
FROM pg_control_system()
"""


@dataclass(frozen=True)
class Node:
    """What a server says of itself; of one that does not answer only its name."""

    name: str
    answers: bool = False
    is_replica: bool = False
    system: str = ""
    """The cluster's identifier."""
    version: int = 0
    timeline: str = ""
    """Of its newest WAL, eight hexadecimal digits."""
    place: int = 0
    """Bytes of WAL that it has: written by a primary, received by a replica."""
    shown: int = 0
    """Bytes of WAL that readers see."""
    streams: bool = False
    """
    Whether a replica receives WAL as it is written, on the newest timeline that it knows of: one whose WAL
    was left behind receives the end of its own timeline over and over.
    """

    @property
    def has(self) -> tuple[str, int]:
        """More is later: what is written on a timeline comes after all of the one that it left."""
        return self.timeline, self.place

    @property
    def accepts_writes(self) -> bool:
        return self.answers and not self.is_replica


def node(name: str, rows: list[dict[str, object]]) -> Node:
    """The node of which STATE has returned these rows."""
    (row,) = rows
    return Node(
        name,
        answers=True,
        is_replica=bool(row["is_replica"]),
        system=str(row["system"]),
        version=int(str(row["version"])),
        timeline=str(row["timeline"]),
        place=position(str(row["place"] or "0/0")),
        shown=position(str(row["shown"] or "0/0")),
        streams=bool(row["streams"]),
    )


def look(docker: Docker, name: str) -> Node:
    """Ask the server of a service, by its socket."""
    try:
        return node(name, Database(docker, docker.running(name)).rows(STATE, timeout=10))
    except (Failure, ValueError):
        return Node(name)


def look_at_all(docker: Docker) -> list[Node]:
    return [look(docker, name) for name in services(docker.project, docker.primary)]


def login(primary: str, port: int = 5432, passfile: str = "/tmp/replicator") -> list[str]:  # noqa: S108 - of a container
    """The command by which a replica's container logs in at the primary, as the receiver of WAL does."""
    where = (
        f"host={primary} port={port} dbname=postgres user=replicator passfile={passfile} connect_timeout=3"
    )
    return ["psql", "--no-psqlrc", "--no-password", "--dbname", where, "--command", "SELECT 1"]


def follows(docker: Docker, name: str) -> bool:
    """Whether a server receives what the primary writes."""
    return look(docker, name).streams


def shows(docker: Docker, name: str, place: int) -> bool:
    """Whether readers of a server see the WAL up to a place."""
    return look(docker, name).shown >= place


def end_sessions_on_replicas(docker: Docker, *databases: str) -> None:
    """
    Let readers of replicas connect anew, for databases that have changed names on the primary.

    Their sessions would go on with the database that they have opened, whatever it is called now.
    """
    primary, *others = services(docker.project, docker.primary)
    if not others:
        return
    reached = look(docker, primary).place
    names = ", ".join(map(literal, databases))
    for name in others:
        if process.wait_for(partial(shows, docker, name, reached), 10, 0.2):
            Database(docker, docker.running(name)).execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                f"WHERE backend_type = 'client backend' AND datname IN ({names})",
                check=False,
            )
