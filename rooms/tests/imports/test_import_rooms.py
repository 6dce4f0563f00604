"""`./manage.py import_rooms`: valid files, invalid files and their messages."""

import io
import os
import signal
import subprocess
import sys
import time
from uuid import UUID

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rentomatic_site.testing.rig import wait_until
from rooms.factories import RoomFactory
from rooms.imports import progress, writer
from rooms.imports.reader import MAX_LINE_SIZE
from rooms.models import Room

HEADER = "code,size,price,latitude,longitude\n"
CODES = [f"f853578c-fc0f-4e65-81b8-566c5dffa3{number:02x}" for number in range(8)]


@pytest.fixture
def import_text(tmp_path):
    """Import a file with this content; returns stdout, raises CommandError."""

    def run(content, **options):
        file = tmp_path / "rooms"
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        output = io.StringIO()
        call_command("import_rooms", str(file), stdout=output, **options)
        return output.getvalue()

    return run


def rooms():
    return list(Room.objects.order_by("id").values_list("code", "size", "price", "latitude", "longitude"))


@pytest.mark.django_db
def test_rooms_are_added_in_the_order_of_the_file(import_text):
    output = import_text(f"{HEADER}{CODES[1]},215,39,51.75,-0.09\n{CODES[0]},,66,-33.5,151.2\n")
    assert output == "Rooms: 2 added, 0 changed, 0 unchanged.\n"
    assert [(str(code), *rest) for code, *rest in rooms()] == [
        (CODES[1], 215, 39, 51.75, -0.09),
        (CODES[0], None, 66, -33.5, 151.2),
    ]


@pytest.mark.django_db
def test_an_import_updates_known_codes_and_is_idempotent():
    same, other = RoomFactory(code=CODES[0], price=39), RoomFactory(code=CODES[1], price=39)
    content = HEADER + "".join(
        f"{room.code},{room.size or ''},{price},{room.latitude},{room.longitude}\n"
        for room, price in ((same, 39), (other, 45))
    )
    assert run_import(io.BytesIO(content.encode())) == "Rooms: 0 added, 1 changed, 1 unchanged.\n"
    same.refresh_from_db()
    other.refresh_from_db()
    assert (same.price, same.version, other.price, other.version) == (39, 1, 45, 2)
    assert same.updated_at == same.created_at < other.updated_at


