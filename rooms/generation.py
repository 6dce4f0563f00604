"""
The statement that stores generated rooms (`seeding.many_rooms`): a city for each, a place around its middle,
values by distributions, and times.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from math import sqrt
from typing import Any

from psycopg2.sql import SQL, Composable, Identifier, Literal

from rooms.columns import COLUMNS, Column
from rooms.distributions import Correlated, Distribution, Source
from rooms.imports.progress import progress

Time = str | date | datetime
"""Such as "2025-06-30" or "2025-06-30 12:00"; UTC where it says nothing else."""


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


@dataclass(frozen=True)
class Generated:
    """What the generated rooms are like."""

    cities: Sequence[City]
    distributions: dict[str, Distribution]
    missing_sizes: float
    correlation: float = 0
    """Of size and price, -1 … 1."""
    created: tuple[float, float] | None = None
    """Unix times; None for the years 2024 and 2025."""
    edited: tuple[float, float] | None = None
    """Unix times, none of them before the room was created; None for 90 days from then on."""

    def insert(self, source: Source) -> Composable:
        """The statement that stores rooms number %s to %s."""
        weights = [city.weight for city in self.cities]
        shares = [sum(weights[: i + 1]) / sum(weights) for i in range(len(self.cities) - 1)]
        latitude, longitude = NEAR_A_POLE if any(map(reaches_pole, self.cities)) else ELSEWHERE
        # OFFSET 0 keeps PostgreSQL from inlining the inner queries, which would draw a number for each use.
        return SQL("""
            INSERT INTO room (code, latitude, longitude, created_at, updated_at, {names})
            SELECT {code},
                {latitude}, {longitude},
                to_timestamp(created_at), to_timestamp({edited}),
                {values}
            FROM (
                SELECT n, ({city_names}::text[])[city] AS city,
                    ({latitudes}::float8[])[city] AS latitude, ({longitudes}::float8[])[city] AS longitude,
                    ({radii}::float8[])[city] * {north} AS north, ({radii}::float8[])[city] * {east} AS east,
                    {created} AS created_at, {common} AS common
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
            names=SQL(", ").join(Identifier(name) for name in self.distributions),
            values=SQL(", ").join(self.value(source, name) for name in self.distributions),
            chosen=source.uniform(),
            north=source.normal(),
            east=source.normal(),
            created=between(source, *(self.created or DEFAULT_CREATED)),
            edited=self.edited_at(source),
            common=source.normal() if self.correlation else SQL("0"),
            shares=Literal(shares),
            city_names=Literal([city.name for city in self.cities]),
            latitudes=Literal([city.latitude for city in self.cities]),
            longitudes=Literal([city.longitude for city in self.cities]),
            radii=Literal([city.radius for city in self.cities]),
        )

    def value(self, source: Source, name: str) -> Composable:
        """SQL for a value of a column, within its limits; null in the share that is missing."""
        column = COLUMNS[name]
        missing = self.missing_sizes if name == "size" else column.missing
        value = within_limits(column, self.distributions[name].sql(self.chance(source, name)))
        if missing:
            value = SQL("CASE WHEN {} >= {} THEN {} END").format(source.uniform(), Literal(missing), value)
        return value

    def chance(self, source: Source, name: str) -> Source:
        """The chance of a column: size and price share a part of it where they are correlated."""
        if not self.correlation or name not in {"size", "price"}:
            return source
        if name == "size":
            return Correlated(source, SQL("common"))
        return Correlated(
            source,
            SQL("({} * common + {} * {})").format(
                Literal(self.correlation), Literal(sqrt(1 - self.correlation**2)), source.normal()
            ),
        )

    def edited_at(self, source: Source) -> Composable:
        """SQL of the Unix time of the last change."""
        if self.edited is None:
            return SQL("created_at + {} * 90 * 86400").format(source.uniform())
        return SQL("greatest(created_at, {})").format(between(source, *self.edited))


DEFAULT_CREATED = 1704067200, 1704067200 + 700 * 86400
"""From 1 January 2024 on."""


def between(source: Source, low: float, high: float) -> Composable:
    """SQL of a number in this range."""
    return SQL("{} + {} * {}").format(Literal(low), source.uniform(), Literal(high - low))


def within_limits(column: Column, value: Composable) -> Composable:
    """SQL of the value as the column has it."""
    if column.limits:
        value = SQL("least(greatest({}, {}), {})").format(
            value, Literal(column.limits[0]), Literal(column.limits[1])
        )
    return SQL("({})::{}").format(value, SQL(column.type.sql_type))


def time_range(times: tuple[Time, Time] | None) -> tuple[float, float] | None:
    """Unix times of a range; ValueError where it is none, or backwards."""
    if times is None:
        return None
    first, last = (datetime.fromisoformat(str(time)) for time in times)
    low, high = ((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() for time in (first, last))
    if low > high:
        raise ValueError(f"the range of times {first} … {last} ends before it begins")
    return low, high


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
