"""The limit of concurrent exports in a process: each uses a thread for as long as its client reads."""

from collections.abc import Generator
from threading import BoundedSemaphore

from django.conf import settings

from rooms.api.errors import TooManyExports

slots = BoundedSemaphore(settings.EXPORTS_AT_ONCE)


def with_slot(chunks: Generator[str, None, None]) -> Generator[str, None, None]:
    """
    The chunks of an export, which holds a slot from its first chunk until it is closed.

    Raises TooManyExports instead of the first chunk, before any query, where no slot is free.
    """
    if not slots.acquire(blocking=False):
        raise TooManyExports
    try:
        yield from chunks
    finally:
        slots.release()