@pytest.mark.django_db
@pytest.mark.parametrize(
    "content",
    [
        f"\ufeff{HEADER}{CODES[0]},215,39,51.75,-0.09\n",
        f"{HEADER}{CODES[0]},215,39,51.75,-0.09\n".replace("\n", "\r\n"),
        f"{HEADER}{CODES[0]},215,39,51.75,-0.09",
        f'"code","size","price","latitude","longitude"\n"{CODES[0]}","215","39","51.75","-0.09"\n',
        f"longitude,price,code,latitude,size\n-0.09,39,{CODES[0].upper()},51.75,215\n\n",
        f'{{"price": 39, "code": "{CODES[0]}", "size": 215, "latitude": 51.75, "longitude": -0.09}}\n',
        f'\ufeff{{"code":"{CODES[0]}","size":215,"price":39,"latitude":51.75,"longitude":-9e-2}}\r\n',
    ],
    ids=["BOM", "CRLF", "no last line end", "quoted", "other order", "NDJSON", "NDJSON with BOM"],
)
def test_files_as_programs_write_them_are_read(import_text, content):
    assert import_text(content) == "Rooms: 1 added, 0 changed, 0 unchanged.\n"
    assert [(str(code), *rest) for code, *rest in rooms()] == [(CODES[0], 215, 39, 51.75, -0.09)]


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("code,size,prize,latitude,longitude", "line 1, 'prize': unknown column; do you mean price?"),
        ("code,size,price,latitude,longitude,x", "line 1, 'x': unknown column; the columns are code, size"),
        ("code,size,price,latitude", "line 1, longitude: this column is missing"),
        ("code,size,price,price,latitude,longitude", "line 1, price: given twice"),
        ("code;size;price;latitude;longitude", "line 1: the columns are separated by ';', not by commas"),
        ("code;,size,price,latitude,longitude", "line 1, 'code;': unknown column; do you mean code?"),
        ('code,size,"price', "line 1: not CSV"),
        ("", "line 1, code: this column is missing"),
    ],
)
def test_a_header_with_wrong_columns_is_rejected_by_name(import_text, header, message):
    with pytest.raises(CommandError) as refused:
        import_text(f"{header}\n{CODES[0]},215,39,51.75,-0.09\n" if header else "")
    assert message in str(refused.value)
    assert not Room.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"{CODES[0]},215,-1,51.75,-0.09", "line 2, price: must be from 0 to 1000000, not '-1'"),
        (f"{CODES[0]},215,abc,51.75,-0.09", "line 2, price: must be a whole number, not 'abc'"),
        (f"{CODES[0]},215,1_000,51.75,-0.09", "line 2, price: must be a whole number, not '1_000'"),
        (f"{CODES[0]},215,٣٩,51.75,-0.09", "line 2, price: must be a whole number"),
        (f"{CODES[0]},215,,51.75,-0.09", "line 2, price: is empty"),
        (f"{CODES[0]},215,{'9' * 51},51.75,-0.09", f"at most, not '{'9' * 49}…'"),
        (f"{CODES[0]},0,39,51.75,-0.09", "line 2, size: must be from 1 to 100000, not '0'"),
        (f"{CODES[0]},215,39,NaN,-0.09", "line 2, latitude: must be a decimal number, not 'NaN'"),
        (f"{CODES[0]},215,39,1e999,-0.09", "line 2, latitude: must be from -90 to 90"),
        (f"{CODES[0]},215,39,51.75,180.5", "line 2, longitude: must be from -180 to 180, not '180.5'"),
        ("room-1,215,39,51.75,-0.09", "line 2, code: must be a UUID"),
        ("=cmd(),215,39,51.75,-0.09", "line 2, code: must be a UUID"),
        (f"{CODES[0]},215,3\x009,51.75,-0.09", r"line 2, price: must be a whole number, not '3\x009'"),
        (f"{CODES[0]},215,39,51.75", "line 2: 4 values instead of 5"),
        (f"{CODES[0]},215,39,51.75,-0.09,7", "line 2: 6 values instead of 5"),
        (f"{CODES[0]},215,39,51.75,-0.09,", "line 2: 6 values instead of 5"),
        (f"{CODES[0]},215,39,51.,-0.09", "a digit before and after the point, as in 0.5, not '51.'"),
        (f'{CODES[0]},215,"39,51.75,-0.09', "line 2: not CSV"),
        (b"\xff\xfe,215,39,51.75,-0.09", "line 2: not UTF-8 at byte 1"),
        ("9" * 10_000_000, f"line 2: longer than {MAX_LINE_SIZE} bytes"),
    ],
    ids=lambda value: str(value)[:20] if not str(value).startswith("line") else "",
)
def test_an_invalid_line_is_reported_by_number_column_and_reason(import_text, line, message):
    good = f"{CODES[1]},215,39,51.75,-0.09\n".encode()
    line = line if isinstance(line, bytes) else line.encode()
    with pytest.raises(CommandError) as refused:
        import_text(HEADER.encode() + line + b"\n" + good)
    assert message in str(refused.value)
    assert "1 mistake." in str(refused.value)
    assert not Room.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ("[" * 60_000, "line 2: not JSON"),
        ("[1]", "line 2: not a JSON object"),
        ('{"code": "x"}', "line 2: size: this column is missing"),
        (
            f'{{"code":"{CODES[0]}","size":1,"price":1,"latitude":1,"longitude":1,"x":1}}',
            "line 2: 'x': unknown",
        ),
        (
            f'{{"code":"{CODES[0]}","size":1,"price":1,"price":2,"latitude":1,"longitude":1}}',
            "price: given twice",
        ),
        (
            f'{{"code":"{CODES[0]}","size":1,"price":"1","latitude":1,"longitude":1}}',
            "price: must be a number in",
        ),
        (
            f'{{"code":"{CODES[0]}","size":1,"price":true,"latitude":1,"longitude":1}}',
            "price: must be a number in",
        ),
        (
            f'{{"code":"{CODES[0]}","size":1,"price":1.0,"latitude":1,"longitude":1}}',
            "price: must be a whole",
        ),
        (
            f'{{"code":"{CODES[0]}","size":1,"price":1,"latitude":NaN,"longitude":1}}',
            "latitude: must be a decimal",
        ),
        (f'{{"code":"{CODES[0]}","size":1,"price":null,"latitude":1,"longitude":1}}', "price: is empty"),
        ('{"code":"\\ud800","size":1,"price":1,"latitude":1,"longitude":1}', r"code: must be a UUID"),
    ],
)
def test_an_invalid_line_of_ndjson_is_reported(import_text, line, message):
    good = f'{{"code":"{CODES[1]}","size":null,"price":1,"latitude":1,"longitude":1}}\n'
    with pytest.raises(CommandError) as refused:
        import_text(f"{good}{line}\n")
    assert message in str(refused.value)
    str(refused.value).encode()
    assert not Room.objects.exists()


