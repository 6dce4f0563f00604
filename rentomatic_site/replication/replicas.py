"""
Which replicas may be read. A thread for each server asks it four times a second; another one judges.

A replica is left out as soon as it does not answer, accepts writes, is of another cluster, lacks migrations,
or is too far behind. It is read again as soon as it is none of that. One that has more WAL than the primary
shows what was left behind when another one was promoted, until it begins anew.

How far behind: in bytes, from what the primary has written to its disk to what the replica shows; in
seconds, since the primary had written the first byte that is missing, by this process's clock. So an idle
primary makes no replica late, and clocks need not agree. A primary that is gone has no new bytes, and makes
none late either.
"""

import logging
import math
import random
import threading
import time
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import psycopg2
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, Error, connections

from rentomatic_site.probes import schema_fault
from rentomatic_site.sockets import cut

logger = logging.getLogger(__name__)

INTERVAL = 0.25
"""Seconds between two questions to a server."""

PATIENCE = 1.0
"""Seconds after which a server that has not answered a question is taken for one that does not."""

QUESTION = """
SELECT
    pg_is_in_recovery(),
    CASE
        WHEN pg_is_in_recovery() THEN coalesce(pg_last_wal_replay_lsn(), '0/0')
        ELSE pg_current_wal_flush_lsn()
    END - '0/0'::pg_lsn,
    system_identifier,
    current_setting('server_version_num')::int / 10000
FROM pg_control_system()
"""


@dataclass(frozen=True)
class Answer:
    """What a server said."""

    asked: float
    """time.monotonic() when it was asked."""
    heard: float
    """The same when it had answered."""
    is_replica: bool
    place: int
    """Bytes of WAL: of the primary, those on its disk; of a replica, those that can be read."""
    cluster: int
    version: int
    schema_fault: str | None


class Server:
    """A server, as its thread sees it."""

    def __init__(self, alias: str) -> None:
        self.alias = alias
        self.answer: Answer | None = None
        """The last one; None after an error."""
        self.error = "it has not answered yet"
        self.waits_since = math.inf
        """When it was asked what it has not answered."""
        self.places: deque[tuple[int, float]] = deque(maxlen=4096)
        """Of the primary, its place at each time that it was another one."""
        self.left_behind = False
        """Whether it has had WAL that the primary has not, since the connection to it was made."""
        self.failed = -math.inf
        """When a request met an error."""

    def start(self) -> None:
        threading.Thread(target=self.run, name=f"replication {self.alias}", daemon=True).start()

    def run(self) -> None:
        # Not the thread's own connection, for which Django's signals would count and trace.
        database = connections[self.alias].copy()
        looked_at = -math.inf
        fault: str | None = None
        while True:
            asked = self.waits_since = time.monotonic()
            try:
                if database.connection is None or (fault and asked - looked_at > PATIENCE):
                    fault, looked_at = schema_fault(database), asked
                with database.cursor() as cursor:
                    cursor.execute(QUESTION)
                    is_replica, place, cluster, version = cursor.fetchone()
                heard = time.monotonic()
                self.hear(Answer(asked, heard, is_replica, int(place), cluster, version, fault))
            except (Error, psycopg2.Error) as error:
                self.error = str(error).strip().partition("\n")[0] or type(error).__name__
                self.answer = None
                self.left_behind = False
                with suppress(Error, psycopg2.Error):
                    database.close()
            self.waits_since = math.inf
            time.sleep(INTERVAL)

    @property
    def silent(self) -> bool:
        return time.monotonic() - self.waits_since > PATIENCE

    def hear(self, answer: Answer) -> None:
        if not answer.is_replica:
            if self.places and answer.place < self.places[-1][0]:
                self.places.clear()  # another primary, which had not received all
            if not self.places or answer.place > self.places[-1][0]:
                self.places.append((answer.place, answer.asked))
        self.answer = answer


