"""
The django-import-export resource and formats of rooms: CSV and XLSX, by the rules of rooms.imports.reader.
"""

import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from hashlib import sha256
from html import escape
from operator import attrgetter
from typing import Any
from uuid import UUID

import tablib
from django.contrib.admin.models import ADDITION, CHANGE
from django.core.exceptions import ValidationError
from django.db import DatabaseError, connection
from django.utils.safestring import mark_safe
from django.utils.translation import gettext
from import_export import fields, resources, widgets
from import_export.formats.base_formats import CSV, XLSX
from import_export.instance_loaders import BaseInstanceLoader
from import_export.results import Result

from rooms.admin import history
from rooms.admin.files import export, tables, workbook
from rooms.admin.jobs.record import recorded
from rooms.admin.locks import StaleVersionError, lock_rooms
from rooms.admin.numbers import grouped
from rooms.admin.recorded import show_value
from rooms.columns import CODE, COLUMNS
from rooms.imports.reader import MAX_COLUMNS, count_values, parse_cell, quote
from rooms.imports.writer import UPDATABLE
from rooms.models import Room

MAX_ROOMS = 10_000
"""Rooms of one import in the browser, which takes about 3 s; import_rooms handles more."""

UPDATE = f"""
UPDATE room SET {", ".join(f"{name} = new.{name}" for name in UPDATABLE)}
FROM unnest(%s::bigint[], {", ".join(f"%s::{COLUMNS[name].type.sql_type}[]" for name in UPDATABLE)})
    AS new (id, {", ".join(UPDATABLE)})
WHERE room.id = new.id
"""
UPDATED = attrgetter("pk", *UPDATABLE)

HEADER = tuple(COLUMNS)
NEEDED = [column.name for column in COLUMNS.values() if not column.nullable]
"""The columns without which no room can be added."""


def build_dataset(rows: Iterable[tables.Row], *, exact: bool) -> tablib.Dataset:
    """
    The dataset of a file, from its rows with their line numbers: the columns of a room that it has.

    `exact` rejects rows that are longer or shorter than the header. ValidationError for an error of the file
    as a whole. The dataset's `lines` are the line numbers of its rows, `ignored` the names of other columns.
    """
    header, filled = tables.split_header(rows)
    check_header(header)
    places = [place for place, name in enumerate(header) if name in COLUMNS]
    dataset = tablib.Dataset(headers=[header[place] for place in places])
    dataset.lines = []
    dataset.ignored = [name or gettext("(without a name)") for name in header if name not in COLUMNS]
    for line, row in filled:
        if len(dataset.lines) == MAX_ROOMS:
            message = gettext("More than %(number)s rooms. Use ./manage.py import_rooms for larger files.")
            raise ValidationError(message % {"number": grouped(MAX_ROOMS)})
        if exact and (len(row) < len(header) or any(row[len(header) :])):
            message = gettext("Line %(line)s: %(values)s instead of %(columns)s.")
            numbers = {"line": line, "values": count_values(row), "columns": len(header)}
            raise ValidationError(message % numbers)
        padded = [*row, *[""] * len(header)]
        dataset.append([tables.cell_text(header[place], padded[place]) for place in places])
        dataset.lines.append(line)
    return dataset


def check_header(header: list[str]) -> None:
    """Other columns than a room's are allowed, where they are not misspelled ones; the code is needed."""
    if len(header) > MAX_COLUMNS:
        message = gettext("%(number)s columns; those of a room are %(columns)s")
        raise ValidationError(message % {"number": grouped(len(header)), "columns": ", ".join(COLUMNS)})
    twice = gettext("%(column)s: given twice")
    errors = [twice % {"column": name} for name in COLUMNS if header.count(name) > 1]
    for title in header:
        near = "" if title in COLUMNS else tables.near_miss(title, header)
        if near:
            unknown = gettext("%(title)s: unknown column; do you mean %(column)s?")
            errors.append(unknown % {"title": quote(title), "column": near})
    if "code" not in header:
        missing = gettext(
            "code: this column is missing. The first row of the table names the columns: %(columns)s, "
            "of which only code is needed for rooms that are known."
        )
        errors.append(missing % {"columns": ", ".join(COLUMNS)})
    if errors:
        raise ValidationError(errors)


