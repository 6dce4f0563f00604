"""
Rooms from and to spreadsheets, on django-import-export: CSV and XLSX, by the rules of rooms.imports.reader.
"""

import csv
from collections.abc import Iterable, Iterator
from hashlib import sha256
from html import escape
from io import BytesIO, StringIO
from operator import attrgetter
from typing import Any
from uuid import UUID

import tablib
from django.contrib.admin.models import ADDITION, CHANGE
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection, transaction
from django.utils.safestring import mark_safe
from import_export import fields, resources, widgets
from import_export.formats.base_formats import CSV, XLSX
from import_export.instance_loaders import BaseInstanceLoader
from import_export.results import Result
from openpyxl import Workbook

from rooms.admin import history
from rooms.admin.files import workbook
from rooms.admin.locks import StaleVersionError, lock
from rooms.columns import CODE, COLUMNS
from rooms.imports.reader import column_errors, parse_cell
from rooms.imports.writer import UPDATABLE
from rooms.models import Room

MOST = 10_000
"""Rooms that one import through the browser takes, in about 3 s; more is a job for import_rooms."""

UPDATE = f"""
UPDATE room SET {", ".join(f"{name} = new.{name}" for name in UPDATABLE)}
FROM unnest(%s::bigint[], {", ".join(f"%s::{COLUMNS[name].type.sql_type}[]" for name in UPDATABLE)})
    AS new (id, {", ".join(UPDATABLE)})
WHERE room.id = new.id
"""
UPDATED = attrgetter("pk", *UPDATABLE)

UNREADABLE = "This is neither CSV in UTF-8 nor an XLSX workbook, whichever was chosen."

RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")


def sheet(rows: Iterable[tuple[int, list[str]]], *, exact: bool) -> tablib.Dataset:
    """
    The rooms of a file, from its rows with their line numbers; the first filled one is the header.

    Rows are counted before they are kept, empty ones are not kept at all. `exact` refuses a row that is
    longer or shorter than the header. ValidationError for what is wrong with the file as a whole. The
    dataset's `lines` are the line numbers of its rows.
    """
    filled = ((line, row) for line, row in rows if any(row))
    _, header = next(filled, (1, []))
    while header and not header[-1]:
        header.pop()
    if complaints := [
        f"{column}: {reason}" if column else reason for column, reason in column_errors(header)
    ]:
        raise ValidationError(complaints)
    dataset = tablib.Dataset(headers=header)
    dataset.lines = []
    for line, row in filled:
        if len(dataset.lines) == MOST:
            raise ValidationError(f"More than {MOST:,} rooms. Use ./manage.py import_rooms for larger files.")
        if exact and len(row) != len(header):
            raise ValidationError(f"Line {line}: {len(row):,} values instead of {len(header)}.")
        dataset.append((*row, *[""] * len(header))[: len(header)])
        dataset.lines.append(line)
    return dataset


class RoomCSV(CSV):
    """CSV as `import_rooms` reads it, up to MOST rooms."""

    def create_dataset(self, in_stream: str) -> tablib.Dataset:
        reader = csv.reader(StringIO(in_stream, newline=""), strict=True)
        try:
            return sheet(((reader.line_num, row) for row in reader), exact=True)
        except csv.Error as error:
            raise ValidationError(f"Line {reader.line_num}: not CSV ({error}).") from None


class RoomXLSX(XLSX):
    """Workbooks as text: every cell as CSV would have it, up to MOST rooms."""

    def create_dataset(self, in_stream: bytes) -> tablib.Dataset:
        try:
            return sheet(workbook.rows(in_stream), exact=False)
        except ValidationError:
            raise
        except Exception:  # openpyxl has no error of its own: what is broken ends it anywhere
            raise ValidationError(UNREADABLE) from None

    def export_data(self, dataset: tablib.Dataset, **kwargs: Any) -> bytes:
        """Row by row: tablib styles each cell, which takes four times as long."""
        book = Workbook(write_only=True)
        page = book.create_sheet("Rooms")
        page.append(dataset.headers)
        for row in dataset:
            page.append(row)
        stream = BytesIO()
        book.save(stream)
        return stream.getvalue()


FORMATS = [RoomCSV, RoomXLSX]


class CellWidget(widgets.Widget):
    """A cell, read by the rule of its column and written so that no spreadsheet runs it."""

    def __init__(self, column: str) -> None:
        super().__init__()
        self.column = column

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        parsed = parse_cell(self.column, value or "")
        return UUID(parsed) if COLUMNS[self.column].type is CODE else parsed

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> Any:
        """Numbers stay numbers; text that a spreadsheet would run as a formula gets an apostrophe."""
        if isinstance(value, int | float):
            return value
        text = "" if value is None else str(value)
        return f"'{text}" if text.startswith(RUN_BY_SPREADSHEETS) else text


class Loader(BaseInstanceLoader):
    """Finds the rooms of a file among those that the resource read at once."""

    def get_instance(self, row: dict[str, str]) -> Room | None:
        return self.resource.known.get(canonical(row["code"]))  # type: ignore[no-any-return]