@pytest.mark.django_db
def test_all_errors_are_listed_in_the_order_of_the_lines(import_text):
    lines = [
        f"{CODES[0]},215,39,51.75,-0.09",
        f"{CODES[0].upper()},215,39,51.75,-0.09",
        f"{CODES[1]},0,x,51.75,-0.09",
        f"{CODES[1]},215,39,51.75,-0.09",
    ]
    with pytest.raises(CommandError) as refused:
        import_text(HEADER + "\n".join(lines))
    assert str(refused.value).splitlines() == [
        "Nothing was imported: 4 mistakes.",
        f"  line 3, code: {CODES[0]} is already on line 2",
        "  line 4, price: must be a whole number, not 'x'",
        "  line 4, size: must be from 1 to 100000, not '0'",
        f"  line 5, code: {CODES[1]} is already on line 4",
        "Next: correct the file, then import it again.",
    ]


# --- More than one batch of 20,000 lines


@pytest.fixture(scope="module")
def many_lines(django_db_setup, django_db_blocker):
    """Resets the planner's statistics, which a rollback does not."""
    yield
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("VACUUM ANALYZE room")


def lines(prices):
    """A file with a room for each price."""
    return HEADER + "".join(f"{UUID(int=n)},20,{price},51.5,-0.1\n" for n, price in enumerate(prices))


@pytest.mark.django_db
def test_a_file_of_several_batches_is_imported_in_order(many_lines, import_text):
    prices = [39 + n % 7 for n in range(40_001)]
    assert import_text(lines(prices), dry_run=True).startswith("The file is good: 40,001 to add, 0 to change")
    assert import_text(lines(prices)) == "Rooms: 40,001 added, 0 changed, 0 unchanged.\n"
    stored = list(Room.objects.order_by("id").values_list("code", "price"))
    assert stored == [(UUID(int=n), price) for n, price in enumerate(prices)]
    # Both ends of each batch: the header is line 1, so that the first ends with room 19,998.
    for n in (0, 19_998, 19_999, 39_998, 39_999, 40_000):
        prices[n] = 500
    assert import_text(lines(prices)) == "Rooms: 0 added, 6 changed, 39,995 unchanged.\n"
    assert list(Room.objects.order_by("id").values_list("price", flat=True)) == prices


@pytest.mark.django_db
def test_a_code_of_another_batch_is_given_twice_all_the_same(many_lines, import_text):
    with pytest.raises(CommandError, match=f"line 20003, code: {UUID(int=0)} is already on line 2"):
        import_text(lines([39] * 20_001) + f"{UUID(int=0)},20,39,51.5,-0.1\n")
    assert not Room.objects.exists()


@pytest.mark.django_db
def test_a_database_error_in_the_last_batch_rolls_back_the_first(many_lines, import_text):
    with connection.cursor() as cursor:
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$"
            " BEGIN RAISE EXCEPTION 'full' USING ERRCODE = 'disk_full'; END $$;"
            " CREATE TRIGGER refuse BEFORE INSERT ON room FOR EACH ROW WHEN (NEW.price = 13)"
            " EXECUTE FUNCTION refuse()"
        )
    with pytest.raises(CommandError, match=r"Nothing was imported\."):
        import_text(lines([39] * 20_001 + [13]))
    assert not Room.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize(("rooms", "analyzed"), [(2, False), (3, True)])
