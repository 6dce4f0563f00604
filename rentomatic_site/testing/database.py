"""The databases of the tests: clones of the migrated template, each under a name that one process has."""

import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import StringIO
from itertools import count
from typing import Any

from django.conf import settings
from django.contrib.contenttypes.models import ContentType
from django.db import connection, transaction

from rentomatic_site import postgres
from rentomatic_site.scenarios import loading, locks


@contextmanager
def own_name() -> Iterator[str]:
    """
    The first of test_application_1, …_2, … that no other process has, until the end of the block.

    A lock on the server keeps the others away, also another checkout's tests. It ends with its process; the
    next one takes the name, and what a killed run left in a database of that name goes.
    """
    with postgres.session() as server:
        for number in count(1):
            name = f"test_{settings.APPLICATION_DB}_{number}"
            server.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
            if server.fetchone() == (True,):
                break
        yield name


@contextmanager
def migrated(name: str) -> Iterator[None]:
    """
    A database of that name for the time of the block: 0.1 s, and 2 s more for the first on a server.

    The template is that of the scenarios; making it goes through Django's connection.
    """
    with locks.lock_templates("") as server:
        template = loading.migrated_template(server)
        postgres.drop_database(server, name)
        postgres.create_database(
            server, name, template=template.name, owner=settings.DATABASES["default"]["USER"]
        )
    try:
        yield
    finally:
        with postgres.session() as server:
            postgres.drop_database(server, name)


def django_tables() -> list[str]:
    """The tables of Django's models."""
    return connection.introspection.django_table_names(only_existing=True, include_views=False)


def stored_rows(tables: Iterable[str]) -> dict[str, str]:
    """The rows in these tables, as COPY writes them: in a new database the migrations'."""
    rows = {}
    with connection.cursor() as cursor:
        for table in tables:
            text = StringIO()
            cursor.copy_expert(f'COPY "{table}" TO STDOUT', text)
            if text.getvalue():
                rows[table] = text.getvalue()
    return rows


def restore(rows: dict[str, str]) -> None:
    """
    Put `stored_rows` in the place of what the tables hold.

    Django's own way, `flush`, empties all tables and has everything that follows a migration created again,
    which takes longer than most tests. Here tables without a page, and rows that are as they were, stay.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(
            "SELECT relname FROM pg_class"
            " WHERE oid = ANY(%s::regclass[]::oid[]) AND NOT relname = ANY(%s) AND pg_relation_size(oid) > 0",
            [[f'"{table}"' for table in django_tables()], list(rows)],
        )
        written = [table for (table,) in cursor.fetchall()]
        changed = stored_rows(rows) != rows
        if changed:
            written += rows
        if written:
            cursor.execute("TRUNCATE {} CASCADE".format(", ".join(f'"{table}"' for table in written)))
        if changed:
            for table, text in rows.items():
                cursor.copy_expert(f'COPY "{table}" FROM STDIN', StringIO(text))
    ContentType.objects.clear_cache()


def wait_for_other_databases(cursor: Any) -> None:
    """
    Wait until the transactions of other databases that write now have ended, two minutes at most.

    `/rooms/changes` ends below the oldest transaction of the whole server, where other tests run, too.
    """
    running = (
        "SELECT pid, backend_xid::text FROM pg_stat_activity"
        " WHERE backend_xid IS NOT NULL AND datname IS DISTINCT FROM current_database()"
    )
    cursor.execute(running)
    older, deadline = set(cursor.fetchall()), time.monotonic() + 120
    while older and time.monotonic() < deadline:
        time.sleep(0.05)
        cursor.execute(running)
        older &= set(cursor.fetchall())
