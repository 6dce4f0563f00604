"""The functions that scenarios use: what they store depends on the seed and is valid."""

import gzip
import random
import uuid
from pathlib import Path

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import Group, User
from django.db import IntegrityError, connection, transaction
from django.db.models import F

from rooms import seeding
from rooms.api.geo import distance
from rooms.models import Room

pytestmark = pytest.mark.django_db

FIELDS = ("code", "size", "price", "latitude", "longitude", "created_at", "updated_at")


def schema() -> list[tuple[str, str]]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'room' UNION ALL "
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid = 'room'::regclass ORDER BY 1, 2"
        )
        return cursor.fetchall()


def generated(seed: int) -> list[tuple]:
    Room.objects.all().delete()
    seeding.seed(seed)
    seeding.many_rooms(300)
    seeding.room()
    return list(Room.objects.order_by("id").values_list(*FIELDS[:-2]))


def test_the_same_seed_makes_the_same_rooms_codes_included() -> None:
    first = generated(7)
    with connection.cursor() as cursor:
        cursor.execute("TRUNCATE room RESTART IDENTITY")
    again = generated(7)
    assert first == again
    assert len({code for code, *_ in first}) == 301
    assert {(code.version, code.variant) for code, *_ in first} == {(4, uuid.RFC_4122)}


def test_another_seed_makes_other_rooms() -> None:
    assert not {code for code, *_ in generated(7)} & {code for code, *_ in generated(8)}


def test_two_fillings_of_one_run_differ() -> None:
    seeding.seed(7)
    seeding.many_rooms(100)
    seeding.many_rooms(100)
    assert Room.objects.values("price", "latitude").distinct().count() > 190


def test_many_rooms_have_the_distributions_that_they_were_given() -> None:
    seeding.seed(1)
    seeding.many_rooms(
        5000,
        cities=[seeding.City("North", 60, 10, weight=9), seeding.City("South", -30, 10, weight=1)],
        price=seeding.mostly(50, 0.9, otherwise=seeding.between(100, 200)),
        size=seeding.always(20),
        missing_sizes=0.25,
    )
    rooms = Room.objects.all()
    assert rooms.filter(price=50).count() == pytest.approx(4500, rel=0.03)
    assert rooms.filter(price__range=(100, 200)).count() == 5000 - rooms.filter(price=50).count()
    assert rooms.filter(size=None).count() == pytest.approx(1250, rel=0.1)
    assert rooms.filter(size=20).count() == 5000 - rooms.filter(size=None).count()
    assert rooms.filter(latitude__gt=0).count() == pytest.approx(4500, rel=0.03)


def test_skewed_prices_have_their_median_and_a_long_tail() -> None:
    seeding.seed(1)
    seeding.many_rooms(5000, price=seeding.skewed(100, 0.6))
    assert Room.objects.filter(price__lt=100).count() == pytest.approx(2500, rel=0.05)
    assert Room.objects.filter(price__gt=400).exists()


def test_values_outside_the_limits_are_brought_inside() -> None:
    seeding.many_rooms(50, price=seeding.always(-5), size=seeding.always(1e9), missing_sizes=0)
    assert Room.objects.filter(price=0, size=100_000).count() == 50


def test_a_city_on_the_antimeridian_has_rooms_on_both_sides() -> None:
    seeding.seed(1)
    seeding.many_rooms(400, cities=[seeding.City("Taveuni", -16.8, 179.999, weight=1, radius=20)])
    west = Room.objects.filter(longitude__gt=179, longitude__lt=180).count()
    assert west + Room.objects.filter(longitude__gt=-180, longitude__lt=-179).count() == 400
    assert west == pytest.approx(200, rel=0.2)


@pytest.mark.parametrize("latitude", [90, 89.9, -90, -86])
def test_rooms_around_a_pole_are_as_far_from_it_as_elsewhere(latitude: float) -> None:
    seeding.seed(1)
    seeding.many_rooms(1000, cities=[seeding.City("Pole", latitude, 100, weight=1, radius=50)])
    far = [
        distance(latitude, north, longitude - 100)
        for longitude, north in Room.objects.values_list("longitude", "latitude")
    ]
    # Two thirds are within 1.5 times the radius, of a normal distribution in two dimensions.
    assert sum(metres < 75_000 for metres in far) == pytest.approx(675, rel=0.06)
    assert max(far) < 250_000
    if abs(latitude) == 90:
        eastern = Room.objects.filter(longitude__gt=0).count()
        assert eastern == pytest.approx(500, rel=0.1)


def test_indexes_built_apart_are_the_very_same_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    before = schema()
    monkeypatch.setattr(seeding, "MIN_ROOMS_WITHOUT_INDEXES", 10)
    seeding.many_rooms(100)
    assert Room.objects.count() == 100
    assert schema() == before
    assert any(name == "room_code_key" for name, _ in before)


def test_an_invalid_number_of_rooms_is_rejected() -> None:
    with pytest.raises(ValueError, match="must not be negative"):
        seeding.many_rooms(-1)
    with pytest.raises(ValueError, match="one city is needed"):
        seeding.many_rooms(1, cities=[])


def test_a_mixture_has_its_shares() -> None:
    seeding.seed(1)
    mixed = seeding.mixture((1, seeding.always(20)), (3, seeding.between(100, 200)))
    seeding.many_rooms(2000, price=mixed)
    assert Room.objects.filter(price=20).count() == pytest.approx(500, rel=0.1)
    assert (
        Room.objects.filter(price__range=(100, 200)).count() == 2000 - Room.objects.filter(price=20).count()
    )
    drawn = [mixed.draw(random.Random(n)) for n in range(400)]
    assert drawn.count(20) == pytest.approx(100, rel=0.25)
    with pytest.raises(ValueError, match="shares must be positive"):
        seeding.mixture((0, seeding.always(1)))


