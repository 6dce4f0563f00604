"""Oversized files and concurrent spreadsheets: rejected with a message, before they use memory or time."""

import tracemalloc
import zipfile
from io import BytesIO

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.core.exceptions import ValidationError
from django.db import connection
from openpyxl import Workbook

from rooms.admin.files.concurrency import spreadsheet_lock
from rooms.admin.files.resource import RoomCSV, RoomXLSX, workbook
from rooms.api.exports import slots
from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.admin.pages import page_text, while_prices_change
from rooms.tests.admin.test_files import (
    CODES,
    CONFIRM,
    CSV,
    EXPORT,
    HEADER,
    IMPORT,
    XLSX,
    as_csv,
    as_xlsx,
    upload,
)
from rooms.tests.admin.test_files import confirm as confirm_import
from rooms.tests.admin.test_odd_input import fields

LIST = "/admin/rooms/room/"
MAIN = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def with_part(name, xml):
    """A workbook one of whose parts is replaced."""
    original, changed = BytesIO(), BytesIO()
    Workbook().save(original)
    with zipfile.ZipFile(original) as source, zipfile.ZipFile(changed, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.namelist():
            target.writestr(part, xml if part == name else source.read(part))
    return changed.getvalue()


def with_sheet(rows):
    return with_part(
        "xl/worksheets/sheet1.xml", f"<worksheet {MAIN}><sheetData>{rows}</sheetData></worksheet>"
    )


HEAD = "<row r='1'>" + "".join(f"<c t='inlineStr'><is><t>{name}</t></is></c>" for name in HEADER) + "</row>"
STYLES = f"<styleSheet {MAIN}><cellXfs>{'<xf/>' * 100_000}</cellXfs></styleSheet>"
SWELLING = (
    "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;'>]>"
    f"<worksheet {MAIN}><sheetData><row><c><v>&b;</v></c></row></sheetData></worksheet>"
)


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (with_sheet(("<row>" + "<c><v>1</v></c>" * 16_000 + "</row>") * 20), "Row 1 has a cell in column AA"),
        (with_sheet(HEAD + "<row r='7'><c r='XFD7'><v>1</v></c></row>"), "Row 7 has a cell in column XFD"),
        (
            with_sheet(HEAD + "<row r='1048577'><c><v>1</v></c></row>"),
            "Row 1048577 of this workbook does not",
        ),
        (with_sheet(HEAD + "<row r='1'><c><v>1</v></c></row>"), "Row 1 of this workbook does not follow"),
        (with_sheet("<row><c/><c/><c/></row>" * 100_000), "far more than 10,000 rooms take"),
        (with_sheet("<x/>" * 100_000), "far more than 10,000 rooms take"),
        (with_part("xl/styles.xml", STYLES), "far more than 10,000 rooms take"),
        (with_part("xl/worksheets/sheet1.xml", SWELLING), "declares a document type"),
        (with_part("xl/theme/theme1.xml", " " * 21_000_000), "unpacks to more than 20 MB"),
        (with_part("xl/worksheets/sheet1.xml", "<worksheet"), "neither CSV nor an XLSX workbook"),
    ],
    ids=[
        "wide",
        "last column",
        "past the last row",
        "a row twice",
        "cells",
        "others",
        "styles",
        "entities",
        "unpacked",
        "broken",
    ],
)
def test_a_zip_bomb_is_rejected_and_not_stored(as_editor, content, message):
    assert len(content) < 300_000
    response = upload(as_editor, content, XLSX)
    assert message in page_text(response)
    assert not [session for session in Session.objects.all() if "upload" in session.get_decoded()]


def test_no_more_of_a_workbook_is_scanned_than_its_bounds_allow():
    bounds = workbook.ElementCounter()
    with pytest.raises(ValidationError):
        bounds.count(BytesIO(f"<worksheet {MAIN}>{'<row/>' * 1_000_000}</worksheet>".encode()))
    assert bounds.elements == workbook.MAX_ELEMENTS + 1


def test_a_workbook_with_empty_rows_keeps_its_line_numbers():
    rows = f"<row r='1048576'><c><v>{1}</v></c></row>"
    dataset = RoomXLSX().create_dataset(with_sheet(HEAD + rows))
    assert (dataset.lines, dataset[0]) == ([1_048_576], ("1", "", "", "", ""))


def test_empty_lines_of_a_csv_file_are_not_kept():
    text = ",".join(HEADER) + "\n" + ",,,,\n" * 100_000 + f"{CODES[0]},1,1,1,1\n"
    tracemalloc.start()
    try:
        dataset = RoomCSV().create_dataset(text.encode())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (len(dataset), dataset.lines) == (1, [100_002])
    assert peak < 10 * len(
        text
    )  # a copy of the text takes four bytes a character; stored rows took 70 times as much


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (as_csv((CODES[0], 1, 1, 1, 1)) + b"\nx,1\n", "Line 3: 2 values instead of 5."),
        (as_csv((CODES[0], 1, 1, 1, 1, 1)), "Line 2: 6 values instead of 5."),
        (as_csv((CODES[0], 1, 1, 1, 1)) + b'\n"x', "Line 3: not CSV"),
        (b",".join(b"c%d" % number for number in range(200_000)), "200,000 columns; those of a room are"),
        (b"cod,size,price,latitude," + b"x" * 100_000, "do you mean code?"),
    ],
    ids=["short", "long", "quote", "many columns", "long name"],
)
def test_a_csv_file_is_rejected_with_the_line_number(as_editor, content, message):
    assert message in page_text(upload(as_editor, content))


