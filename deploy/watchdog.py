"""
Timeouts for the threads of a worker: limits how long a request may occupy its thread.

A thread can wait without limit for PostgreSQL or for its client. PostgreSQL itself enforces
`statement_timeout`, which has no effect where the server is frozen or the network is cut; a client can read
arbitrarily slowly; and gunicorn's `timeout` checks the main loop and not the threads. The watchdog ends such
a wait by cutting the connection: a request that waits for the database gets a database error and a response
with 503, one that waits for its client ends. A thread that computes is never interrupted, and no process is
killed.
"""

import contextlib
import logging
import math
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import psycopg2
from django.db import connections
from psycopg2.extensions import TRANSACTION_STATUS_ACTIVE

from rentomatic_site.sockets import cut

logger = logging.getLogger(__name__)


MESSAGES = {
    "database": "%s hangs: its connection to the database is cut",
    "client": "%s takes too long to be read: its client is cut off",
}
"""By whom a request waited for when its connection to it was cut."""


def own_clock() -> int:
    """The id of the CPU-time clock of the calling thread, readable from other threads."""
    return time.pthread_getcpuclockid(threading.get_ident())


@dataclass(eq=False, slots=True)
class Request:
    """A request in progress, created in its thread."""

    name: str
    client: socket.socket
    request_id: str | None
    # The connection objects of this thread; Django keeps one per thread and database, open or not.
    databases: list[Any] = field(default_factory=lambda: list(connections.all()))
    clock: int = field(default_factory=own_clock)
    began: float = field(default_factory=time.monotonic)
    ran: int = -1
    """Nanoseconds of CPU time that the thread had used at the last check."""
    checks_waiting: int = 0
    """Checks in a row that found it in the same wait for the database."""

    def waits_for(self) -> Any:
        """
        The connection to a database on which it is in the same wait as at the last check, else None.

        The thread has used no CPU time since, and libpq waits for the result of a statement.
        """
        before, self.ran = self.ran, time.clock_gettime_ns(self.clock)
        if self.ran != before:
            return None
        opened = (database.connection for database in self.databases)
        return next(
            (one for one in opened if one and one.get_transaction_status() == TRANSACTION_STATUS_ACTIVE), None
        )


class Watchdog:
    """
    Checks all requests in progress. `watch()` registers a request; `start()` is called in the worker, after
    the fork.

    `database` limits one wait for the database, `whole` a request from its first byte to the last byte of its
    response; both in seconds. `on_cut` is told of each cut, one of MESSAGES; `on_check`, at each check, how
    many requests are in progress.
    """

    def __init__(
        self,
        database: float,
        whole: float,
        on_cut: Callable[[str], None] = lambda connection: None,
        on_check: Callable[[int], None] = lambda requests: None,
    ) -> None:
        self.on_cut = on_cut
        self.on_check = on_check
        self.interval = min(1.0, database / 4)
        # Checks and not seconds: time in which the whole process was stopped does not count.
        self.max_checks = math.ceil(database / self.interval)
        self.whole = whole
        self.requests: set[Request] = set()
        # Held from the decision to cut a connection until it is cut, so that the next request of the same
        # thread is not hit.
        self.lock = threading.Lock()

    def start(self) -> None:
        threading.Thread(target=self.run, name="watchdog", daemon=True).start()

    def run(self) -> None:
        while True:
            time.sleep(self.interval)
            self.check()

    @contextmanager
    def watch(self, name: str, client: socket.socket, request_id: str | None = None) -> Iterator[None]:
        """Apply the limits to the request that this thread handles within the block."""
        request = Request(name, client, request_id)
        with self.lock:
            self.requests.add(request)
        try:
            yield
        finally:
            with self.lock:
                self.requests.discard(request)

    def check(self) -> None:
        """Cut the connections over a limit, and log outside the lock: logging may be slow."""
        cuts = []
        with self.lock:
            number = len(self.requests)
            for request in self.requests:
                # Their own thread may close a connection at the same time.
                with contextlib.suppress(psycopg2.Error, OSError):
                    if connection := self.cut_if_over_limit(request):
                        cuts.append((connection, request))
        self.on_check(number)
        for connection, request in cuts:
            self.on_cut(connection)
            logger.error(MESSAGES[connection], request.name, extra={"request_id": request.request_id})

    def cut_if_over_limit(self, request: Request) -> str | None:
        """Cut a connection where a limit is exceeded; return which one, else None."""
        waited_for = request.waits_for()
        request.checks_waiting = request.checks_waiting + 1 if waited_for else 0
        if request.checks_waiting >= self.max_checks:
            cut(waited_for.fileno())
            return "database"
        if time.monotonic() - request.began > self.whole:
            request.began = math.inf  # cut only once
            cut(request.client.fileno())
            return "client"
        return None
