"""
Seeding a database with generated rooms: the functions for the `run()` of a scenario.

`room(price=39)` makes one room by hand, `many_rooms(1_000_000)` many by one statement per batch, with
distributions as in real data. Everything depends on the seed: the same seed makes the same rooms,
including their codes, on every machine.
"""

import secrets
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, transaction
from psycopg2.sql import SQL, Composable, Identifier, Literal

from rooms.columns import COLUMNS, WHOLE_NUMBER, Column
from rooms.counting import Count
from rooms.distributions import Always, Between, Distribution, Mostly, Skewed, Source
from rooms.expectations import expectation
from rooms.imports.progress import progress
from rooms.models import Room

always, between, skewed, mostly = Always, Between, Skewed, Mostly
"""The distributions, as scenarios name them."""

EXPECTED = {"EXPECT": expectation}
"""What the dicts of a scenario state, for the engine (rentomatic_site/scenarios/domain.py)."""

OPENED = {"rooms": "rooms"}
"""Commands of manage.py that show the rooms."""

PAGES = {"Rooms": "/rooms", "Admin": "/admin/"}
"""Pages that show them."""

DEFAULT_SEED = 1

BATCH = 50_000
"""Rooms per statement: large enough to be fast, small enough for progress and Ctrl-C."""

MIN_ROOMS_WITHOUT_INDEXES = 100_000
"""The number of rooms from which on building the indexes afterwards is faster."""


_source = Source(DEFAULT_SEED)


def seed(value: int) -> None:
    """Reset the source of randomness: the same calls afterwards make the same rooms."""
    global _source
    _source = Source(value)


def count() -> int:
    """The rooms of the database."""
    return Room.objects.count()


def label(number: int) -> str:
    """A number of rooms in words."""
    return str(Count(number))


@dataclass(frozen=True)
class City:
    """A centre in degrees. Two thirds of its rooms are within 1.5 × `radius` km, fewer further out."""

    name: str
    latitude: float
    longitude: float
    weight: float
    radius: float = 8.0


EUROPE = (
    City("London", 51.5072, -0.1276, weight=24, radius=14),
    City("Paris", 48.8566, 2.3522, weight=20),
    City("Madrid", 40.4168, -3.7038, weight=9),
    City("Barcelona", 41.3874, 2.1686, weight=9, radius=5),
    City("Berlin", 52.5200, 13.4050, weight=8, radius=10),
    City("Rome", 41.9028, 12.4964, weight=8),
    City("Lisbon", 38.7223, -9.1393, weight=6, radius=5),
    City("Vienna", 48.2082, 16.3738, weight=5),
    City("Amsterdam", 52.3676, 4.9041, weight=4, radius=4),
    City("Dublin", 53.3498, -6.2603, weight=3, radius=6),
    City("Edinburgh", 55.9533, -3.1883, weight=2, radius=4),
    City("Reykjavík", 64.1466, -21.9426, weight=1, radius=3),
)
"""Cities with their shares of the rooms; few of them have most."""


# --- Rooms and people


def room(**fields: Any) -> Room:
    """
    Store one room and return it; a field that is not given gets a plausible value.

    A value that the table rejects raises as usual; the rooms made before stay.
    """
    chance = _source.random
    plausible: dict[str, Any] = {
        "code": uuid.UUID(int=chance.getrandbits(128), version=4),
        "latitude": round(chance.gauss(51.5072, 0.08), 6),
        "longitude": round(chance.gauss(-0.1276, 0.12), 6),
    }
    for column in COLUMNS.values():
        if column.distribution:
            plausible[column.name] = draw_value(column, column.distribution)
    with transaction.atomic():
        return Room.objects.create(**(plausible | fields))


def draw_value(column: Column, distribution: Distribution) -> Any:
    """One plausible value of a column, within its limits."""
    value = distribution.draw(_source.random)
    if column.limits:
        value = min(max(value, column.limits[0]), column.limits[1])
    return round(value) if column.type is WHOLE_NUMBER else value


