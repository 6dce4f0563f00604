"""
Writing files of rooms to the table: staged by COPY, compared, then upserted, in one transaction.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from itertools import islice
from typing import BinaryIO

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from rooms.columns import COLUMNS
from rooms.imports.progress import progress
from rooms.imports.reader import FileRejectedError, LineError, LineErrors, parse_cell, read_records

LOCK_TIMEOUT = "10s"  # longer than a request of the admin takes
BATCH = 20_000  # lines per COPY and per INSERT: a few megabytes, and progress several times a second

NAMES = ", ".join(COLUMNS)
UPDATABLE = [name for name in COLUMNS if name != "code"]
"""The columns that a file can change in an existing room; names, in order."""


def row_expression(table: str) -> str:
    """SQL: the updatable columns of a table as a row constructor, for comparisons."""
    return f"({', '.join(f'{table}.{name}' for name in UPDATABLE)})"


STAGE = f"""
CREATE TEMPORARY TABLE staged_room (
    line integer, {", ".join(f"{column.name} {column.type.sql_type}" for column in COLUMNS.values())}
)
"""

DUPLICATES = """
SELECT line, code, first_line, count(*) OVER ()
FROM (SELECT line, code, min(line) OVER (PARTITION BY code) AS first_line
      FROM staged_room WHERE code IS NOT NULL) AS numbered
WHERE line > first_line ORDER BY line LIMIT %s
"""

# Unchanged rooms are removed before the upsert, which would lock them until the end of the transaction.
UNCHANGED = f"""
DELETE FROM staged_room AS staged USING room
WHERE room.code = staged.code AND {row_expression("room")} IS NOT DISTINCT FROM {row_expression("staged")}
"""

COMPARE = """
SELECT count(*) FILTER (WHERE room.id IS NULL), count(room.id)
FROM staged_room LEFT JOIN room USING (code)
"""

# A row that became equal meanwhile is not updated: its version, time and index entries stay.
UPSERT = f"""
WITH upserted AS (
    INSERT INTO room ({NAMES})
    SELECT {NAMES} FROM staged_room
    WHERE line BETWEEN %s AND %s ORDER BY line
    ON CONFLICT (code) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in UPDATABLE)}
    WHERE {row_expression("room")} IS DISTINCT FROM {row_expression("excluded")}
    RETURNING old.id IS NULL AS added
)
SELECT count(*) FILTER (WHERE added), count(*) FILTER (WHERE NOT added) FROM upserted
"""


class ImportRunningError(Exception):
    """Another import is running."""


@dataclass(frozen=True)
class ImportResult:
    """The numbers of rooms of a file that were (in a dry run: would be) added, changed, left unchanged."""

    added: int
    changed: int
    unchanged: int


def import_rooms(
    stream: BinaryIO, *, size: int | None = None, dry_run: bool = False, limit: int = 100
) -> ImportResult:
    """
    Import a file of rooms: rooms whose code exists are updated, the others are added.

    In one transaction: an error in the file (FileRejectedError with the first `limit` errors), another import
    (ImportRunningError), a lost connection or a killed process leave the table unchanged. `size` is the
    file's size in bytes, for the progress.
    """
    errors = LineErrors(limit)
    with transaction.atomic(), connection.cursor() as cursor:
        # An import may take long, and sorting a million codes takes memory. A pipe may pause: the transaction
        # holds no lock on rooms until the first one is written.
        cursor.execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; "
            "SET LOCAL work_mem = '64MB'; SELECT set_config('lock_timeout', %s, true)",
            [LOCK_TIMEOUT],
        )
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext('rooms:import'))")
        if not cursor.fetchone()[0]:
            raise ImportRunningError
        cursor.execute(STAGE)
        with progress(size, "bytes read") as advance:
            rows = copy_lines(read_records(stream, errors, advance), errors)
            while batch := list(islice(rows, BATCH)):
                with connection.wrap_database_errors:  # Django wraps errors of execute(), not of COPY
                    cursor.copy_expert("COPY staged_room FROM STDIN (FORMAT csv)", StringIO("".join(batch)))
        find_duplicates(cursor, errors)
        if errors.total:
            raise FileRejectedError(errors)
        cursor.execute("ANALYZE staged_room")
        cursor.execute(UNCHANGED)
        unchanged = cursor.rowcount
        added = changed = 0
        if dry_run:
            cursor.execute(COMPARE)
            added, changed = cursor.fetchone()
        else:
            cursor.execute("SELECT coalesce(max(line), 0) FROM staged_room")
            (last_line,) = cursor.fetchone()
            with progress(last_line, "lines written") as advance:
                for start in range(1, last_line + 1, BATCH):
                    stop = min(start + BATCH - 1, last_line)
                    cursor.execute(UPSERT, [start, stop])
                    newly_added, newly_changed = cursor.fetchone()
                    added, changed = added + newly_added, changed + newly_changed
                    advance(stop - start + 1)
            if added + changed > BATCH:
                cursor.execute("ANALYZE room")  # the planner's statistics are from before the import
        cursor.execute("DROP TABLE staged_room")
    return ImportResult(added, changed, unchanged)


def find_duplicates(cursor: CursorWrapper, errors: LineErrors) -> None:
    """Add an error for each line whose code is on an earlier line, sorted among the other errors."""
    cursor.execute(DUPLICATES, [errors.limit])
    found = cursor.fetchall()
    errors.total += found[0][3] if found else 0
    errors.first += [
        LineError(line, "code", f"{code} is already on line {first_line}")
        for line, code, first_line, _ in found
    ]
    errors.first = sorted(errors.first)[: errors.limit]


def copy_lines(records: Iterator[tuple[int, Sequence[str], bool]], errors: LineErrors) -> Iterator[str]:
    """
    The records as lines of CSV for COPY, the number first. Invalid cells become NULL; duplicate codes are
    still found.
    """
    for number, cells, valid in records:
        if not valid:
            cells = [staged_cell(number, *cell, errors) for cell in zip(COLUMNS, cells, strict=True)]
        yield f"{number},{','.join(cells)}\n"


def staged_cell(number: int, column: str, text: str, errors: LineErrors) -> str:
    """The cell's value as text, "" for NULL; an error is added to `errors`."""
    try:
        value = parse_cell(column, text)
    except ValueError as error:
        errors.add(LineError(number, column, str(error)))
        return ""
    return "" if value is None else str(value)
