"""
Words for filling a database with rooms: what a scenario's `run()` is written in.

`room(price=39)` makes one room by hand, `many_rooms(1_000_000)` many by one statement per batch, with
distributions that PostgreSQL's planner finds in real data. Everything follows from the seed: the same
seed makes the same rooms, codes included, on every machine.
"""

import random
import secrets
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, transaction
from psycopg2.sql import SQL, Composable, Identifier, Literal

from rooms.imports.progress import progress
from rooms.models import PRICE_LIMITS, SIZE_LIMITS, Room

DEFAULT_SEED = 1

BATCH = 50_000
"""Rooms per statement: large enough to be quick, small enough that progress shows and Ctrl-C is heard."""

INDEXES_APART = 100_000
"""From so many rooms on it is quicker to build the indexes after the rooms than along with them."""


class Source:
    """Where all chance comes from: numbers in Python for `room`, salts of a hash in SQL for `many_rooms`."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.random = random.Random(seed)  # noqa: S311 - rooms, not secrets
        self.drawn = 0

    def uniform(self) -> Composable:
        """SQL for another number between 0 and 1, both excluded, that depends on the row's number `n`."""
        return SQL(
            "((((hashint8extended(n, {}) >> 11) & 4503599627370495) | 1) / 4503599627370496.0)::float8"
        ).format(Literal(self.salt()))

    def normal(self) -> Composable:
        """SQL for a number of the standard normal distribution (Box and Muller's way)."""
        return SQL("(sqrt(-2 * ln({})) * cos(2 * pi() * {}))").format(self.uniform(), self.uniform())

    def uuid(self) -> Composable:
        """SQL for a UUID of version 4: 122 drawn bits, and the six that say so."""
        return SQL(
            "encode(int8send((hashint8extended(n, {}) & ~(15::bigint << 12)) | (4::bigint << 12))"
            " || int8send((hashint8extended(n, {}) & ~(3::bigint << 62)) | (2::bigint << 62)), 'hex')::uuid"
        ).format(Literal(self.salt()), Literal(self.salt()))

    def salt(self) -> int:
        """A bigint that no other draw of this seed uses."""
        self.drawn += 1
        return int.from_bytes(sha256(f"{self.seed}:{self.drawn}".encode()).digest()[:8], signed=True)


_source = Source(DEFAULT_SEED)


def sow(seed: int) -> None:
    """Begin again from `seed`: what follows makes the same rooms as after every other such beginning."""
    global _source
    _source = Source(seed)


# --- Distributions: SQL for one value per row

Distribution = Callable[[Source], Composable]


def always(value: float) -> Distribution:
    """The same value in every row."""
    return lambda source: SQL("{}::float8").format(Literal(value))


def between(low: float, high: float) -> Distribution:
    """Every value from `low` to `high` equally often."""
    return lambda source: SQL("({} + {} * {})").format(Literal(low), Literal(high - low), source.uniform())


def skewed(median: float, spread: float = 0.6) -> Distribution:
    """
    Log-normal, as prices and sizes are: half of the rows below `median`, a long tail above.

    Two thirds of the rows lie between median / e^spread and median × e^spread.
    """
    return lambda source: SQL("({} * exp({} * {}))").format(Literal(median), Literal(spread), source.normal())


def mostly(value: float, share: float, otherwise: Distribution) -> Distribution:
    """`value` in a `share` (0 … 1) of the rows, another distribution in the rest."""
    return lambda source: SQL("CASE WHEN {} < {} THEN {} ELSE {} END").format(
        source.uniform(), Literal(share), Literal(value), otherwise(source)
    )


@dataclass(frozen=True)
class City:
    """Rooms lie around its middle (degrees): two thirds within 1.5 × `radius` km, ever fewer outside."""

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
"""Cities with the share of the rooms that each has: few of them have most."""


# --- Rooms and people


def room(**fields: Any) -> Room:
    """
    Store one room and return it; a field that is not given gets a plausible value.

    What the table refuses raises as usual, and leaves the rooms made before in place.
    """
    chance = _source.random
    plausible: dict[str, Any] = {
        "code": uuid.UUID(int=chance.getrandbits(128), version=4),
        "size": chance.randint(10, 120),
        "price": chance.randint(20, 200),
        "latitude": round(chance.gauss(51.5072, 0.08), 6),
        "longitude": round(chance.gauss(-0.1276, 0.12), 6),
    }
    with transaction.atomic():
        return Room.objects.create(**(plausible | fields))


