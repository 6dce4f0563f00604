"""
The outside clock of a worker's threads: no request holds one for longer than it may.

A thread waits for PostgreSQL or for its client, and both may stay silent. `statement_timeout` is kept by
PostgreSQL itself, so a server that is frozen, or that a cut network has taken away, never says that the time
is over; a client may read as slowly as it likes; and gunicorn's `timeout` does not look into a thread. The
watchdog does, and ends the wait: a request that waits for the database gets an ordinary database error and
answers 503, one that waits for its client ends. A thread that computes is left alone, however long it takes,
and no process is killed: a thread waits for nothing else without an end.
"""

import contextlib
import logging
import math
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg2.extensions import TRANSACTION_STATUS_ACTIVE

logger = logging.getLogger(__name__)


def own_clock() -> int:
    """The clock of the CPU time that the calling thread uses, for others to read."""
    return time.pthread_getcpuclockid(threading.get_ident())


@dataclass(eq=False, slots=True)
class Request:
    """A request in the thread that answers it."""

    name: str
    client: socket.socket
    request_id: str | None
    # The thread's own connection: Django keeps one object per thread, open or not.
    database: Any = field(default_factory=lambda: connections[DEFAULT_DB_ALIAS])
    clock: int = field(default_factory=own_clock)
    began: float = field(default_factory=time.monotonic)
    ran: int = -1
    """Nanoseconds of CPU time that the thread had used at the last look."""
    looks: int = 0
    """How many times in a row it was found in the same wait for the database."""

    def waits_for_database(self) -> bool:
        """
        Whether it is in the same wait for a response of the database as at the last look.

        The thread has not run since, and libpq holds a statement that is sent and not answered.
        """
        before, self.ran = self.ran, time.clock_gettime_ns(self.clock)
        database = self.database.connection
        return (
            self.ran == before
            and database is not None
            and database.get_transaction_status() == TRANSACTION_STATUS_ACTIVE
        )


class Watchdog:
    """
    It looks at every request in progress: `watch()` around each, `start()` in the worker, after the fork.

    `database` is how many seconds one wait for the database may take, `whole` how many a request may take
    from its first byte to the last of its response.
    """

    def __init__(self, database: float, whole: float) -> None:
        self.interval = min(1.0, database / 4)
        # Looks and not seconds: what was stopped as a whole has not waited for the database meanwhile.
        self.patience = math.ceil(database / self.interval)
        self.whole = whole
        self.requests: set[Request] = set()
        # Held from the decision to cut until it is done, so that a request that is over is never mistaken
        # for the next one in its thread.
        self.lock = threading.Lock()

    def start(self) -> None:
        threading.Thread(target=self.run, name="watchdog", daemon=True).start()

    def run(self) -> None:
        while True:
            time.sleep(self.interval)
            self.look()

    @contextmanager
    def watch(self, name: str, client: socket.socket, request_id: str | None = None) -> Iterator[None]:
        """Keep the bounds for the request that this thread answers within the block."""
        request = Request(name, client, request_id)
        with self.lock:
            self.requests.add(request)
        try:
            yield
        finally:
            with self.lock:
                self.requests.discard(request)

    def look(self) -> None:
        """Cut what is over its time, and log it afterwards: the log may be slow."""
        said = []
        with self.lock:
            for request in self.requests:
                # Connections that their own thread closes at this moment.
                with contextlib.suppress(psycopg2.Error, OSError):
                    if message := self.judge(request):
                        said.append((message, request))
        for message, request in said:
            logger.error(message, request.name, extra={"request_id": request.request_id})

    def judge(self, request: Request) -> str | None:
        """Cut the request's connection to the database or to its client; says which, None where neither."""
        request.looks = request.looks + 1 if request.waits_for_database() else 0
        if request.looks >= self.patience:
            cut(request.database.connection.fileno())
            return "%s hangs: its connection to the database is cut"
        if time.monotonic() - request.began > self.whole:
            request.began = math.inf  # once
            cut(request.client.fileno())
            return "%s takes too long to be read: its client is cut off"
        return None


def cut(descriptor: int) -> None:
    """End a connection from outside the thread that waits for it, which gets an error and closes it."""
    # A copy of the descriptor, because closing it must not close the owner's.
    with socket.socket(fileno=os.dup(descriptor)) as wire:
        wire.shutdown(socket.SHUT_RDWR)