class RoomCSV(CSV):
    """CSV in the encodings that spreadsheets write, at most MAX_ROOMS rooms."""

    def is_binary(self) -> bool:
        return True  # so that the package leaves the decoding to `create_dataset`

    def create_dataset(self, in_stream: bytes) -> tablib.Dataset:
        return build_dataset(tables.read_csv(tables.decode(in_stream)), exact=True)

    def stream(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[bytes]:
        return export.stream_csv(HEADER, rows)


class RoomXLSX(XLSX):
    """Workbooks with their cells as text, as in CSV."""

    def create_dataset(self, in_stream: bytes) -> tablib.Dataset:
        try:
            return build_dataset(workbook.read_rows(in_stream), exact=False)
        except ValidationError:
            raise
        except Exception:  # openpyxl raises any exception for a broken file
            raise ValidationError(tables.UNREADABLE_FILE) from None

    def stream(self, rows: Iterable[tuple[Any, ...]]) -> Iterator[bytes]:
        return export.stream_xlsx(HEADER, rows)


FORMATS = [RoomCSV, RoomXLSX]


class CellWidget(widgets.Widget):
    """Parses a cell by its column, and writes it so that no spreadsheet evaluates it as a formula."""

    def __init__(self, column: str) -> None:
        super().__init__()
        self.column = column

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        parsed = parse_cell(self.column, value or "")
        return UUID(parsed) if COLUMNS[self.column].type is CODE else parsed

    def render(self, value: Any, obj: Any = None, **kwargs: Any) -> Any:
        return export.cell(value)


class KnownRoomLoader(BaseInstanceLoader):
    """Finds existing rooms among those that the resource has fetched with one query."""

    def get_instance(self, row: dict[str, str]) -> Room | None:
        return self.resource.known.get(normalize_code(row["code"]))  # type: ignore[no-any-return]  # untyped package


def normalize_code(code: str) -> str:
    """The code in canonical form; empty where it is invalid."""
    try:
        return str(parse_cell("code", code or ""))
    except ValueError:
        return ""


def number_or_text(text: str) -> Any:
    """A number as such: as text a negative one would look like a formula."""
    return float(text) if re.fullmatch(r"-[0-9]+(\.[0-9]+)?", text, re.ASCII) else text


def corrections(dataset: tablib.Dataset, invalid: Iterable[Any]) -> str:
    """The file as a data URL of CSV, with a column of mistakes, which is ignored when it is sent again."""
    mistakes = {
        row.number: "; ".join(
            f"{column} {error}" for column, errors in row.field_specific_errors.items() for error in errors
        )
        for row in invalid
    }
    rows = ((*map(number_or_text, row), mistakes.get(number, "")) for number, row in enumerate(dataset, 1))
    content = b"".join(export.stream_csv((*dataset.headers, "mistakes"), rows))
    return f"data:text/csv;charset=utf-8;base64,{b64encode(content).decode()}"


class RowDiff:
    """The differences of a row as HTML without inline styles, which the Content Security Policy forbids."""

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
        return [mark_safe(html) for html in self.html_cells()]  # noqa: S308, each part is escaped below

    def html_cells(self) -> Iterator[str]:
        for before, after in zip(self.before, self.after, strict=True):
            if self.new or before == after:
                yield escape(after)
            else:
                yield f"<del>{escape(show_value(before))}</del> <ins>{escape(show_value(after))}</ins>"


class RoomResource(resources.ModelResource):
    """The import and export of rooms, identified by their code."""

    class Meta:
        model = Room
        fields = tuple(COLUMNS)
        import_id_fields = ("code",)
        instance_loader_class = KnownRoomLoader
        skip_unchanged = True
        report_skipped = False
        use_bulk = True
        batch_size = None  # one batch: all rows are read before the first is written

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.fields = {name: fields.Field(name, name, CellWidget(name)) for name in COLUMNS}

    def import_data(self, dataset: tablib.Dataset, dry_run: bool = False, **kwargs: Any) -> Result:
        """
        Read all rows, then write them, unless it is a dry run or has errors.

        Reading takes seconds, outside of a transaction and without locks. Raises StaleVersionError or
        IntegrityError where one of the rooms was changed or added in the meantime.
        """
        result: Result = super().import_data(dataset, dry_run=False, use_transactions=False, **kwargs)
        if not (dry_run or result.has_errors() or result.has_validation_errors()):
            self.write(result, kwargs["user"], kwargs.get("file_name") or "a file")
        return result

    def before_import(self, dataset: tablib.Dataset, **kwargs: Any) -> None:
        """Fetch the rooms of the file; StaleVersionError where they differ from those of the preview."""
        self.lines = dataset.lines
        self.first_lines: dict[str, int] = {}
        codes = [code for code in map(normalize_code, dataset["code"]) if code]
        self.known = {str(room.code): room for room in Room.objects.filter(code__in=codes).order_by("pk")}
        versions = [(room.pk, room.version) for room in self.known.values()]
        form = kwargs["import_form"]
        form.fingerprint = sha256(repr((versions, len(codes))).encode()).hexdigest()
        if form.cleaned_data.get("fingerprint", form.fingerprint) != form.fingerprint:
            dataset.wipe()
            raise StaleVersionError

    def handle_import_error(self, result: Result, error: Exception, raise_errors: bool = False) -> None:
        """Raise errors of the database; they are not errors of the file."""
        if isinstance(error, DatabaseError):
            raise error
        super().handle_import_error(result, error, raise_errors)

    def import_instance(self, instance: Room, row: dict[str, str], **kwargs: Any) -> None:
        """Import one row; raises all its errors at once."""
        errors: dict[str, Any] = {}
        try:
            super().import_instance(instance, row, **kwargs)
        except ValidationError as error:
            errors = error.update_error_dict(errors)
        if instance.pk is None:
            for name in NEEDED:
                if name not in row:
                    errors[name] = [
                        ValidationError(gettext("is needed: no room has this code, so that it is new"))
                    ]
        line = self.lines[kwargs["row_number"] - 1]
        first = self.first_lines.setdefault(normalize_code(row["code"]) or f"line {line}", line)
        if first != line:
            errors["code"] = [ValidationError(gettext("is already in line %(line)s") % {"line": first})]
        if errors:
            raise ValidationError(errors)

    def after_import(self, dataset: tablib.Dataset, result: Result, **kwargs: Any) -> None:
        """Replace row numbers by line numbers of the file, which has empty lines, too."""
        result.ignored = dataset.ignored
        if result.invalid_rows:
            result.corrections = corrections(dataset, result.invalid_rows)
        for row in result.invalid_rows:
            row.code = dataset["code"][row.number - 1]
            row.number = self.lines[row.number - 1]

    def bulk_create(self, *args: Any, **kwargs: Any) -> None:
        """Nothing while rows are read: `write` stores them."""

    bulk_update = bulk_create

    def write(self, result: Result, user: Any, file_name: str) -> None:
        """Write the rooms and their log entries; locks are taken last, right before the UPDATE."""
        changed = [
            (row.instance, f"{history.format_changes(row.original, row.instance)} (by an import)")
            for row in result.rows
            if row.is_update()
        ]
        with recorded(user, f"Import {file_name}") as result.job, connection.cursor() as cursor:
            history.log_changes(user, CHANGE, changed)
            added = Room.objects.bulk_create(self.create_instances, batch_size=1000)
            history.log_changes(user, ADDITION, ((room, "added by an import") for room in added))
            lock_rooms(self.update_instances)
            columns = zip(*map(UPDATED, self.update_instances), strict=True)
            if self.update_instances:
                cursor.execute(UPDATE, [list(column) for column in columns])

    @classmethod
    def get_diff_class(cls) -> type[RowDiff]:
        return RowDiff
