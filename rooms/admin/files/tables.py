"""
Tables as people and spreadsheets write them: any separator, a title above the header, columns of their own,
`Price (€)`, `51,5`, `66.0`. What is left are the columns and the text that rooms.imports.reader takes.
"""

import codecs
import csv
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from io import StringIO
from itertools import islice

from django.core.exceptions import ValidationError
from django.utils.translation import gettext, gettext_lazy

from rooms.admin.numbers import LIKE_THOUSANDS
from rooms.columns import COLUMNS, WHOLE_NUMBER

SEPARATORS = ",;\t"
HEADER_ROWS = 20
"""Rows within which the header is looked for; before it are titles."""

DECIMAL_COMMA = re.compile(r"-?[0-9]+,[0-9]+", re.ASCII)
WHOLE_DECIMAL = re.compile(r"(-?[0-9]+)\.0+", re.ASCII)

UNREADABLE_FILE = gettext_lazy("This is neither CSV nor an XLSX workbook, whichever was chosen.")
UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
"""What a file in UTF-16 begins with, as "Unicode text" of Excel does."""

Row = tuple[int, list[str]]
"""A row with its line number."""


def decode(data: bytes) -> str:
    """
    The text of CSV: UTF-8, UTF-16 with its mark, else Windows-1252, which is what Excel writes as "CSV".

    Values of rooms are ASCII, so that another encoding of eight bits misreads titles of ignored columns only.
    ValidationError for a file that is no text.
    """
    try:
        return data.decode("utf-16" if data.startswith(UTF_16) else "utf-8-sig")
    except UnicodeDecodeError:
        if b"\0" in data:
            raise ValidationError(UNREADABLE_FILE) from None
        return data.decode("cp1252", errors="replace")


def column_name(title: str) -> str:
    """The name of a column by its title: `price` for " Price (€/day)"."""
    return re.split(r"[,(\[/]", title.replace("\xa0", " "))[0].strip().lower()


def known_columns(row: Iterable[str]) -> int:
    return len(COLUMNS.keys() & set(map(column_name, row)))


def is_header(row: list[str]) -> bool:
    """Whether it names the code and another column, or at least two others."""
    return known_columns(row) >= 2


def read_csv(text: str) -> Iterator[Row]:
    """The rows of CSV with the separator that makes the most of its header."""
    head = list(islice(StringIO(text, newline=""), HEADER_ROWS))

    def columns(separator: str) -> int:
        return max((known_columns(line.strip().split(separator)) for line in head), default=0)

    separator = max(SEPARATORS, key=columns)
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    try:
        for row in reader:
            yield reader.line_num, row
    except csv.Error as error:
        message = gettext("Line %(line)s: not CSV (%(error)s).")
        raise ValidationError(message % {"line": reader.line_num, "error": error}) from None


def split_header(rows: Iterable[Row]) -> tuple[list[str], Iterator[Row]]:
    """The names of the columns and the filled rows below; without a header the first row is taken for one."""
    filled = ((line, row) for line, row in rows if any(map(str.strip, row)))
    before: list[Row] = []
    for line, row in filled:
        before.append((line, row))
        if is_header(row):
            return names(row), filled
        if len(before) == HEADER_ROWS:
            break
    return names(before[0][1]) if before else [], iter(())


def names(row: list[str]) -> list[str]:
    """Of each column: that of a room's column, or its own, which is ignored."""
    while row and not row[-1].strip():
        row.pop()
    return [column_name(title) if column_name(title) in COLUMNS else title.strip() for title in row]


def near_miss(title: str, columns: list[str]) -> str:
    """The missing column that an unknown one is probably meant for; else empty."""
    missing = [name for name in COLUMNS if name not in columns]
    return next(iter(get_close_matches(column_name(title[:50]), missing, 1, 0.75)), "")


def cell_text(column: str, text: str) -> str:
    """
    The text of a cell without what spreadsheets add to numbers.

    A whole number such as 1.000 or 1,000 is left as it is, for `parse_cell` to refuse: a file doesn't say
    whether its language writes a thousand so, or one.
    """
    text = text.replace("\xa0", " ").strip()
    if COLUMNS[column].limits is None:
        return text
    is_whole = COLUMNS[column].type is WHOLE_NUMBER
    if is_whole and LIKE_THOUSANDS.fullmatch(text):
        return text
    if DECIMAL_COMMA.fullmatch(text):
        text = text.replace(",", ".")
    whole = WHOLE_DECIMAL.fullmatch(text) if is_whole else None
    return whole[1] if whole else text
