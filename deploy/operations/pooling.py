"""
POOLER=on: PgBouncer in the service `pooler`, by which `web` reaches the database.

Its configuration is deploy/pooler/pgbouncer.ini.template, filled in by .env. It takes another number of
connections and another primary by its RELOAD, which costs no request: its container stays as it is.
"""

import csv
import io
import os
import secrets
from typing import Any

from deploy.operations import environment
from deploy.operations.database import Database, execute_where_it_runs, identifier, literal
from deploy.operations.docker import Docker
from deploy.operations.https import give
from deploy.operations.nginx import fill_in
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report
from deploy.operations.setup import scram

OVERLAY = "deploy/compose.pooler.yml"
SERVICE = ROLE = "pooler"
PASSWORD = "pooler_password"  # noqa: S105 - the name of a file
CONSOLE = "docker compose exec pooler psql 'host=/tmp port=6432 user=pgbouncer'"
MOST = 500
"""Connections to PostgreSQL, of a pool."""


def wanted(project: Project) -> bool:
    """Whether .env asks for it."""
    on = project.switched_on("POOLER", instead="pooler, as DATABASE_POOLER_URL")
    if on and project.setting("DATABASE_POOLER_URL"):
        raise Failure(
            "POOLER=on and DATABASE_POOLER_URL in .env are two poolers; nothing was changed",
            "take one of them out of .env",
        )
    if on and project.setting("REPLICAS") == "automatic":
        raise Failure(
            "POOLER=on leads to the primary that .env names, and REPLICAS=automatic changes it without .env; "
            "nothing was changed",
            "POOLER=off, or REPLICAS=on",
        )
    return on


def size(project: Project) -> int:
    """How many connections to PostgreSQL it shares out."""
    value = project.setting("POOLER_SIZE", "20")
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= MOST):
        raise Failure(
            f"POOLER_SIZE={value} in .env is no number from 1 to {MOST}; nothing was changed",
            "POOLER_SIZE=20",
        )
    return int(value)


def choose(project: Project, report: Report, *, dry: bool = False) -> None:
    """Name the overlay in COMPOSE_FILE, or not, as .env says, and make its secret."""
    on = wanted(project)
    if on:
        size(project)
    project.choose_overlay(OVERLAY, on, report, dry=dry)
    if on and not dry:
        secret = project.secrets / PASSWORD
        if not secret.exists():
            environment.replace(secret, secrets.token_urlsafe(50), 0o600)
        give(secret, project.setting("RUN_AS"))
        if not (project.deploy / "rendered/pooler").exists():
            write(project)  # Compose would make the folder that is mounted, as root's


# --- What it is configured with


def configuration(project: Project) -> str:
    """What .env asks for."""
    template = project.deploy / "pooler/pgbouncer.ini.template"
    return fill_in(template.read_text(), {"HOST": project.primary, "SIZE": str(size(project))})


def differs(project: Project) -> bool:
    """Whether .env asks for another configuration than the one that was written."""
    file = project.deploy / "rendered/pooler/pgbouncer.ini"
    return not file.exists() or file.read_text() != configuration(project)


def write(project: Project) -> None:
    folder = project.deploy / "rendered/pooler"
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder.parent, folder):
        path.chmod(0o755)
    environment.replace(folder / "pgbouncer.ini", configuration(project), 0o644)


def configure(docker: Docker) -> None:
    """Let it take what .env asks for; connections to another server end with their transactions."""
    write(docker.project)
    console(docker, "RELOAD")


def console(docker: Docker, command: str) -> list[dict[str, Any]]:
    """What its console says, such as of SHOW POOLS. Failure where it does not answer."""
    login = "host=/tmp port=6432 user=pgbouncer dbname=pgbouncer connect_timeout=2"
    words = ["exec", docker.running(SERVICE), "psql", "-Xq", "--csv", "--command", command, login]
    done = docker(*words, check=False, timeout=10)
    if not done:
        raise Failure(f"the pooler refused {command}: {done.text}", "docker compose logs --tail 20 pooler")
    return list(csv.DictReader(io.StringIO(done.stdout)))


# --- What the server knows of it


