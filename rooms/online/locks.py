"""Statements that requests do not notice: a table's lock is waited for in short trials."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.db import OperationalError
from django.db.backends.base.base import BaseDatabaseWrapper

LOCK_TIMEOUT = 0.5
"""Seconds; requests queue behind who waits for a table's lock, and give up after two (settings.LIMITS)."""

PATIENCE = 1800
"""Seconds in which the lock is tried for: longer than an export may last."""

PAUSE = 2.0
"""Seconds between two trials, in which those go on who have queued."""

LOCK_NOT_AVAILABLE = "55P03"


def execute(connection: BaseDatabaseWrapper, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(sql, values or None)
        return cursor.fetchall() if cursor.description else []


def briefly(connection: BaseDatabaseWrapper, table: str, *statements: str) -> None:
    """
    Execute the statements in a transaction that has the table for itself. They have to be quick.

    While another session uses the table for longer, such as an export, it is tried again; after PATIENCE
    seconds OperationalError.
    """
    # One message is one transaction. The lock is held while the server works, not while it waits for this
    # process, which a busy machine may let wait for seconds.
    limits = (
        f"SET LOCAL lock_timeout = {LOCK_TIMEOUT * 1000:.0f}",
        f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE",
    )
    message = "; ".join([*limits, *statements])
    began = time.monotonic()
    while True:
        try:
            execute(connection, message)
            return
        except OperationalError as error:
            if getattr(error.__cause__, "pgcode", "") != LOCK_NOT_AVAILABLE:
                raise
            if time.monotonic() - began > PATIENCE:
                raise OperationalError(
                    f"{table} could not be locked within {PATIENCE} s: other sessions use it all the time. "
                    "Next: SELECT pid, xact_start, query FROM pg_stat_activity ORDER BY xact_start; end the "
                    "oldest, and migrate again, which goes on where it was"
                ) from error
        time.sleep(PAUSE)


@contextmanager
def without_lock_timeout(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """For what waits for long transactions and lets requests by, such as CREATE INDEX CONCURRENTLY."""
    ((usual,),) = execute(connection, "SHOW lock_timeout")
    execute(connection, "SET lock_timeout = 0")
    try:
        yield
    finally:
        if connection.connection is not None and not connection.connection.closed:
            execute(connection, "SELECT set_config('lock_timeout', %s, false)", [usual])
