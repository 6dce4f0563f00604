"""`rehearse_migrations`: run pending migrations on copies of databases, and measure what they do."""

import importlib
import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from django.core.management import CommandError, CommandParser
from django.db.migrations.loader import MigrationLoader
from psycopg2.extensions import cursor, parse_dsn

from rentomatic_site import postgres
from rentomatic_site.scenarios import (
    ScenarioError,
    checkpoints,
    databases,
    discovery,
    domain,
    locks,
    old_code,
    rehearsal,
)
from rentomatic_site.scenarios.command import ScenarioCommand
from rentomatic_site.scenarios.databases import BUILDING, TARGET, Database, Metadata
from rentomatic_site.scenarios.names import alias_of
from rentomatic_site.scenarios.rehearsal import BLOCKS, Backwards, Rehearsed

LONGEST = 1.0
"""Seconds that a lock may block requests; they wait for one for two seconds at most (settings.DATABASES)."""


@dataclass
class Result:
    """The rehearsal on one database."""

    database: str
    migrations: list[Rehearsed] = field(default_factory=list)
    code: str = ""
    """The revision of the old code, "" where it was not tried."""
    broken: list[str] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)
    backwards: Backwards | None = None
    problems: list[str] = field(default_factory=list)


class Command(ScenarioCommand):
    help = (
        "Runs the pending migrations on a copy of each loaded scenario and says of every operation how long "
        "it takes, what it locks and blocks, which tables it writes anew and how many rows; whether the code "
        "before them still works on the new schema; and whether they go backwards. The copies are dropped; "
        "scenarios and the application's database are not changed, only sessions in scenarios end for the "
        "copy. Exit status 1 where something would go wrong."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group()
        which.add_argument(
            "--on", metavar="NAME,…", help="on these scenarios only (default: all loaded ones)"
        )
        which.add_argument(
            "--database",
            metavar="URL",
            help="on a copy of this database of the same server instead, a name or a URL; nobody may use it",
        )
        parser.add_argument(
            "--code",
            metavar="REF",
            help="the old code: a revision or a folder (default: the last revision without the migrations)",
        )
        parser.add_argument("--no-code", action="store_true", help="do not try the old code")
        parser.add_argument(
            "--blocking",
            type=float,
            default=LONGEST,
            metavar="SECONDS",
            help=f"how long a migration may block requests (default: {LONGEST})",
        )
        parser.add_argument("--json", action="store_true", help="for programs")

    def handle(self, *args: Any, **options: Any) -> None:
        self.require_permission()
        with ExitStack() as opened:
            code = None
            results = []
            for name, source, server in self.sources(options):
                names = rehearsal.pending_names(source.name)
                if not names:
                    results.append(Result(name))
                    continue
                if code is None and not options["no_code"]:
                    revision = options["code"] or old_code.revision_without(files(names))
                    code = revision, opened.enter_context(old_code.code_of(revision))
                self.tell(f"{name}: copying {source.name} …")
                results.append(self.rehearse(server, name, source, names, code))
        for result in results:
            result.problems = list(problems(result, options["blocking"]))
        if options["json"]:
            self.stdout.write(
                json.dumps([as_json(result) for result in results], ensure_ascii=False, indent=2)
            )
        else:
            for result in results:
                self.show(result)
        found = sum(len(result.problems) for result in results)
        if found:
            raise CommandError(f"The migrations would cause {found} problems, see above.")

    def tell(self, line: str) -> None:
        """Progress, on the standard error output: the other one may be JSON."""
        self.stderr.write(line, self.style.NOTICE)
        self.stderr.flush()

    def sources(self, options: dict[str, Any]) -> Iterator[tuple[str, Database, cursor]]:
        """Name, database and server session of each database to rehearse on, whose locks are held."""
        if options["database"]:
            with locks.lock_templates("", self.tell) as server:
                yield options["database"].rpartition("@")[2], database_at(server, options["database"]), server
            return
        if options["on"]:
            aliases = [name.strip() for name in options["on"].split(",")]
        else:
            with postgres.session() as server:
                aliases = [
                    alias_of(one.name)
                    for one in databases.databases(server)
                    if one.metadata.kind == TARGET and one.metadata.complete
                ]
        if not aliases:
            raise ScenarioError("No scenario is loaded. Next: ./manage.py load_scenario (lists them)")
        for alias in aliases:
            with checkpoints.held(alias, self.tell) as scenario:
                yield alias, scenario.loaded(), scenario.server

    def rehearse(
        self,
        server: cursor,
        name: str,
        source: Database,
        names: list[str],
        code: tuple[str, Path] | None,
    ) -> Result:
        result = Result(name)
        paths = domain.requests(module_of(source.metadata.scenario))
        with copy_of(server, source) as copy:
            if code:
                result.code, folder = code
                self.tell(f"{name}: trying the code of {result.code} …")
                before = old_code.results(folder, copy, paths)
            result.migrations = rehearsal.forwards(copy, self.tell)
            if any(migration.error for migration in result.migrations):
                return result
            if code:
                self.tell(f"{name}: trying the code of {result.code} on the new schema …")
                after = old_code.results(folder, copy, paths)
                result.broken = old_code.broken(before, after)
                result.changed = old_code.changed(before, after)
                if before["start"] != "ok":
                    result.broken = [f"start, before the migrations: {before['start']}"]
            result.backwards = rehearsal.backwards(source.name, copy, names, self.tell)
        return result

    def show(self, result: Result) -> None:
        self.stdout.write(self.style.MIGRATE_HEADING(result.database))
        if not result.migrations:
            self.stdout.write("  No migration is pending.")
            return
        for migration in result.migrations:
            self.stdout.write(f"  {migration.name}, {migration.seconds:.2f} s")
            for operation in migration.operations:
                if operation.name.startswith("end of") and not (operation.locks or operation.error):
                    continue
                self.stdout.write(f"    {operation.name}, {operation.seconds:.2f} s")
                for table, lock in sorted(operation.locks.items()):
                    if lock == "AccessShareLock":
                        continue
                    blocks = BLOCKS.get(lock, "only writes of the same rows")
                    self.stdout.write(f"      locks {table}: {lock}, blocks {blocks}")
                for table, lock in sorted(operation.held.items()):
                    if rehearsal.blocks_requests(lock):
                        self.stdout.write(f"      still locks {table}: {lock}, blocks {BLOCKS[lock]}")
                for table, rows in operation.rewrites.items():
                    self.stdout.write(f"      writes the table {table} anew, {rows:,} rows")
                if operation.rows:
                    self.stdout.write(f"      changes {operation.rows:,} rows")
                if operation.error:
                    self.stdout.write(self.style.ERROR(f"      fails: {operation.error}"))
        if result.code and not result.broken:
            self.stdout.write(f"  The code of {result.code} works on the new schema.")
        for step in result.changed:
            self.stdout.write(f"  {step} of the old code has another response.")
        if result.backwards and not result.backwards.error and not result.backwards.schema:
            self.stdout.write(
                f"  They go backwards, {result.backwards.seconds:.2f} s; the schema is as before."
            )
            for line in result.backwards.rows:
                self.stdout.write(f"  Rows that are not as before then: {line}")
        for problem in result.problems:
            self.stdout.write(self.style.ERROR(f"  ✗ {problem}"))
        if not result.problems:
            self.stdout.write(self.style.SUCCESS("  ✓ nothing would go wrong"))


@contextmanager
def copy_of(server: cursor, source: Database) -> Iterator[str]:
    """A copy of the database, which is dropped afterwards, for the time of the block."""
    metadata = Metadata(BUILDING, source.metadata.scenario, source.metadata.fingerprint)
    if source.metadata.kind == TARGET or source.metadata.kind == BUILDING:
        name = checkpoints.copied(server, source, metadata)
    else:
        name = databases.create(server, "", source, metadata)
    try:
        yield name
    finally:
        postgres.drop_database(server, name)


def database_at(server: cursor, url: str) -> Database:
    """The database of that name or URL, which must be on the server of the settings and not in use."""
    given = parse_dsn(url) if "=" in url or "://" in url else {"dbname": url}
    name = given.get("dbname", "")
    if name in databases.protected():
        raise ScenarioError(
            f"{name} is the application's or the maintenance database: requests would wait for its copy. "
            "Next: restore a backup into another database, and name that one."
        )
    if "host" in given or "port" in given:
        ours = server.connection.info
        host, port = given.get("host", ours.host), int(given.get("port", 5432))
        if (host, port) != (ours.host, ours.port):
            raise ScenarioError(
                f"{name} is on {host}:{port}, and the settings' server is {ours.host}:{ours.port}. "
                f"Next: POSTGRES_HOSTNAME={host} POSTGRES_PORT={port} ./manage.py rehearse_migrations "
                f"--database {name}"
            )
    server.execute(
        "SELECT pg_database_size(oid), (SELECT count(*) FROM pg_stat_activity WHERE datid = oid)"
        " FROM pg_database WHERE datname = %s",
        [name],
    )
    found = server.fetchone()
    if found is None:
        raise ScenarioError(f"The server has no database {name}. Next: psql -l lists them")
    size, sessions = found
    if sessions:
        raise ScenarioError(
            f"{name} has {sessions} sessions, and PostgreSQL copies no database that is in use. "
            "Next: end them, or restore a backup into another database, and name that one."
        )
    return Database(name, size, Metadata(""), True, False)


def files(names: list[str]) -> list[Path]:
    """The files of the migrations."""
    loader = MigrationLoader(None)
    modules = {
        str(migration): importlib.import_module(migration.__module__).__file__
        for migration in loader.disk_migrations.values()
    }
    return [Path(modules[name] or "") for name in names]


def module_of(name: str) -> ModuleType | None:
    """The scenario's module; None where its file is gone, or cannot be imported any more."""
    try:
        return discovery.find(name).module() if name else None
    except Exception:  # whatever the file raises
        return None


def problems(result: Result, longest: float) -> Iterator[str]:
    """What would go wrong, in words."""
    for migration in result.migrations:
        if migration.error:
            yield f"{migration.name} fails: {migration.error}"
        for table, (lock, seconds) in migration.held.items():
            if seconds >= longest:
                yield f"{migration.name} blocks {BLOCKS[lock]} of {table} for {seconds:.1f} s"
    for step in result.broken:
        yield f"the code of {result.code} does not work on the new schema: {step}"
    if result.backwards and result.backwards.error:
        yield f"there is no way back: {result.backwards.error}"
    for difference in result.backwards.schema if result.backwards else ():
        yield f"backwards the schema is not as before: {difference}"


def as_json(result: Result) -> dict[str, Any]:
    value = asdict(result)
    for migration, written in zip(result.migrations, value["migrations"], strict=True):
        written["seconds"] = migration.seconds
        written["held"] = {
            table: {"lock": lock, "blocks": BLOCKS[lock], "seconds": seconds}
            for table, (lock, seconds) in migration.held.items()
        }
        for operation in written["operations"]:
            operation["blocks"] = {
                table: BLOCKS[lock] for table, lock in operation["locks"].items() if lock in BLOCKS
            }
    return value
