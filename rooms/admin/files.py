"""
Rooms from and to spreadsheets, on django-import-export: CSV and XLSX, by the rules of rooms.importing.
"""

from collections.abc import Iterator
from hashlib import sha256
from html import escape
from io import BytesIO
from itertools import islice
from operator import attrgetter
from typing import Any
from uuid import UUID

import tablib
from django.core.exceptions import ValidationError
from django.db import connection
from django.utils.safestring import mark_safe
from import_export import fields, resources, widgets
from import_export.formats.base_formats import CSV, XLSX
from import_export.instance_loaders import BaseInstanceLoader
from openpyxl import Workbook, load_workbook

from rooms.importing import COLUMNS, column_mistakes, parse_cell
from rooms.models import Room

MOST = 10_000
"""Rooms that one import through the browser takes, in about 5 s; more is a job for import_rooms."""

UPDATE = """
UPDATE room SET size = new.size, price = new.price, latitude = new.latitude, longitude = new.longitude
FROM unnest(%s::bigint[], %s::integer[], %s::integer[], %s::float8[], %s::float8[])
    AS new (id, size, price, latitude, longitude)
WHERE room.id = new.id
"""
UPDATED = attrgetter("pk", "size", "price", "latitude", "longitude")

RUN_BY_SPREADSHEETS = ("=", "+", "-", "@", "\t", "\r")


class RoomXLSX(XLSX):
    """Workbooks as text: every cell as CSV would have it, empty rows left out, no more rows than MOST."""

    def create_dataset(self, in_stream: bytes) -> tablib.Dataset:
        workbook = load_workbook(BytesIO(in_stream), read_only=True, data_only=True)
        rows = (
            tuple("" if value is None else str(value) for value in row)
            for row in islice(workbook.worksheets[0].iter_rows(values_only=True), 2 * MOST)
        )
        filled = (row for row in rows if any(row))
        header = next(filled, ())
        width = max((position for position, name in enumerate(header, 1) if name), default=0)
        dataset = tablib.Dataset(headers=header[:width])
        for row in islice(filled, MOST + 1):
            dataset.append((*row, *[""] * width)[:width])
        return dataset

    def export_data(self, dataset: tablib.Dataset, **kwargs: Any) -> bytes:
        """Row by row: tablib styles each cell, which takes four times as long."""
        workbook = Workbook(write_only=True)
        sheet = workbook.create_sheet("Rooms")
        sheet.append(dataset.headers)
        for row in dataset:
            sheet.append(row)
        stream = BytesIO()
        workbook.save(stream)
        return stream.getvalue()


FORMATS = [CSV, RoomXLSX]


class CellWidget(widgets.Widget):
    """A cell, read by the rule of its column and written so that no spreadsheet runs it."""

    def __init__(self, column: str) -> None:
        super().__init__()
        self.column = column

    def clean(self, value: Any, row: Any = None, **kwargs: Any) -> Any:
        parsed = parse_cell(self.column, value or "")
        return UUID(parsed) if self.column == "code" else parsed

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

    code = fields.Field("code", "code", CellWidget("code"))
    size = fields.Field("size", "size", CellWidget("size"))
    price = fields.Field("price", "price", CellWidget("price"))
    latitude = fields.Field("latitude", "latitude", CellWidget("latitude"))
    longitude = fields.Field("longitude", "longitude", CellWidget("longitude"))

    class Meta:
        model = Room
        fields = COLUMNS
        import_id_fields = ("code",)
        instance_loader_class = Loader
        skip_unchanged = True
        report_skipped = False
        use_transactions = True
        use_bulk = True
        batch_size = 1000

    def before_import(self, dataset: tablib.Dataset, **kwargs: Any) -> None:
        """Refuse what is wrong with the file as a whole; read and lock the rooms that it names."""
        self.known: dict[str, Room] = {}
        self.first_rows: dict[str, int] = {}
        complaints = [
            f"{column}: {reason}" if column else reason
            for column, reason in column_mistakes(dataset.headers or [])
        ]
        if len(dataset) > MOST:
            complaints.append(f"More than {MOST:,} rooms. Use ./manage.py import_rooms for larger files.")
        if complaints:
            dataset.wipe()
            raise ValidationError(complaints)
        codes = [code for code in map(canonical, dataset["code"]) if code]
        known = Room.objects.filter(code__in=codes).order_by("pk").select_for_update()
        self.known = {str(room.code): room for room in known}
        versions = [(room.pk, room.version) for room in self.known.values()]
        form = kwargs["import_form"]
        form.fingerprint = sha256(repr((versions, len(codes))).encode()).hexdigest()
        if form.cleaned_data.get("fingerprint", form.fingerprint) != form.fingerprint:
            dataset.wipe()
            raise ValidationError("The rooms were changed since the preview.")

    def import_instance(self, instance: Room, row: dict[str, str], **kwargs: Any) -> None:
        """Read one row, all its mistakes at once."""
        errors: dict[str, Any] = {}
        try:
            super().import_instance(instance, row, **kwargs)
        except ValidationError as error:
            errors = error.update_error_dict(errors)
        number = kwargs["row_number"]
        first = self.first_rows.setdefault(canonical(row["code"]) or f"row {number}", number)
        if first != number:
            errors["code"] = [ValidationError(f"is already in line {first + 1}")]
        if errors:
            raise ValidationError(errors)

    def bulk_create(self, using_transactions: bool, dry_run: bool, *args: Any, **kwargs: Any) -> None:
        """Add a batch of rooms; a preview has seen all that can go wrong without doing it."""
        if dry_run:
            self.create_instances.clear()
        super().bulk_create(using_transactions, dry_run, *args, **kwargs)

    def bulk_update(self, using_transactions: bool, dry_run: bool, *args: Any, **kwargs: Any) -> None:
        """Change a batch of rooms in one short statement; Django's takes a millisecond to write per room."""
        if self.update_instances and not dry_run:
            with connection.cursor() as cursor:
                cursor.execute(
                    UPDATE,
                    [list(column) for column in zip(*map(UPDATED, self.update_instances), strict=True)],
                )
        self.update_instances.clear()

    @classmethod
    def get_diff_class(cls) -> type[Difference]:
        return Difference
