"""
Two or more database sessions, interleaved step by step in the same way each time.

    def cheaper():
        with transaction.atomic():
            room = Room.objects.select_for_update().first()
            yield
            Room.objects.filter(pk=room.pk).update(price=10)

    in_parallel(cheaper, dearer)
"""

import threading
from collections.abc import Callable, Generator
from typing import Any

from django.db import connection

LOOK = 0.01
"""Seconds between looks whether a step waits for a lock."""

Steps = Callable[[], Generator[Any, None, None]]
"""A generator function: a step is what it does up to the next `yield`."""


class BlockedByCaller(Exception):
    """A step waits for rows that the caller itself has changed and not committed."""


def in_parallel(*functions: Steps) -> None:
    """
    Run each generator function in a thread with a session of its own: in turn one step of each, until all
    have ended. A step that waits for a lock is left waiting, and the next session's turn begins; so the order
    of the statements is the same each time.

    Raises the first error of a function that it does not catch; the others go on to their end.
    """
    sessions = [Session(function) for function in functions]
    for session in sessions:
        session.start()
    try:
        while running := [session for session in sessions if not session.ended]:
            for session in running:
                session.step()
                # What this step has unblocked comes to its own pause before anybody's next step.
                for other in running:
                    if other.waits_for_lock and not other.ended:
                        other.settle(all(one.waits_for_lock or one.ended for one in running))
    except BaseException:
        for session in sessions:
            session.cancel()
        raise
    errors = [session.error for session in sessions if session.error]
    if errors:
        raise errors[0]


class Session(threading.Thread):
    """One function in its thread, which runs while it has the turn."""

    def __init__(self, function: Steps) -> None:
        super().__init__(name=getattr(function, "__name__", "session"), daemon=True)
        self.function = function
        self.turn, self.paused = threading.Semaphore(0), threading.Semaphore(0)
        self.ended = self.waits_for_lock = self.cancelled = False
        self.error: BaseException | None = None
        self.process = 0

    def run(self) -> None:
        try:
            connection.ensure_connection()
            self.process = connection.connection.info.backend_pid
            self.turn.acquire()
            for _ in self.function():
                self.paused.release()
                self.turn.acquire()
                if self.cancelled:
                    break
        except BaseException as error:
            self.error = error
        finally:
            connection.close()
            self.ended = True
            self.paused.release()

    def step(self) -> None:
        """Give it the turn, unless it still waits for a lock; return when it pauses, waits or has ended."""
        if not self.waits_for_lock and not self.ended:
            self.turn.release()
            self.settle()

    def settle(self, patient: bool = False) -> None:
        """Wait until it pauses or has ended or, unless `patient`, waits for a lock."""
        while not self.paused.acquire(timeout=LOOK):
            waits = self.process != 0 and blocked(self.process)
            if waits and not patient:
                self.waits_for_lock = True
                return
        self.waits_for_lock = False

    def cancel(self) -> None:
        """End it: cancel its statement where it is in one."""
        self.cancelled = True
        if not self.ended:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_cancel_backend(%s)", [self.process])
            self.turn.release()
            self.join()


def blocked(process: int) -> bool:
    """Whether the session waits for another one's lock. BlockedByCaller where it is that of the caller."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT cardinality(pids) > 0, pg_backend_pid() = ANY(pids) FROM pg_blocking_pids(%s) AS pids",
            [process],
        )
        waits, caller = cursor.fetchone()
    if caller:
        raise BlockedByCaller(
            "A session of in_parallel waits for rows that run() itself has stored and not yet committed. "
            "Next: call in_parallel in check(client) or in a test"
        )
    return bool(waits)
