"""`restore`: a backup in the place of the running stack's database."""

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.operations import manifest, nodes, process, site_settings
from deploy.operations.backup import megabytes
from deploy.operations.database import Database, identifier, literal
from deploy.operations.docker import Docker
from deploy.operations.incoming import Copy, Incoming
from deploy.operations.nginx import Nginx
from deploy.operations.pitr import recovery
from deploy.operations.process import Done
from deploy.operations.project import Project, now
from deploy.operations.replicas import Replicas
from deploy.operations.report import Failure, Report
from deploy.operations.target import Target

HELP = """\
Put a backup in the place of the running stack's database.

Its manifest is checked before anything is touched: every part is whole, and it is of this site, and of no
later schema or PostgreSQL than serve. It is read into a database of its own then, its rows are counted and
compared with the manifest, and a replica without clients is tried on it. Only when that went well, the two
databases change names, which cuts every connection and takes a moment. When something fails, or Ctrl-C ends
it, everything is as it was.

The two newest databases that restores have replaced stay. --undo puts the newest in its place again, and
keeps the one that served until then, so that --undo again goes forward. Each takes as much disk as before.

With --at, and PITR=on in .env, the whole cluster as it was at that second takes the place of the present one,
in a volume of its own. All of its WAL is checked before. --undo returns to the volume that was replaced."""

