"""How many exports a process streams at once: each holds a thread for as long as its client reads."""

from collections.abc import Generator
from threading import BoundedSemaphore

from django.conf import settings

from rooms.api.errors import TooManyExports

places = BoundedSemaphore(settings.EXPORTS_AT_ONCE)


def bounded(chunks: Generator[str, None, None]) -> Generator[str, None, None]:
    """
    The chunks of an export, which has one of the places from the first chunk until it is closed.

    Raises TooManyExports instead of the first chunk, at no cost, where no place is free.
    """
    if not places.acquire(blocking=False):
        raise TooManyExports
    try:
        yield from chunks
    finally:
        places.release()
