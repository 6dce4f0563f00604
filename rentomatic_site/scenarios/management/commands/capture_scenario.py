"""`capture_scenario`: write real rooms as a scenario, a Python file for review and git."""

import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

from django.core.management import CommandParser
from django.db import DatabaseError
from django.utils import timezone

from rentomatic_site.scenarios import ScenarioError, discovery, sources
from rentomatic_site.scenarios.command import ScenarioCommand
from rooms.api import queries
from rooms.api.arguments import query_from_arguments
from rooms.api.errors import ParametersError
from rooms.api.operators import FILTERS
from rooms.api.parameters import WHERE
from rooms.api.search import Search
from rooms.columns import COLUMNS

DEFAULT_LIMIT = 200
DECIMALS = 3
"""Of a degree, about 100 m: a coordinate shows the street and not the house."""

SOURCE = '''"""{rooms} of {total}, captured on {date}: {about}.{query}"""

from rooms.seeding import room

EXPECT = {expect}

COLUMNS = {columns}

ROOMS = [
{lines}
]


def run() -> None:
    for values in ROOMS:
        room(**dict(zip(COLUMNS, values, strict=True)))
'''


class Command(ScenarioCommand):
    help = (
        "Writes scenarios/NAME.py from the rooms of the current database that match a query string, with "
        "fresh codes and places rounded to about a hundred metres. The database is only read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="of the scenario to write")
        parser.add_argument("query", nargs="?", default="", help='such as "filter_price__lt=66&order=size"')
        parser.add_argument(
            "--limit", type=int, default=DEFAULT_LIMIT, help=f"rooms at most (default: {DEFAULT_LIMIT})"
        )
        parser.add_argument("--keep-codes", action="store_true", help="write the real codes")
        parser.add_argument("--keep-places", action="store_true", help="write the exact coordinates")
        parser.add_argument(
            "--output",
            metavar="FILE",
            help="write there instead; -: to standard output, for containers, whose files cannot be written",
        )
        parser.add_argument("--force", action="store_true", help="overwrite a file that is there")

    def handle(self, *args: Any, **options: Any) -> None:
        name, query = options["name"], options["query"]
        if not discovery.NAME.fullmatch(name):
            raise ScenarioError(
                f"{name!r} cannot be a scenario's name: small letters, digits and underscores, "
                "a letter first, at most 40."
            )
        path = Path(options["output"] or sources.folder() / f"{name}.py")
        if options["output"] != "-" and path.exists() and not options["force"]:
            raise ScenarioError(f"{path} is there already. Next: another name, or --force to overwrite it.")
        if options["limit"] < 1:
            raise ScenarioError("--limit must be at least 1.")
        try:
            search = Search.parse(query_from_arguments([query]))
        except ParametersError as error:
            next_step = f'Next: ./manage.py capture_scenario {name} "{error.suggestion}"'
            raise ScenarioError(f"{error}. {next_step}") from None
        source = self.source(search, options)
        if options["output"] == "-":
            self.stdout.write(source, ending="")
            return
        try:
            path.write_text(source)
        except OSError as error:
            raise ScenarioError(
                f"{path} cannot be written ({error.strerror}). Next: --output - writes to standard output."
            ) from None
        self.stdout.write(f"Wrote {path}. Next: ./manage.py load_scenario {name}")

    def source(self, search: Search, options: dict[str, Any]) -> str:
        """The Python source of the scenario."""
        try:
            rooms = queries.values_page(replace(search, limit=options["limit"])).rooms
            total = queries.count(replace(search, count="exact"))
        except ParametersError as error:
            raise ScenarioError(f'{error}. Next: take the search "{error.suggestion}"') from None
        except DatabaseError as error:
            raise ScenarioError(f"The rooms cannot be read: {str(error).strip()}") from None
        if not rooms:
            raise ScenarioError("No room matches, nothing was written. Next: ./manage.py rooms (lists them)")

        keep_codes, keep_coordinates = options["keep_codes"], options["keep_places"]
        lines = [f"    {captured(room, keep_codes, keep_coordinates)}," for room in rooms]
        about = (
            "their own codes" if keep_codes else "fresh codes",
            "exact places" if keep_coordinates else f"places rounded to {DECIMALS} decimals",
        )
        query = query_string(search.given)
        return SOURCE.format(
            rooms=f"{len(rooms):,}",
            total=str(total),
            date=timezone.now().date(),
            about=", ".join(about),
            query=f"\n\n{query}\n" if query else "",
            expect=expectation(search, len(rooms), keep_codes, keep_coordinates),
            columns=repr(tuple(COLUMNS)).replace("'", '"'),
            lines="\n".join(lines),
        )


def captured(room: dict[str, Any], keep_code: bool, keep_coordinates: bool) -> str:
    """A room's values as a Python tuple, in the order of COLUMNS."""
    values = dict(room, code=str(room["code"] if keep_code else uuid.uuid4()))
    if not keep_coordinates:
        values |= {name: round(room[name], DECIMALS) for name in ("latitude", "longitude")}
    return repr(tuple(values[name] for name in COLUMNS)).replace("'", '"')


def expectation(search: Search, rooms: int, keep_codes: bool, keep_coordinates: bool) -> str:
    """EXPECT: the number of rooms for the query, or of all where it depends on altered values."""
    given = {name: value for name, value in search.given.items() if name in WHERE}
    fields = {FILTERS[name].column.name for name in given if name in FILTERS}
    by_coordinates = fields & {"latitude", "longitude"} or given.keys() - FILTERS.keys()
    if ("code" in fields and not keep_codes) or (by_coordinates and not keep_coordinates):
        given = {}
    return f'{{"{query_string(given)}": {rooms}}}'


def query_string(parameters: dict[str, str]) -> str:
    """The parameters as a query string; the values of a valid search need no escapes."""
    return "&".join(f"{name}={value}" for name, value in parameters.items())