@pytest.mark.django_db
def test_errors_have_the_line_number_after_empty_lines(as_editor):
    content = as_csv((CODES[0], 1, 1, 1, 1)) + f"\n\n,,,,\n{CODES[0]},1,x,1,1\n".encode()
    text = page_text(upload(as_editor, content))
    assert f"5 {CODES[0]} price must be a whole number, not 'x' code is already in line 2" in text


# --- One at a time


@pytest.fixture
def taken():
    """Holds the lock of another spreadsheet in this process."""
    spreadsheet_lock.acquire()
    yield
    if spreadsheet_lock.locked():
        spreadsheet_lock.release()


@pytest.mark.django_db
def test_more_exports_than_there_are_slots_is_503_with_a_retry_button(as_editor):
    room = RoomFactory()
    form = {"action": "export_xlsx", "_selected_action": room.pk}
    for url, sent in ((LIST, form), (EXPORT, {"format": XLSX, "resource": "0"})):
        for _ in range(settings.EXPORTS_AT_ONCE):
            slots.acquire()
        busy = as_editor.post(url, sent)
        slots.release(settings.EXPORTS_AT_ONCE)
        assert (busy.status_code, busy["Retry-After"]) == (503, "10")
        assert "Other exports are under way" in page_text(busy)
        again = as_editor.post(url, fields(busy.content.decode(), url))
        assert again["Content-Disposition"].endswith('.xlsx"')
        assert again.getvalue()


@pytest.mark.django_db
def test_a_second_upload_is_503_and_asks_for_the_file_again(as_editor, taken):
    busy = upload(as_editor, as_csv((CODES[0], 1, 1, 1, 1)))
    assert (busy.status_code, busy["Retry-After"]) == (503, "5")
    assert f'href="{IMPORT}">Choose the file again' in busy.content.decode()


@pytest.mark.django_db
def test_a_confirmation_whose_turn_it_is_not_keeps_its_upload(as_editor):
    preview = upload(as_editor, as_csv((CODES[0], 1, 1, 1, 1)))
    spreadsheet_lock.acquire()
    busy = confirm_import(as_editor, preview)
    spreadsheet_lock.release()
    assert busy.status_code == 503
    assert "Imported: 1 room added" in page_text(
        as_editor.post(CONFIRM, fields(busy.content.decode(), CONFIRM), follow=True)
    )


# --- Locks


@pytest.fixture
def as_boss(client, boss):
    client.force_login(boss)
    with connection.cursor() as cursor:
        cursor.execute("SET lock_timeout = 50")
    yield client
    connection.close()


@pytest.mark.django_db(transaction=True)
def test_a_preview_neither_takes_nor_waits_for_locks(as_boss, other, django_capture_queries):
    room = RoomFactory(code=CODES[0], price=39)
    other.execute("BEGIN; SELECT FROM room FOR UPDATE")
    with django_capture_queries() as queries:
        preview = upload(as_boss, as_csv((CODES[0], 20, 45, 1, 1)))
    assert "1 to change" in page_text(preview)
    assert not [query for query in queries if "FOR UPDATE" in query["sql"]]
    held = confirm_import(as_boss, preview)
    assert held.status_code == 409
    assert "Other work holds the rooms" in page_text(held)
    other.execute("ROLLBACK")
    done = as_boss.post(CONFIRM, fields(held.content.decode(), CONFIRM), follow=True)
    assert "Imported: 0 rooms added, 1 changed" in page_text(done)
    room.refresh_from_db()
    assert room.price == 45


@pytest.mark.django_db(transaction=True)
def test_an_upload_during_a_table_lock_is_a_message(as_boss, other):
    other.execute("BEGIN; LOCK TABLE room")
    response = upload(as_boss, as_csv((CODES[0], 20, 45, 1, 1)))
    assert response.status_code == 503
    assert "Other work holds the rooms" in response.content.decode()
    assert not spreadsheet_lock.locked()


@pytest.mark.django_db(transaction=True)
def test_an_import_locks_changed_rooms_last(as_boss, django_capture_queries):
    changed = RoomFactory(code=CODES[0], price=39)
    RoomFactory(code=CODES[1], size=20, price=45, latitude=1, longitude=1)
    preview = upload(as_boss, as_csv(*((code, 20, 45, 1, 1) for code in CODES[:3])))
    with django_capture_queries() as queries:
        confirm_import(as_boss, preview)
    statements = [query["sql"].strip() for query in queries]
    (locking,) = [index for index, sql in enumerate(statements) if "FOR UPDATE" in sql]
    assert f'"id" IN ({changed.pk})' in statements[locking]
    assert statements[locking + 1].startswith("UPDATE room")
    after = statements[locking + 2 : statements.index("COMMIT", locking)]
    assert all("rooms.job" in sql or "room_job" in sql for sql in after)


@pytest.mark.django_db
def test_a_format_that_is_not_the_previewed_one_imports_nothing(as_editor):
    preview = upload(as_editor, as_csv((CODES[0], 20, 45, 1, 1)))
    assert "Nothing was imported. This is neither CSV" in page_text(
        confirm_import(as_editor, preview, format=XLSX)
    )
    preview = upload(as_editor, as_xlsx((CODES[0], 20, 45, 1, 1)), XLSX)
    assert "Nothing was imported. This is neither CSV" in page_text(
        confirm_import(as_editor, preview, format=CSV)
    )
    assert not Room.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_room_changed_between_reading_and_locking_stops_the_import(as_boss, other):
    RoomFactory(code=CODES[0], price=39)
    preview = upload(as_boss, as_csv((CODES[0], 20, 45, 1, 1), (CODES[1], 20, 45, 1, 1)))
    response = while_prices_change(other, lambda: confirm_import(as_boss, preview))
    assert "Nothing was imported. The rooms were changed since the preview." in page_text(response)
    assert list(Room.objects.values_list("price", flat=True)) == [60]
    assert not LogEntry.objects.exists()