def test_the_table_is_analyzed_after_more_than_a_batch(import_text, monkeypatch, rooms, analyzed):
    monkeypatch.setattr(writer, "BATCH", 2)
    with CaptureQueriesContext(connection) as queries:
        import_text(lines([39] * rooms))
    assert ("ANALYZE room" in [query["sql"] for query in queries]) == analyzed


# --- Progress


@pytest.mark.django_db
def test_the_progress_of_batches_counts_each_line_once(import_text, monkeypatch, capsys):
    monkeypatch.setattr(writer, "BATCH", 2)
    monkeypatch.setattr(progress, "LINE_INTERVAL", 0)
    import_text(lines([39] * 4))
    written = [line for line in capsys.readouterr().err.splitlines() if "written" in line]
    assert written == ["2 of 5 lines written", "4 of 5 lines written", "5 of 5 lines written"]


@pytest.mark.parametrize(("total", "of_total"), [(1_000, " of 1,000"), (None, "")])
def test_progress_in_a_log_is_a_line_every_two_seconds(monkeypatch, capsys, total, of_total):
    now = 100.0
    monkeypatch.setattr(progress.time, "monotonic", lambda: now)
    with progress.progress(total, "rooms") as advance:
        for now in (101.9, 102, 103, 104.5):  # noqa: B007, the clock reads it
            advance(100)
    assert capsys.readouterr().err == f"200{of_total} rooms\n400{of_total} rooms\n"


def test_progress_on_a_terminal_is_a_bar_that_goes_away(monkeypatch):
    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr(sys, "stderr", terminal)
    with progress.progress(1_000, "rooms") as advance:
        advance(250)
        advance(750)
    assert "| 0/1000 [" in terminal.getvalue()
    assert terminal.getvalue().endswith("\r")


@pytest.mark.django_db
def test_many_mistakes_are_listed_to_the_limit_and_counted(import_text):
    with pytest.raises(CommandError) as refused:
        import_text(HEADER + "x,215,39,51.75,-0.09\n" * 1000, mistakes=3)
    assert len(str(refused.value).splitlines()) == 1 + 3 + 1 + 1
    assert "… and 997 more; --mistakes 1000 lists them all" in str(refused.value)


@pytest.mark.django_db
def test_a_dry_run_reports_changes_and_writes_nothing(import_text):
    room = RoomFactory(code=CODES[0], price=39)
    before = rooms()
    content = f"{HEADER}{CODES[0]},1,1,1,1\n{CODES[1]},1,1,1,1\n"
    assert import_text(content, dry_run=True) == (
        "The file is good: 1 to add, 1 to change, 0 stay. Nothing was written.\n"
    )
    assert rooms() == before
    room.refresh_from_db()
    assert room.version == 1


@pytest.mark.parametrize("number", ["-1", "x", "1e9", "1_0", "9" * 30])
def test_an_invalid_number_of_mistakes_is_rejected(number):
    with pytest.raises(CommandError, match="not a whole number from 0"):
        call_command("import_rooms", "-", f"--mistakes={number}")


def test_a_file_that_is_not_there_is_a_message():
    with pytest.raises(CommandError, match=r"/nowhere/rooms.csv: No such file or directory. Next:"):
        call_command("import_rooms", "/nowhere/rooms.csv")


def start_import():
    """Start `import_rooms -` on the tests' database as a process of its own."""
    database = connection.settings_dict
    return subprocess.Popen(
        [sys.executable, settings.BASE_DIR / "manage.py", "import_rooms", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={
            **os.environ,
            "POSTGRES_HOSTNAME": str(settings.POSTGRES["host"]),
            "POSTGRES_PORT": str(settings.POSTGRES["port"]),
            "POSTGRES_USER": str(database["USER"]),
            "POSTGRES_PASSWORD": str(database["PASSWORD"]),
            "APPLICATION_DB": str(database["NAME"]),
            "DATABASE_URL": "",
        },
    )


def imports_running():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = database"
            " WHERE datname = current_database() AND locktype = 'advisory' AND granted"
        )
        return cursor.fetchone()[0]


