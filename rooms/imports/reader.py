"""
How rooms come in from files: what a file must look like, what each line must hold, and how all of it is
written at once. `./manage.py import_rooms` reads files through this; the admin's import shares the rules.
"""

import csv
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from io import StringIO
from itertools import chain, count, islice
from typing import Any, BinaryIO

from django.db import connection, transaction
from django.db.backends.utils import CursorWrapper

from rooms.columns import COLUMNS
from rooms.imports.progress import progress

MAX_COLUMNS = 100  # whose names are looked at: each unknown one is compared with all that there are
LONGEST_LINE = 65_536  # bytes; a room takes about 80
LOCK_TIMEOUT = "10s"  # longer than a request of the admin takes
BATCH = 20_000  # lines per COPY and per INSERT: a few megabytes, and progress several times a second


@dataclass(frozen=True, order=True)
class Mistake:
    """What is wrong in a file, where. The column is empty where the line as a whole is meant."""

    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}{self.column and f', {self.column}'}: {self.reason}"


class Mistakes:
    """The first `limit` mistakes of a file and the number of all."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self.listed: list[Mistake] = []

    def add(self, mistake: Mistake) -> None:
        self.total += 1
        if len(self.listed) < self.limit:
            self.listed.append(mistake)


class Refused(Exception):
    """The file has mistakes; nothing of it was imported."""

    def __init__(self, mistakes: Mistakes) -> None:
        super().__init__(f"{mistakes.total} mistakes")
        self.mistakes = mistakes


class Busy(Exception):
    """Another import is running."""


@dataclass(frozen=True)
class Outcome:
    """The rooms of a file, by what the import did (or, when it only looked, would do) with them."""

    added: int
    changed: int
    unchanged: int


# --- The rules


def shown(text: str) -> str:
    """The text as a message quotes it: short, and with whatever no terminal prints escaped."""
    return repr(text if len(text) <= 50 else text[:49] + "…")


def column_mistakes(columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """What is wrong with the names of a file's columns, as pairs of column and reason."""
    if len(columns) == 1 and len(other := re.split(r"[;\t|]", columns[0])) > 1:
        separator = columns[0][len(other[0])]
        yield "", f"the columns are separated by {separator!r}, not by commas"
        return
    if len(columns) > MAX_COLUMNS:
        yield "", f"{len(columns):,} columns; those of a room are {', '.join(COLUMNS)}"
        return
    for column in dict.fromkeys(columns):
        if column not in COLUMNS:
            near = get_close_matches(column[:50].strip().lower(), COLUMNS, 1)
            hint = f"do you mean {near[0]}?" if near else f"the columns are {', '.join(COLUMNS)}"
            yield shown(column), f"unknown column; {hint}"
        elif columns.count(column) > 1:
            yield column, "given twice"
    for column in COLUMNS:
        if column not in columns:
            yield column, "this column is missing"


def parse_cell(column: str, text: str) -> Any:
    """What a cell says, as the field's Python type; None for what is not known. Or ValueError."""
    if not text:
        if COLUMNS[column].nullable:
            return None
        raise ValueError("is empty")
    try:
        return COLUMNS[column].parse(text)
    except ValueError as error:
        raise ValueError(f"{error}, not {shown(text)}") from None


# --- Reading


def lines(stream: BinaryIO, mistakes: Mistakes, advance: Callable[[int], None]) -> Iterator[tuple[int, str]]:
    """The file's lines with their numbers, without line ends; empty ones are skipped."""
    for number in count(1):
        raw = stream.readline(LONGEST_LINE)
        if not raw:
            return
        advance(len(raw))
        if len(raw) == LONGEST_LINE and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(LONGEST_LINE)
                advance(len(raw))
            mistakes.add(Mistake(number, "", f"longer than {LONGEST_LINE} bytes"))
            continue
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            mistakes.add(Mistake(number, "", f"not UTF-8 at byte {error.start + 1}"))
            continue
        if text:
            yield number, text


def csv_cells(text: str) -> list[str]:
    """
    One line of CSV. No value of a room holds a line end, so that a quoted field never goes on in the
    next line, and one stray quote spoils its own line only.
    """
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise ValueError(f"not CSV ({error})") from None


class Number(str):
    """A number in JSON, as it was written."""


def json_cells(text: str) -> list[str]:
    """One line of NDJSON, in the order of COLUMNS, each value as the text that CSV would have."""
    try:
        pairs = json.loads(
            text, object_pairs_hook=tuple, parse_int=Number, parse_float=Number, parse_constant=Number
        )
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(pairs, tuple):
        raise ValueError("not a JSON object")
    for column, reason in column_mistakes([key for key, _ in pairs]):
        raise ValueError(f"{column}: {reason}")
    values = dict(pairs)
    for column, value in values.items():
        is_text = COLUMNS[column].type.schema["type"] == "string"
        if value is not None and type(value) is not (str if is_text else Number):
            raise ValueError(f"{column}: must be a {'string' if is_text else 'number'} in JSON")
    return [values[column] or "" for column in COLUMNS]


