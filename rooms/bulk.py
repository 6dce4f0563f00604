"""Storing many given rooms at once, by COPY: from a list, from a generator, or from a CSV file."""

import csv
import gzip
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import StringIO
from itertools import chain, islice
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from psycopg2.sql import SQL, Identifier

from rooms.columns import COLUMNS
from rooms.imports.progress import progress
from rooms.models import Room

BATCH = 50_000
"""Rooms per COPY: enough to be fast, and few enough for progress and constant memory."""

OTHER_COLUMNS = {"id", "created_at", "updated_at", "version"}
"""Columns that the table has, and the API's rooms do not."""


def store(rows: Iterable[Mapping[str, Any]], plausible: dict[str, Callable[[], Any]]) -> int:
    """
    Store the rows by COPY, and return their number. A column of COLUMNS that the first row lacks gets a value
    by `plausible`. All rows need the columns of the first one: TypeError names what differs.
    """
    rows = iter(rows)
    first = next(rows, None)
    if first is None:
        return 0
    given = list(first)
    if unknown := set(given) - COLUMNS.keys() - OTHER_COLUMNS:
        raise TypeError(f"rooms() got unexpected columns: {', '.join(sorted(unknown))}")
    missing = [plausible[name] for name in COLUMNS if name not in first]
    columns = given + [name for name in COLUMNS if name not in first]
    statement = SQL("COPY {} ({}) FROM STDIN (FORMAT csv)").format(
        Identifier(Room._meta.db_table), SQL(", ").join(map(Identifier, columns))
    )
    stored = 0
    with transaction.atomic(), connection.cursor() as cursor, progress(None, "rooms") as advance:
        for batch in batches(chain([first], rows), BATCH):
            text = StringIO()
            write = csv.writer(text).writerow
            for row in batch:
                if row.keys() != first.keys():
                    different = ", ".join(sorted(row.keys() ^ first.keys()))
                    raise TypeError(f"rooms() got rows with different columns: {different}")
                write([*(row[name] for name in given), *(value() for value in missing)])
            text.seek(0)
            cursor.copy_expert(statement, text)
            stored += len(batch)
            advance(len(batch))
    return stored


def batches(rows: Iterable[Mapping[str, Any]], size: int) -> Iterator[list[Mapping[str, Any]]]:
    rows = iter(rows)
    while batch := list(islice(rows, size)):
        yield batch


def csv_rows(path: str | Path) -> Iterator[dict[str, str]]:
    """
    The rows of a CSV file with a header, also of one compressed by gzip (`.gz`); all values are text, and an
    empty one stands for none.
    """
    path = Path(path)
    with gzip.open(path, "rt", newline="") if path.suffix == ".gz" else path.open(newline="") as file:
        yield from csv.DictReader(file)
