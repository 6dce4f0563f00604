"""`./manage.py import_rooms FILE`."""

import os
import re
import sys
from argparse import ArgumentParser, ArgumentTypeError, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error
from django.utils.translation import ngettext

from rooms.api.errors import error_from_database
from rooms.imports.reader import FileRejectedError, LineErrors
from rooms.imports.writer import ImportResult, ImportRunningError, import_rooms


def whole_number(text: str) -> int:
    """An option's number, 0 … 9,999,999."""
    if not re.fullmatch(r"[0-9]{1,7}", text, re.ASCII):
        raise ArgumentTypeError(f"{text!r} is not a whole number from 0 to 9999999")
    return int(text)


class Command(BaseCommand):
    help = """Bring in rooms from a file.

Rooms whose code is known take the file's size, price, latitude and longitude; the others are
added; rooms that the file doesn't name stay as they are. All or nothing: one bad line and nothing
is written, every bad line is listed. Running it again with the same file changes nothing.

The file is CSV with a header (code,size,price,latitude,longitude in any order) or NDJSON, in UTF-8.
An empty size means that it isn't known. Coordinates are rounded to 8 decimals (1 mm)."""
    # They load every page and the admin, which this command does not use; `migrate` and `check` run them.
    requires_system_checks: list[str] = []

    def create_parser(self, *args: Any, **kwargs: Any) -> Any:
        return super().create_parser(*args, formatter_class=RawDescriptionHelpFormatter, **kwargs)

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", metavar="FILE", help="a CSV or NDJSON file; - reads standard input")
        parser.add_argument(
            "--dry-run", action="store_true", help="check the file and say what would change; write nothing"
        )
        parser.add_argument(
            "--mistakes",
            type=whole_number,
            default=100,
            metavar="N",
            help="list so many bad lines, count the others (default: 100)",
        )

    def handle(self, *, file: str, dry_run: bool, mistakes: int, verbosity: int, **options: Any) -> None:
        try:
            if file == "-":
                result = import_rooms(sys.stdin.buffer, dry_run=dry_run, limit=mistakes)
            else:
                with Path(file).open("rb") as stream:
                    size = os.fstat(stream.fileno()).st_size or None  # a pipe has none
                    result = import_rooms(stream, size=size, dry_run=dry_run, limit=mistakes)
        except OSError as error:
            raise CommandError(f"{file}: {error.strerror}. Next: name a CSV or NDJSON file.") from None
        except ImportRunningError:
            raise CommandError("Another import is running. Next: wait for its end, then try again.") from None
        except FileRejectedError as rejected:
            raise CommandError(rejection_message(rejected.errors)) from None
        except Error as error:
            raise CommandError(database_error_message(error)) from error
        if verbosity:
            self.stdout.write(result_message(result, dry_run))


def database_error_message(error: Error) -> str:
    """The message for a database error; an error that only a bug can cause is raised again."""
    if "Next:" in str(error):
        return str(error)
    problem = error_from_database(error)
    if problem is None:
        raise error
    return f"Nothing was imported. {problem.terminal_message}"


def rejection_message(errors: LineErrors) -> str:
    """The first errors, one a line, the number of the others, and the next step."""
    noun = ngettext("mistake", "mistakes", errors.total)
    lines = [f"Nothing was imported: {errors.total:,} {noun}."]
    lines += [f"  {error}" for error in errors.first]
    rest = errors.total - len(errors.first)
    if rest:
        lines.append(f"  … and {rest:,} more; --mistakes {errors.total} lists them all")
    lines.append("Next: correct the file, then import it again.")
    return "\n".join(lines)


def result_message(result: ImportResult, dry_run: bool) -> str:
    added, changed, unchanged = f"{result.added:,}", f"{result.changed:,}", f"{result.unchanged:,}"
    if dry_run:
        return (
            f"The file is good: {added} to add, {changed} to change, {unchanged} stay. Nothing was written."
        )
    return f"Rooms: {added} added, {changed} changed, {unchanged} unchanged."
