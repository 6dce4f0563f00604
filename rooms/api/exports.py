"""The limit of concurrent exports in a process: each uses a thread for as long as its client reads."""

from collections.abc import Generator
from threading import BoundedSemaphore
from typing import Any

from django.conf import settings

from rooms.api.errors import TooManyExports

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
