"""`./manage.py rooms price__lt=66 size__gte=50`: the API's list on the terminal."""

import os
import sys
from argparse import ArgumentParser
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import urlencode

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from rooms.api import counts, queries
from rooms.api.arguments import query_from_arguments
from rooms.api.errors import ParametersError, error_from_database
from rooms.api.explaining import explain_page
from rooms.api.formats import FORMATS, Format
from rooms.api.operators import FILTERS, PREFIX
from rooms.api.pagination import DEFAULT_LIMIT
from rooms.api.parameters import LISTED, PARAMETERS
from rooms.api.search import Search
from rooms.columns import COLUMNS
from rooms.counting import Count


class Command(BaseCommand):
    help = (
        "Lists rooms with the filters and parameters of the API: price__lt=66, or a query string from an "
        'URL, "filter_price__lt=66&order=-size". Reads only; nothing is changed. '
        f"Filters: {', '.join(name.removeprefix(PREFIX) for name in FILTERS)}. "
        f"Parameters: {', '.join(name for name in PARAMETERS if name in LISTED)}."
    )
    # They load every page and the admin, which this command does not use; `migrate` and `check` run them.
    requires_system_checks: list[str] = []

    def create_parser(self, *args: Any, **kwargs: Any) -> CommandParser:
        """Options may stand between the arguments: `rooms price__lt=66 --format csv order=price`."""
        parser = super().create_parser(*args, **kwargs)
        parser.parse_args = parser.parse_intermixed_args  # type: ignore[method-assign]  # same signature
        return parser

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "query", nargs="*", metavar="NAME=VALUE", help="a filter or parameter, or a query string of them"
        )
        parser.add_argument(
            "--format",
            choices=["table", *FORMATS],
            default="table",
            help=f"how rooms are written (default: table). Without limit, csv, ndjson and geojson write all "
            f"rooms, the others {DEFAULT_LIMIT}, and say on stderr if more follow",
        )
        parser.add_argument(
            "--explain", action="store_true", help="run the statement under EXPLAIN and show it with its plan"
        )

    def handle(self, *, query: list[str], explain: bool, **options: Any) -> None:
        try:
            search = Search.parse(query_from_arguments(query))
            lines = explain_lines(search) if explain else self.room_lines(search, options["format"])
            for text in lines:
                self.stdout.write(text, ending="")
            self.stdout.flush()
        except ParametersError as error:
            raise CommandError(format_errors(error)) from None
        except BrokenPipeError:  # `| head` closed the pipe; what is still buffered is dropped
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except OperationalError as error:
            if "Next:" in str(error):
                raise CommandError(str(error)) from None
            problem = error_from_database(error)
            raise CommandError(problem.terminal_message if problem else str(error)) from error

    def room_lines(self, search: Search, name: str) -> Iterator[str]:
        """The rooms, as text in pieces; that more follow a page of a format is for stderr."""
        if name == "table":
            yield from table(search)
        elif FORMATS[name].streams and search.limit is None:
            yield from queries.stream(search, FORMATS[name])
            yield line_end(FORMATS[name])
        else:
            page = queries.page(search, FORMATS[name])
            yield page.text
            yield line_end(FORMATS[name])
            if page.last:
                self.stdout.flush()
                self.stderr.write(self.style.NOTICE(more(search, page.last)))


def format_errors(error: ParametersError) -> str:
    """Each error on a line of its own, and a command that works."""
    lines = []
    for field_error in error.errors:
        line = f"{field_error.parameter.removeprefix(PREFIX)}: {field_error.message}"
        if field_error.hint and " " not in field_error.hint:  # a sentence is about URLs and their headers
            line += f" (did you mean {field_error.hint.removeprefix(PREFIX)}?)"
        lines.append(line)
    return "\n".join([*lines, f'Next: ./manage.py rooms "{error.suggestion}"'])


def line_end(output: Format) -> str:
    """What a terminal needs after the text of a format."""
    return "" if output.ends_lines else "\n"


def table(search: Search) -> Iterator[str]:
    """Aligned columns with their units, then how many rooms that were and how to see more."""
    page = queries.values_page(search)
    names = queries.column_names(search)
    header = [heading(name) for name in names]
    rows = [["" if room[name] is None else str(room[name]) for name in names] for room in page.rooms]
    widths = [max(len(cell) for cell in column) for column in zip(header, *rows, strict=True)]
    for row in (header, *rows):
        cells = [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
        yield "  ".join([row[0].ljust(widths[0]), *cells]).rstrip() + "\n"
    yield str(Count(len(rows)))
    if search.count:
        total = counts.count(search)
        yield f" of {int(total)} ({total.precision})"
    yield "\n"
    if page.last:
        yield f"{more(search, page.last)}\n"


def heading(name: str) -> str:
    """A column's name with its unit."""
    unit = COLUMNS[name].unit if name in COLUMNS else ""
    return f"{name} ({unit})" if unit else name


def more(search: Search, last: list[str]) -> str:
    """The command for the page behind the one that ends with these sort values."""
    parameters = search.without_cursor() | {"after": search.cursor(last)}
    return f'More: ./manage.py rooms "{urlencode(parameters, safe=",:")}"'


def explain_lines(search: Search) -> Iterable[str]:
    """The statements of the page with their values, and PostgreSQL's plans of them, executed."""
    for statement, plan in explain_page(search):
        yield f"{statement}\n\n"
        for line in plan:
            yield f"{line}\n"
