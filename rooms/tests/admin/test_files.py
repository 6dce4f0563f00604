"""Import and export of spreadsheets in the admin: a preview of each row, then all or nothing."""

import tracemalloc
from io import BytesIO

import pytest
from django.conf import settings
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connection
from openpyxl import Workbook, load_workbook

from rentomatic_site import postgres
from rooms.admin.files import export, mixin, resource, workbook
from rooms.api.exports import slots
from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.admin.pages import page_text

IMPORT, CONFIRM = "/admin/rooms/room/import/", "/admin/rooms/room/process_import/"
EXPORT = "/admin/rooms/room/export/"
CSV, XLSX = "0", "1"
HEADER = ("code", "size", "price", "latitude", "longitude")
CODES = [f"f853578c-fc0f-4e65-81b8-566c5dffa3{number:02x}" for number in range(8)]

pytestmark = pytest.mark.django_db


def as_csv(*rows, header=HEADER):
    return "\n".join(",".join(map(str, row)) for row in (header, *rows)).encode()


def as_xlsx(*rows, header=HEADER):
    workbook = Workbook()
    for row in (header, *rows):
        workbook.active.append(row)
    stream = BytesIO()
    workbook.save(stream)
    return stream.getvalue()


def upload(client, content, kind=CSV):
    file = SimpleUploadedFile("rooms.csv" if kind == CSV else "rooms.xlsx", content)
    return client.post(IMPORT, {"import_file": file, "format": kind, "resource": "0"})


def confirm(client, preview, **changed):
    return client.post(CONFIRM, preview.context["confirm_form"].initial | changed, follow=True)


@pytest.mark.parametrize(("kind", "write"), [(CSV, as_csv), (XLSX, as_xlsx)], ids=["CSV", "XLSX"])
def test_a_file_is_previewed_imported_and_logged(as_editor, kind, write):
    known, same = RoomFactory(code=CODES[0], price=39, size=20), RoomFactory(code=CODES[1])
    content = write(
        (CODES[0], "", 45, known.latitude, known.longitude),
        (CODES[1], same.size, same.price, same.latitude, same.longitude),
        (CODES[2], 30, 50, 51.75436293, -0.09998975),
    )
    preview = upload(as_editor, content, kind)
    text = page_text(preview)
    assert "1 to add, 1 to change, 1 unchanged." in text
    assert f"Change {CODES[0]} 20 unknown 39 45" in text
    assert f"Add {CODES[2]} 30 50 51.75436293 -0.09998975" in text
    assert "style=" not in preview.content.decode()
    assert Room.objects.count() == 2

    assert "Imported: 1 room added, 1 changed, 1 unchanged." in page_text(confirm(as_editor, preview))
    known.refresh_from_db()
    same.refresh_from_db()
    added = Room.objects.get(code=CODES[2])
    assert (known.price, known.size, known.version, same.version) == (45, None, 2, 1)
    assert (added.size, added.price, added.latitude, added.longitude) == (30, 50, 51.75436293, -0.09998975)
    assert dict(LogEntry.objects.values_list("object_id", "change_message")) == {
        str(known.pk): "size 20 → unknown, price 39 → 45 (by an import)",
        str(added.pk): "added by an import",
    }
    assert not [s for s in Session.objects.all() if "upload" in s.get_decoded()]


def test_a_file_may_have_five_megabytes_and_no_byte_more(as_editor):
    content = as_csv((CODES[0], 20, 39, 1, 1)).ljust(5_000_000, b"\n")
    with postgres.long_statements():  # the test's transaction is idle while the lines are read
        assert "1 to add" in page_text(upload(as_editor, content, CSV))
    assert "Larger than 5 MB." in page_text(upload(as_editor, content + b"\n", CSV))


def test_a_file_may_be_sent_without_the_field_that_the_pages_hide(as_editor):
    file = SimpleUploadedFile("rooms.csv", as_csv((CODES[0], 20, 39, 1, 1)))
    preview = as_editor.post(IMPORT, {"import_file": file, "format": CSV})
    confirm(as_editor, preview, resource="")
    assert str(Room.objects.get().code) == str(CODES[0])


