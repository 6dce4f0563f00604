"""
Files of any number of rooms, as streams: CSV, and XLSX of which only the current rows are in memory.

openpyxl writes a workbook to temporary files, and takes 80 µs of CPU for a row. Here it makes the small
parts only; the rows are written in the format's own XML (ISO/IEC 29500-1, 18.3.1).
"""

import csv
from collections.abc import Iterable, Iterator
from io import BytesIO, RawIOBase, StringIO
from itertools import chain, islice
from typing import Any
from xml.sax.saxutils import escape
from zipfile import ZIP_DEFLATED, ZipFile

from openpyxl import Workbook
from openpyxl.xml.constants import SHEET_MAIN_NS

ROWS = 2_000
"""Rows of a chunk."""
MAX_SHEET_ROWS = 1_048_576
"""Of any workbook; more rooms continue on a further sheet."""

FORMULA_PREFIXES = ("=", "+", "-", "@", "\t", "\r")


def cell(value: Any) -> Any:
    """Numbers stay numbers; text that a spreadsheet would evaluate gets an apostrophe."""
    if isinstance(value, int | float):
        return value
    text = "" if value is None else str(value)
    return f"'{text}" if text.startswith(FORMULA_PREFIXES) else text


def stream_csv(header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[bytes]:
    lines = chain([header], (tuple(map(cell, row)) for row in rows))
    for chunk in batches(lines):
        text = StringIO()
        csv.writer(text, lineterminator="\n").writerows(chunk)
        yield text.getvalue().encode()


def batches(rows: Iterable[tuple[Any, ...]]) -> Iterator[list[tuple[Any, ...]]]:
    iterator = iter(rows)
    while batch := list(islice(iterator, ROWS)):
        yield batch


class Output(RawIOBase):
    """What a ZipFile writes, to be taken in between. It has no `seek`, so that sizes follow the data."""

    def __init__(self) -> None:
        self.written = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.written += data
        return len(data)

    def take(self) -> bytes:
        taken, self.written = bytes(self.written), bytearray()
        return taken


def xml_cell(value: Any) -> str:
    if isinstance(value, int | float):
        return f"<c><v>{value}</v></c>"
    text = str(cell(value))
    return f'<c t="inlineStr"><is><t>{escape(text)}</t></is></c>' if text else "<c/>"


def xml_row(row: tuple[Any, ...]) -> str:
    return f"<row>{''.join(map(xml_cell, row))}</row>"


def stream_xlsx(header: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> Iterator[bytes]:
    """A workbook with the header on each of its sheets; the parts that name the sheets come last."""
    output = Output()
    iterator = iter(rows)
    following = next(iterator, None)
    book = Workbook()
    book.active.title = "Rooms"
    with ZipFile(output, "w", ZIP_DEFLATED, compresslevel=1) as archive:
        while True:
            number = len(book.worksheets)
            # Never ZIP64, which Excel rejects in a stream: a full sheet is 0.3 GB of 2.
            with archive.open(f"xl/worksheets/sheet{number}.xml", "w") as sheet:
                sheet.write(f'<worksheet xmlns="{SHEET_MAIN_NS}"><sheetData>{xml_row(header)}'.encode())
                first = [] if following is None else [following]
                for chunk in batches(chain(first, islice(iterator, MAX_SHEET_ROWS - 1 - len(first)))):
                    sheet.write("".join(map(xml_row, chunk)).encode())
                    yield output.take()
                sheet.write(b"</sheetData></worksheet>")
            following = next(iterator, None)
            if following is None:
                break
            book.create_sheet(f"Rooms {number + 1}")
        small_parts = BytesIO()
        book.save(small_parts)
        with ZipFile(small_parts) as parts:
            for name in parts.namelist():
                if not name.startswith("xl/worksheets/"):
                    archive.writestr(name, parts.read(name))
    yield output.take()
