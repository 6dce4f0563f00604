"""
Rows of an XLSX workbook, by openpyxl, once it is known to be small enough.

openpyxl makes objects of all that a file describes, a row of 16,000 cells as readily as one of five. So the
XML is scanned first, by expat and without keeping anything; that ends at the first bound that is passed.
"""

import zipfile
from collections.abc import Iterator
from io import BytesIO
from typing import IO
from xml.parsers import expat

from django.core.exceptions import ValidationError
from openpyxl import load_workbook
from openpyxl.utils import column_index_from_string, get_column_letter
from openpyxl.xml.constants import SHEET_MAIN_NS

LARGEST_UNPACKED = 20_000_000
"""Bytes of all parts; 10,000 rooms take about 2.5 MB."""
MOST_PARTS = 1_000
MOST_COLUMNS = 26
LAST_ROW = 1_048_576  # of any workbook
MOST_ELEMENTS = 300_000
"""Of rows, cells and their text: 10,000 rooms in five columns are 120,000, which take openpyxl 0.7 s."""
MOST_OTHERS = 10_000
"""Of all else, such as styles, names and formatted text: openpyxl takes up to 0.1 ms for each."""

ROW, CELL = f"{SHEET_MAIN_NS} row", f"{SHEET_MAIN_NS} c"
CHEAP = {ROW, CELL, *(f"{SHEET_MAIN_NS} {name}" for name in ("v", "f", "is", "t", "si"))}

TOO_LARGE = (
    "This workbook holds far more than 10,000 rooms take. Copy the rooms into a new one, or save them as CSV."
)


def rows(data: bytes) -> Iterator[tuple[int, list[str]]]:
    """
    The filled rows of the first sheet with their numbers, each cell as the text that CSV would have.

    ValidationError where the workbook passes a bound; any other error where it is broken or none.
    """
    scan(data)
    sheet = load_workbook(BytesIO(data), read_only=True, data_only=True).worksheets[0]
    sheet.reset_dimensions()  # what the file says of itself may be wrong
    for number, row in enumerate(sheet.iter_rows(max_col=MOST_COLUMNS, values_only=True), 1):
        if row.count(None) < len(row):
            yield number, ["" if value is None else str(value) for value in row]


def scan(data: bytes) -> None:
    """Check a workbook against the bounds; ValidationError says which one it passes."""
    with zipfile.ZipFile(BytesIO(data)) as archive:
        parts = archive.infolist()
        if len(parts) > MOST_PARTS or sum(part.file_size for part in parts) > LARGEST_UNPACKED:
            raise ValidationError(f"This workbook unpacks to more than {LARGEST_UNPACKED // 1_000_000} MB.")
        bounds = Bounds()
        for part in parts:
            if part.filename.endswith((".xml", ".rels")):
                with archive.open(part) as stream:
                    bounds.count(stream)


class Bounds:
    """Counts the elements of a workbook's parts, and sees that rows and cells stand in their order."""

    def __init__(self) -> None:
        self.elements = self.others = 0

    def count(self, stream: IO[bytes]) -> None:
        self.row = self.column = 0
        parser = expat.ParserCreate(namespace_separator=" ")
        parser.StartElementHandler = self.start
        parser.StartDoctypeDeclHandler = self.doctype
        parser.ParseFile(stream)

    def doctype(self, *_: object) -> None:
        raise ValidationError("This workbook declares a document type, which none does that a program saved.")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self.elements += 1
        if name not in CHEAP:
            self.others += 1
        if self.elements > MOST_ELEMENTS or self.others > MOST_OTHERS:
            raise ValidationError(TOO_LARGE)
        if name == ROW:
            row = int(attributes.get("r") or self.row + 1)
            if not self.row < row <= LAST_ROW:
                raise ValidationError(f"Row {row} of this workbook does not follow row {self.row}.")
            self.row, self.column = row, 0
        elif name == CELL:
            self.column += 1
            if "r" in attributes:
                self.column = column_index_from_string(attributes["r"].rstrip("0123456789"))
            if self.column > MOST_COLUMNS:
                raise ValidationError(
                    f"Row {self.row} has a cell in column {get_column_letter(self.column)}. Delete all "
                    f"columns beyond {get_column_letter(MOST_COLUMNS)}, empty ones too, or save it as CSV."
                )