def many_rooms(
    n: int,
    *,
    cities: Sequence[City] = EUROPE,
    price: Distribution = skewed(65),  # noqa: B008 - a constant
    size: Distribution = skewed(30, 0.5),  # noqa: B008
    missing_sizes: float = 0.1,
) -> None:
    """
    Store `n` generated rooms: about 130,000 in a second, a million with their indexes in less than ten.

    `price` is in euros per day, `size` in m², `missing_sizes` the share (0 … 1) of rooms whose size is
    not known. Both are kept within the table's limits.
    """
    if n < 0 or not cities or not 0 <= missing_sizes <= 1:
        raise ValueError(
            f"many_rooms(n={n}, {len(cities)} cities, missing_sizes={missing_sizes}): "
            "n must not be negative, one city is needed, missing_sizes is a share from 0 to 1"
        )
    insert = _insert(_source, cities, price, size, missing_sizes)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT count(*), coalesce(max(id), 0) FROM room")
        rows, first = cursor.fetchone()
        indexes = _indexes_apart(cursor) if n >= max(INDEXES_APART, rows) else nullcontext()
        with indexes, progress(n, "rooms") as advance:
            for start in range(0, n, BATCH):
                count = min(BATCH, n - start)
                cursor.execute(insert, [first + start + 1, first + start + count])
                advance(count)


def _insert(
    source: Source, cities: Sequence[City], price: Distribution, size: Distribution, missing_sizes: float
) -> Composable:
    """The statement that stores rooms number %s to %s."""
    weights = [city.weight for city in cities]
    shares = [sum(weights[: i + 1]) / sum(weights) for i in range(len(cities) - 1)]
    # The inner queries have OFFSET 0, which keeps PostgreSQL from drawing a number once per use of it.
    return SQL("""
        INSERT INTO room (code, size, price, latitude, longitude, created_at, updated_at)
        SELECT {code},
            CASE WHEN size_known THEN least(greatest(round({size}), {size_min}), {size_max}) END,
            least(greatest(round({price}), {price_min}), {price_max}),
            least(greatest(round((latitude + north / 111.2) * 1e6) / 1e6, -90), 90),
            least(greatest(
                round((longitude + east / 111.2 / cos(radians(latitude))) * 1e6) / 1e6, -180), 180),
            to_timestamp(created_at), to_timestamp(created_at + {edited} * 90 * 86400)
        FROM (
            SELECT n, {uniform} >= {missing_sizes} AS size_known,
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
        size=size(source),
        price=price(source),
        uniform=source.uniform(),
        missing_sizes=Literal(missing_sizes),
        chosen=source.uniform(),
        north=source.normal(),
        east=source.normal(),
        created=source.uniform(),
        edited=source.uniform(),
        shares=Literal(shares),
        latitudes=Literal([city.latitude for city in cities]),
        longitudes=Literal([city.longitude for city in cities]),
        radii=Literal([city.radius for city in cities]),
        size_min=Literal(SIZE_LIMITS[0]),
        size_max=Literal(SIZE_LIMITS[1]),
        price_min=Literal(PRICE_LIMITS[0]),
        price_max=Literal(PRICE_LIMITS[1]),
    )


@contextmanager
def _indexes_apart(cursor: Any) -> Iterator[None]:
    """Take the room's indexes away, all but the primary key, and build the very same ones afterwards."""
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


hashed = cache(make_password)
"""Hashing costs a second, on purpose; several of a scenario's staff may have one password."""


def staff_user(
    name: str,
    *,
    superuser: bool = False,
    group: str | None = None,
    permissions: Sequence[str] = (),
    password: str | None = None,
) -> User:
    """
    Store a member of staff and print the name and the password, which is a random one where not given.

    `group` is a group's name, `permissions` are such as `rooms.view_room`; what does not exist raises.
    """
    password = password or secrets.token_urlsafe(9)
    user = User.objects.create(
        username=name, password=hashed(password), is_staff=True, is_superuser=superuser
    )
    if group is not None:
        user.groups.add(Group.objects.get(name=group))
    for permission in permissions:
        app, codename = permission.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    print(f"Staff: {name}, password {password}")  # noqa: T201 - a scenario's output is what it prints
    return user