def test_prices_differ_by_city() -> None:
    cities = [seeding.City("North", 60, 10, weight=1), seeding.City("South", -30, 10, weight=1)]
    prices = seeding.by_city({"North": seeding.always(90)}, otherwise=seeding.always(40))
    seeding.many_rooms(200, cities=cities, price=prices)
    assert set(Room.objects.filter(latitude__gt=0).values_list("price", flat=True)) == {90}
    assert set(Room.objects.filter(latitude__lt=0).values_list("price", flat=True)) == {40}


@pytest.mark.parametrize("correlation", [-0.9, 0, 0.5, 1])
def test_sizes_and_prices_have_the_correlation_that_was_asked(correlation: float) -> None:
    seeding.seed(1)
    seeding.many_rooms(
        3000, correlation=correlation, missing_sizes=0, size=seeding.skewed(3000), price=seeding.skewed(5000)
    )
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT corr(ln(size), ln(price)), percentile_disc(0.5) WITHIN GROUP (ORDER BY price) FROM room"
        )
        found, median = cursor.fetchone()
    assert found == pytest.approx(correlation, abs=0.05)
    assert median == pytest.approx(5000, rel=0.07)  # each by itself is as it was


def test_a_correlation_is_of_any_distributions() -> None:
    seeding.seed(1)
    seeding.many_rooms(
        2000, correlation=1, missing_sizes=0, size=seeding.between(1, 9000), price=seeding.between(1, 9000)
    )
    assert Room.objects.filter(size__lt=4500).count() == pytest.approx(1000, rel=0.1)
    assert not Room.objects.filter(price__gt=F("size") + 1).exists()


def test_rooms_are_created_and_edited_in_the_ranges_that_were_given() -> None:
    ann = User.objects.create(username="ann")
    seeding.many_rooms(
        100, created=("2025-01-01", "2025-06-30"), edited=("2025-06-01", "2025-07-31"), history=ann
    )
    created = Room.objects.filter(created_at__range=("2025-01-01 00:00Z", "2025-06-30 00:00Z"))
    assert created.count() == 100
    assert (
        Room.objects.filter(updated_at__gte=F("created_at"), updated_at__lte="2025-07-31 00:00Z").count()
        == 100
    )
    room = Room.objects.filter(updated_at__gt=F("created_at")).first()
    entries = LogEntry.objects.filter(object_id=str(room.id), user=ann).order_by("action_time")
    assert [(entry.action_flag, entry.action_time) for entry in entries] == [
        (1, room.created_at),
        (2, room.updated_at),
    ]
    with pytest.raises(ValueError, match="ends before it begins"):
        seeding.many_rooms(1, created=("2025-02-01", "2025-01-01"))


def test_given_rooms_are_stored_as_they_are_and_the_rest_is_plausible() -> None:
    seeding.seed(7)
    seeding.rooms({"price": price, "size": None} for price in (30, 60))
    first = list(Room.objects.order_by("id").values_list(*FIELDS[:-2]))
    assert [row[1:3] for row in first] == [(None, 30), (None, 60)]
    assert all(50 < latitude < 53 for *_, latitude, _ in first)
    Room.objects.all().delete()
    seeding.seed(7)
    seeding.rooms([{"price": 30, "size": None}, {"price": 60, "size": None}])
    assert list(Room.objects.order_by("id").values_list(*FIELDS[:-2])) == first
    seeding.rooms([])
    assert Room.objects.count() == 2


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"prize": 3}], "unexpected columns: prize"),
        ([{"price": 3}, {"size": 3}], "different columns: price, size"),
    ],
)
def test_given_rooms_with_other_columns_are_refused(rows: list[dict], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        seeding.rooms(rows)
    assert not Room.objects.exists()


@pytest.mark.parametrize("name", ["rooms.csv", "rooms.csv.gz"])
def test_the_rows_of_a_csv_file_can_be_stored(tmp_path: Path, name: str) -> None:
    text = b"size,price\r\n12,30\r\n,60\r\n"
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    seeding.rooms(seeding.csv_rows(tmp_path / name))
    assert list(Room.objects.order_by("id").values_list("size", "price")) == [(12, 30), (None, 60)]


def test_a_seeded_room_has_plausible_values_for_missing_fields() -> None:
    room = seeding.room(price=39, size=None)
    assert (room.price, room.size) == (39, None)
    assert 51 < room.latitude < 52
    assert Room.objects.get() == room


def test_a_rejected_room_keeps_the_rooms_before_it() -> None:
    with transaction.atomic():
        seeding.room()
        with pytest.raises(IntegrityError, match="room_price_range"):
            seeding.room(price=-1)
        seeding.room()
    assert Room.objects.count() == 2


def test_a_misspelt_field_of_a_room_is_named() -> None:
    with pytest.raises(TypeError, match="prize"):
        seeding.room(prize=39)


def test_staff_can_log_in_with_the_password_that_was_printed(capsys: pytest.CaptureFixture[str]) -> None:
    Group.objects.create(name="Readers")
    seeding.staff_user("ann", group="Readers", permissions=["rooms.view_room"])
    password = capsys.readouterr().out.strip().removeprefix("Staff: ann, password ")
    ann = User.objects.get(username="ann")
    assert ann.check_password(password)
    assert (ann.is_staff, ann.is_superuser) == (True, False)
    assert ann.has_perm("rooms.view_room")
    assert [group.name for group in ann.groups.all()] == ["Readers"]
