"""`capture_scenario`: write real rooms as a scenario, a Python file for review and git."""

import csv
import gzip
import tempfile
from io import StringIO
from pathlib import Path
from typing import Any

from django.core.management import CommandParser
from django.db import DatabaseError
from django.utils import timezone

from rentomatic_site.lab import capture
from rentomatic_site.lab.capture import Captured
from rentomatic_site.scenarios import ScenarioError, discovery, sources
from rentomatic_site.scenarios.command import ScenarioCommand
from rooms.api.arguments import query_from_arguments
from rooms.api.errors import ParametersError
from rooms.api.search import Search
from rooms.columns import COLUMNS

DEFAULT_LIMIT = 200
DEFAULT_NEIGHBOURS = 10

MAX_IN_PYTHON = 1_000
"""Rooms that a Python file has; more are in a data file, which is smaller and loads by COPY."""

PAGE_OF_MANY = 20
"""Rooms whose order is expected where there is a data file."""

SOURCE = '''"""{about}"""

from rooms.seeding import room

COLUMNS = {columns}

ROOMS = [
{lines}
]

PAGE = {page}
"""The rooms of the page, by their places in ROOMS."""

EXPECT = {{"{query}": [ROOMS[n][0] for n in PAGE]}}


def run() -> None:
    for values in ROOMS:
        room(**dict(zip(COLUMNS, values, strict=True)))
'''

SOURCE_OF_MANY = '''"""{about}"""

from pathlib import Path

from rooms.seeding import csv_rows, rooms

ROOMS = Path(__file__).with_suffix("") / "{data}"

EXPECT = {{
    "": {rooms},
    "{query}": [
{lines}
    ],
}}


def run() -> None:
    rooms(csv_rows(ROOMS))
'''

DATA = "rooms.csv.gz"


class Command(ScenarioCommand):
    help = (
        "Writes scenarios/NAME.py from the rooms of the current database that match a query string, and from "
        "some that just don't, so that the scenario's page shows the same rooms in the same order; with "
        "fresh codes, and places rounded to about a hundred metres. More than a thousand rooms go into "
        f"scenarios/NAME/{DATA}. The database is only read."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("name", help="of the scenario to write")
        parser.add_argument("query", nargs="?", default="", help='such as "filter_price__lt=66&order=size"')
        parser.add_argument(
            "--limit", type=int, default=DEFAULT_LIMIT, help=f"rooms at most (default: {DEFAULT_LIMIT})"
        )
        parser.add_argument(
            "--neighbours",
            type=int,
            default=DEFAULT_NEIGHBOURS,
            help="rooms that only one filter leaves out, the nearest to its limit, for each filter "
            f"(default: {DEFAULT_NEIGHBOURS})",
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
        if options["limit"] < 1 or options["neighbours"] < 0:
            raise ScenarioError("--limit must be at least 1, --neighbours at least 0.")
        try:
            search = Search.parse(query_from_arguments([query]))
        except ParametersError as error:
            next_step = f'Next: ./manage.py capture_scenario {name} "{error.suggestion}"'
            raise ScenarioError(f"{error}. {next_step}") from None
        if search.after or search.before:
            raise ScenarioError("A capture begins with the first page. Next: leave out `after` and `before`.")
        found = self.found(search, options)
        files = written(found, options, path)
        if options["output"] == "-":
            if len(files) > 1:
                raise ScenarioError(
                    f"{len(found.rows):,} rooms need a data file beside the scenario, and standard output is "
                    f"one file. Next: --output /tmp/{name}.py, then copy it and /tmp/{name}/{DATA}"
                )
            self.stdout.write(files[path].decode(), ending="")
            return
        try:
            write(files)
        except OSError as error:
            raise ScenarioError(
                f"{path} cannot be written ({error.strerror}). Next: --output - writes to standard output."
            ) from None
        self.stdout.write(
            f"Wrote {' and '.join(map(str, files))}. Next: ./manage.py load_scenario {path.stem}"
        )

    def found(self, search: Search, options: dict[str, Any]) -> Captured:
        """The rooms to write; at least one."""
        limit = min(filter(None, (search.limit, options["limit"])))
        try:
            found = capture.capture(
                search,
                limit,
                options["neighbours"],
                keep_codes=options["keep_codes"],
                keep_places=options["keep_places"],
            )
        except ParametersError as error:
            raise ScenarioError(f'{error}. Next: take the search "{error.suggestion}"') from None
        except DatabaseError as error:
            raise ScenarioError(f"The rooms cannot be read: {str(error).strip()}") from None
        if not found.page:
            raise ScenarioError("No room matches, nothing was written. Next: ./manage.py rooms (lists them)")
        return found


def write(files: dict[Path, bytes]) -> None:
    """Write all files, or none: each under another name first."""
    folder = next(iter(files)).parent
    with tempfile.TemporaryDirectory(dir=folder, prefix=".capture-") as temporary:
        for number, content in enumerate(files.values()):
            Path(temporary, str(number)).write_bytes(content)
        for number, file in reversed(list(enumerate(files))):  # the scenario is there when its data are
            if file.parent != folder:
                file.parent.mkdir(exist_ok=True)
            Path(temporary, str(number)).replace(file)


def written(found: Captured, options: dict[str, Any], path: Path) -> dict[Path, bytes]:
    """The content of the scenario's files; the first is the Python file."""
    if len(found.rows) <= MAX_IN_PYTHON:
        lines = [f"    {values(row)}," for row in found.rows]
        source = SOURCE.format(
            about=about(found, options),
            columns=repr(tuple(COLUMNS)).replace("'", '"'),
            lines="\n".join(lines),
            page=found.page,
            query=found.query,
        )
        return {path: source.encode()}
    first = found.page[:PAGE_OF_MANY]
    source = SOURCE_OF_MANY.format(
        about=about(found, options),
        data=DATA,
        rooms=len(found.rows),
        query="&".join(filter(None, [found.query, f"limit={len(first)}"])),
        lines="\n".join(f'        "{found.rows[number]["code"]}",' for number in first),
    )
    return {path: source.encode(), path.with_suffix("") / DATA: compressed(found)}


def values(row: capture.Row) -> str:
    """A room's values as a Python tuple, in the order of COLUMNS."""
    return repr(tuple(row[name] for name in COLUMNS)).replace("'", '"')


def compressed(found: Captured) -> bytes:
    """The rooms as CSV, compressed; the same bytes for the same rooms."""
    text = StringIO(newline="")
    writer = csv.DictWriter(text, list(COLUMNS), extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(found.rows)
    return gzip.compress(text.getvalue().encode(), mtime=0)


def about(found: Captured, options: dict[str, Any]) -> str:
    """What the scenario has, without a code or a place."""
    parts = [
        "their own codes" if options["keep_codes"] else "fresh codes",
        "exact places" if options["keep_places"] else f"places rounded to {capture.STREET} decimals",
    ]
    if found.exact:
        parts.append(f"{found.exact:,} of them exact, or the page would be another one")
    others = len(found.rows) - len(found.page)
    beside = f", and {others:,} that just do not match" if others else ""
    return (
        f"{len(found.page):,} of {found.total:,} rooms{beside}, captured on {timezone.now().date()}:\n"
        f"{', '.join(parts)}."
    )
