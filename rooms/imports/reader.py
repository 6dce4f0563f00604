"""
Reading files of rooms: the format of a file, its lines and cells, and the errors in them. The writer stores
what is read here; the admin's import uses the rules of columns and cells.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import chain, count
from operator import itemgetter
from typing import Any, BinaryIO

from django.utils.formats import number_format
from django.utils.translation import gettext, ngettext

from rooms.columns import COLUMNS, DECIMALS, DEGREES, Column

MAX_COLUMNS = 100
"""Columns of a file whose names are compared with those of a room, for a suggestion."""
MAX_LINE_SIZE = 65_536
"""Bytes; a room takes about 80."""


@dataclass(frozen=True, order=True)
class LineError:
    """An error of one line of a file; `column` is empty where the line as a whole is wrong."""

    line: int
    column: str
    reason: str

    def __str__(self) -> str:
        if self.column:
            return f"line {self.line}, {self.column}: {self.reason}"
        return f"line {self.line}: {self.reason}"


class LineErrors:
    """The first `limit` errors of a file, and the number of all."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.total = 0
        self.first: list[LineError] = []

    def add(self, error: LineError) -> None:
        self.total += 1
        if len(self.first) < self.limit:
            self.first.append(error)


class FileRejectedError(Exception):
    """The file has errors; nothing was imported."""

    def __init__(self, errors: LineErrors) -> None:
        super().__init__(f"errors in the file: {errors.total}")
        self.errors = errors


# --- Columns and cells


def quote(text: str) -> str:
    """The text for a message: at most 50 characters, with control characters escaped."""
    return repr(text if len(text) <= 50 else text[:49] + "…")


def count_values(cells: Sequence[str]) -> str:
    """As in "1 value" or "6 values"."""
    number = number_format(len(cells), use_l10n=True, force_grouping=True)
    return ngettext("%(number)s value", "%(number)s values", len(cells)) % {"number": number}


def column_errors(columns: Sequence[str]) -> Iterator[tuple[str, str]]:
    """The errors in the names of a file's columns, as pairs of column and reason."""
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
            yield quote(column), f"unknown column; {hint}"
        elif columns.count(column) > 1:
            yield column, "given twice"
    for column in COLUMNS:
        if column not in columns:
            yield column, "this column is missing"


def parse_cell(column: str, text: str) -> Any:
    """The value of a cell, of the column's Python type; None where the text is empty. Raises ValueError."""
    if not text:
        if COLUMNS[column].nullable:
            return None
        raise ValueError(gettext("is empty"))
    try:
        return COLUMNS[column].parse(text)
    except ValueError as error:
        message = gettext("%(error)s, not %(value)s")
        raise ValueError(message % {"error": error, "value": quote(text)}) from None


def below(limit: int) -> str:
    """A pattern for the digits of a whole number less than the limit (more than 0)."""
    digits = str(limit)
    choices = [f"[0-9]{{1,{len(digits) - 1}}}"] if len(digits) > 1 else []
    for place, digit in enumerate(digits):
        if digit != "0":
            rest = len(digits) - place - 1
            choices.append(f"{digits[:place]}[0-{int(digit) - 1}][0-9]{{{rest}}}")
    return f"(?:{'|'.join(choices)})"


def plain_cell(column: Column) -> str:
    """
    A pattern for texts that `parse_cell` accepts, and that PostgreSQL reads as the value that it returns.
    Other texts may be valid too.
    """
    if column.limits is None:
        pattern = column.type.pattern
        plain = f"(?i:{pattern.pattern})" if pattern.flags & re.IGNORECASE else f"(?:{pattern.pattern})"
    else:
        low, high = column.limits
        sign = {0: "", 1: "(?!0)", -high: "-?"}.get(low, "(?!)")
        decimals = rf"(?:\.[0-9]{{1,{DECIMALS}}})?" if column.type is DEGREES else ""
        plain = f"(?:{sign}{below(high)}{decimals})"
    return f"{plain}?" if column.nullable else plain