def canonical(code: str) -> str:
    """The code as PostgreSQL writes it, or nothing where it is none."""
    try:
        return str(parse_cell("code", code or ""))
    except ValueError:
        return ""


class Difference:
    """What a row changes, as HTML without inline styles, which our Content Security Policy refuses."""

    def __init__(self, resource: Any, instance: Room, new: bool) -> None:
        self.new = new
        self.before = self.cells(resource, instance)
        self.after = self.before

    @staticmethod
    def cells(resource: Any, instance: Room) -> list[str]:
        return [str(field.export(instance)) for field in resource.get_import_fields()]

    def compare_with(self, resource: Any, instance: Room) -> None:
        self.after = self.cells(resource, instance)

    def as_html(self) -> list[str]:
        return [mark_safe(html) for html in self.marked()]  # noqa: S308, each part is escaped below

    def marked(self) -> Iterator[str]:
        for before, after in zip(self.before, self.after, strict=True):
            if self.new or before == after:
                yield escape(after)
            else:
                yield f"<del>{escape(before or 'unknown')}</del> <ins>{escape(after or 'unknown')}</ins>"


class RoomResource(resources.ModelResource):
    """A file of rooms: the columns of `import_rooms`, found again by code."""

    class Meta:
        model = Room
        fields = tuple(COLUMNS)
        import_id_fields = ("code",)
        instance_loader_class = Loader
        skip_unchanged = True
        report_skipped = False
        use_bulk = True
        batch_size = None  # all rows are read before the first is written

    def import_data(self, dataset: tablib.Dataset, dry_run: bool = False, **kwargs: Any) -> Result:
        """
        Read all rows, then write them, unless it is a preview or has mistakes.

        Neither a transaction nor a lock is held while rows are read, which takes seconds. Raises
        StaleVersionError or IntegrityError where somebody changed or added one of the rooms meanwhile.
        """
        result: Result = super().import_data(dataset, dry_run=False, use_transactions=False, **kwargs)
        if not (dry_run or result.has_errors() or result.has_validation_errors()):
            self.write(result, kwargs["user"])
        return result

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fields = {name: fields.Field(name, name, CellWidget(name)) for name in COLUMNS}

    def before_import(self, dataset: tablib.Dataset, **kwargs: Any) -> None:
        """Read the rooms that the file names; refuse a file whose rooms are not as they were previewed."""
        self.lines = dataset.lines
        self.first_lines: dict[str, int] = {}
        codes = [code for code in map(canonical, dataset["code"]) if code]
        self.known = {str(room.code): room for room in Room.objects.filter(code__in=codes).order_by("pk")}
        versions = [(room.pk, room.version) for room in self.known.values()]
        form = kwargs["import_form"]
        form.fingerprint = sha256(repr((versions, len(codes))).encode()).hexdigest()
        if form.cleaned_data.get("fingerprint", form.fingerprint) != form.fingerprint:
            dataset.wipe()
            raise StaleVersionError

    def handle_import_error(self, result: Result, error: Exception, raise_errors: bool = False) -> None:
        """An error of the database is no mistake of the file."""
        if isinstance(error, DatabaseError):
            raise error
        super().handle_import_error(result, error, raise_errors)

    def import_instance(self, instance: Room, row: dict[str, str], **kwargs: Any) -> None:
        """Read one row, all its mistakes at once."""
        errors: dict[str, Any] = {}
        try:
            super().import_instance(instance, row, **kwargs)
        except ValidationError as error:
            errors = error.update_error_dict(errors)
        line = self.lines[kwargs["row_number"] - 1]
        first = self.first_lines.setdefault(canonical(row["code"]) or f"line {line}", line)
        if first != line:
            errors["code"] = [ValidationError(f"is already in line {first}")]
        if errors:
            raise ValidationError(errors)

    def after_import(self, dataset: tablib.Dataset, result: Result, **kwargs: Any) -> None:
        """Mistakes are told by the line of the file, which empty lines shift."""
        for row in result.invalid_rows:
            row.number = self.lines[row.number - 1]

    def bulk_create(self, *args: Any, **kwargs: Any) -> None:
        """Not while rows are read: `write` does it."""

    bulk_update = bulk_create

    def write(self, result: Result, user: Any) -> None:
        """Write the rooms and their history; those that change are locked last, right before their UPDATE."""
        changed = [
            (row.instance, f"{history.changes(row.original, row.instance)} (by an import)")
            for row in result.rows
            if row.is_update()
        ]
        with transaction.atomic(), connection.cursor() as cursor:
            history.log(user, CHANGE, changed)
            added = Room.objects.bulk_create(self.create_instances, batch_size=1000)
            history.log(user, ADDITION, ((room, "added by an import") for room in added))
            lock(self.update_instances)
            columns = zip(*map(UPDATED, self.update_instances), strict=True)
            if self.update_instances:
                cursor.execute(UPDATE, [list(column) for column in columns])

    def export_resource(self, instance: Room, *args: Any, **kwargs: Any) -> list[Any]:
        """All columns; the package's way looks each of them up again for each room."""
        return [self.fields[column].export(instance) for column in COLUMNS]

    @classmethod
    def get_diff_class(cls) -> type[Difference]:
        return Difference