@pytest.mark.django_db(transaction=True)
def test_a_second_import_fails_at_once_and_a_killed_one_rolls_back():
    process = start_import()
    process.stdin.write(HEADER + "".join(f"{code},215,39,51.75,-0.09\n" for code in CODES))
    process.stdin.flush()
    wait_until(imports_running, "an import")
    second = start_import()
    _, message = second.communicate(HEADER)
    assert "Another import is running." in message
    assert second.returncode == 1
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.communicate()
    wait_until(lambda: not imports_running(), "the end of the import")
    assert not Room.objects.exists()


class Pipe(io.BytesIO):
    """A file that calls a function before its last line is read."""

    def __init__(self, content, pause):
        super().__init__(content.encode())
        self.pause = pause

    def readline(self, limit=-1):
        if self.getbuffer().nbytes - self.tell() < 50:
            self.pause()
        return super().readline(limit)


def run_import(stream):
    sys.stdin, stdin = io.TextIOWrapper(stream), sys.stdin
    output = io.StringIO()
    try:
        call_command("import_rooms", "-", stdout=output)
    finally:
        sys.stdin = stdin
    return output.getvalue()


TWO_ROOMS = f"{HEADER}{CODES[0]},1,1,1,1\n{CODES[1]},1,1,1,1\n"


@pytest.mark.django_db(transaction=True)
def test_a_pipe_may_pause_for_longer_than_a_transaction_may(other):
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = 50")
    assert "2 added" in run_import(Pipe(TWO_ROOMS, lambda: time.sleep(0.5)))


@pytest.mark.django_db(transaction=True)
def test_a_connection_lost_while_reading_a_pipe_is_reported(other):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        (pid,) = cursor.fetchone()
    end = f"SELECT pg_terminate_backend({pid}, 5000)"
    with pytest.raises(CommandError, match=r"Nothing was imported\. The database has ended the connection"):
        run_import(Pipe(TWO_ROOMS, lambda: other.execute(end)))
    connection.close()
    assert not Room.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_an_import_of_a_locked_room_reports_it_and_rolls_back(other, monkeypatch):
    monkeypatch.setattr(writer, "LOCK_TIMEOUT", "50ms")
    RoomFactory(code=CODES[0], price=39)
    other.execute("BEGIN; SELECT FROM room FOR UPDATE")
    with pytest.raises(CommandError) as refused:
        run_import(io.BytesIO(TWO_ROOMS.encode()))
    assert "Nothing was imported. Other work holds the rooms that this needs" in str(refused.value)
    assert "wait_for_db" not in str(refused.value)
    assert Room.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_room_that_the_file_does_not_change_is_not_locked(other, monkeypatch):
    monkeypatch.setattr(writer, "LOCK_TIMEOUT", "50ms")
    RoomFactory(code=CODES[0], size=1, price=1, latitude=1, longitude=1)
    other.execute("BEGIN; SELECT FROM room FOR UPDATE")
    assert run_import(io.BytesIO(TWO_ROOMS.encode())) == "Rooms: 1 added, 0 changed, 1 unchanged.\n"


def test_a_database_that_is_away_is_a_message(manage, tmp_path):
    file = tmp_path / "rooms.csv"
    file.write_text(HEADER)
    away = manage("import_rooms", str(file), env={"DATABASE_URL": "postgres://nobody:pw@127.0.0.1:1/rooms"})
    assert (away.returncode, away.stdout) == (1, "")
    assert "The database cannot be reached at the moment. Next: ./manage.py wait_for_db" in away.stderr
    assert "Traceback" not in away.stderr


@pytest.mark.django_db
def test_a_database_without_the_table_is_a_message(import_text):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE room RENAME TO elsewhere")
    with pytest.raises(CommandError, match=r"migrations are pending. Next: ./manage.py migrate"):
        import_text(f"{HEADER}{CODES[0]},1,1,1,1\n")
