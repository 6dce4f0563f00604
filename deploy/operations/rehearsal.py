"""Pending migrations, run on a copy of the database before they run on the database."""

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from deploy.operations import process
from deploy.operations.backup import megabytes
from deploy.operations.database import Database, identifier, literal
from deploy.operations.docker import Docker
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report

MARK = "rentomatic: the copy of a rehearsal"
"""The comment on the copy, and the owner of what the rehearsal copies from it."""

VOLUME = "/var/lib/postgresql"

# The copy, its own copy, and what a migration that writes each row anew adds to that.
COPIES, OTHER_BYTES = 4, 200_000_000

COPY = (
    'set -o pipefail; pg_dump --username postgres --format custom --compress 0 "$0" '
    '| pg_restore --username postgres --dbname "$1" --exit-on-error '
    '&& vacuumdb --username postgres --analyze --quiet --dbname "$1"'
)

OLD_CODE = "/old"
"""Where the version that serves is in the container of the new one."""


def copy_name(project: Project) -> str:
    return f"{project.database}_rehearsal"


def code_folder(project: Project) -> Path:
    return project.deploy / ".rehearsal"


def copies(database: Database, project: Project) -> list[str]:
    """The databases of a rehearsal; of one that was killed, where none is under way."""
    mark, name = literal(MARK), literal(copy_name(project))
    rows = database.rows(
        "SELECT datname AS name FROM (SELECT datname, shobj_description(oid, 'pg_database') AS comment "
        f"FROM pg_database) AS one WHERE datname = {name} AND comment = {mark} "
        "OR datname ~ '^scenario_migrated_[0-9a-f]{12}$' "
        f"AND (comment IS NULL OR strpos(comment, {mark}) > 0) ORDER BY 1"
    )
    return [row["name"] for row in rows]


class Rehearsal:
    """One rehearsal of the migrations of an image; requests use the database meanwhile."""

    def __init__(self, docker: Docker, report: Report, image: str) -> None:
        self.docker = docker
        self.project = docker.project
        self.report = report
        self.image = image
        self.database = Database(docker)
        self.name = copy_name(self.project)

    def run(self) -> bool:
        """Copy, rehearse, tell; whether nothing would go wrong. Failure where it could not be tried."""
        self.remove()  # what one that was killed has left
        self.check_name()
        self.check_room()
        try:
            self.copy()
            return self.rehearse()
        finally:
            with process.held():
                self.remove()

    def check_name(self) -> None:
        if self.database.exists(self.name):
            raise Failure(
                f"the database {self.name} is not of a rehearsal, which needs this name",
                f"ALTER DATABASE {identifier(self.name)} RENAME TO …",
            )

    def check_room(self) -> None:
        (row,) = self.database.rows(f"SELECT pg_database_size({literal(self.project.database)}) AS bytes")
        free = int(self.database.shell(f"df -P -B1 {VOLUME} | tail -n 1").stdout.split()[3])
        needed = needed_bytes(int(row["bytes"]))
        self.report.data |= {"needed_bytes": needed, "free_bytes": free}
        self.report.say(f"The rehearsal needs up to {megabytes(needed)}; {megabytes(free)} are free.")
        if free < needed:
            raise Failure(
                f"the database's disk has {megabytes(free)} free, and the rehearsal needs up to "
                f"{megabytes(needed)}",
                f"docker compose exec {self.docker.primary} df -h {VOLUME}",
            )

    def copy(self) -> None:
        self.report.step("Copying the database …")
        self.database.create(self.name, self.project.role, MARK)
        done = self.database.program("bash", "-c", COPY, self.project.database, self.name)
        if not done:
            raise Failure(f"the database could not be copied: {done.text[-1500:]}")

    def rehearse(self) -> bool:
        self.report.step("Rehearsing the migrations on the copy …")
        words = ["rehearse_migrations", "--database", self.name, "--code", OLD_CODE]
        with self.old_code() as folder:
            done = self.docker.task(
                "migrate",
                "./manage.py",
                *words,
                *(["--json"] if self.report.as_json else []),
                variables={"IMAGE": self.image},
                environment={"SCENARIOS_ALLOWED": "on", "SCENARIOS_OWNER": MARK},
                volumes=[f"{folder}:{OLD_CODE}:ro"],
            )
        if not done.stdout.strip():
            raise Failure(f"the migrations could not be rehearsed: {done.text[-1500:]}")
        if self.report.as_json:
            found: list[dict[str, Any]] = json.loads(done.stdout)
            self.report.data["rehearsal"] = found[0]
        else:
            self.report.say(done.stdout.rstrip())
        return bool(done)

    @contextmanager
    def old_code(self) -> Iterator[Path]:
        """The code of the version that serves, out of its image, for the time of the block."""
        folder = code_folder(self.project)
        container = f"{self.project.name}-rehearsal-code"
        try:
            self.remove_code()
            self.docker("create", "--name", container, self.project.image)
            self.docker("cp", f"{container}:/app", str(folder))
            yield folder
        finally:
            with process.held():
                self.remove_code()

    def remove_code(self) -> None:
        self.docker("rm", "--force", f"{self.project.name}-rehearsal-code", check=False)
        shutil.rmtree(code_folder(self.project), ignore_errors=True)

    def remove(self) -> None:
        names = copies(self.database, self.project)
        drops = [f"DROP DATABASE IF EXISTS {identifier(name)} WITH (FORCE)" for name in names]
        if drops:
            self.database.execute(*drops)
        self.remove_code()


def needed_bytes(database_bytes: int) -> int:
    return COPIES * database_bytes + OTHER_BYTES
