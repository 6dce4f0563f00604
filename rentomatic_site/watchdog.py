"""
The outside clock of a worker: what hangs is freed, what makes progress is left alone.

`statement_timeout` is kept by PostgreSQL itself, so a server that is frozen, or that a cut network has taken
away, never says that the time is over, and gunicorn's `timeout` does not look into a thread. The watchdog
does. One step of a request (the call of the application, or the wait for the next piece of a streamed
answer; not the time in which a slow client reads it) that takes longer than `limit` seconds has its database
connection cut: the thread gets an ordinary database error and answers 503. A step that even this does not
end within another `limit` ends the worker, and gunicorn starts a new one.
"""

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections

logger = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Step:
    """One step of a request in one thread."""

    environ: dict[str, Any]
    database: Any
    began: float = field(default_factory=time.monotonic)
    cut: bool = False

    def __str__(self) -> str:
        return f"{self.environ['REQUEST_METHOD']} {self.environ['PATH_INFO']}"

    def log(self, level: int, message: str) -> None:
        logger.log(level, message, self, extra={"request_id": self.environ.get("HTTP_X_REQUEST_ID")})


class Watchdog:
    """A WSGI application around another one; `start()` after the fork, for threads do not survive it."""

    def __init__(self, application: Callable, limit: float) -> None:
        self.application = application
        self.limit = limit
        self.steps: set[Step] = set()

    def start(self) -> None:
        threading.Thread(target=self.watch, name="watchdog", daemon=True).start()

    def __call__(self, environ: dict[str, Any], start_response: Callable) -> Iterable[bytes]:
        # The thread's own connection: Django keeps one object per thread, open or not.
        step = Step(environ, connections[DEFAULT_DB_ALIAS])
        self.steps.add(step)
        try:
            answer = self.application(environ, start_response)
        finally:
            self.steps.discard(step)
        # What is not streamed needs no clock any more; a file keeps the wrapper that the server knows.
        return Streamed(self, answer, step) if getattr(answer, "streaming", False) else answer

    def watch(self) -> None:
        while True:
            time.sleep(min(1.0, self.limit / 4))
            now = time.monotonic()
            for step in list(self.steps):
                if now - step.began > 2 * self.limit:
                    step.log(logging.CRITICAL, "%s is stuck: the worker ends, another one starts")
                    os.kill(os.getpid(), signal.SIGKILL)
                elif now - step.began > self.limit and not step.cut:
                    step.cut = True
                    step.log(logging.ERROR, "%s makes no progress: its database connection is cut")
                    cut(step.database.connection)


class Streamed:
    """A streamed answer, with a clock on the wait for each of its pieces."""

    def __init__(self, watchdog: Watchdog, answer: Any, step: Step) -> None:
        self.watchdog = watchdog
        self.answer = answer
        self.pieces: Iterator[bytes] = iter(answer)
        self.step = step

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        step = Step(self.step.environ, self.step.database)
        self.watchdog.steps.add(step)
        try:
            return next(self.pieces)
        finally:
            self.watchdog.steps.discard(step)

    def close(self) -> None:
        self.answer.close()


def cut(database: Any) -> None:
    """End a psycopg2 connection from outside the thread that waits on it."""
    if database is not None and not database.closed:
        # A copy of the descriptor, because closing it must not close psycopg2's own.
        with socket.socket(fileno=os.dup(database.fileno())) as wire:
            wire.shutdown(socket.SHUT_RDWR)
