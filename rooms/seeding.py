"""
Seeding a database with generated rooms: the functions for the `run()` of a scenario.

`room(price=39)` makes one room by hand, `many_rooms(1_000_000)` many by one statement per batch, with
distributions as in real data. Everything depends on the seed: the same seed makes the same rooms,
including their codes, on every machine.
"""

import secrets
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from functools import cache, partial
from types import ModuleType
from typing import Any

from django.contrib.auth.hashers import make_password
from django.contrib.auth.models import Group, Permission, User
from django.db import connection, transaction
from psycopg2.sql import SQL, Identifier, Literal

from rooms.bulk import csv_rows as csv_rows
from rooms.bulk import store
from rooms.columns import COLUMNS, WHOLE_NUMBER, Column
from rooms.counting import Count
from rooms.distributions import Always, Between, ByCity, Distribution, Mixture, Mostly, Skewed, Source
from rooms.expected_plan import ExpectedPlan
from rooms.generation import EUROPE, Generated, Time, rebuilt_indexes, time_range
from rooms.generation import City as City
from rooms.imports.progress import progress
from rooms.interleaving import in_parallel as in_parallel
from rooms.models import Room

always, between, skewed, mostly = Always, Between, Skewed, Mostly
mixture, by_city = Mixture, ByCity
"""The distributions, as scenarios name them."""

plan = ExpectedPlan

EXPECTED = {
    "EXPECT": "rooms.expectations.expectation",
    "EXPECT_PLAN": "rooms.plan_expectations.plan_expectation",
}
"""What reads the dicts of a scenario, for the engine (rentomatic_site/scenarios/domain.py)."""

RECORD_PLANS = "rooms.plan_expectations.record_plans"

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


REQUESTS = (
    "/rooms",
    "/rooms?order=-price&count=exact",
    "/rooms.csv?limit=3",
    "/rooms/stats",
    "/rooms/changes",
)
"""What a rehearsal of migrations requests of each scenario."""


def requests(scenario: ModuleType | None) -> list[str]:
    """Those, and what the scenario expects something of."""
    expected = [f"/rooms?{query}" for query in getattr(scenario, "EXPECT", {})]
    return list(dict.fromkeys([*REQUESTS, *expected]))


# --- Rooms and people


def room(**fields: Any) -> Room:
    """
    Store one room and return it; a field that is not given gets a plausible value.

    A value that the table rejects raises as usual; the rooms made before stay.
    """
    chosen = {name: value() for name, value in plausible().items()}
    with transaction.atomic():
        return Room.objects.create(**(chosen | fields))


def rooms(rows: Iterable[Mapping[str, Any]]) -> None:
    """
    Store many given rooms by COPY, 100,000 in about two seconds; as `room(**row)` for each, where all rows
    have the same columns.
    """
    store(rows, plausible())


def plausible() -> dict[str, Callable[[], Any]]:
    """Functions that draw the value of a column that is not given."""
    chance = _source.random
    values: dict[str, Callable[[], Any]] = {
        "code": lambda: uuid.UUID(int=chance.getrandbits(128), version=4),
        "latitude": lambda: round(chance.gauss(51.5072, 0.08), 6),
        "longitude": lambda: round(chance.gauss(-0.1276, 0.12), 6),
    }
    for column in COLUMNS.values():
        if column.distribution:
            values[column.name] = partial(draw_value, column, column.distribution)
    return values


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
    correlation: float = 0,
    created: tuple[Time, Time] | None = None,
    edited: tuple[Time, Time] | None = None,
    history: User | None = None,
    **distributions: Distribution,
) -> None:
    """
    Store `n` generated rooms: about 130,000 in a second, a million with their indexes in less than ten.

    `distributions` are by column, as in `price=skewed(80)` (euros per day) and
    `size=between(10, 40)` (m²); `missing_sizes` is the share (0 … 1) of rooms whose size is not known,
    `correlation` (-1 … 1) that of size and price. `created` and `edited` are ranges of times, by default
    700 days from 2024 on and 90 days from each; `history` is the user whose changes of them the admin shows.
    Values are kept within the table's limits.
    """
    known = {column.name: column.distribution for column in COLUMNS.values() if column.distribution}
    unknown = [name for name in distributions if name not in known]
    if n < 0 or not cities or not 0 <= missing_sizes <= 1 or not -1 <= correlation <= 1 or unknown:
        raise ValueError(
            f"many_rooms(n={n}, {len(cities)} cities, missing_sizes={missing_sizes}, "
            f"correlation={correlation}, {', '.join(distributions) or 'no distribution'}): "
            "n must not be negative, one city is needed, missing_sizes is a share from 0 to 1, "
            "correlation is from -1 to 1, "
            f"distributions are of {', '.join(known)}"
        )
    insert = Generated(
        cities, known | distributions, missing_sizes, correlation, time_range(created), time_range(edited)
    ).insert(_source)
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT count(*), coalesce(max(id), 0) FROM room")
        rows, first = cursor.fetchone()
        indexes = rebuilt_indexes(cursor) if n >= max(MIN_ROOMS_WITHOUT_INDEXES, rows) else nullcontext()
        with indexes, progress(n, "rooms") as advance:
            for start in range(0, n, BATCH):
                count = min(BATCH, n - start)
                cursor.execute(insert, [first + start + 1, first + start + count])
                advance(count)
        if history:
            cursor.execute(HISTORY, [history.pk, first])
        # Nobody mirrors generated rooms: without their history a clone of a million is 120 MB smaller.
        cursor.execute("TRUNCATE room_change")


HISTORY = """
    INSERT INTO django_admin_log (
        action_time, user_id, content_type_id, object_id, object_repr, action_flag, change_message
    )
    SELECT time, %s, (SELECT id FROM django_content_type WHERE (app_label, model) = ('rooms', 'room')),
        room.id::text, code::text, flag, message
    FROM room, LATERAL (
        VALUES (created_at, 1, '[{"added": {}}]'), (updated_at, 2, '[{"changed": {"fields": ["Price"]}}]')
    ) AS change (time, flag, message)
    WHERE room.id > %s AND (flag = 1 OR updated_at > created_at)
    ORDER BY time, room.id
"""
"""The entries of the admin for rooms above an id: one for each room added, one for its last change."""


def database_settings(**values: str | float) -> None:
    """
    Set parameters of PostgreSQL for the scenario's database, as in `database_settings(random_page_cost=4)`:
    for every connection that is opened later, also in its copies.
    """
    with connection.cursor() as cursor:
        for name, value in values.items():
            cursor.execute(
                SQL("ALTER DATABASE {} SET {} = {}").format(
                    Identifier(connection.settings_dict["NAME"]), Identifier(name), Literal(value)
                )
            )


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
