"""`query_lab`: measure one query of the API on several scenarios."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from django.conf import settings
from django.core.management import CommandError, CommandParser
from django.db import DatabaseError, connection
from psycopg2 import errors
from psycopg2.extensions import cursor
from psycopg2.sql import SQL, Identifier

from rentomatic_site import postgres
from rentomatic_site.lab import measuring
from rentomatic_site.lab.measuring import KINDS, Measurement
from rentomatic_site.scenarios import ScenarioError, databases, isolation, locks, names
from rentomatic_site.scenarios.command import ScenarioCommand
from rentomatic_site.scenarios.databases import TARGET, Database
from rooms.api.arguments import query_from_arguments
from rooms.api.errors import ParametersError
from rooms.api.explaining import explain_page
from rooms.api.search import Search

HEADER = ("scenario", "what", "rooms", "ms", "plan", "index", "planned", "true", "off by")


class Command(ScenarioCommand):
    help = (
        "Shows what PostgreSQL does with a query of the API on loaded scenarios, for a page, a count, the "
        "export as CSV and the clusters of a map: milliseconds, plan, index, the planner's estimate of the "
        "matching rooms against the truth. The scenarios are only read; an index is tried in a copy of each "
        "as it stands, and idle connections of the site to it end, which it opens again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("query", help='a query string such as "filter_price__lt=66&order=size"')
        parser.add_argument("--on", metavar="NAME,NAME", help="loaded scenarios (default: all of them)")
        parser.add_argument(
            "--what",
            metavar="KIND,KIND",
            default=",".join(KINDS),
            help=f"kinds of responses (default: {','.join(KINDS)})",
        )
        parser.add_argument("--json", action="store_true", help="print the figures as JSON")
        parser.add_argument("--sql", action="store_true", help="show the statement too")
        parser.add_argument(
            "--index",
            metavar="COLUMNS",
            help='build this index, such as "price,size", in a copy; show before and after',
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            search = Search.parse(query_from_arguments([options["query"]]))
        except ParametersError as error:
            raise ScenarioError(f'{error}. Next: ./manage.py query_lab "{error.suggestion}"') from None
        self.kinds = options["what"].split(",")
        if unknown := [kind for kind in self.kinds if kind not in KINDS]:
            raise ScenarioError(f"--what {unknown[0]}: it is one or more of {','.join(KINDS)}.")
        chosen = self.chosen(options["on"])
        found: list[tuple[str, Measurement]] = []
        for name, database in chosen.items():
            if options["index"]:
                found += self.with_and_without(search, name, database, options["index"])
            else:
                with isolation.django_on(database.name):
                    found += [(name, measured) for measured in self.measure(search, name)]
        if options["json"]:
            figures = [{"scenario": name, **asdict(measured)} for name, measured in found]
            self.stdout.write(json.dumps(figures, indent=2))
            return
        if options["sql"]:
            with isolation.django_on(next(iter(chosen.values())).name):
                for statement, _ in explain_page(search):
                    self.stdout.write(f"{statement}\n")
        rows = [row(name, measured) for name, measured in found]
        self.table(HEADER, rows, right=["rooms", "ms", "planned", "true"])

    def chosen(self, only: str | None) -> dict[str, Database]:
        """The scenarios to measure, by name."""
        with postgres.session() as server:
            loaded = {
                names.alias_of(database.name): database
                for database in databases.databases(server)
                if database.metadata.kind == TARGET and database.metadata.complete
            }
        wanted = only.split(",") if only else list(loaded)
        for name in wanted:
            if name not in loaded:
                raise ScenarioError(f"{name} is not loaded. Next: ./manage.py load_scenario {name}")
        if not wanted:
            raise ScenarioError("No scenario is loaded. Next: ./manage.py load_scenario million_rooms")
        return {name: loaded[name] for name in wanted}

    def measure(self, search: Search, name: str) -> list[Measurement]:
        try:
            return list(measuring.measure(search, self.kinds))
        except ParametersError as error:
            raise ScenarioError(f'{error}. Next: ./manage.py query_lab "{error.suggestion}"') from None
        except DatabaseError as error:
            raise ScenarioError(
                f"{name} cannot be asked: {str(error).strip()} Next: ./manage.py load_scenario {name} --reset"
            ) from None

    def with_and_without(
        self, search: Search, name: str, database: Database, columns: str
    ) -> Iterator[tuple[str, Measurement]]:
        """Analyze and measure in a copy, build the index there, do both again."""
        self.require_permission()
        self.stderr.write(f"{name} is copied, and the index is built in the copy …", self.style.NOTICE)
        with copy(name, database) as copied, isolation.django_on(copied):
            with connection.cursor() as session:
                session.execute("ANALYZE")
            before = self.measure(search, name)
            self.build(columns)
            after = self.measure(search, name)
        for measured, measured_after in zip(before, after, strict=True):
            yield f"{name}, before", measured
            yield f"{name}, after", measured_after

    def build(self, columns: str) -> None:
        if ";" in columns:
            raise ScenarioError('--index takes columns or expressions. Example: --index "price,size"')
        try:
            with connection.cursor() as session:
                session.execute(
                    SQL("CREATE INDEX {} ON room ({})").format(Identifier(measuring.INDEX), SQL(columns))
                )
                session.execute("ANALYZE")
        except DatabaseError as error:
            raise CommandError(
                f'PostgreSQL cannot build this index: {str(error).strip()}\nExample: --index "price,size"'
            ) from None


@contextmanager
def copy(name: str, database: Database) -> Iterator[str]:
    """Create a copy of the scenario's database as it stands and yield its name; drop it at the end."""
    metadata = database.metadata
    with locks.lock_templates(metadata.scenario) as server:
        end_idle_sessions(server, database.name)
        try:
            copied = databases.create(server, metadata.scenario, database, metadata)
        except errors.ObjectInUse:
            raise ScenarioError(
                f"{name} cannot be copied while somebody works on it. "
                f"Next: end {in_use_by(server, database.name)}"
            ) from None
        try:
            yield copied
        finally:
            databases.drop(server, copied)


def end_idle_sessions(server: cursor, name: str) -> None:
    """End the connections that a served site keeps for its next requests: it opens another one then."""
    server.execute(
        "SELECT pg_terminate_backend(pid, 1000) FROM pg_stat_activity"
        " WHERE datname = %s AND state = 'idle' AND application_name = %s AND pg_has_role(usesysid, 'USAGE')",
        [name, settings.DATABASES["default"]["OPTIONS"]["application_name"]],
    )


def in_use_by(server: cursor, name: str) -> str:
    """The programs that are connected to the database, for a message."""
    server.execute(
        "SELECT coalesce(nullif(application_name, ''), 'a program') || ' (process ' || pid || ')'"
        " FROM pg_stat_activity WHERE datname = %s ORDER BY pid",
        [name],
    )
    return ", ".join(program for (program,) in server.fetchall()) or "its connections"


def row(name: str, measured: Measurement) -> tuple[str, ...]:
    high, low = max(measured.estimate, measured.truth), max(1, min(measured.estimate, measured.truth))
    return (
        name,
        measured.what,
        f"{measured.rooms:,}",
        f"{measured.milliseconds:.2f}",
        measured.node,
        measured.index or "-",
        f"{measured.estimate:,}",
        f"{measured.truth:,}",
        f"×{high / low:.1f}" if high / low >= 1.05 else "-",
    )