def test_an_uploaded_file_is_kept_for_an_hour(as_editor):
    upload(as_editor, as_csv((CODES[0], 20, 39, 1, 1)), CSV)
    (stored,) = [s for s in Session.objects.all() if "upload" in s.get_decoded()]
    assert SessionStore(stored.session_key).get_expiry_age() == 3600


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((CODES[0], 20, -1, 1, 1), "price must be from 0 to 1000000, not '-1'"),
        ((CODES[0], 20, "abc", 1, 1), "price must be a whole number, not 'abc'"),
        ((CODES[0], 20, "", 1, 1), "price is empty"),
        ((CODES[0], 20, "1\x009", 1, 1), r"price must be a whole number, not '1\x009'"),
        ((CODES[0], 20, 39.5, 1, 1), "price must be a whole number, not '39.5'"),
        ((CODES[0], 0, 39, 1, 1), "size must be from 1 to 100000"),
        ((CODES[0], 20, 39, "nan", 1), "latitude must be a decimal number"),
        (("room 1", 20, 39, 1, 1), "code must be a UUID"),
        (("=cmd()", 20, 39, 1, 1), "code must be a UUID"),
        ((CODES[1], 20, 39, 1, 1), "code is already in line 2"),
        (
            (CODES[1].upper(), 20, "x", 1, 1),
            "price must be a whole number, not 'x' code is already in line 2",
        ),
        (("<script>", 20, 39, 1, 1), "code must be a UUID such as"),
    ],
    ids=str,
)
def test_an_invalid_row_is_an_error_and_nothing_is_imported(as_editor, row, message):
    response = upload(as_editor, as_csv((CODES[1], 20, 39, 1, 1), row, (CODES[2], 20, 39, 1, 1)))
    text = page_text(response)
    assert "Nothing was imported: 1 row with mistakes." in text
    assert f"3 {row[0]} {message}" in text
    assert "<script>" not in response.content.decode()
    assert "confirm_form" not in response.context
    assert not Room.objects.exists()


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (("code", "size", "prize", "latitude", "longitude"), "'prize': unknown column; do you mean price?"),
        (("cod", "size", "price", "latitude", "longitude"), "'cod': unknown column; do you mean code?"),
        (("id", "size", "price", "latitude", "longitude"), "code: this column is missing"),
        (("code", "price", "price", "latitude", "longitude"), "price: given twice"),
    ],
)
@pytest.mark.parametrize(("kind", "write"), [(CSV, as_csv), (XLSX, as_xlsx)], ids=["CSV", "XLSX"])
def test_wrong_columns_are_rejected_by_name(as_editor, kind, write, header, message):
    response = upload(as_editor, write((CODES[0], 1, 1, 1, 1), header=header), kind)
    assert message in page_text(response)
    assert not Room.objects.exists()


@pytest.mark.parametrize("kind", [CSV, XLSX])
@pytest.mark.parametrize(
    "content",
    [b"", b"\0", b"\xff\xfe\x00", b"PK\x03\x04 nonsense", b"PK\x05\x06" + b"\0" * 18, b'code,"', b"code\n"],
)
def test_an_invalid_file_is_a_form_error(as_editor, content, kind):
    response = upload(as_editor, content, kind)
    assert response.status_code == 200
    assert "confirm_form" not in response.context
    assert not Room.objects.exists()


def test_a_large_file_is_rejected_with_the_command_to_use(as_editor, monkeypatch):
    monkeypatch.setattr(resource, "MAX_ROOMS", 2)
    rows = [(code, 1, 1, 1, 1) for code in CODES[:3]]
    assert "More than 2 rooms. Use ./manage.py import_rooms" in page_text(upload(as_editor, as_csv(*rows)))
    assert "More than 2 rooms. Use ./manage.py import_rooms" in page_text(
        upload(as_editor, as_xlsx(*rows), XLSX)
    )
    monkeypatch.setattr(mixin, "MAX_FILE_SIZE", 100)
    assert "Use ./manage.py import_rooms for larger files" in page_text(upload(as_editor, as_csv(*rows)))
    monkeypatch.setattr(mixin, "MAX_FILE_SIZE", 1_000_000)
    monkeypatch.setattr(workbook, "MAX_UNPACKED_SIZE", 100)
    assert "unpacks to more than" in page_text(upload(as_editor, as_xlsx(*rows), XLSX))


