"""`restore --at`: the cluster as it was at a second, in the place of the present one."""

import argparse
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from deploy.operations import environment, nodes, pitr, pooling, process
from deploy.operations.database import Database, identifier, literal
from deploy.operations.database_copy import FULL, OVERLAY
from deploy.operations.docker import Docker
from deploy.operations.https import give
from deploy.operations.incoming import TRY_A_REPLICA, led_to
from deploy.operations.nginx import Nginx
from deploy.operations.pitr.plan import Plan, Planner
from deploy.operations.pitr.times import parse_at, shown
from deploy.operations.pitr.volumes import DATA, Volumes
from deploy.operations.process import Done
from deploy.operations.project import Project, now
from deploy.operations.replicas import Replicas
from deploy.operations.report import Failure, Report
from deploy.operations.setup import scram
from deploy.operations.wal import history_lines, lsn, segment_name

UNDO = "./deploy/rentomatic restore --undo"


def container_name(project: Project) -> str:
    """Of the server that recovers."""
    return f"{project.name}-recovery"


def run(docker: Docker, options: argparse.Namespace, report: Report) -> None:
    if not options.at:
        nodes.refuse(docker.project, "restore --undo, after a restore --at,")
        Undo(docker, report).run(dry=options.dry_run)
        return
    if options.file or options.undo or options.settings:
        raise Failure(
            "--at stands alone; nothing was changed", "./deploy/rentomatic restore --help", status=2
        )
    nodes.refuse(docker.project, "restore --at")
    wanted = parse_at(options.at)
    if wanted and wanted > datetime.now(UTC):
        raise Failure(
            f"{shown(wanted)} is in the future; nothing was changed",
            "a time with its zone, UTC unless given; or --at latest",
            status=2,
        )
    Recovery(docker, report).run(wanted, dry=options.dry_run)


def last_restore(project: Project) -> dict[str, Any]:
    """The journal's line of the last restore that was not put back; empty where there is none."""
    notes = project.notes("restore")
    put_back = {note["put_back"] for note in notes if "put_back" in note}
    kept = [note for note in notes if "put_back" not in note and note.get("begun") not in put_back]
    return kept[-1] if kept else {}


def was_last(project: Project) -> bool:
    """Whether the last restore was one to a point in time."""
    return "volume" in last_restore(project)


class Change:
    """Another volume in the place of the one that serves."""

    def __init__(self, docker: Docker, report: Report) -> None:
        self.docker = docker
        self.project = docker.project
        self.report = report
        self.volumes = Volumes(docker)

    def start(self) -> str:
        """Make `db` anew as .env says; why the site does not answer then, empty where it does."""
        up = self.docker.compose("up", "--detach", "--wait", "--no-deps", "db", check=False)
        if not up:
            return up.text[-1000:]
        (container,) = self.docker.inspect(self.docker.running("db"))
        if self.volumes.current not in {
            mount.get("Name") or mount["Source"] for mount in container["Mounts"]
        }:
            return f"db was not made anew with {self.volumes.current}"
        set_passwords(self.docker)
        replicas = Replicas(self.docker, self.report)
        return replicas.still_failing(replicas.serving())

    def change_over(self, volume: str, **facts: str) -> None:
        """Failure, with the old volume in its place again, where the site does not answer from the other."""
        before = self.volumes.current
        self.report.step("Changing over …")
        with process.held(forget=True), Nginx(self.docker).maintenance():
            # First the note: where this is killed, --undo knows the way back.
            self.project.note("restore", volume=volume, before=before, **facts)
            self.volumes.record(volume)
            self.volumes.finish()
            if reason := self.start():
                self.volumes.record(before)
                self.project.note("restore", volume=before, before=volume, failed=True)
                self.start()
                raise Failure(f"the site does not answer from it: {reason}")

    def tell(self, before: str) -> None:
        replicas = Replicas(self.docker, self.report).serving()
        self.report.data |= {"replaced_volume": before, "replicas": len(replicas)}
        if not replicas:
            self.report.say("The site is not running. Next: docker compose up -d --wait")


class Undo(Change):
    """The way back to the volume before the last restore, and with a second one forth again."""

    def run(self, *, dry: bool) -> None:
        before = str(last_restore(self.project)["before"])
        replaced = self.volumes.current
        if dry:
            self.report.say(f"Would let {before} serve again, and keep {replaced}.")
            return
        if before == replaced:  # a restore was killed at its last step
            self.change_over(before)
            self.report.say(f"Done: {before} serves.")
            return
        if not self.volumes.holds_data(before):
            raise Failure(
                f"{before}, which served before the last restore, is not kept; nothing was changed",
                "./deploy/rentomatic restore --at a time before it",
            )
        self.change_over(before, undo="yes")
        self.tell(replaced)
        self.report.say(f"Done: {before} serves again. What was written since is in {replaced};")
        self.report.say(
            f"to have that again: {UNDO}; when it is not needed any more: {self.volumes.removal(replaced)}"
        )