def many_rooms(
    n: int,
    *,
    cities: Sequence[City] = EUROPE,
    missing_sizes: float = COLUMNS["size"].missing,
    **distributions: Distribution,
) -> None:
    """
    Store `n` generated rooms: about 130,000 in a second, a million with their indexes in less than ten.

    `distributions` are by column, as in `price=skewed(80)` (euros per day) and
    `size=between(10, 40)` (m²); `missing_sizes` is the share (0 … 1) of rooms whose size is not known.
    Values are kept within the table's limits.
    """
    known = {column.name: column.distribution for column in COLUMNS.values() if column.distribution}
    unknown = [name for name in distributions if name not in known]
    if n < 0 or not cities or not 0 <= missing_sizes <= 1 or unknown:
        raise ValueError(
            f"many_rooms(n={n}, {len(cities)} cities, missing_sizes={missing_sizes}, "
            f"{', '.join(distributions) or 'no distribution'}): n must not be negative, one city is needed, "
            f"missing_sizes is a share from 0 to 1, distributions are of {', '.join(known)}"
        )
    insert = _insert(_source, cities, known | distributions, missing_sizes)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT count(*), coalesce(max(id), 0) FROM room")
        rows, first = cursor.fetchone()
        indexes = rebuilt_indexes(cursor) if n >= max(MIN_ROOMS_WITHOUT_INDEXES, rows) else nullcontext()
        with indexes, progress(n, "rooms") as advance:
            for start in range(0, n, BATCH):
                count = min(BATCH, n - start)
                cursor.execute(insert, [first + start + 1, first + start + count])
                advance(count)
        # Nobody mirrors generated rooms: without their history a clone of a million is 120 MB smaller.
        cursor.execute("TRUNCATE room_change")


def _value(source: Source, column: Column, distribution: Distribution, missing: float) -> Composable:
    """SQL for a generated value of a column, within its limits; null in the share that is missing."""
    value = distribution.sql(source)
    if column.limits:
        value = SQL("least(greatest({}, {}), {})").format(
            value, Literal(column.limits[0]), Literal(column.limits[1])
        )
    value = SQL("({})::{}").format(value, SQL(column.type.sql_type))
    if missing:
        value = SQL("CASE WHEN {} >= {} THEN {} END").format(source.uniform(), Literal(missing), value)
    return value


ELSEWHERE = "latitude + north / 111.2", "longitude + east / 111.2 / cos(radians(latitude))"
"""SQL of a place so many kilometres north and east of a city: on a plane that touches the earth there."""

FAR, BEARING, NORTH = "sqrt(north ^ 2 + east ^ 2) / 6371", "atan2(east, north)", "radians(latitude)"

NEAR_A_POLE = (
    # `least` and `greatest` keep rounding errors within the domain of the arc sine.
    f"degrees(asin(least(greatest(sin({NORTH}) * cos({FAR}) + cos({NORTH}) * sin({FAR}) * cos({BEARING}),"
    " -1), 1)))",
    f"longitude + degrees(atan2(sin({FAR}) * sin({BEARING}),"
    f" cos({FAR}) * cos({NORTH}) - sin({FAR}) * sin({NORTH}) * cos({BEARING})))",
)
"""The same along a great circle, where the plane would reach beyond a pole."""


def reaches_pole(city: City) -> bool:
    """Whether a pole is within six standard deviations of the city's middle, or the plane is no map there."""
    return abs(city.latitude) + max(6 * city.radius / 111.2, 5) > 90


def wrapped(longitude: str) -> str:
    """SQL of the same longitude within -180 … 180."""
    return f"{longitude} - 360 * floor(({longitude} + 180) / 360)"


def degrees(value: str) -> SQL:
    """SQL of a coordinate with six decimals, 0.1 m."""
    return SQL(f"round(({value}) * 1e6) / 1e6")


