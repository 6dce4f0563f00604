"""Coordinates have eight decimals, in all ways of writing them and in requests."""

import io
import random
import sys
from math import copysign, inf, nan
from threading import Thread
from uuid import UUID, uuid4

import pytest
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection, transaction
from django.db.migrations.executor import MigrationExecutor

from rentomatic_site import postgres
from rentomatic_site.testing.rig import wait_until
from rooms import seeding
from rooms.columns import round_degrees
from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.api.test_pagination import walk

CODE = "f853578c-fc0f-4e65-81b8-566c5dffa35a"

ODD = [
    ("1e-200", "-1e-200", 0, 0),
    ("1e-320", "5e-324", 0, 0),
    ("-0.0", "-0", 0, 0),
    ("-1e-9", "-4.9e-9", 0, 0),
    ("51.754362934", "-0.099989754", 51.75436293, -0.09998975),
    ("1e-8", "-1e-8", 1e-8, -1e-8),
    ("90.00000000001", "180.0000000001", 90, 180),
    ("-90.000000004", "-180.000000004", -90, -180),
    ("89.999999999", "179.999999999", 90, 180),
]
"""Latitude and longitude as they are written, and as they are kept."""

BEYOND = [
    ("90.00000001", "0", "latitude"),
    ("-90.00000001", "0", "latitude"),
    ("0", "180.00000001", "longitude"),
    ("0", "-180.00000001", "longitude"),
    ("1e308", "0", "latitude"),
    ("0", "-1e308", "longitude"),
]


# --- Ways of writing a room


def by_sql(latitude, longitude, admin):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO room (code, price, latitude, longitude) VALUES (%s, 39, {latitude}, {longitude})",
            [CODE],
        )


def by_sql_update(latitude, longitude, admin):
    RoomFactory(code=CODE, price=1, latitude=1, longitude=1)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(f"UPDATE room SET latitude = {latitude}, longitude = {longitude}")


def by_copy(latitude, longitude, admin):
    rows = io.StringIO(f"{CODE}\t39\t{latitude}\t{longitude}\n")
    with transaction.atomic(), connection.cursor() as cursor, connection.wrap_database_errors:
        cursor.copy_expert("COPY room (code, price, latitude, longitude) FROM STDIN", rows)


def by_model(latitude, longitude, admin):
    room = RoomFactory.build(code=CODE, price=39, latitude=float(latitude), longitude=float(longitude))
    room.full_clean()
    room.save()


def by_scenario(latitude, longitude, admin):
    seeding.room(code=UUID(CODE), latitude=float(latitude), longitude=float(longitude))


def by_bulk(latitude, longitude, admin):
    with transaction.atomic():
        Room.objects.bulk_create(
            [RoomFactory.build(code=CODE, latitude=float(latitude), longitude=float(longitude))]
        )


def by_import(latitude, longitude, admin):
    content = f"code,size,price,latitude,longitude\n{CODE},1,39,{latitude},{longitude}\n"
    sys.stdin, stdin = io.TextIOWrapper(io.BytesIO(content.encode())), sys.stdin
    try:
        call_command("import_rooms", "-", verbosity=0)
    except CommandError as error:
        raise ValidationError(str(error)) from None
    finally:
        sys.stdin = stdin


def by_admin(latitude, longitude, admin):
    form = {"code": CODE, "size": "", "price": "39", "latitude": latitude, "longitude": longitude}
    response = admin.post("/admin/rooms/room/add/", form)
    if response.status_code == 200:
        raise ValidationError(response.context["errors"])


WRITERS = [by_sql, by_sql_update, by_copy, by_model, by_scenario, by_bulk, by_import, by_admin]


@pytest.mark.django_db
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("latitude", "longitude", "north", "east"), ODD)
def test_a_coordinate_is_kept_with_eight_decimals(
    client, admin_client, write, latitude, longitude, north, east
):
    write(latitude, longitude, admin_client)
    room = Room.objects.get()
    assert (room.latitude, room.longitude) == (north, east)
    assert copysign(1, room.latitude) == (-1 if north < 0 else 1)
    assert copysign(1, room.longitude) == (-1 if east < 0 else 1)
    for place in ("0,0", f"{east},{north}", "-180,0", "0,90"):
        response = client.get(f"/rooms?near={place}&within=20015115")
        assert (response.status_code, len(response.json())) == (200, 1)