def records(
    stream: BinaryIO, mistakes: Mistakes, advance: Callable[[int], None]
) -> Iterator[tuple[int, list[str]]]:
    """
    The file's records with their line numbers, cells in the order of COLUMNS.

    A file whose first line opens a brace is NDJSON, any other is CSV with a header. Raises Refused for
    a header that does not name the columns: every further line would be a mistake of its own.
    """
    numbered = lines(stream, mistakes, advance)
    first_number, first = next(numbered, (1, ""))
    if first.startswith("{"):
        cells_of, order = json_cells, list(range(len(COLUMNS)))
        numbered = chain([(first_number, first)], numbered)
    else:
        try:
            header = csv_cells(first) if first else []
        except ValueError as error:
            mistakes.add(Mistake(first_number, "", str(error)))
            raise Refused(mistakes) from None
        for column, reason in column_mistakes(header):
            mistakes.add(Mistake(first_number, column, reason))
        if mistakes.total:
            raise Refused(mistakes)
        cells_of, order = csv_cells, [header.index(column) for column in COLUMNS]
    for number, text in numbered:
        try:
            cells = cells_of(text)
            if len(cells) != len(COLUMNS):
                raise ValueError(f"{len(cells)} values instead of {len(COLUMNS)}")
        except ValueError as error:
            mistakes.add(Mistake(number, "", str(error)))
            continue
        yield number, [cells[position] for position in order]


def copy_lines(rows: Iterator[tuple[int, list[str]]], mistakes: Mistakes) -> Iterator[str]:
    """The records as lines for COPY. A bad cell becomes NULL, so that the line's code is still compared."""
    for number, cells in rows:
        fields = [str(number)]
        for column, text in zip(COLUMNS, cells, strict=True):
            value = None
            try:
                value = parse_cell(column, text)
            except ValueError as error:
                mistakes.add(Mistake(number, column, str(error)))
            fields.append(r"\N" if value is None else str(value))
        yield "\t".join(fields) + "\n"


# --- Writing

NAMES = ", ".join(COLUMNS)
CHANGING = [name for name in COLUMNS if name != "code"]
"""The columns that a file may change of a known room."""


def row_of(table: str) -> str:
    """The changing columns of a table as one row, for comparing."""
    return f"({', '.join(f'{table}.{name}' for name in CHANGING)})"


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

# What is already as it should be takes no part in the writing, which would lock it to the end.
UNCHANGED = f"""
DELETE FROM staged_room AS staged USING room
WHERE room.code = staged.code AND {row_of("room")} IS NOT DISTINCT FROM {row_of("staged")}
"""

COMPARE = """
SELECT count(*) FILTER (WHERE room.id IS NULL), count(room.id)
FROM staged_room LEFT JOIN room USING (code)
"""

# A row that somebody made so meanwhile isn't touched: its version, its time and its index entries stay.
UPSERT = f"""
WITH upserted AS (
    INSERT INTO room ({NAMES})
    SELECT {NAMES} FROM staged_room
    WHERE line BETWEEN %s AND %s ORDER BY line
    ON CONFLICT (code) DO UPDATE SET {", ".join(f"{name} = excluded.{name}" for name in CHANGING)}
    WHERE {row_of("room")} IS DISTINCT FROM {row_of("excluded")}
    RETURNING old.id IS NULL AS added
)
SELECT count(*) FILTER (WHERE added), count(*) FILTER (WHERE NOT added) FROM upserted
"""


def import_rooms(
    stream: BinaryIO, *, size: int | None = None, dry_run: bool = False, limit: int = 100
) -> Outcome:
    """
    Bring in a file of rooms: those with a known code take the file's values, the others are added.

    All of it in one transaction: a mistake (Refused, listing the first `limit`), another import
    (Busy), a lost connection or a killed process leave the rooms as they were. `size` is the file's,
    in bytes, for the progress. A million rooms take about 40 seconds.
    """
    mistakes = Mistakes(limit)
    with transaction.atomic(), connection.cursor() as cursor:
        # A long work by intent; sorting a million codes takes some memory for as long as it lasts. A pipe may
        # pause: until the first room is written, nobody waits for this transaction.
        cursor.execute(
            "SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; "
            "SET LOCAL work_mem = '64MB'; SELECT set_config('lock_timeout', %s, true)",
            [LOCK_TIMEOUT],
        )
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtext('rooms:import'))")
        if not cursor.fetchone()[0]:
            raise Busy
        cursor.execute(STAGE)
        with progress(size, "bytes read") as advance:
            rows = copy_lines(records(stream, mistakes, advance), mistakes)
            while batch := list(islice(rows, BATCH)):
                with connection.wrap_database_errors:  # Django's cursor knows nothing of COPY
                    cursor.copy_expert("COPY staged_room FROM STDIN", StringIO("".join(batch)))
        find_duplicates(cursor, mistakes)
        if mistakes.total:
            raise Refused(mistakes)
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
                cursor.execute("ANALYZE room")  # the planner would go by the old number of rooms
        cursor.execute("DROP TABLE staged_room")
    return Outcome(added, changed, unchanged)


def find_duplicates(cursor: CursorWrapper, mistakes: Mistakes) -> None:
    """Add the lines whose code stands on an earlier one, each in its place among the other mistakes."""
    cursor.execute(DUPLICATES, [mistakes.limit])
    found = cursor.fetchall()
    mistakes.total += found[0][3] if found else 0
    mistakes.listed += [
        Mistake(line, "code", f"{code} is already on line {first_line}")
        for line, code, first_line, _ in found
    ]
    mistakes.listed = sorted(mistakes.listed)[: mistakes.limit]
