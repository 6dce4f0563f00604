"""The databases of the runs: bench_<rooms>, migrated, seeded, and dropped at the end."""

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

IDLE_CHECKS = 5
"""Checks in a row, every 30 ms, that must find no running query before a server counts as idle."""

COMMENT = "Made by `make bench`, which drops it too."
"""The comment on the databases of the benchmark; one without it is never dropped."""


class DatabaseInTheWayError(Exception):
    """A database with a name of the benchmark was not created by it."""


class Database:
    """A database of rooms for one run."""

    def __init__(self, rooms: int) -> None:
        self.name = f"bench_{rooms}"
        self.rooms = rooms

    def environment(self) -> dict[str, str]:
        """The connection, in the variables of this project and, for the peers, in those of libpq."""
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
        """The code of the room at that offset, in the order of the ids."""
        return str(self.rows("SELECT code FROM room ORDER BY id OFFSET %s LIMIT 1", number)[0][0])

    def backends(self) -> list[int]:
        """Process ids of PostgreSQL's backends; none where it runs on another machine."""
        pids = self.rows(
            "SELECT pid FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()", self.name
        )
        return [pid for (pid,) in pids if machine.program(pid).startswith("postgres")]

    def settle(self) -> None:
        """
        Wait until no query runs.

        A server still executes the requests that were open when the load generator stopped, such as deep
        pages of 0.1 s each, which would slow down the measurement of the next target.
        """
        running = (
            "SELECT FROM pg_stat_activity WHERE datname = %s AND state = 'active' AND pid <> pg_backend_pid()"
        )
        idle = 0
        while idle < IDLE_CHECKS:
            idle = 0 if self.rows(running, self.name) else idle + 1
            time.sleep(0.03)

    def create(self, server: Any) -> None:
        postgres.create_database(server, self.name)
        postgres.comment_on_database(server, self.name, COMMENT)
        # The whole cost of a request has to be on one core; a parallel count would use the other one.
        server.execute(
            sql.SQL("ALTER DATABASE {} SET max_parallel_workers_per_gather = 0").format(
                sql.Identifier(self.name)
            )
        )
        self.manage("migrate", "--verbosity", "0")
        seed = f"from rooms.seeding import many_rooms; many_rooms({self.rooms})"
        self.manage("shell", "--verbosity", "0", "--command", seed)
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
def seeded(rooms: int, keep: bool) -> Iterator[Database]:
    """
    The database with that number of rooms: one that an earlier run kept, else a new one, which takes ten
    seconds per million rooms. Dropped at the end unless `keep`.
    """
    database = Database(rooms)
    with postgres.session() as server:
        exists = postgres.database_exists(server, database.name)
        if exists and postgres.database_comment(server, database.name) != COMMENT:
            raise DatabaseInTheWayError(
                f"The database {database.name} is none of the benchmark's. Next: rename it, or drop it with "
                f"DROP DATABASE {database.name}, and start again."
            )
        try:
            if not exists or not database.is_complete():
                postgres.drop_database(server, database.name)
                database.create(server)
            yield database
        finally:
            if not keep:
                postgres.drop_database(server, database.name)