def test_a_room_changed_after_the_preview_stops_the_import(as_editor):
    room = RoomFactory(code=CODES[0], price=39)
    preview = upload(as_editor, as_csv((CODES[0], 20, 45, 1, 1), (CODES[1], 20, 45, 1, 1)))
    Room.objects.update(price=40)
    response = confirm(as_editor, preview)
    assert "Nothing was imported. The rooms were changed since the preview." in page_text(response)
    room.refresh_from_db()
    assert (room.price, Room.objects.count()) == (40, 1)


def test_a_room_added_after_the_preview_stops_the_import(as_editor):
    preview = upload(as_editor, as_csv((CODES[0], 20, 45, 1, 1), (CODES[1], 20, 45, 1, 1)))
    RoomFactory(code=CODES[1], price=7)
    assert "Nothing was imported. The rooms were changed" in page_text(confirm(as_editor, preview))
    assert list(Room.objects.values_list("price", flat=True)) == [7]


def test_an_import_without_log_entries_is_rolled_back(as_editor):
    room = RoomFactory(code=CODES[0], price=39)
    preview = upload(as_editor, as_csv((CODES[0], 20, 45, 1, 1), (CODES[1], 20, 45, 1, 1)))
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$"
            " BEGIN RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$;"
            " CREATE TRIGGER refuse BEFORE INSERT ON django_admin_log FOR EACH ROW EXECUTE FUNCTION refuse()"
        )
    as_editor.raise_request_exception = False
    assert confirm(as_editor, preview).status_code == 503
    room.refresh_from_db()
    assert (room.price, Room.objects.count()) == (39, 1)


@pytest.mark.parametrize(
    "changed",
    [
        {"format": "9"},
        {"format": "x"},
        {"resource": "7"},
        {"import_file_name": "../../etc/passwd"},
        {"import_file_name": "x\0"},
        {"fingerprint": "x"},
    ],
    ids=str,
)
def test_a_forged_confirmation_imports_nothing(as_editor, changed):
    preview = upload(as_editor, as_csv((CODES[0], 20, 45, 1, 1)))
    response = confirm(as_editor, preview, **changed)
    assert response.status_code == 200
    assert "Nothing was imported" in page_text(response)
    assert not Room.objects.exists()


def test_the_rooms_of_a_filtered_list_are_exported(as_editor):
    RoomFactory(price=500)
    room = RoomFactory(price=39, size=None, latitude=-51.5, longitude=-0.25)
    response = as_editor.post(f"{EXPORT}?price__lte=100", {"format": CSV, "resource": "0"})
    assert response["Content-Type"] == "text/csv"
    assert response.getvalue().decode().splitlines() == [
        "code,size,price,latitude,longitude",
        f"{room.code},,39,-51.5,-0.25",
    ]


def test_selected_rooms_are_exported_as_a_workbook_with_numbers(as_editor):
    room, other = RoomFactory(price=39, size=None, latitude=-51.5), RoomFactory()
    response = as_editor.post("/admin/rooms/room/", {"action": "export_xlsx", "_selected_action": [room.pk]})
    rows = list(load_workbook(BytesIO(response.getvalue())).active.iter_rows(values_only=True))
    assert rows == [HEADER, (str(room.code), None, 39, -51.5, room.longitude)]
    assert str(other.code) not in str(rows)


def test_an_export_comes_in_again_without_a_change(as_editor):
    RoomFactory.create_batch(3)
    RoomFactory(size=None)
    for kind in (CSV, XLSX):
        exported = as_editor.post(EXPORT, {"format": kind, "resource": "0"}).getvalue()
        assert "0 to add, 0 to change, 4 unchanged." in page_text(upload(as_editor, exported, kind))


def test_text_that_a_spreadsheet_would_run_gets_an_apostrophe():
    for text in ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1"):
        assert export.cell(text) == f"'{text}"
        (line,) = b"".join(export.stream_csv(("a", "b"), [(text, -3.5)])).decode().split("\n", 1)[1:]
        assert line.lstrip('"').startswith(f"'{text[0]}")
        assert line.rstrip().endswith(",-3.5")