@pytest.mark.django_db
@pytest.mark.parametrize("write", WRITERS)
@pytest.mark.parametrize(("latitude", "longitude", "column"), BEYOND)
def test_coordinates_that_round_out_of_range_are_rejected(admin_client, write, latitude, longitude, column):
    with pytest.raises((IntegrityError, ValidationError)) as refused:
        write(latitude, longitude, admin_client)
    if isinstance(refused.value, IntegrityError):
        assert refused.value.__cause__.diag.constraint_name == f"room_{column}_range"
    else:
        limit = "90" if column == "latitude" else "180"
        assert limit in str(refused.value)
    assert not Room.objects.filter(code=CODE, price=39).exists()


@pytest.mark.parametrize("value", [nan, inf, -inf, 1e308, 361.123456789])
def test_values_far_out_of_range_are_not_rounded(value):
    assert repr(round_degrees(value)) == repr(value)


@pytest.mark.django_db
def test_the_table_and_the_requests_round_alike():
    chance = random.Random(3)
    values = [
        *(chance.uniform(-90, 90) for _ in range(1_000)),
        *(chance.randint(-(10**10), 10**10) / 2e8 for _ in range(1_000)),  # half of them in the middle
        *(chance.uniform(-1, 1) * 10.0 ** -chance.randint(0, 300) for _ in range(1_000)),
    ]
    values = [value for value in values if abs(value) <= 90]
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO room (code, price, latitude, longitude)"
            " SELECT gen_random_uuid(), 1, value, -value FROM unnest(%s) AS value",
            [values],
        )
    stored = Room.objects.order_by("id").values_list("latitude", "longitude")
    assert [tuple(map(repr, pair)) for pair in stored] == [
        (repr(round_degrees(value)), repr(round_degrees(-value))) for value in values
    ]


@pytest.mark.django_db
def test_a_change_of_less_than_a_millimetre_is_none():
    room = RoomFactory(latitude=51.5, longitude=-0.1)
    Room.objects.update(latitude=51.5000000004, longitude=-0.0999999996)
    room.refresh_from_db()
    assert (room.latitude, room.longitude, room.version) == (51.5, -0.1, 1)
    Room.objects.update(latitude=51.50000001)
    room.refresh_from_db()
    assert (room.latitude, room.version) == (51.50000001, 2)


# --- Requests


@pytest.mark.django_db
@pytest.mark.parametrize(("latitude", "longitude", "north", "east"), ODD)
def test_a_request_is_read_with_eight_decimals(client, latitude, longitude, north, east):
    room = RoomFactory(latitude=north, longitude=east)
    for query in (
        f"filter_latitude__eq={latitude}&filter_longitude__eq={longitude}",
        f"filter_latitude__in={latitude}&filter_longitude__in={longitude}",
        f"filter_latitude__gte={latitude}&filter_latitude__lte={latitude}",
        f"bbox={longitude},{latitude},{longitude},{latitude}",
        f"near={longitude},{latitude}&within=1",
    ):
        response = client.get(f"/rooms?{query}")
        assert [found["code"] for found in response.json()] == [str(room.code)], query
    for query in (f"filter_latitude__ne={latitude}", f"filter_longitude__gt={longitude}"):
        assert client.get(f"/rooms?{query}").json() == []


@pytest.mark.parametrize(
    "query",
    [
        "filter_latitude__lt=90.00000001",
        "filter_longitude__lt=-180.00000001",
        "near=180.00000001,0",
        "near=0,-90.00000001",
        "bbox=0,0,0,90.00000001",
        "bbox=-180.00000001,0,0,0",
    ],
)
def test_a_request_beyond_the_earth_is_400(client, query):
    assert client.get(f"/rooms?{query}").status_code == 400


@pytest.mark.django_db
def test_what_the_api_printed_finds_the_room_again(client):
    chance = random.Random(4)
    points = [
        *((chance.uniform(-90, 90), chance.uniform(-180, 180)) for _ in range(60)),
        *((float(latitude), float(longitude)) for latitude, longitude, *_ in ODD if latitude[:2] != "-9"),
        *((chance.uniform(-1, 1) * 1e-7, chance.uniform(-1, 1) * 10.0**-9) for _ in range(20)),
    ]
    for latitude, longitude in points:
        by_sql_with(uuid4(), min(max(latitude, -90), 90), min(max(longitude, -180), 180))
    rooms = client.get("/rooms?limit=1000").json()
    assert len(rooms) == len(points)
    for room in rooms:
        latitude, longitude = room["latitude"], room["longitude"]
        for query in (
            f"filter_latitude__eq={latitude!r}&filter_longitude__eq={longitude!r}",
            f"bbox={longitude!r},{latitude!r},{longitude!r},{latitude!r}",
        ):
            found = client.get(f"/rooms?{query}").json()
            assert room in found
            assert {(other["latitude"], other["longitude"]) for other in found} == {(latitude, longitude)}
        nearest = client.get(f"/rooms?near={longitude!r},{latitude!r}&within=1&limit=1000").json()
        assert room | {"distance": 0} in nearest
    codes = {room["code"] for room in rooms}
    for order in ("latitude", "-longitude", "longitude,-latitude", "distance"):
        place = "&near=0,0&within=20015115" if order == "distance" else ""
        walked = walk(client, f"/rooms?order={order}&limit=7{place}")
        assert (len(walked), set(walked)) == (len(codes), codes)