def plain_line(columns: Sequence[str]) -> re.Pattern[str]:
    """
    A pattern for lines of CSV that have only plain cells. Nearly all lines of a large file match, which takes
    a tenth of the time of parsing their cells.
    """
    return re.compile(",".join(plain_cell(COLUMNS[column]) for column in columns), re.ASCII)


# --- Lines


def read_lines(
    stream: BinaryIO, errors: LineErrors, advance: Callable[[int], None]
) -> Iterator[tuple[int, str]]:
    """The file's lines with their numbers, without line ends; empty ones are skipped."""
    for number in count(1):
        raw = stream.readline(MAX_LINE_SIZE)
        if not raw:
            return
        advance(len(raw))
        if len(raw) == MAX_LINE_SIZE and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = stream.readline(MAX_LINE_SIZE)
                advance(len(raw))
            errors.add(LineError(number, "", f"longer than {MAX_LINE_SIZE} bytes"))
            continue
        try:
            text = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            errors.add(LineError(number, "", f"not UTF-8 at byte {error.start + 1}"))
            continue
        if text:
            yield number, text


def parse_csv_line(text: str) -> list[str]:
    """
    The cells of one line of CSV. No value of a room contains a line end, so each line is parsed by itself and
    an unbalanced quote affects that line only.
    """
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise ValueError(f"not CSV ({error})") from None


class Number(str):
    """A number in JSON, as its text."""


def parse_json_line(text: str) -> list[str]:
    """The cells of one line of NDJSON, in the order of COLUMNS, as the text that CSV has."""
    try:
        pairs = json.loads(
            text, object_pairs_hook=tuple, parse_int=Number, parse_float=Number, parse_constant=Number
        )
    except (ValueError, RecursionError):
        raise ValueError("not JSON") from None
    if not isinstance(pairs, tuple):
        raise ValueError("not a JSON object")
    for column, reason in column_errors([key for key, _ in pairs]):
        raise ValueError(f"{column}: {reason}")
    values = dict(pairs)
    for column, value in values.items():
        is_text = COLUMNS[column].type.schema["type"] == "string"
        if value is not None and type(value) is not (str if is_text else Number):
            raise ValueError(f"{column}: must be a {'string' if is_text else 'number'} in JSON")
    return [values[column] or "" for column in COLUMNS]


def read_records(
    stream: BinaryIO, errors: LineErrors, advance: Callable[[int], None]
) -> Iterator[tuple[int, Sequence[str], bool]]:
    """
    The file's records: line number, cells in the order of COLUMNS, and whether they are known to be valid.

    A file that begins with a brace is NDJSON, any other is CSV with a header. Raises FileRejectedError for a
    header with errors, without reading further: each line would repeat them.
    """
    numbered = read_lines(stream, errors, advance)
    first_number, first = next(numbered, (1, ""))
    if first.startswith("{"):
        yield from parse_lines(chain([(first_number, first)], numbered), parse_json_line, errors)
        return
    try:
        header = parse_csv_line(first) if first else []
    except ValueError as error:
        errors.add(LineError(first_number, "", str(error)))
        raise FileRejectedError(errors) from None
    for column, reason in column_errors(header):
        errors.add(LineError(first_number, column, reason))
    if errors.total:
        raise FileRejectedError(errors)
    in_order = itemgetter(*(header.index(column) for column in COLUMNS))
    is_plain = plain_line(header).fullmatch
    for number, text in numbered:
        if is_plain(text):
            yield number, in_order(text.split(",")), True
        else:
            for _, cells, _ in parse_lines([(number, text)], parse_csv_line, errors):
                yield number, in_order(cells), False


def parse_lines(
    numbered: Iterable[tuple[int, str]], parse_line: Callable[[str], list[str]], errors: LineErrors
) -> Iterator[tuple[int, Sequence[str], bool]]:
    """The records of these lines, whose cells are to be parsed."""
    for number, text in numbered:
        try:
            cells = parse_line(text)
            if len(cells) != len(COLUMNS):
                raise ValueError(f"{count_values(cells)} instead of {len(COLUMNS)}")
        except ValueError as error:
            errors.add(LineError(number, "", str(error)))
        else:
            yield number, cells, False
