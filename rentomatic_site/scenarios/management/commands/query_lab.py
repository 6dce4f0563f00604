"""`query_lab`: measure one URL of the API on several scenarios."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management import CommandError, CommandParser
from django.db import DatabaseError, connection
from psycopg2 import errors
from psycopg2.sql import SQL, Identifier

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError, databases, isolation, locks, query_lab
from rentomatic_site.scenarios.command import ScenarioCommand
from rentomatic_site.scenarios.databases import TARGET, Database
from rentomatic_site.scenarios.query_lab import Measurement
from rooms.api.arguments import query_from_arguments
from rooms.api.errors import ParametersError
from rooms.api.explaining import explain_page
from rooms.api.search import Search

HEADER = ("scenario", "rooms", "ms", "plan", "index", "planned", "true", "off by")


class Command(ScenarioCommand):
    help = (
        "Shows what PostgreSQL does with an address of the API on loaded scenarios: milliseconds, plan, "
        "index, the planner's estimate of the matching rooms against the truth. The scenarios are only "
        "read; an index is tried in a copy."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("query", help='a query string such as "filter_price__lt=66&order=size"')
        parser.add_argument("--on", metavar="NAME,NAME", help="loaded scenarios (default: all of them)")
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
        chosen = self.chosen(options["on"])
        rows: list[tuple[str, ...]] = []
        for name, database in chosen.items():
            if options["index"]:
                rows += self.with_and_without(search, name, database, options["index"])
            else:
                with isolation.django_on(database.name):
                    rows.append(row(name, self.measure(search, name)))
        if options["sql"]:
            with isolation.django_on(next(iter(chosen.values())).name):
                for statement, _ in explain_page(search):
                    self.stdout.write(f"{statement}\n")
        self.table(HEADER, rows, right=["rooms", "ms", "planned", "true"])

    def chosen(self, names: str | None) -> dict[str, Database]:
        """The scenarios to measure, by name."""
        with postgres.session() as server:
            loaded = {
                databases.alias_of(database.name): database
                for database in databases.databases(server)
                if database.metadata.kind == TARGET and database.metadata.complete
            }
        wanted = names.split(",") if names else list(loaded)
        for name in wanted:
            if name not in loaded:
                raise ScenarioError(f"{name} is not loaded. Next: ./manage.py load_scenario {name}")
        if not wanted:
            raise ScenarioError("No scenario is loaded. Next: ./manage.py load_scenario million_rooms")
        return {name: loaded[name] for name in wanted}

    def measure(self, search: Search, name: str) -> Measurement:
        try:
            return query_lab.measure(search)
        except ParametersError as error:
            raise ScenarioError(f'{error}. Next: ./manage.py query_lab "{error.suggestion}"') from None
        except DatabaseError as error:
            raise ScenarioError(
                f"{name} cannot be asked: {str(error).strip()} Next: ./manage.py load_scenario {name} --reset"
            ) from None

    def with_and_without(
        self, search: Search, name: str, database: Database, columns: str
    ) -> Iterator[tuple[str, ...]]:
        """Measure in a copy, build the index there, measure again."""
        self.require_permission()
        with copy(name, database) as copied, isolation.django_on(copied):
            yield row(f"{name}, before", self.measure(search, name))
            self.build(columns)
            yield row(f"{name}, after", self.measure(search, name))

    def build(self, columns: str) -> None:
        if ";" in columns:
            raise ScenarioError('--index takes columns or expressions. Example: --index "price,size"')
        try:
            with connection.cursor() as session:
                session.execute(
                    SQL("CREATE INDEX {} ON room ({})").format(Identifier(query_lab.INDEX), SQL(columns))
                )
                session.execute("ANALYZE room")
        except DatabaseError as error:
            raise CommandError(
                f'PostgreSQL cannot build this index: {str(error).strip()}\nExample: --index "price,size"'
            ) from None


@contextmanager
def copy(name: str, database: Database) -> Iterator[str]:
    """Create a copy of the scenario's database and yield its name; drop it at the end."""
    metadata = database.metadata
    with locks.lock_templates(metadata.scenario) as server:
        template = databases.find(server, databases.template_name(metadata.scenario, metadata.fingerprint))
        try:
            copied = databases.create(server, metadata.scenario, template or database, metadata)
        except errors.ObjectInUse:
            raise ScenarioError(
                f"{name} cannot be copied while somebody is connected to it, and has no template any more. "
                "Next: end the connections."
            ) from None
        try:
            yield copied
        finally:
            databases.drop(server, copied)


def row(name: str, measured: Measurement) -> tuple[str, ...]:
    high, low = max(measured.estimate, measured.truth), max(1, min(measured.estimate, measured.truth))
    return (
        name,
        f"{measured.rooms:,}",
        f"{measured.milliseconds:.2f}",
        measured.node,
        measured.index or "-",
        f"{measured.estimate:,}",
        f"{measured.truth:,}",
        f"×{high / low:.1f}" if high / low >= 1.05 else "-",
    )
