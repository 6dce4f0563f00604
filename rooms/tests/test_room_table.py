"""Constraints and triggers of the table `room`."""

import re
import subprocess
import uuid
from math import inf, nan

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.db import DataError, IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor
from psycopg2 import errorcodes

from rentomatic_site import postgres
from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.conftest import BOOK_INSERT

pytestmark = pytest.mark.django_db

GOOD = {"code": str(uuid.UUID(int=1)), "size": 50, "price": 66, "latitude": 51.5, "longitude": -0.1}


def insert(**values):
    """One row by plain SQL, without Django's validation."""
    row = GOOD | values
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO room ({', '.join(row)}) VALUES ({', '.join(['%s'] * len(row))})", list(row.values())
        )


@pytest.mark.needs("psql")
@pytest.mark.django_db(transaction=True)
def test_the_books_statements_work_in_psql():
    def psql(statement):
        url = postgres.url(connection.settings_dict["NAME"])
        done = subprocess.run(
            ["psql", "-X", "-v", "ON_ERROR_STOP=1", url], input=statement, capture_output=True, text=True
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    assert psql(BOOK_INSERT) == "INSERT 0 1\n"
    shown = psql("SELECT * FROM room;")
    assert re.search(
        r"f853578c-fc0f-4e65-81b8-566c5dffa35a \| +215 \| +39 \| +51.75436293 \| -0.09998975", shown
    )
    assert "(1 row)" in shown


def test_the_books_insert_gives_the_rest_its_defaults():
    with connection.cursor() as cursor:
        cursor.execute(BOOK_INSERT)
        cursor.execute(
            "SELECT id > 0, version, created_at = updated_at, created_at > now() - interval '1 h' FROM room"
        )
        assert cursor.fetchall() == [(True, 1, True, True)]


@pytest.mark.parametrize(
    ("column", "value", "constraint", "message"),
    [
        ("size", 0, "room_size_range", "Size must be from 1 to 100000 m²."),
        ("size", -1, "room_size_range", "Size must be from 1 to 100000 m²."),
        ("size", 100_001, "room_size_range", "Size must be from 1 to 100000 m²."),
        ("price", -1, "room_price_range", "Price must be from 0 to 1000000 euros per day."),
        ("price", 1_000_001, "room_price_range", "Price must be from 0 to 1000000 euros per day."),
        ("latitude", 90.0000001, "room_latitude_range", "Latitude must be from -90 to 90 degrees."),
        ("latitude", -91, "room_latitude_range", "Latitude must be from -90 to 90 degrees."),
        ("latitude", nan, "room_latitude_range", "Latitude must be from -90 to 90 degrees."),
        ("latitude", inf, "room_latitude_range", "Latitude must be from -90 to 90 degrees."),
        ("latitude", -inf, "room_latitude_range", "Latitude must be from -90 to 90 degrees."),
        ("longitude", 180.0000001, "room_longitude_range", "Longitude must be from -180 to 180 degrees."),
        ("longitude", -181, "room_longitude_range", "Longitude must be from -180 to 180 degrees."),
        ("longitude", nan, "room_longitude_range", "Longitude must be from -180 to 180 degrees."),
        ("longitude", inf, "room_longitude_range", "Longitude must be from -180 to 180 degrees."),
    ],
)
def test_a_value_out_of_range_violates_the_named_constraint(column, value, constraint, message):
    insert(code=str(uuid.uuid4()))
    with pytest.raises(IntegrityError) as caught:
        insert(**{column: value})
    assert caught.value.__cause__.pgcode == errorcodes.CHECK_VIOLATION
    assert caught.value.__cause__.diag.constraint_name == constraint
    with pytest.raises(ValidationError) as reported:
        Room(**GOOD | {column: value}).full_clean()
    assert message in reported.value.messages


@pytest.mark.parametrize("column", ["size", "price", "latitude", "longitude"])
@pytest.mark.parametrize("end", [0, 1])
def test_the_ends_of_each_range_belong_to_it(column, end):
    value = {"size": (1, 100_000), "price": (0, 1_000_000), "latitude": (-90, 90), "longitude": (-180, 180)}[
        column
    ][end]
    insert(**{column: value})
    Room(**GOOD | {"code": uuid.uuid4(), column: value}).full_clean()


@pytest.mark.parametrize("column", ["code", "price", "latitude", "longitude"])
def test_null_is_rejected_in_columns_that_are_not_nullable(column):
    with pytest.raises(IntegrityError) as caught:
        insert(**{column: None})
    assert caught.value.__cause__.pgcode == errorcodes.NOT_NULL_VIOLATION


def test_a_size_may_be_unknown():
    insert(size=None)
    Room(**GOOD | {"code": uuid.uuid4(), "size": None}).full_clean()


def test_a_code_is_given_once():
    insert()
    with pytest.raises(IntegrityError) as caught:
        insert()
    assert caught.value.__cause__.pgcode == errorcodes.UNIQUE_VIOLATION
    with pytest.raises(ValidationError, match="already exists"):
        Room(**GOOD).full_clean()


@pytest.mark.parametrize("code", ["", "x", "f853578c"])
def test_a_code_is_a_uuid(code):
    with pytest.raises(DataError) as caught:
        insert(code=code)
    assert caught.value.__cause__.pgcode == errorcodes.INVALID_TEXT_REPRESENTATION
    with pytest.raises(ValidationError):
        Room(**GOOD | {"code": code}).full_clean()


@pytest.mark.parametrize(("column", "value"), [("price", 2**31), ("price", -(2**31) - 1), ("size", 2**63)])
def test_a_number_beyond_the_column_is_an_error_of_the_form(column, value):
    with pytest.raises(ValidationError):
        Room(**GOOD | {column: value}).full_clean()


# --- The trigger


def state(room):
    return Room.objects.values_list("version", "updated_at").get(pk=room.pk)


def execute(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


@pytest.mark.parametrize("column", ["size", "price", "latitude", "longitude"])
def test_a_change_by_raw_sql_counts_the_version_up(column):
    room = RoomFactory()
    before = state(room)
    execute(f"UPDATE room SET {column} = {column} + 1 WHERE id = %s", room.pk)
    after = state(room)
    assert after[0] == before[0] + 1
    assert after[1] > before[1]


def test_a_change_to_the_same_values_is_none():
    room = RoomFactory()
    before = state(room)
    execute("UPDATE room SET price = price, size = size")
    Room.objects.update(price=room.price)
    room.refresh_from_db()
    room.save()
    assert state(room) == before


def test_a_bulk_update_counts_up_only_what_changes():
    same, other = RoomFactory(price=5), RoomFactory(price=6)
    Room.objects.update(price=5)
    assert state(same)[0] == 1
    assert state(other)[0] == 2
    Room.objects.bulk_update([Room(pk=other.pk, price=9)], ["price"])
    assert state(other)[0] == 3


def test_the_version_cannot_be_set_back():
    room = RoomFactory()
    for _ in range(3):  # each counts up from what is stored
        execute("UPDATE room SET price = price + 1, version = 1, updated_at = '2000-01-01'")
    version, updated_at = state(room)
    assert version == 4
    assert updated_at.year > 2000


def test_an_upsert_counts_up():
    insert()
    execute(
        "INSERT INTO room (code, size, price, latitude, longitude) VALUES (%s, 1, 1, 1, 1)"
        " ON CONFLICT (code) DO UPDATE SET price = excluded.price",
        GOOD["code"],
    )
    assert Room.objects.get().version == 2


# --- Migrations


def test_the_models_and_the_migrations_agree():
    call_command("makemigrations", "--check", "--dry-run", verbosity=0)


@pytest.mark.unpooled("migrate locks a session of its own; as a command it has one")
@pytest.mark.django_db(transaction=True)
def test_the_migrations_go_back_and_forth():
    def schema():
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT conname FROM pg_constraint WHERE conrelid = to_regclass('room') AND contype <> 'n'"
                " UNION ALL SELECT indexname FROM pg_indexes WHERE tablename = 'room'"
                " UNION ALL SELECT tgname FROM pg_trigger WHERE tgrelid = to_regclass('room')"
                " UNION ALL SELECT proname FROM pg_proc WHERE proname LIKE 'room%' ORDER BY 1"
            )
            return [name for (name,) in cursor.fetchall()]

    def migrate(target):
        executor = MigrationExecutor(connection)
        executor.migrate([target])

    before = schema()
    assert {"room_touch", "room_price_range", "room_place", "room_size"} <= set(before)
    leaves = [node for node in MigrationExecutor(connection).loader.graph.leaf_nodes() if node[0] == "rooms"]
    try:
        migrate(("rooms", None))
        assert schema() == []
    finally:
        for leaf in leaves:
            migrate(leaf)
        call_command("migrate", verbosity=0)
    assert schema() == before
