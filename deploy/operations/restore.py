"""`restore`: a backup in the place of the running stack's database."""

import argparse
import hashlib
from pathlib import Path

from deploy.operations import process
from deploy.operations.database import Database, identifier, literal
from deploy.operations.docker import Docker
from deploy.operations.nginx import Nginx
from deploy.operations.process import Done
from deploy.operations.project import Project, now
from deploy.operations.replicas import Replicas
from deploy.operations.report import Failure, Report

HELP = """\
Put a backup in the place of the running stack's database.

The backup is read into a database of its own first, and a replica without clients is tried on it. Only when
that went well, the two databases change names, which cuts every connection and takes a moment. What was there
stays, under the name that is printed at the end. When something fails, or Ctrl-C ends it, everything is as it
was."""

TABLES = ("room", "django_migrations")

TRY_A_REPLICA = """
gunicorn -c deploy/gunicorn.conf.py >/tmp/log 2>&1 &
for try in $(seq 40); do
    sleep 1
    output=$(python deploy/healthcheck.py --questions 2>&1) && exit
done
tail -n 5 /tmp/log
echo "$output"
exit 1
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="a backup of ./deploy/rentomatic backup")


def run(options: argparse.Namespace, report: Report) -> None:
    file = Path(options.file).resolve() if options.file else None
    project = Project()
    with project.lock("restore", options.wait):
        docker = Docker(project)
        if file is None:
            raise Failure(
                "which backup? Nothing was changed",
                "ls deploy/backups, then ./deploy/rentomatic restore deploy/backups/rentomatic-DATE.dump",
                status=2,
            )
        check_digest(file)
        restore = Restore(docker, file, report)
        restore.check_contents()
        if options.dry_run:
            report.say(f"Would put {file} in the place of {project.database}, after a trial of it.")
            return
        try:
            restore.read_in()
            restore.try_it()
            with Nginx(docker).maintenance():
                restore.change_over()
        except Failure as failure:
            with process.held(forget=True):
                restore.put_back(str(failure))
        except BaseException:
            with process.held(forget=True):
                restore.put_back("interrupted", status=130)
        project.note("restore", file=str(file), before=restore.before)


def check_digest(file: Path) -> None:
    if not file.is_file():
        raise Failure(f"{file} cannot be read; nothing was changed", "ls deploy/backups")
    sums = file.with_name(f"{file.name}.sha256")
    if sums.exists():
        with file.open("rb") as source:
            digest = hashlib.file_digest(source, "sha256").hexdigest()
        if digest != sums.read_text().split(maxsplit=1)[0]:
            raise Failure(
                f"{file} is not what was saved (its SHA-256 differs); nothing was changed",
                "take another one of deploy/backups, or the copy on the other machine",
            )


class Restore:
    """One restore: the file, and the names of the databases that take part."""

    def __init__(self, docker: Docker, file: Path, report: Report) -> None:
        self.docker = docker
        self.file = file
        self.report = report
        self.database = Database(docker)
        self.name = docker.project.database
        self.incoming = f"{self.name}_incoming"
        self.before = f"{self.name}_before_{now()}"

    def check_contents(self) -> None:
        """Failure where it is no dump, or one of something else."""
        with self.file.open("rb") as source:
            listed = self.database.program("pg_restore", "--list", stdin=source)
        if not listed:
            raise Failure(
                f"the contents cannot be read ({listed.text}); nothing was changed",
                "docker compose ps db, ls deploy/backups",
            )
        for table in TABLES:
            if f" TABLE DATA public {table} " not in listed.stdout:
                raise Failure(
                    f"{self.file} is no backup of this application, it has no table {table}; "
                    "nothing was changed",
                    "ls deploy/backups",
                )

    def read_in(self) -> None:
        self.report.step("Reading the backup …")
        role = self.docker.project.role
        self.database.execute(
            f"DROP DATABASE IF EXISTS {identifier(self.incoming)} WITH (FORCE)",
            f"CREATE DATABASE {identifier(self.incoming)} OWNER {identifier(role)}",
        )
        # As the application's role: a file from elsewhere may hold any statement.
        command = ["pg_restore", "--username", role, "--dbname", self.incoming, "--no-owner", "--no-acl"]
        with self.file.open("rb") as source:
            done = self.database.program(*command, "--exit-on-error", "--single-transaction", stdin=source)
        self.expect(done, "the backup could not be read in")
        self.expect(
            self.database.execute("ANALYZE", database=self.incoming, check=False),
            "the backup could not be analysed",
        )

    def try_it(self) -> None:
        self.report.step("Trying it …")
        inside = {"APPLICATION_DB": self.incoming}
        # It may be of an earlier version; of a later one, the replica is not ready.
        migrated = self.docker.task("migrate", "./manage.py", "migrate", environment=inside)
        self.expect(migrated, "the migration of the backup failed")
        tried = self.docker.task("web", "sh", "-c", TRY_A_REPLICA, environment=inside)
        self.expect(tried, "the site does not answer from this backup")

    def expect(self, done: Done, reason: str) -> None:
        if not done:
            raise Failure(f"{reason}: {done.text[-1500:]}")

    def swap(self, out: str, new_name: str, incoming: str) -> Done:
        """Two databases change names, both or none; who is connected is cut off, and nobody connects."""
        names = f"({literal(out)}, {literal(incoming)})"
        with process.held():
            return self.database.execute(
                f"ALTER DATABASE {identifier(out)} ALLOW_CONNECTIONS false",
                f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname IN {names}",
                f"BEGIN; ALTER DATABASE {identifier(out)} RENAME TO {identifier(new_name)}; "
                f"ALTER DATABASE {identifier(incoming)} RENAME TO {identifier(out)}; COMMIT",
                f"ALTER DATABASE {identifier(new_name)} ALLOW_CONNECTIONS true",
                check=False,
            )

    def change_over(self) -> None:
        self.report.step("Changing over …")
        self.expect(self.swap(self.name, self.before, self.incoming), "the databases could not change names")
        (room,) = self.database.rows("SELECT count(*) FROM room", database=self.name, timeout=None)
        replicas = Replicas(self.docker, self.report)
        serving = replicas.serving()
        reason = ""

        def all_respond() -> bool:
            nonlocal reason
            reason = replicas.failing(serving)
            return not reason

        if not process.wait_for(all_respond, 30, 1):
            raise Failure(f"the site does not answer from this backup: {reason}")
        with process.held(forget=True):
            self.tell(room["count"], len(serving))

    def tell(self, rooms: int, replicas: int) -> None:
        self.report.data |= {"rooms": rooms, "replicas": replicas, "replaced_database": self.before}
        self.report.say(
            f"Restored. Rooms: {rooms}; replicas that read them: {replicas}. What was there before is"
        )
        self.report.say(f"the database {self.before}; when it is not needed any more:")
        self.report.say(f"    docker compose exec db dropdb --username postgres {self.before}")
        if not replicas:
            self.report.say("The site is not running. Next: docker compose up -d --wait")

    def put_back(self, reason: str, status: int = 1) -> None:
        """Everything as it was, then Failure with the reason."""
        if self.database.exists(self.before):
            self.swap(self.name, self.incoming, self.before)
        done = self.database.execute(
            f"ALTER DATABASE {identifier(self.name)} ALLOW_CONNECTIONS true",
            f"DROP DATABASE IF EXISTS {identifier(self.incoming)} WITH (FORCE)",
            check=False,
        )
        if not done:
            raise Failure(
                f"{reason}, and the database does not answer",
                "docker compose up -d --wait, then docker compose exec db psql -U postgres -l; what served "
                f'is "{self.before}" or "{self.name}"',
            )
        raise Failure(f"{reason}; everything is as it was", status=status)