class Recovery(Change):
    """One restore to a point in time."""

    def __init__(self, docker: Docker, report: Report) -> None:
        super().__init__(docker, report)
        self.container = container_name(docker.project)
        self.incoming = self.volumes.new_name()
        self.database: Database | None = None
        with suppress(Failure):
            self.database = Database(docker)
        self.run_folder = ""

    def run(self, time_wanted: datetime | None, *, dry: bool) -> None:
        began = time.monotonic()
        self.report.step("Looking at what is kept …")
        planner = Planner(self.docker, self.report, self.database)
        plan = planner.plan(time_wanted)
        self.report.data |= plan.facts()
        self.report.say(str(plan))
        if dry:
            return
        before = self.volumes.current
        self.remove_leftovers()
        try:
            self.recover(plan)
            rooms = self.try_it(plan)
            self.finish_recovery()
            self.change_over(self.incoming, restored_to=plan.facts()["restored_to"])
        except Failure as failure:
            with process.held(forget=True):
                self.put_back()
            raise Failure(f"{failure.reason}; everything is as it was", failure.next_step) from None
        except BaseException as error:
            with process.held(forget=True):
                self.put_back()
            if isinstance(error, process.Interrupted):
                raise Failure("interrupted; everything is as it was", status=130) from None
            raise
        seconds = time.monotonic() - began
        self.tell(before)
        self.report.data |= {"rooms": rooms, "restore_seconds": round(seconds, 1)}
        self.report.say(
            f"Restored in {seconds:.0f} s. Rooms: {rooms}. What was there before is the volume {before}:"
        )
        self.report.say(f"    {UNDO}")
        self.report.say(f"    {self.volumes.removal(before)}        when it is not needed any more")

    def remove_leftovers(self) -> None:
        """What a restore that was killed has left: the lock says that none is under way in this project."""
        self.docker("rm", "--force", "--volumes", self.container, check=False)
        for volume in self.volumes.unfinished():
            self.volumes.remove(volume)
        self.volumes.finish()

    # --- The recovery

    def recover(self, plan: Plan) -> None:
        self.report.step("Unpacking …")
        self.volumes.create(self.incoming)
        archive = f"{plan.archive.folder}:/archive:ro"
        # A folder of its own: the engine gives an empty volume the image's owner each time it is mounted.
        self.expect(
            self.volumes.as_root(
                self.incoming, f'mkdir {DATA}/$1 && chown "$0" {DATA}/$1', self.owner, plan.base.version
            ),
            "the new volume cannot be written to",
        )
        unpack = (
            f'umask 077; data={DATA}/$1/docker; mkdir -p "$data" && gzip -dc "/archive/$0/base.tar.gz" | '
            'tar x -C "$data" && touch "$data/recovery.signal"'
        )
        base = str(plan.base.folder.relative_to(plan.archive.folder))
        self.expect(
            self.volumes.shell(
                self.incoming, unpack, base, plan.base.version, user=self.owner, mounts=[archive]
            ),
            "the base backup could not be unpacked",
        )
        self.report.step("Replaying the WAL …")
        variables = self.volumes.variables(self.incoming)
        # A service of its own: `docker compose exec db` goes on to mean the server that serves.
        variables["COMPOSE_FILE"] = f"{self.project.setting('COMPOSE_FILE', 'compose.yml')}:{OVERLAY}"
        script = f"{self.project.deploy}/postgres/archive:/archive.sh:ro"
        words = ["run", "--detach", "--no-deps", "--name", self.container, "--user", self.owner]
        words += ["--volume", archive, "--volume", script, "--entrypoint", "postgres", "db-next"]
        started = self.docker.compose(*words, *self.options(plan), variables=variables, check=False)
        self.expect(started, "the server that recovers does not start")
        server = Database(self.docker, self.container)
        while not self.is_promoted(server):
            time.sleep(0.3)
        self.expect_the_last_transaction(server, plan)

    @property
    def owner(self) -> str:
        return self.project.setting("RUN_AS", "10001:10001")

    def options(self, plan: Plan) -> list[str]:
        """Of the server: those of `db`, and where the recovery ends."""
        command = self.docker.config()["services"]["db"]["command"][1:]
        values = {
            "restore_command": f'sh /archive.sh fetch {plan.base.system} "%f" "%p"',
            "recovery_target_timeline": str(int(plan.served.timeline, 16)),
            "recovery_target_action": "promote",
        }
        if plan.target:
            values["recovery_target_time"] = plan.target.isoformat(" ")
        words = [word for name, value in values.items() for word in ("-c", f"{name}={value}")]
        return [str(word).replace("$$", "$") for word in command] + words

    def is_promoted(self, server: Database) -> bool:
        (state,) = self.docker.inspect(self.container) or [{"State": {"Running": False}}]
        if not state["State"]["Running"]:
            log = self.docker("logs", "--tail", "20", self.container, check=False).text
            told = [
                line for line in log.splitlines() if "FATAL" in line or "PANIC" in line or "ERROR" in line
            ]
            raise Failure(f"the recovery ended: {' '.join(told)[-1000:] or log[-1000:]}")
        found = server.execute("SELECT pg_is_in_recovery()", check=False, timeout=20)
        return found.stdout.strip() == "f"

    def expect_the_last_transaction(self, server: Database, plan: Plan) -> None:
        """A segment that could not be read in time would look like the end of the WAL."""
        if plan.target is not None or plan.last is None:
            return
        (row,) = server.rows("SELECT extract(epoch FROM pg_last_xact_replay_timestamp())::float8 AS last")
        if row["last"] is None or row["last"] < plan.last.timestamp() - 0.001:
            raise Failure(f"the recovery ended before the last transaction, of {shown(plan.last)}")

    # --- The trial

    def try_it(self, plan: Plan) -> int:
        """A replica that nobody sees answers from it; returns the number of its rooms."""
        self.report.step("Trying it …")
        server = Database(self.docker, self.container)
        set_passwords(self.docker, self.container)
        name = self.project.database
        if not server.exists(name):
            raise Failure(f"at that time there was no database {name}")
        inside = led_to(self.container)
        if self.migrations(server) != (self.migrations(self.database) if self.database else ""):
            migrated = self.docker.task("migrate", "./manage.py", "migrate", environment=inside)
            self.expect(migrated, "its migration failed")
        (row,) = server.rows("SELECT count(*) FROM room", database=name, timeout=None)
        tried = self.docker.task("web", "sh", "-c", TRY_A_REPLICA, environment=inside)
        self.expect(tried, "the site does not answer from it")
        return int(row["count"])

    def migrations(self, server: Database) -> str:
        query = "SELECT string_agg(app || name, ' ' ORDER BY id) FROM django_migrations"
        return server.execute(query, database=self.project.database, check=False, timeout=20).stdout

    def finish_recovery(self) -> None:
        """Prepare what the service `archive` needs of the new timeline, and stop the server."""
        server = Database(self.docker, self.container)
        (row,) = server.rows(
            "SELECT system_identifier::text AS system, "
            "left(pg_walfile_name(pg_current_wal_lsn()), 8) AS timeline FROM pg_control_system()"
        )
        archive = Planner(self.docker, self.report, None).archive
        wal = archive.folder / row["system"] / "wal"
        history = f"{row['timeline']}.history"
        text = self.docker("exec", self.container, "sh", "-c", f'cat "$PGDATA/pg_wal/{history}"').stdout
        (wal / "history").mkdir(exist_ok=True)
        # Kept whatever happens: no other recovery may use this timeline's number again.
        environment.replace(wal / "history" / history, text, 0o600)
        left = history_lines(text)[-1][1]
        run = wal / f"{row['timeline']}-{now()}"
        run.mkdir(mode=0o700)
        self.run_folder = str(run)
        # An empty partial segment: pg_receivewal begins with this one, in which the timeline was left.
        name = f"{segment_name(row['timeline'], left)}.partial"
        for path in (run / "begun", run / name):
            path.touch(0o600)
            give(path, self.owner)
        for path in (run, wal / "history", wal / "history" / history):
            give(path, self.owner)
        pitr.prepare(self.docker, self.container)
        if pooling.wanted(self.docker.project):
            pooling.prepare(self.docker, self.container)
        server.execute(f"SELECT pg_create_physical_replication_slot({literal(pitr.SLOT)}, true)")
        self.report.data |= {"timeline": int(row["timeline"], 16), "left_at": lsn(left)}
        self.docker("stop", "--time", "120", self.container)
        self.docker("rm", "--force", "--volumes", self.container)
        self.expect(
            self.volumes.as_root(self.incoming, f"chown -R postgres:postgres {DATA}"),
            "the recovered files could not be handed over",
        )

    def expect(self, done: Done, reason: str) -> None:
        if not done:
            raise Failure(f"{reason}: {done.text[-1500:]}", "df -h" if FULL.search(done.text) else "")

    def put_back(self) -> None:
        self.docker("rm", "--force", "--volumes", self.container, check=False)
        if self.volumes.current != self.incoming:
            self.volumes.remove(self.incoming)
            self.volumes.finish()
        if self.run_folder:
            process.run(["rm", "-rf", self.run_folder])


def set_passwords(docker: Docker, container: str = "") -> None:
    """Those of today: a rotation since then is in deploy/secrets, and not in the volume."""
    database = Database(docker, container)
    project = docker.project
    verifier = project.secret("postgres_verifier")
    of_site = scram(project.secret("application_password"))
    database.execute(
        f"ALTER ROLE postgres PASSWORD {literal(verifier)}",
        f"ALTER ROLE {identifier(project.role)} PASSWORD {literal(of_site)}",
        check=False,
    )
