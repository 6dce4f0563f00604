"""The databases of the runs: bench_<rooms>, migrated like any other, filled, and dropped afterwards."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg2
from django.conf import settings
from psycopg2 import sql

from benchmarks import machine
from rentomatic_site import postgres

PROJECT = Path(__file__).resolve().parent.parent

QUIET_LOOKS = 5
"""So often in a row, at 30 ms, nothing must run before a server counts as idle."""

MARK = "Made by `make bench`, which drops it too."
"""The comment on our databases; one without it is never dropped."""


class DatabaseInTheWayError(Exception):
    """A database has a name of ours, but somebody else made it."""


class Database:
    """A database of rooms, for as long as the run needs it."""

    def __init__(self, rooms: int) -> None:
        self.name = f"bench_{rooms}"
        self.rooms = rooms

    def environment(self) -> dict[str, str]:
        """Where the database is, in the variables of this project and in libpq's for the peers."""
        server = settings.POSTGRES
        return {
            "DATABASE_URL": "",
            "POSTGRES_HOSTNAME": server["host"],
            "POSTGRES_PORT": str(server["port"]),
            "POSTGRES_USER": server["user"],
            "POSTGRES_PASSWORD": server["password"],
            "APPLICATION_DB": self.name,
            "PGHOST": server["host"],
            "PGPORT": str(server["port"]),
            "PGUSER": server["user"],
            "PGPASSWORD": server["password"],
            "PGDATABASE": self.name,
        }

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        with postgres.session(self.name) as cursor:
            cursor.execute(query, values)
            return cursor.fetchall()

    def code(self, number: int) -> str:
        """The code of the room that so many others come before."""
        return str(self.rows("SELECT code FROM room ORDER BY id OFFSET %s LIMIT 1", number)[0][0])

    def backends(self) -> list[int]:
        """PostgreSQL's processes for the servers' connections; none where it is on another machine."""
        pids = self.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", self.name
        )
        return [pid for (pid,) in pids if machine.program(pid).startswith("postgres")]

    def settle(self) -> None:
        """
        Wait until no query has run for a moment.

        A server goes on with what the load generator left behind: deep pages of one target, 0.1 s each,
        would burden the next one's measurement.
        """
        running = (
            "SELECT FROM pg_stat_activity WHERE datname = %s AND state = 'active' AND pid <> pg_backend_pid()"
        )
        quiet = 0
        while quiet < QUIET_LOOKS:
            quiet = 0 if self.rows(running, self.name) else quiet + 1
            time.sleep(0.03)

    def make(self, server: Any) -> None:
        postgres.create_database(server, self.name)
        postgres.comment_on_database(server, self.name, MARK)
        # All that a request costs is to be seen on one core: a parallel count would use the other one.
        server.execute(
            sql.SQL("ALTER DATABASE {} SET max_parallel_workers_per_gather = 0").format(
                sql.Identifier(self.name)
            )
        )
        self.manage("migrate", "--verbosity", "0")
        fill = f"from rooms.seeding import many_rooms; many_rooms({self.rooms})"
        self.manage("shell", "--verbosity", "0", "--command", fill)
        with postgres.session(self.name) as cursor:
            cursor.execute("VACUUM (ANALYZE) room")

    def manage(self, *arguments: str) -> None:
        subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=PROJECT,
            env={**os.environ, **self.environment(), "STATEMENT_TIMEOUT": "0"},
            check=True,
        )

    def is_complete(self) -> bool:
        try:
            return self.rows("SELECT count(*) FROM room") == [(self.rooms,)]
        except psycopg2.errors.UndefinedTable:
            return False


@contextmanager
def filled(rooms: int, keep: bool) -> Iterator[Database]:
    """
    The database of so many rooms: the one that an earlier run kept, else a new one.

    A new one takes ten seconds per million rooms. Dropped at the end unless `keep`.
    """
    database = Database(rooms)
    with postgres.session() as server:
        exists = postgres.database_exists(server, database.name)
        if exists and postgres.database_comment(server, database.name) != MARK:
            raise DatabaseInTheWayError(
                f"The database {database.name} is none of the benchmark's. Next: rename it, or drop it with "
                f"DROP DATABASE {database.name}, and start again."
            )
        try:
            if not exists or not database.is_complete():
                postgres.drop_database(server, database.name)
                database.make(server)
            yield database
        finally:
            if not keep:
                postgres.drop_database(server, database.name)