def _insert(
    source: Source, cities: Sequence[City], distributions: dict[str, Distribution], missing_sizes: float
) -> Composable:
    """The statement that stores rooms number %s to %s."""
    weights = [city.weight for city in cities]
    shares = [sum(weights[: i + 1]) / sum(weights) for i in range(len(cities) - 1)]
    missing = {name: COLUMNS[name].missing for name in distributions} | {"size": missing_sizes}
    latitude, longitude = NEAR_A_POLE if any(map(reaches_pole, cities)) else ELSEWHERE
    # OFFSET 0 keeps PostgreSQL from inlining the inner queries, which would draw a number for each use.
    return SQL("""
        INSERT INTO room (code, latitude, longitude, created_at, updated_at, {names})
        SELECT {code},
            {latitude}, {longitude},
            to_timestamp(created_at), to_timestamp(created_at + {edited} * 90 * 86400),
            {values}
        FROM (
            SELECT n,
                ({latitudes}::float8[])[city] AS latitude, ({longitudes}::float8[])[city] AS longitude,
                ({radii}::float8[])[city] * {north} AS north, ({radii}::float8[])[city] * {east} AS east,
                1704067200 + {created} * 700 * 86400 AS created_at  -- from 1 January 2024 on
            FROM (
                SELECT n, 1 + width_bucket({chosen}, {shares}::float8[]) AS city
                FROM generate_series(%s::bigint, %s::bigint) AS n OFFSET 0
            ) AS chosen OFFSET 0
        ) AS placed
        ORDER BY n
    """).format(
        code=source.uuid(),
        latitude=degrees(latitude),
        longitude=degrees(wrapped(longitude)),
        names=SQL(", ").join(Identifier(name) for name in distributions),
        values=SQL(", ").join(
            _value(source, COLUMNS[name], distribution, missing[name])
            for name, distribution in distributions.items()
        ),
        chosen=source.uniform(),
        north=source.normal(),
        east=source.normal(),
        created=source.uniform(),
        edited=source.uniform(),
        shares=Literal(shares),
        latitudes=Literal([city.latitude for city in cities]),
        longitudes=Literal([city.longitude for city in cities]),
        radii=Literal([city.radius for city in cities]),
    )


@contextmanager
def rebuilt_indexes(cursor: Any) -> Iterator[None]:
    """Drop the table's indexes except the primary key, and create the same ones again afterwards."""
    cursor.execute("""
        SELECT c.relname, pg_get_indexdef(i.indexrelid), u.conname, pg_get_constraintdef(u.oid)
        FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
        LEFT JOIN pg_constraint u ON u.conindid = i.indexrelid AND u.contype IN ('u', 'x')
        WHERE i.indrelid = 'room'::regclass AND NOT i.indisprimary
            AND NOT EXISTS (SELECT FROM pg_constraint f WHERE f.conindid = i.indexrelid AND f.contype = 'f')
        ORDER BY c.relname
    """)
    rebuild: list[Composable] = []
    for index, definition, constraint, rule in cursor.fetchall():
        if constraint:
            cursor.execute(SQL("ALTER TABLE room DROP CONSTRAINT {}").format(Identifier(constraint)))
            rebuild.append(
                SQL("ALTER TABLE room ADD CONSTRAINT {} ").format(Identifier(constraint)) + SQL(rule)
            )
        else:
            cursor.execute(SQL("DROP INDEX {}").format(Identifier(index)))
            rebuild.append(SQL(definition))
    yield
    cursor.execute("SET LOCAL maintenance_work_mem = '256MB'")
    with progress(len(rebuild), "indexes") as advance:
        for statement in rebuild:
            cursor.execute(statement)
            advance(1)


hash_password = cache(make_password)
"""Cached, as hashing takes a second and the users of a scenario may share a password."""


def staff_user(
    name: str,
    *,
    superuser: bool = False,
    group: str | None = None,
    permissions: Sequence[str] = (),
    password: str | None = None,
) -> User:
    """
    Store a staff user and print the name and the password, which is random by default.

    `group` is a group's name, `permissions` are such as `rooms.view_room`; what does not exist raises.
    """
    password = password or secrets.token_urlsafe(9)
    user = User.objects.create(
        username=name, password=hash_password(password), is_staff=True, is_superuser=superuser
    )
    if group is not None:
        user.groups.add(Group.objects.get(name=group))
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    print(f"Staff: {name}, password {password}")  # noqa: T201 - a scenario's output is what it prints
    return user
