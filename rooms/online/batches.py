"""An UPDATE of any number of rows, in batches that are committed one by one."""

import time

from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from rooms.imports.progress import progress
from rooms.online.locks import PAUSE, execute

BATCH_SECONDS = 0.1
"""How long a batch may lock its rows; the pause after it is as long, for requests and for replicas."""

FIRST_BATCH, LARGEST_BATCH = 500, 20_000
"""Rows. The next batch has as many as would have taken BATCH_SECONDS."""


def update_in_batches(
    connection: BaseDatabaseWrapper, model: type[Model], assignments: str, where: str, *, quiet: bool = False
) -> int:
    """
    Execute `UPDATE … SET assignments WHERE where`, by ranges of the integer key, each in a transaction of its
    own; returns the number of rows.

    Afterwards the condition is true for no row; ValueError where an update leaves it true. Rows that others
    have locked are left out, and looked at again: no session waits for one that waits for this. `quiet`: no
    trigger takes it for a change of a room, which is right only for columns that no code reads yet.
    """
    quote = connection.ops.quote_name
    assert model._meta.pk is not None  # each model has a key
    key, table = quote(str(model._meta.pk.column)), quote(model._meta.db_table)
    following = (
        f"SELECT max({key}) FROM (SELECT {key} FROM {table} WHERE {key} > %s ORDER BY {key} LIMIT %s) AS b"
    )
    assigned, condition = assignments.replace("%", "%%"), where.replace("%", "%%")
    update = (
        f"UPDATE {table} SET {assigned} WHERE {key} IN (SELECT {key} FROM {table} WHERE {key} > %s "
        f"AND {key} <= %s AND ({condition}) ORDER BY {key} FOR NO KEY UPDATE SKIP LOCKED) "
        f"RETURNING ({condition})"
    )
    left = f"SELECT EXISTS (SELECT FROM {table} WHERE {where}), (SELECT min({key}) - 1 FROM {table})"
    ((estimated,),) = execute(
        connection,
        "SELECT nullif(greatest(reltuples, 0), 0)::bigint FROM pg_class WHERE oid = %s::regclass",
        [table],
    )
    size, total, before = FIRST_BATCH, 0, -1
    with progress(estimated, f"rows of {model._meta.db_table}") as advance:
        while True:
            ((any_left, last),) = execute(connection, left)
            if not any_left:
                return total
            if total == before:  # what is left is locked; an import may lock it for a minute
                time.sleep(PAUSE)
            before = total
            while last is not None:
                began = time.monotonic()
                ((stop,),) = execute(connection, following, [last, size])
                if stop is not None:
                    with transaction.atomic(using=connection.alias), connection.cursor() as cursor:
                        if quiet:
                            cursor.execute("SET LOCAL rooms.filling = 'on'")
                        cursor.execute(update, [last, stop])
                        changed = cursor.rowcount
                        if any(still for (still,) in cursor.fetchall()):
                            raise ValueError(
                                f"UPDATE … SET {assignments} leaves rows with {where}, and would never end. "
                                "Next: a condition that is false for a row that was updated"
                            )
                    total += changed
                    advance(changed)
                last = stop
                seconds = time.monotonic() - began
                size = min(LARGEST_BATCH, max(1, int(size * min(2.0, BATCH_SECONDS / seconds))))
                time.sleep(min(seconds, 1))
