"""`upgrade`: another major version of PostgreSQL, rehearsed on a copy first."""

import argparse
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from deploy.operations import nodes, pitr, pooling, process
from deploy.operations.backup import megabytes
from deploy.operations.database import Database, identifier, literal
from deploy.operations.database_copy import INCOMING, VOLUME, DatabaseCopy, expect
from deploy.operations.docker import Docker
from deploy.operations.incoming import TRY_A_REPLICA, led_to
from deploy.operations.nginx import Nginx
from deploy.operations.project import Project
from deploy.operations.replicas import Replicas
from deploy.operations.report import Failure, Report

HELP = """\
Bring PostgreSQL to another major version, such as 19. First ./deploy/rentomatic backup.

The rehearsal: a server of that version gets a copy of the database while the site goes on, a replica that
nobody sees answers from it, and the time is taken. Then the same in earnest: for about that time the admin is
a maintenance page and the database can only be read, so that nothing is lost; an import that is under way is
ended. Lists and pages go on. When the copy is whole the new server takes the old one's place, which cuts
connections for some seconds.

When something fails, or Ctrl-C ends it, everything is as it was. The old server's data stay in the volume,
and --back returns to them. The history of changes begins again, as after a restore."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("version", nargs="?", metavar="VERSION", help="the major version, such as 19")
    parser.add_argument("--image", default="", help="its image (default: postgres:VERSION)")
    parser.add_argument("--rehearse", action="store_true", help="end after the rehearsal")
    parser.add_argument("--back", action="store_true", help="return to the version before the last upgrade")
    parser.add_argument("--accept", action="store_true", help="with --back: lose what was written since")


def run(options: argparse.Namespace, report: Report) -> None:
    if not options.back and not re.fullmatch(r"[1-9]\d", options.version or ""):
        raise Failure(
            f"{options.version or 'nothing'} is no major version of PostgreSQL; nothing was changed",
            "./deploy/rentomatic upgrade 19",
            status=2,
        )
    project = Project()
    with project.lock("upgrade", options.wait):
        nodes.refuse(project, "upgrade")
        docker = Docker(project)
        if options.back:
            Back(docker, report, options).run()
        else:
            Upgrade(docker, report, options).run()


class Server:
    """The service `db`: which version serves, and another one in its place."""

    def __init__(self, docker: Docker, report: Report) -> None:
        self.docker = docker
        self.project = docker.project
        self.report = report
        self.database = Database(docker)
        (row,) = self.database.rows("SELECT current_setting('server_version_num')::int / 10000 AS major")
        self.version = str(row["major"])
        self.image = self.project.setting("POSTGRES_IMAGE")
        """Of .env, where it names one that is not postgres:VERSION."""

    def record(self, version: str, image: str) -> None:
        """Which version every later start of `db` is of."""
        self.project.record("POSTGRES_VERSION", version)
        self.project.record("POSTGRES_IMAGE", image or None)

    def start_recorded(self) -> str:
        """Make `db` anew as .env says; why the site does not answer then, empty where it does."""
        up = self.docker.compose("up", "--detach", "--wait", "--no-deps", "db", check=False)
        if not up:
            return up.text[-1000:]
        self.database = Database(self.docker)
        pitr.follow(self.docker)
        replicas = Replicas(self.docker, self.report)
        return replicas.still_failing(replicas.serving())

    def let_write(self) -> None:
        self.database.execute(
            f"ALTER DATABASE {identifier(self.project.database)} RESET default_transaction_read_only",
            check=False,
        )


class Upgrade(Server):
    """One upgrade, from the rehearsal to the last replica that reads from the new server."""

    def __init__(self, docker: Docker, report: Report, options: argparse.Namespace) -> None:
        super().__init__(docker, report)
        self.options = options
        self.wanted: str = options.version
        self.wanted_image: str = options.image
        self.copy = DatabaseCopy(docker, self.database, self.wanted, self.wanted_image)

    def run(self) -> None:
        self.look()
        if self.options.dry_run:
            return
        self.put_back()  # what an upgrade that was killed has left
        try:
            seconds = self.rehearse()
            if self.options.rehearse:
                self.put_back()
                self.report.say("Rehearsed; nothing was changed.")
                return
            began = time.monotonic()
            with Nginx(self.docker).maintenance():
                self.upgrade()
        except Failure as failure:
            with process.held(forget=True):
                self.put_back()
            raise Failure(f"{failure.reason}; everything is as it was", failure.next_step) from None
        except BaseException:
            with process.held():
                self.put_back()
            raise
        self.tell(seconds, time.monotonic() - began)

    def look(self) -> None:
        """Failure where it cannot be done; says what would be."""
        image = self.wanted_image or f"postgres:{self.wanted}"
        if int(self.wanted) <= int(self.version):
            raise Failure(
                f"PostgreSQL {self.version} serves; nothing was changed",
                "./deploy/rentomatic upgrade with a later version, or --back",
            )
        if self.database.shell(f"test -e {VOLUME}/{self.wanted}"):
            raise Failure(
                f"the volume has data of PostgreSQL {self.wanted} already, which are not those of the site; "
                "nothing was changed",
                f"docker compose exec db rm -r {VOLUME}/{self.wanted}",
            )
        if not self.docker("image", "inspect", image, check=False) and not self.docker(
            "pull", "--quiet", image, check=False
        ):
            raise Failure(f"there is no image {image}; nothing was changed", f"docker pull {image}")
        (row,) = self.database.rows(f"SELECT pg_database_size({literal(self.project.database)}) AS bytes")
        free = int(self.database.shell(f"df -P -B1 {VOLUME} | tail -n 1").stdout.split()[3])
        # The copy, the dump that it is made from, and the new server's own files and WAL.
        needed = 2 * int(row["bytes"]) + 200_000_000
        self.report.data |= {
            "from": self.version, "to": self.wanted, "database_bytes": row["bytes"], "free_bytes": free,
        }  # fmt: skip
        self.report.say(
            f"PostgreSQL {self.version} to {self.wanted} ({image}): {megabytes(row['bytes'])}, "
            f"{megabytes(free)} free."
        )
        others = self.other_databases()
        if others:
            self.report.warn(f"these databases are not copied and stay with the old server: {others}")
        if free < needed:
            raise Failure(
                f"the volume has {megabytes(free)} free, and the upgrade needs {megabytes(needed)}; "
                "nothing was changed",
                f"docker compose exec db df -h {VOLUME}",
            )

    def other_databases(self) -> str:
        own = f"({literal(self.project.database)}, 'postgres')"
        rows = self.database.rows(
            "SELECT datname AS name FROM pg_database "
            f"WHERE NOT datistemplate AND datname NOT IN {own} ORDER BY 1"
        )
        return ", ".join(row["name"] for row in rows)

    def rehearse(self) -> float:
        """Copy the database as it is now, and try it; returns the seconds of the copy."""
        self.report.step("Rehearsing …")
        began = time.monotonic()
        self.copy.make()
        seconds = time.monotonic() - began
        self.report.step(f"Trying the copy, which took {seconds:.0f} s …")
        inside = led_to(self.copy.container)
        tried = self.docker.task("web", "sh", "-c", TRY_A_REPLICA, environment=inside)
        expect(tried, f"the site does not answer from PostgreSQL {self.wanted}")
        return seconds

    def upgrade(self) -> None:
        self.report.step("Copying, while the database can only be read …")
        with self.only_read():
            self.copy.make()
            self.copy.compare()
            self.report.step("Changing over …")
            with process.held(forget=True):
                self.change_over()

    @contextmanager
    def only_read(self) -> Iterator[None]:
        """Nothing is written to the database within the block; sessions begin anew, the idle ones first."""
        name = self.project.database
        sessions = f"datname = {literal(name)} AND pid <> pg_backend_pid()"
        (now,) = self.database.rows("SELECT clock_timestamp()::text AS text")
        try:
            self.database.execute(f"ALTER DATABASE {identifier(name)} SET default_transaction_read_only = on")
            old = f"{sessions} AND backend_start < {literal(now['text'])}"

            def all_gone() -> bool:
                self.database.execute(
                    f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {old} AND state = 'idle'"
                )
                return not self.database.rows(f"SELECT pid FROM pg_stat_activity WHERE {old}")

            process.wait_for(all_gone, 10, 0.1)
            self.database.execute(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE {old}")
            yield
        finally:
            with process.held():
                self.let_write()

    def change_over(self) -> None:
        """The new server in the place of the old; the old one again where the site does not answer."""
        if pitr.wanted(self.project):
            pitr.prepare(self.docker, self.copy.container)  # the receiver tries it as soon as it is there
        if pooling.wanted(self.project):
            pooling.prepare(self.docker, self.copy.container)
        self.copy.move_into_place()
        self.record(self.wanted, self.wanted_image)
        if reason := self.start_recorded():
            self.record(self.version, self.image)
            self.start_recorded()
            self.database.shell(f"rm -rf {VOLUME}/{self.wanted}")
            raise Failure(f"the site does not answer from PostgreSQL {self.wanted}: {reason}")
        self.database.shell(f"rm -rf {INCOMING}")

    def put_back(self) -> None:
        """No copy, and a database that can be written to."""
        self.docker("rm", "--force", "--volumes", self.copy.container, check=False)
        self.database.shell(f"rm -rf {INCOMING}")
        self.let_write()
        (Nginx(self.docker).folder / "maintenance").unlink(missing_ok=True)

    def tell(self, rehearsal: float, upgrade: float) -> None:
        self.project.note(
            "upgrade",
            version=self.wanted, image=self.wanted_image, before=self.version, image_before=self.image,
        )  # fmt: skip
        self.report.data |= {"rehearsal_seconds": round(rehearsal, 1), "upgrade_seconds": round(upgrade, 1)}
        self.report.say(
            f"Done: PostgreSQL {self.wanted} serves. The admin was closed for {upgrade:.0f} s. The data of "
            f"{self.version} are kept, for ./deploy/rentomatic upgrade --back; when they are not needed:"
        )
        self.report.say(f"    docker compose exec db rm -r {VOLUME}/{self.version}")


class Back(Server):
    """The way back to the version before an upgrade."""

    def __init__(self, docker: Docker, report: Report, options: argparse.Namespace) -> None:
        super().__init__(docker, report)
        self.options = options

    def run(self) -> None:
        for note in reversed(self.project.notes("upgrade")):
            if note.get("version") == self.version:
                break
        else:
            raise Failure(f"no upgrade has led to PostgreSQL {self.version}; nothing was changed")
        before = str(note["before"])
        if not self.database.shell(f"test -e {VOLUME}/{before}/docker/PG_VERSION"):
            raise Failure(f"the data of PostgreSQL {before} are not kept; nothing was changed")
        self.report.data |= {"from": self.version, "to": before}
        self.report.say(f"What was written since {note['at']} is lost with PostgreSQL {self.version}.")
        if self.options.dry_run:
            return
        if not self.options.accept:
            raise Failure(
                "the way back loses what was written since the upgrade; nothing was changed",
                "./deploy/rentomatic backup, then ./deploy/rentomatic upgrade --back --accept",
            )
        self.report.step("Changing over …")
        with process.held(forget=True), Nginx(self.docker).maintenance():
            self.record(before, note["image_before"])
            reason = self.start_recorded()
            if reason:
                self.record(self.version, self.image)
                self.start_recorded()
                raise Failure(
                    f"the site does not answer from PostgreSQL {before}: {reason}; {self.version} serves"
                )
            self.let_write()
        self.project.note(
            "upgrade",
            version=before,
            image=note["image_before"],
            before=self.version,
            image_before=self.image,
        )
        self.report.say(f"Done: PostgreSQL {before} serves.")