def statements(role: str, verifier: str, exists: bool) -> list[str]:
    """
    What lets it check logins of the site's role, and of the one that takes its place in a rotation.

    It gets what the server keeps of their passwords, and of no other role's.
    """
    roles = ", ".join(literal(name) for name in (role, f"{role}_rotating"))
    return [
        f"{'ALTER' if exists else 'CREATE'} ROLE {ROLE} LOGIN PASSWORD {literal(verifier)}",
        f"CREATE SCHEMA IF NOT EXISTS {ROLE}",
        f"CREATE OR REPLACE FUNCTION {ROLE}.verifier(login text, OUT name text, OUT verifier text) "
        "RETURNS SETOF record LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog "
        "BEGIN ATOMIC SELECT rolname::text, rolpassword FROM pg_authid "
        f"WHERE rolname = login AND rolname IN ({roles}) AND rolcanlogin AND NOT rolsuper "
        "AND (rolvaliduntil IS NULL OR rolvaliduntil > now()); END",
        f"REVOKE ALL ON FUNCTION {ROLE}.verifier(text) FROM PUBLIC",
        f"GRANT EXECUTE ON FUNCTION {ROLE}.verifier(text) TO {ROLE}",
        f"GRANT USAGE ON SCHEMA {ROLE} TO {ROLE}",
    ]


def prepare(docker: Docker, container: str = "") -> None:
    """Let it ask the server who may log in; safe to repeat."""
    database = Database(docker, container)
    exists = bool(database.rows(f"SELECT 1 FROM pg_roles WHERE rolname = {literal(ROLE)}"))
    verifier = scram(docker.project.secret(PASSWORD))
    database.execute(*statements(docker.project.role, verifier, exists))


def take_password(docker: Docker) -> None:
    """Let both have the password of the file: connections that are there go on, and are enough meanwhile."""
    command = ["exec", "-i", docker.running(SERVICE), "sh", "/start", "take"]
    docker(*command, text=docker.project.secret(PASSWORD))
    console(docker, "RELOAD")
    prepare(docker)


def give_limits(docker: Docker) -> None:
    """Let the site's role have the limits of requests, which a pooler drops."""
    done = docker.task("migrate", "./manage.py", "init_postgres")
    if not done:
        raise Failure(f"the site's role did not get the limits of requests: {done.text[-500:]}")
    reconnect(docker)


def reconnect(docker: Docker) -> None:
    """Connections keep the limits that they began with: let new ones take their place after a transaction."""
    console(docker, "RECONNECT")


def retire(docker: Docker) -> None:
    """Nobody asks any more."""
    execute_where_it_runs(
        docker,
        f"DROP SCHEMA IF EXISTS {identifier(ROLE)} CASCADE",
        f"DROP ROLE IF EXISTS {identifier(ROLE)}",
    )


def login(project: Project, passfile: str = "/tmp/passfile", port: int = 5432) -> list[str]:  # noqa: S108 - of a container
    """The command by which its container asks the primary, as it does for each login."""
    where = f"host={project.primary} port={port} dbname=postgres user={ROLE} connect_timeout=3"
    query = f"SELECT name FROM {ROLE}.verifier({literal(project.role)})"
    return ["psql", "-XAtqw", "--command", query, f"{where} passfile={passfile}"]


# --- Its container


def image(project: Project) -> str:
    return f"{project.name}-pooler"


def build(docker: Docker, report: Report) -> None:
    """Build its image, which takes a second where nothing has changed."""
    report.step("Building the pooler …")
    base = docker.project.setting("PYTHON_IMAGE")
    done = docker(
        "build",
        "--quiet",
        "--tag",
        image(docker.project),
        "--label",
        docker.label,
        *(["--build-arg", f"PYTHON_IMAGE={base}"] if base else []),
        "deploy/pooler",
        check=False,
        environment={**os.environ, "DOCKER_BUILDKIT": "1"},
    )
    if not done:
        report.show(done.text)
        raise Failure("the pooler's image was not built (above)", "mend it, then the same command again")


def built(docker: Docker) -> str:
    """The id of its image; empty where there is none."""
    done = docker("image", "inspect", "--format", "{{.Id}}", image(docker.project), check=False)
    return done.stdout.strip() if done else ""


def start(docker: Docker, report: Report) -> None:
    """Start it, and let it take what .env asks for, before `web` is told of it."""
    if not built(docker):
        build(docker, report)
    prepare(docker)
    write(docker.project)
    report.step("Starting the pooler …")
    up = docker.compose("up", "--detach", "--wait", "--no-recreate", SERVICE, check=False)
    if not up:
        logs = docker.compose("logs", "--no-log-prefix", "--tail", "5", SERVICE, check=False)
        raise Failure(
            f"the pooler did not start: {logs.text[-500:] or up.text[-500:]}",
            "docker compose logs --tail 20 pooler",
        )
    console(docker, "RELOAD")


def follow(docker: Docker, report: Report) -> None:
    """Let it lead to a server that has taken the place of another."""
    if not wanted(docker.project):
        return
    try:
        configure(docker)
    except Failure as failure:
        # It reads the file when it starts.
        report.warn(f"{failure.reason}. Next: {failure.next_step}")
