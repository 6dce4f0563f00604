"""
Rows of an XLSX workbook, read by openpyxl after a check of its size.

openpyxl creates objects for everything in a file, however large. The XML is therefore scanned first, by expat
and in constant memory, up to the first limit that is exceeded.
"""

import zipfile
from collections.abc import Iterator
from io import BytesIO
from itertools import islice
from typing import IO, Any
from xml.parsers import expat

from django.core.exceptions import ValidationError
from django.utils.translation import gettext, gettext_lazy
from openpyxl import load_workbook
from openpyxl.utils import column_index_from_string, get_column_letter
from openpyxl.xml.constants import SHEET_MAIN_NS

from rooms.admin.files import tables

MAX_UNPACKED_SIZE = 20_000_000
"""Bytes of all parts; 10,000 rooms take about 2.5 MB."""
MAX_PARTS = 1_000
MAX_COLUMNS = 26
MAX_ROW_NUMBER = 1_048_576  # of any workbook
MAX_ELEMENTS = 300_000
"""Rows, cells and their text; 10,000 rooms in five columns are 120,000, which openpyxl reads in 0.7 s."""
MAX_OTHER_ELEMENTS = 10_000
"""All others, such as styles, names and formatted text; openpyxl takes up to 0.1 ms for each."""

ROW, CELL = f"{SHEET_MAIN_NS} row", f"{SHEET_MAIN_NS} c"
CELL_ELEMENTS = {ROW, CELL, *(f"{SHEET_MAIN_NS} {name}" for name in ("v", "f", "is", "t", "si"))}

TOO_LARGE = gettext_lazy(
    "This workbook holds far more than 10,000 rooms take. Copy the rooms into a new one, or save them as CSV."
)


def read_rows(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """
    The filled rows of a sheet with their numbers, each cell as the text that CSV would have: of the first
    sheet with the columns of rooms, else of the first.

    ValidationError where the workbook exceeds a limit; any other exception where the file is invalid.
    """
    check_size(data)
    sheets = load_workbook(BytesIO(data), read_only=True, data_only=True).worksheets
    rooms = next((sheet for sheet in sheets if has_rooms(sheet)), sheets[0])
    yield from sheet_rows(rooms)


def has_rooms(sheet: Any) -> bool:
    return any(tables.is_header(row) for _, row in islice(sheet_rows(sheet), tables.HEADER_ROWS))


def sheet_rows(sheet: Any) -> Iterator[tables.Row]:
    sheet.reset_dimensions()  # the dimensions in the file may be wrong
    for number, row in enumerate(sheet.iter_rows(max_col=MAX_COLUMNS, values_only=True), 1):
        if row.count(None) < len(row):
            yield number, ["" if value is None else str(value) for value in row]


def check_size(data: bytes) -> None:
    """Check a workbook against the limits; ValidationError names the one that it exceeds."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        parts = archive.infolist()
        if len(parts) > MAX_PARTS or sum(part.file_size for part in parts) > MAX_UNPACKED_SIZE:
            message = gettext("This workbook unpacks to more than %(number)s MB.")
            raise ValidationError(message % {"number": MAX_UNPACKED_SIZE // 1_000_000})
        counter = ElementCounter()
        for part in parts:
            if part.filename.endswith((".xml", ".rels")):
                with archive.open(part) as stream:
                    counter.count(stream)


class ElementCounter:
    """Counts the elements of a workbook's parts, and checks the order of rows and cells."""

    def __init__(self) -> None:
        self.elements = self.others = 0

    def count(self, stream: IO[bytes]) -> None:
        self.row = self.column = 0
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self.start
        parser.StartDoctypeDeclHandler = self.doctype
        parser.ParseFile(stream)

    def doctype(self, *_: object) -> None:
        raise ValidationError(
            gettext("This workbook declares a document type, which none does that a program saved.")
        )

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        if name not in CELL_ELEMENTS:
            self.others += 1
        if self.elements > MAX_ELEMENTS or self.others > MAX_OTHER_ELEMENTS:
            raise ValidationError(TOO_LARGE)
        if name == ROW:
            row = int(attributes.get("r") or self.row + 1)
            if not self.row < row <= MAX_ROW_NUMBER:
                message = gettext("Row %(row)s of this workbook does not follow row %(before)s.")
                raise ValidationError(message % {"row": row, "before": self.row})
            self.row, self.column = row, 0
        elif name == CELL:
            self.column += 1
            if "r" in attributes:
                self.column = column_index_from_string(attributes["r"].rstrip("0123456789"))
            if self.column > MAX_COLUMNS:
                message = gettext(
                    "Row %(row)s has a cell in column %(column)s. Delete all columns beyond %(last)s, "
                    "empty ones too, or save it as CSV."
                )
                column, last = get_column_letter(self.column), get_column_letter(MAX_COLUMNS)
                raise ValidationError(message % {"row": self.row, "column": column, "last": last})
