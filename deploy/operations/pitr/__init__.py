"""
PITR=on: the write-ahead log (WAL) is received as it is written, and the database can go back to any second.

deploy/postgres/archive runs in the container `archive`, and writes what archive.py reads; plan.py looks how a
time can be reached, recovery.py goes there.
"""

import secrets

from deploy.operations import environment
from deploy.operations.database import Database, execute_where_it_runs, literal
from deploy.operations.docker import Docker
from deploy.operations.https import give
from deploy.operations.pitr.archive import Archive
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report
from deploy.operations.setup import scram

OVERLAY = "deploy/compose.pitr.yml"
SLOT = "archive"
"""The name of the replication slot, of its role, and of the service."""

FIRST_VERSION = 18

ALLOWED = f"host replication {SLOT} all scram-sha-256"
"""The line of pg_hba.conf: its other lines let nobody replicate from another container."""


def wanted(project: Project) -> bool:
    """Whether .env asks for it."""
    return project.switched_on("PITR", instead="point-in-time recovery")


def choose(project: Project, report: Report, *, dry: bool = False) -> None:
    """Name the overlay in COMPOSE_FILE, or not, as .env says, and make its folder and its secret."""
    on = wanted(project)
    version = project.setting("POSTGRES_VERSION", str(FIRST_VERSION))
    if on and int(version) < FIRST_VERSION:
        raise Failure(
            f"PITR=on needs PostgreSQL {FIRST_VERSION}, whose tools verify a compressed base backup, and "
            f"{version} serves; nothing was changed",
            f"PITR=off in .env; then ./deploy/rentomatic upgrade {FIRST_VERSION}",
        )
    project.choose_overlay(OVERLAY, on, report, dry=dry)
    if on and not dry:
        for name, low, high in (("PITR_BASE_HOURS", 1, 24 * 365), ("PITR_KEEP", 1, 10_000)):
            value = project.setting(name, str(low))
            if not (value.isascii() and value.isdigit() and low <= int(value) <= high):
                raise Failure(f"{name}={value} in .env is no number from {low} to {high}", f"{name} in .env")
        make_folder(project)
        secret = project.secrets / f"{SLOT}_password"
        if not secret.exists():
            environment.replace(secret, secrets.token_urlsafe(50), 0o600)
            give(secret, project.setting("RUN_AS"))


def make_folder(project: Project) -> None:
    folder = Archive(project).folder
    if not folder.exists():
        folder.mkdir(mode=0o700, parents=True)
        folder.chmod(0o700)
        give(folder, project.setting("RUN_AS"))
    owner = "{0.st_uid}:{0.st_gid}".format(folder.stat())
    run_as = project.setting("RUN_AS", owner)
    if owner != run_as:
        raise Failure(
            f"{folder} belongs to {owner}, the containers run as {run_as}; nothing was changed",
            f"chown {run_as} {folder}",
        )


def prepare(docker: Docker, container: str = "") -> None:
    """Let the service `archive` in, and bound the WAL that the server keeps for it; safe to repeat."""
    database = Database(docker, container)
    (row,) = database.rows(f"SELECT count(*) AS roles FROM pg_roles WHERE rolname = {literal(SLOT)}")
    limit = docker.project.setting("PITR_SLOT_WAL", "4GB")
    set_limit = database.execute(f"ALTER SYSTEM SET max_slot_wal_keep_size = {literal(limit)}", check=False)
    if not set_limit:
        raise Failure(f"PITR_SLOT_WAL={limit} in .env is refused: {set_limit.text}", "PITR_SLOT_WAL=4GB")
    verifier = scram(docker.project.secret(f"{SLOT}_password"))
    action = "ALTER" if row["roles"] else "CREATE"
    database.execute(
        f"{action} ROLE {SLOT} LOGIN REPLICATION PASSWORD {literal(verifier)}",
        f"GRANT EXECUTE ON FUNCTION pg_stat_file(text, boolean) TO {SLOT}",
    )
    file = database.rows("SELECT current_setting('hba_file') AS path")[0]["path"]
    script = 'grep -qxF "$1" "$0" || echo "$1" >> "$0"'
    docker("exec", database.container, "sh", "-c", script, file, ALLOWED)
    database.execute("SELECT pg_reload_conf()")


def follow(docker: Docker) -> None:
    """Let the receiver go on with a server that has taken the place of another."""
    if wanted(docker.project):
        prepare(docker)
        docker.compose("up", "--detach", "--no-deps", SLOT)


def begin_timeline(docker: Docker, container: str) -> None:
    """
    Let the service `archive` in at a server that was just promoted, which keeps WAL for it from now on.

    The receiver, which looks for it each second, else could miss what is written until then.
    """
    prepare(docker, container)
    Database(docker, container).execute(
        f"SELECT pg_create_physical_replication_slot('{SLOT}', true) "
        f"WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{SLOT}')",
        check=False,
    )


def retire(docker: Docker, container: str = "") -> None:
    """Without a receiver the slot would keep WAL for nobody; nothing where the server does not run."""
    execute_where_it_runs(
        docker,
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = '{SLOT}' "
        "AND NOT active",
        container=container,
    )