def by_sql_with(code, latitude, longitude):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO room (code, price, latitude, longitude) VALUES (%s, 39, %s, %s)",
            [str(code), latitude, longitude],
        )


# --- Existing rooms


@pytest.fixture
def before_rounding(transactional_db):
    """The table before the migration that rounds coordinates; migrated again afterwards."""
    MigrationExecutor(connection).migrate([("rooms", "0003_history_index")])
    yield
    call_command("migrate", verbosity=0)


@pytest.mark.unpooled("migrate locks a session of its own; as a command it has one")
def test_rooms_from_before_are_rounded_by_the_migration(before_rounding, client):
    points = [(float(latitude), float(longitude)) for latitude, longitude, *_ in ODD[:6]]
    for number, (latitude, longitude) in enumerate(points):
        by_sql_with(UUID(int=number), latitude, longitude)
    by_sql_with(UUID(int=99), 51.5, -0.1)
    with connection.cursor() as cursor:  # ids may be far apart
        cursor.execute("UPDATE room SET id = 9000000000000000000 WHERE latitude = -0.0 OR latitude = 0")
    call_command("migrate", verbosity=0)
    stored = Room.objects.order_by("code").values_list("latitude", "longitude", "version")
    assert [(str(latitude), str(longitude)) for latitude, longitude, _ in stored] == [
        *((str(float(north)), str(float(east))) for *_, north, east in ODD[:6]),
        ("51.5", "-0.1"),
    ]
    assert stored[6][2] == 1  # rooms that need no change have none
    assert client.get("/rooms?near=0,0").status_code == 200


@pytest.mark.unpooled("migrate locks a session of its own; as a command it has one")
def test_the_migration_waits_for_a_locked_room_and_locks_no_other(before_rounding):
    for number in range(3):
        by_sql_with(UUID(int=number), 51.123456789, number)
    name = connection.settings_dict["NAME"]

    def migrate():
        try:
            call_command("migrate", verbosity=0)
        finally:
            connection.close()

    with postgres.session(name) as editor, postgres.session(name) as other:
        # The trigger exists before a room is locked.
        MigrationExecutor(connection).migrate([("rooms", "0004_round_coordinates")])
        editor.execute(f"BEGIN; SELECT FROM room WHERE code = '{UUID(int=1)}' FOR UPDATE")
        thread = Thread(target=migrate)
        thread.start()

        def left():
            other.execute("SELECT count(*) FROM room WHERE latitude = 51.123456789")
            return other.fetchone()[0]

        wait_until(lambda: left() == 1, "the rooms without locks")
        other.execute(f"SET lock_timeout = 2000; UPDATE room SET price = 1 WHERE code = '{UUID(int=0)}'")
        assert thread.is_alive()
        assert left() == 1
        editor.execute("ROLLBACK")
        thread.join(30)
        assert not thread.is_alive()
        assert left() == 0


@pytest.mark.unpooled("migrate locks a session of its own; as a command it has one")
def test_the_migration_takes_a_room_after_the_other(before_rounding):
    """Batches end within the rooms: none is left out between two of them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO room (code, price, latitude, longitude)"
            " SELECT gen_random_uuid(), 1, 51.123456789, 0 FROM generate_series(1, 4001)"
        )
    call_command("migrate", verbosity=0)
    assert Room.objects.filter(latitude=51.12345679, version=2).count() == 4_001


# --- Documents


def test_the_documents_say_how_exact_a_coordinate_is(client, db):
    assert "Coordinates have 8 decimals (1 mm)" in client.get("/openapi.json").json()["info"]["description"]
    assert "Coordinates have 8 decimals (1 mm)" in client.get("/docs").content.decode()
