"""What differs between two runs of a scenario with the same seed: what does not follow from it."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime
from itertools import zip_longest

import psycopg2
from django.apps import apps
from django.conf import settings
from django.db.models import DateTimeField, Field, Model
from psycopg2.extensions import cursor
from psycopg2.sql import SQL, Composable, Identifier, Literal

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError, databases, loading, running
from rentomatic_site.scenarios.databases import BUILDING, Metadata
from rentomatic_site.scenarios.discovery import Scenario, migrations_fingerprint
from rentomatic_site.scenarios.isolation import django_on
from rentomatic_site.scenarios.locks import lock_templates

SHOWN = 3
"""Rows of a table that are shown."""

READ = 100_000
"""Rows of a table that are compared one by one, where its checksum differs."""


def differences(scenario: Scenario, seed: int, say: Callable[[str], None]) -> list[str]:
    """
    Run the scenario into two databases, which go at the end; say in which columns and rows they differ.

    Times of the load itself and passwords differ always, and are left out.
    """
    made: list[str] = []
    with lock_templates(scenario.name, say) as server:
        server.execute("SELECT clock_timestamp()")
        ((began,),) = server.fetchall()
        try:
            for number in ("first", "second"):
                say(f"The {number} run …")
                made.append(run(server, scenario, seed))
            return list(compared(began, *made))
        finally:
            for name in made:
                with suppress(psycopg2.Error):
                    databases.drop(server, name)


def run(server: cursor, scenario: Scenario, seed: int) -> str:
    """A new database with the rows of the scenario; ScenarioError with the traceback where run() raises."""
    metadata = Metadata(BUILDING, scenario.name, "", migrations_fingerprint(), seed)
    with lock_templates("") as migrations:
        name = databases.create(server, scenario.name, loading.migrated_template(migrations), metadata)
    try:
        with django_on(name):
            error, _ = running.run(scenario, seed)
    except BaseException:
        databases.drop(server, name)
        raise
    if error is not None:
        databases.drop(server, name)
        raise ScenarioError(running.own_traceback(error))
    return name


def compared(began: datetime, first: str, second: str) -> Iterator[str]:
    """For each table that differs its columns, and some of its rows."""
    with postgres.session(first) as one, postgres.session(second) as other:
        for model in apps.get_models(include_auto_created=True):
            table = model._meta.db_table
            columns = {
                field.column: shown(field.column, model, field, began)
                for field in model._meta.local_concrete_fields
                if field.column  # not a composite key
            }
            if checksum(one, table, columns) != checksum(other, table, columns):
                yield from differing(
                    table, list(columns), rows(one, table, columns), rows(other, table, columns)
                )


def shown(column: str, model: type[Model], field: Field, began: datetime) -> Composable:
    """SQL of a column as text; null where it is a password, or the time of the load."""
    if model._meta.label == settings.AUTH_USER_MODEL and field.name == "password":
        return SQL("NULL::text")
    if isinstance(field, DateTimeField):
        return SQL("CASE WHEN {} < {} THEN {}::text END").format(
            Identifier(column), Literal(began), Identifier(column)
        )
    return SQL("{}::text").format(Identifier(column))


def checksum(session: cursor, table: str, columns: dict[str, Composable]) -> tuple[object, ...] | None:
    """The number of rows, and a sum of their hashes, whatever their order."""
    session.execute(
        SQL("SELECT count(*), sum(hashtextextended(ROW({})::text, 0)::numeric) FROM {}").format(
            SQL(", ").join(columns.values()), Identifier(table)
        )
    )
    return session.fetchone()


def rows(session: cursor, table: str, columns: dict[str, Composable]) -> list[tuple[str | None, ...]]:
    """The first rows in the order of their values, READ at most."""
    order = SQL(", ").join(map(Identifier, columns))
    session.execute(
        SQL("SELECT {} FROM {} ORDER BY {} LIMIT {}").format(
            SQL(", ").join(columns.values()), Identifier(table), order, Literal(READ)
        )
    )
    return session.fetchall()


def differing(
    table: str,
    columns: list[str],
    first: list[tuple[str | None, ...]],
    second: list[tuple[str | None, ...]],
) -> Iterator[str]:
    pairs = [pair for pair in zip_longest(first, second) if pair[0] != pair[1]]
    names = {
        column
        for one, other in pairs
        if one and other
        for column, value, second_value in zip(columns, one, other, strict=True)
        if value != second_value
    }
    what = ", ".join(column for column in columns if column in names) or "rows"
    yield f"{table}: {len(first):,} and {len(second):,} rows; {what} differ"
    for one, other in pairs[:SHOWN]:
        for sign, row in (("-", one), ("+", other)):
            if row:
                values = [f"{name}={value}" for name, value in zip(columns, row, strict=True) if value]
                yield f"  {sign} {', '.join(values)}"
