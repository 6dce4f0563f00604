"""A copy of the site's database in a server of another major version, beside the one that serves."""

import re

from deploy.operations import process
from deploy.operations.database import Database, identifier
from deploy.operations.docker import Docker
from deploy.operations.process import Done
from deploy.operations.project import Project
from deploy.operations.report import Failure

OVERLAY = "deploy/compose.upgrade.yml"
VOLUME = "/var/lib/postgresql"
INCOMING = f"{VOLUME}/incoming"
DUMP = f"{INCOMING}/dump"

FULL = re.compile("no space left|check free disk space", re.I)
"""PostgreSQL's words for a full disk; the second where a part of a page found room."""

# In a container of the new version. The old server's password comes by stdin: no process has it in its list.
FROM_STDIN = "IFS= read -r PGPASSWORD; export PGPASSWORD; "


def copy_container(project: Project) -> str:
    """The name of the new server's container while it is tried."""
    return f"{project.name}-upgrade"


def expect(done: Done, reason: str) -> None:
    """Failure with this reason and what the command said, unless it succeeded."""
    if not done:
        full = FULL.search(done.text)
        raise Failure(
            f"{reason}: {done.text[-1500:]}",
            "docker compose exec db df -h /var/lib/postgresql" if full else "",
        )


class DatabaseCopy:
    """The copy in a server of one version, in a container and a folder of the volume of its own."""

    def __init__(self, docker: Docker, database: Database, version: str, image: str) -> None:
        self.docker = docker
        self.project = docker.project
        self.database = database
        self.version = version
        self.image = image
        self.container = copy_container(self.project)

    def make(self) -> None:
        """A server of the wanted version with the roles and the database, in the container of our name."""
        self.remove()
        variables = {
            "POSTGRES_VERSION": self.version,
            "POSTGRES_IMAGE": self.image or f"postgres:{self.version}",
            # A service of its own: `docker compose exec db` goes on to mean the server that serves.
            "COMPOSE_FILE": f"{self.project.setting('COMPOSE_FILE', 'compose.yml')}:{OVERLAY}",
        }
        words = ["run", "--detach", "--no-deps", "--name", self.container]
        words += ["--env", f"PGDATA={INCOMING}/docker"]
        started = self.docker.compose(*words, "db-next", variables=variables, check=False)
        expect(started, f"PostgreSQL {self.version} does not start")
        if not process.wait_for(lambda: self.is_ready() or not self.is_running(), 120) or not self.is_ready():
            said = self.docker("logs", "--tail", "20", self.container, check=False).text
            told = [line for line in said.splitlines() if re.search("FATAL|PANIC|HINT", line)]
            reason = "\n".join(told) or said
            expect(Done([], 1, "", reason), f"PostgreSQL {self.version} does not start")
        self.copy_roles()
        name = self.project.database
        # Parallel, so not from a pipe. The history of changes means nothing in another server (docs/api.md).
        expect(
            self.with_password(
                f"pg_dump --host db --username postgres --format directory --jobs 2 --file {DUMP} "
                f"--create --exclude-table-data 'room_change*' \"$0\"",
                name,
            ),
            "the database could not be saved",
        )
        # The old one may be one that can only be read, which the dump knows.
        restore = (
            "PGOPTIONS='-c default_transaction_read_only=off' pg_restore --username postgres "
            f"--dbname postgres --create --exit-on-error --jobs 2 {DUMP} && rm -r {DUMP}"
        )
        expect(self.inside(restore), "the copy could not be read in")
        psql = ["exec", "-i", self.container, "psql", "--username", "postgres", "--quiet", "postgres"]
        reset = f"ALTER DATABASE {identifier(name)} RESET default_transaction_read_only"
        expect(self.docker(*psql, check=False, text=reset), "the copy could not be opened for writing")
        analyse = 'vacuumdb --username postgres --analyze-only --quiet --dbname "$0"'
        expect(self.inside(analyse, name), "the copy could not be analysed")

    def is_ready(self) -> bool:
        """Over TCP: the server that the image starts for its own preparations listens on a socket only."""
        ready = ["exec", self.container, "pg_isready", "--quiet", "--host", "127.0.0.1"]
        return bool(self.docker(*ready, check=False))

    def is_running(self) -> bool:
        return any(found["State"]["Running"] for found in self.docker.inspect(self.container))

    def copy_roles(self) -> None:
        """With their passwords, the superuser's too; only that he is there already may be refused."""
        listed = f"pg_dumpall --host db --username postgres --roles-only > {INCOMING}/roles"
        expect(self.with_password(listed), "the roles could not be saved")
        done = self.inside(f"psql --username postgres --quiet --file {INCOMING}/roles postgres 2>&1")
        expect(done, "the roles could not be made")
        refused = [line for line in done.stdout.splitlines() if "ERROR:" in line]
        if other := [line for line in refused if 'role "postgres" already exists' not in line]:
            raise Failure(f"the roles could not be made: {' '.join(other)}")

    def inside(self, script: str, *arguments: str) -> Done:
        """In the new server's container."""
        return self.docker("exec", self.container, "sh", "-c", script, *arguments, check=False)

    def with_password(self, script: str, *arguments: str) -> Done:
        """The same, where the script asks the old server."""
        words = ["exec", "-i", self.container, "sh", "-c", FROM_STDIN + script, *arguments]
        return self.docker(*words, check=False, text=f"{self.project.secret('postgres_password')}\n")

    def compare(self) -> None:
        """The same rows in each table but the history of changes, by their number."""
        (tables,) = self.database.rows(
            "SELECT coalesce(string_agg(format('SELECT %L, count(*) FROM %s', c.oid::regclass, "
            "c.oid::regclass), ' UNION ALL ' ORDER BY c.oid::regclass::text), 'SELECT') AS query "
            "FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE relkind = 'r' "
            "AND nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema' "
            "AND relname NOT LIKE 'room\\_change%'",
            database=self.project.database,
        )
        query = ["psql", "--username", "postgres", "--dbname", self.project.database, "-Atc", tables["query"]]
        old = self.docker("exec", self.database.container, *query, check=False)
        new = self.docker("exec", self.container, *query, check=False)
        expect(old, "the rows could not be counted")
        expect(new, "the rows of the copy could not be counted")
        if sorted(old.stdout.splitlines()) != sorted(new.stdout.splitlines()):
            raise Failure("the copy has not the rows of the database")

    def move_into_place(self) -> None:
        """Stop its server; its data are then where `db` of that version looks for them."""
        self.docker("stop", "--time", "60", self.container)
        self.docker("rm", "--volumes", self.container)
        place = f"{VOLUME}/{self.version}"
        moved = f"rm -f {INCOMING}/roles && mkdir {place} && mv {INCOMING}/docker {place}/"
        expect(self.database.shell(moved), "the copy could not be put into its place")

    def remove(self) -> None:
        self.docker("rm", "--force", "--volumes", self.container, check=False)
        expect(self.database.shell(f"rm -rf {INCOMING}"), "the copy could not be removed")