class Replicas:
    """The primary and its replicas, as this process sees them."""

    def __init__(self) -> None:
        self.primary = Server(DEFAULT_DB_ALIAS)
        self.servers = {alias: Server(alias) for alias in settings.REPLICAS}
        self.cluster: tuple[int, int] | None = None
        """System identifier and major version of the primary that answered last."""
        self.faults: dict[str, str | None] = {}
        self.in_use: set[Any] = set()
        """Connections to replicas on which a request is at work."""
        self.lock = threading.Lock()
        self.judged = threading.Event()

    def start(self) -> None:
        """Begin to ask and to judge. For each process, after it was forked."""
        for server in (self.primary, *self.servers.values()):
            server.start()
        threading.Thread(target=self.run, name="replication", daemon=True).start()

    def run(self) -> None:
        began = time.monotonic()
        while True:
            answered = all(server.answer for server in (self.primary, *self.servers.values()))
            if answered or time.monotonic() - began > PATIENCE:
                self.judge()
            time.sleep(INTERVAL / 5 if not self.judged.is_set() else INTERVAL)

    def judge(self) -> None:
        """Log what has changed, and free the requests that wait for a server which does not answer."""
        for alias, server in self.servers.items():
            fault = self.fault(server)
            if fault != self.faults.get(alias, ""):
                where = "{HOST}:{PORT}".format(**settings.DATABASES[alias])
                if fault:
                    logger.warning("%s (%s) is left out: %s", alias, where, fault)
                else:
                    logger.info("%s (%s) is read", alias, where)
            self.faults[alias] = fault
            if fault == SILENT:
                self.release(alias)
        self.judged.set()

    def fault(self, server: Server) -> str | None:
        """Why a replica may not be read; None where it may."""
        answer, primary = server.answer, self.primary.answer
        if primary and not primary.is_replica:
            self.cluster = primary.cluster, primary.version
        if answer is None:
            return server.error
        if answer.asked <= server.failed:
            return "a request has failed there"
        if server.silent:
            return SILENT
        if not answer.is_replica:
            return "it accepts writes: it is the primary, or was promoted"
        if self.cluster and answer.version != self.cluster[1]:
            return f"it is PostgreSQL {answer.version}, the primary is {self.cluster[1]}"
        if self.cluster and answer.cluster != self.cluster[0]:
            return "it is of another cluster than the primary"
        if primary and not primary.is_replica and primary.asked >= answer.heard:
            server.left_behind |= answer.place > primary.place
        if server.left_behind:
            return "it has WAL that the primary has not: that was left behind"
        if answer.schema_fault:
            return answer.schema_fault
        return self.lag_fault(answer.place)

    def lag_fault(self, place: int) -> str | None:
        lag, seconds = self.lag(place)
        if lag > settings.REPLICA_MAX_LAG_BYTES:
            return f"it is {lag:,} bytes behind, more than REPLICA_MAX_LAG_BYTES"
        if seconds > settings.REPLICA_MAX_LAG:
            return f"it is {seconds:.1f} s behind, more than REPLICA_MAX_LAG"
        return None

    def lag(self, place: int) -> tuple[int, float]:
        """How far behind the primary a place is, in bytes and seconds."""
        places, primary = list(self.primary.places), self.primary.answer
        if not places or place >= places[-1][0]:
            return 0, 0.0
        known_until = primary.asked if primary else places[-1][1]
        first_missing = places[bisect_right(places, (place, math.inf))]
        return places[-1][0] - place, known_until - first_missing[1]

    def readable(self) -> list[str]:
        """The replicas that may be read, in random order; where no server answers, those that are silent."""
        self.judged.wait(PATIENCE)
        faults = {alias: self.fault(server) for alias, server in self.servers.items()}
        found = [alias for alias, fault in faults.items() if fault is None]
        if not found and (self.primary.silent or self.primary.answer is None):
            found = [alias for alias, fault in faults.items() if fault == SILENT]
        random.shuffle(found)
        return found

    def has(self, alias: str, place: int) -> bool:
        """Whether a replica shows what the primary had written at that place."""
        answer = self.servers[alias].answer
        if answer and answer.place >= place:
            return True
        try:
            with self.at_work(alias), connections[alias].cursor() as cursor:
                cursor.execute("SELECT pg_last_wal_replay_lsn() - '0/0'::pg_lsn >= %s", [place])
                return bool(cursor.fetchone()[0])
        except Error:
            self.fail(alias)
            return False

    def fail(self, alias: str) -> None:
        """Leave a replica out until it answers again; close the thread's connection to it."""
        self.servers[alias].failed = time.monotonic()
        connections[alias].close()

    @contextmanager
    def at_work(self, alias: str) -> Iterator[None]:
        """While the block runs, `release` frees this thread."""
        used = connections[alias]
        with self.lock:
            self.in_use.add(used)
        try:
            yield
        finally:
            with self.lock:
                self.in_use.discard(used)

    def release(self, alias: str) -> None:
        """Let the requests that wait for a replica get an error, after which they read from another one."""
        with self.lock:
            for used in self.in_use:
                if used.alias == alias and used.connection is not None:
                    with suppress(psycopg2.Error, OSError):  # its thread may close it at the same time
                        cut(used.connection.fileno())


SILENT = "it does not answer"

replicas = Replicas()