KEPT = 2
"""How many replaced databases stay: of a restore that was a mistake, the one before it too."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", metavar="FILE", help="a backup of ./deploy/rentomatic backup")
    parser.add_argument(
        "--at",
        metavar="TIME",
        help='the second to go back to, "2026-11-21 10:00:05", in UTC unless an offset (+01:00) or '
        "a zone (Europe/Madrid) follows; or latest",
    )
    parser.add_argument(
        "--undo", action="store_true", help="put back what the last restore has replaced, by no backup"
    )
    parser.add_argument(
        "--settings",
        action="store_true",
        help="not the database but .env, secrets and certificate, on a new host before its first rollout; "
        "without FILE those of the newest backup of BACKUP_TO",
    )
    parser.add_argument(
        "--accept", action="store_true", help="put in its place what has no manifest, or is another site's"
    )


def run(options: argparse.Namespace, report: Report) -> None:
    file = Path(options.file).resolve() if options.file else None
    if file is not None and options.undo:
        raise Failure(
            "--undo takes no backup; nothing was changed", "./deploy/rentomatic restore --undo", status=2
        )
    project = Project()
    with project.lock("restore", options.wait):
        docker = Docker(project)
        if options.at or (options.undo and recovery.was_last(project)):
            recovery.run(docker, options, report)
            return
        if file is None and options.settings:
            file = newest_elsewhere(project)
        if file is not None:
            file = found(project, file, report)
        if options.undo:
            undo(docker, options, report)
        elif file is None:
            raise Failure("which backup? Nothing was changed", list_of_backups(project), status=2)
        elif options.settings:
            site_settings.restore(docker, file, report, options.dry_run)
        else:
            restore(docker, file, options, report)


def restore(docker: Docker, file: Path, options: argparse.Namespace, report: Report) -> None:
    exchange = Exchange(docker, f"{docker.project.database}_incoming", report)
    incoming = Incoming(docker, file, exchange.coming, report)
    incoming.check(accept=options.accept)
    if options.dry_run:
        report.say(f"Would put {file} in the place of {exchange.name}, after a trial of it.")
        return
    with exchange.or_as_it_was(incoming.dropping()):
        incoming.read_in()
        incoming.try_it()
        with Nginx(docker).maintenance():
            exchange.change_over()
    docker.project.note("restore", file=str(file), before=exchange.before)
    exchange.drop_older()


def undo(docker: Docker, options: argparse.Namespace, report: Report) -> None:
    """The database that the last restore has replaced, in its place again; the present one stays, too."""
    replaced = replaced_databases(Database(docker), docker.project.database)
    if not replaced:
        raise Failure("no restore has replaced a database that is still kept; nothing was changed")
    exchange = Exchange(docker, replaced[-1], report)
    if options.dry_run:
        report.say(f"Would put {exchange.coming} in the place of {exchange.name}, after a trial of it.")
        return
    with exchange.or_as_it_was():
        Copy(docker, exchange.coming, report).try_it()
        with Nginx(docker).maintenance():
            exchange.change_over()
    docker.project.note("restore", undone=exchange.coming, before=exchange.before)
    exchange.drop_older()


def replaced_databases(database: Database, name: str) -> list[str]:
    """What restores have replaced, oldest first."""
    rows = database.rows(
        "SELECT datname AS name FROM pg_database "
        f"WHERE starts_with(datname, {literal(f'{name}_before_')}) ORDER BY 1"
    )
    return [row["name"] for row in rows]


def found(project: Project, file: Path, report: Report) -> Path:
    """The file, that of this name in deploy/backups, or the one that is fetched from BACKUP_TO."""
    kept = project.deploy / "backups" / file.name
    target = Target(project)
    if file.exists() or manifest.taken_at(file) is None or file.parent not in {Path.cwd(), kept.parent}:
        return file
    return target.fetch(file.name, report) if target and not kept.exists() else kept


def newest_elsewhere(project: Project) -> Path | None:
    """The newest backup of BACKUP_TO, which is not here yet; None where there is none."""
    target = Target(project)
    there = [Path(name) for name in target.sizes()] if target else []
    taken = [path for path in there if manifest.taken_at(path)]
    return project.deploy / "backups" / max(taken) if taken else None


def list_of_backups(project: Project) -> str:
    """The next step of who has named none: the newest ones, by their names."""
    newest = manifest.backups(project.deploy / "backups")[-5:]
    if not newest:
        return "./deploy/rentomatic backup; there is none in deploy/backups"
    return "one of " + ", ".join(f"./deploy/rentomatic restore deploy/backups/{path.name}" for path in newest)


class Exchange:
    """Another database in the place of the one that serves, or everything as it was."""

    def __init__(self, docker: Docker, coming: str, report: Report) -> None:
        self.docker = docker
        self.report = report
        self.database = Database(docker)
        self.name = docker.project.database
        self.coming = coming
        self.before = f"{self.name}_before_{now()}"
        self.has_begun = False

    @contextmanager
    def or_as_it_was(self, *statements: str) -> Iterator[None]:
        """Everything is put back where the block fails, or Ctrl-C ends it; then these statements run."""
        try:
            yield
        except Failure as failure:
            with process.held(forget=True):
                self.put_back(str(failure), statements)
        except BaseException:
            with process.held(forget=True):
                self.put_back("interrupted", statements, status=130)

    def swap(self, out: str, new_name: str, incoming: str) -> Done:
        """
        Two databases change names, both or none; who is connected is cut off, and nobody connects.

        Where the server dies before they do, the first one lets nobody in, which doctor says.
        """
        names = f"({literal(out)}, {literal(incoming)})"
        with process.held():
            done = self.database.execute(
                f"ALTER DATABASE {identifier(out)} ALLOW_CONNECTIONS false",
                f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname IN {names}",
                f"BEGIN; ALTER DATABASE {identifier(out)} RENAME TO {identifier(new_name)}; "
                f"ALTER DATABASE {identifier(incoming)} RENAME TO {identifier(out)}; "
                f"ALTER DATABASE {identifier(new_name)} ALLOW_CONNECTIONS true; COMMIT",
                check=False,
            )
            nodes.end_sessions_on_replicas(self.docker, out, new_name, incoming)
            return done

    def change_over(self) -> None:
        self.report.step("Changing over …")
        # First the note: where this is killed, --undo knows that a database was replaced, and not the volume.
        self.docker.project.note("restore", begun=self.before)
        self.has_begun = True
        swapped = self.swap(self.name, self.before, self.coming)
        if not swapped:
            raise Failure(f"the databases could not change names: {swapped.text}")
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
        (row,) = self.database.rows(f"SELECT pg_database_size({literal(self.before)}) AS bytes")
        self.report.data |= {"rooms": rooms, "replicas": replicas, "replaced_database": self.before}
        self.report.say(
            f"Restored. Rooms: {rooms}; replicas that read them: {replicas}. What was there before is"
        )
        self.report.say(
            f"the database {self.before} ({megabytes(row['bytes'])}), which the second next restore drops."
        )
        self.report.say("It comes back with")
        self.report.say("    ./deploy/rentomatic restore --undo")
        self.report.say("and when it is not needed any more:")
        self.report.say(
            f"    docker compose exec {self.docker.primary} dropdb --username postgres {self.before}"
        )
        if not replicas:
            self.report.say("The site is not running. Next: docker compose up -d --wait")

    def drop_older(self) -> None:
        """Of the databases that restores have replaced the newest stay."""
        for old in replaced_databases(self.database, self.name)[:-KEPT]:
            if self.database.execute(f"DROP DATABASE {identifier(old)} WITH (FORCE)", check=False):
                self.report.say(f"The database {old}, which an earlier restore had replaced, is dropped.")

    def put_back(self, reason: str, statements: Sequence[str], status: int = 1) -> None:
        """Everything as it was, then Failure with the reason."""
        if self.database.exists(self.before):
            self.swap(self.name, self.coming, self.before)
        if self.has_begun:
            self.docker.project.note("restore", put_back=self.before)
        allow = f"ALTER DATABASE {identifier(self.name)} ALLOW_CONNECTIONS true"
        if not self.database.execute(allow, *statements, check=False):
            raise Failure(
                f"{reason}, and the database does not answer",
                "docker compose up -d --wait, then docker compose exec db psql -U postgres -l; what served "
                f'is "{self.before}" or "{self.name}"',
            )
        raise Failure(f"{reason}; everything is as it was", status=status)
