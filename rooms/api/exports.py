"""
Exports: rows that are read as fast as the client reads them, and how many exports a process has at once: each
uses a thread for as long as its client reads.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.backends.utils import CursorWrapper

from rooms.api.errors import TooManyExports
from rooms.database import connection

STREAM_ROWS = 2_000
"""Rows that an export fetches at a time."""

slots = BoundedSemaphore(settings.EXPORTS_AT_ONCE)


def with_slot(steps: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """
    The steps of an export, which holds a slot from its first step until it is closed.

    Raises TooManyExports instead of the first step, before any query, where no slot is free.
    """
    if not slots.acquire(blocking=False):
        raise TooManyExports
    try:
        yield from steps
    finally:
        slots.release()


@contextmanager
def streaming_cursor() -> Iterator[CursorWrapper]:
    """A server-side cursor in a transaction of its own, which waits a minute at most for a slow client."""
    with transaction.atomic(connection.alias), connection.chunked_cursor() as cursor:
        wait_for_client()
        yield cursor


@contextmanager
def one_state() -> Iterator[None]:
    """
    A transaction whose statements all see the same rooms, whatever is committed meanwhile; it waits a minute
    at most for a slow client.
    """
    is_nested = connection.in_atomic_block  # the transaction around this one has its isolation already
    with transaction.atomic(connection.alias):
        if not is_nested:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        wait_for_client()
        yield


def wait_for_client() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL idle_in_transaction_session_timeout = 60000")  # milliseconds