def test_a_formula_in_a_workbook_is_not_read_as_a_number(as_editor):
    response = upload(as_editor, as_xlsx((CODES[0], 20, "=1+1", 1, 1)), XLSX)
    assert "price is empty" in page_text(response)


@pytest.mark.parametrize("kind", [CSV, XLSX])
def test_an_export_is_streamed_and_ends_its_query_with_its_client(as_editor, monkeypatch, kind):
    monkeypatch.setattr(export, "ROWS", 1)
    RoomFactory.create_batch(3)
    response = as_editor.post(EXPORT, {"format": kind, "resource": "0"})
    assert response.streaming
    next(iter(response.streaming_content))
    assert slots._value == settings.EXPORTS_AT_ONCE - 1
    response.close()
    assert slots._value == settings.EXPORTS_AT_ONCE


@pytest.mark.parametrize("write", [export.stream_csv, export.stream_xlsx])
def test_an_export_of_any_length_takes_the_same_memory(write):
    def peak(number):
        rows = ((CODES[0], None, 39, n / 7, -0.25) for n in range(number))
        tracemalloc.start()
        try:
            size = sum(map(len, write(HEADER, rows)))
            return size, tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    peak(10)  # loads what is loaded once
    (small, memory), (large, more) = peak(4_000), peak(40_000)
    assert large > 5 * small
    assert more < 1.5 * memory


def test_rooms_beyond_a_sheet_continue_on_the_next_one(monkeypatch):
    monkeypatch.setattr(export, "MAX_SHEET_ROWS", 3)
    for number, sheets in ((0, [0]), (2, [2]), (3, [2, 1]), (5, [2, 2, 1])):
        content = b"".join(export.stream_xlsx(("code", "size"), [(f"<{n}&", n) for n in range(number)]))
        book = load_workbook(BytesIO(content))
        rows = [list(sheet.iter_rows(values_only=True)) for sheet in book]
        assert [len(sheet) - 1 for sheet in rows] == sheets
        assert [row for sheet in rows for row in sheet[1:]] == [(f"<{n}&", n) for n in range(number)]
        assert {sheet[0] for sheet in rows} == {("code", "size")}
    assert book.sheetnames == ["Rooms", "Rooms 2", "Rooms 3"]


@pytest.mark.parametrize(("kind", "write"), [(CSV, as_csv), (XLSX, as_xlsx)], ids=["CSV", "XLSX"])
def test_as_many_rooms_as_an_import_takes_are_imported(as_editor, monkeypatch, kind, write):
    monkeypatch.setattr(resource, "MAX_ROOMS", 2)
    preview = upload(as_editor, write(*((code, 1, 1, 1, 1) for code in CODES[:2])), kind)
    assert "Imported: 2 rooms added" in page_text(confirm(as_editor, preview))


@pytest.fixture
def refuse():
    """`refuse("INSERT", table)` makes PostgreSQL refuse such a write, as if its disk were full."""
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$"
            " BEGIN RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$"
        )

    def run(write, table):
        with connection.cursor() as cursor:
            cursor.execute(
                f"CREATE TRIGGER refuse BEFORE {write} ON {table} FOR EACH ROW EXECUTE FUNCTION refuse()"
            )

    yield run
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION refuse CASCADE")


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize(
    ("codes", "write", "table"),
    [
        (CODES[:1], "INSERT", "django_admin_log"),
        (CODES[:1], "UPDATE", "room"),
        (CODES[1:2], "INSERT", "django_admin_log"),
        (CODES[:2], "INSERT", "room"),
        (CODES[:2], "UPDATE", "room"),
    ],
    ids=[
        "a change's history",
        "a change",
        "an addition's history",
        "one of both: add",
        "one of both: change",
    ],
)
def test_an_import_stores_rooms_and_history_together_or_neither(client, boss, refuse, codes, write, table):
    client.force_login(boss)
    RoomFactory(code=CODES[0], price=39)
    preview = upload(client, as_csv(*((code, 20, 45, 1, 1) for code in codes)))
    refuse(write, table)
    client.raise_request_exception = False
    assert confirm(client, preview).status_code == 503
    assert list(Room.objects.values_list("price", flat=True)) == [39]
    assert not LogEntry.objects.exists()
