"""
Clones of scenarios for tests: a database for each test, from a few spare ones that the server makes while
tests run, each with an open connection.

The names of a process's clones have its token, and it holds the lock of that token on the server until it
ends, also by SIGKILL. Clones without a living process are dropped by the next process that makes some, or by
`drop_scenario`.
"""

import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Any

import psycopg2
from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections
from psycopg2 import errors
from psycopg2.extensions import cursor

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError, databases, isolation, loading, names
from rentomatic_site.scenarios.databases import FILE_COPY_FROM, TEST, Database
from rentomatic_site.scenarios.discovery import Scenario

SPARES = 2
"""Clones of a scenario that are made in advance."""


@dataclass(frozen=True)
class Clone:
    """A database, and an open connection to it (psycopg2's, set up by Django)."""

    name: str
    scenario: str
    connection: Any


class Clones:
    """The clones that this process makes; a thread waits for the server, which makes and drops them."""

    def __init__(self) -> None:
        self.server = postgres.connect()
        with self.server.cursor() as session:
            sweep(session)
            self.strategy = fastest_copy(session)
            self.process = own_token(session)
        self.made = 0
        self.templates: dict[str, Database] = {}
        self.spares: dict[str, list[Clone]] = {}
        self.being_made: dict[str, int] = {}
        self.lock = threading.Lock()
        self.tasks: SimpleQueue[tuple[str, str] | None] = SimpleQueue()
        self.thread = threading.Thread(target=self.work, name="clones of scenarios", daemon=True)
        self.thread.start()

    def take(self, scenario: Scenario, wanted: int = 0) -> Clone:
        """
        A fresh clone: a spare one where there is one, else made now. `wanted` is how many more will be asked
        for, of which SPARES at most are made in advance.

        The scenario is filled first where it has no template. Raises what `loading.load` raises.
        """
        with self.lock:
            spares = self.spares.setdefault(scenario.name, [])
            clone = spares.pop(0) if spares else None
        if clone is None:
            if scenario.name not in self.templates:
                self.templates[scenario.name] = loading.template_of(scenario)
            clone = self.make_now(scenario)
        self.ask(scenario.name, wanted)
        return clone

    def make_now(self, scenario: Scenario) -> Clone:
        """Make a clone while the test waits."""
        with self.server.cursor() as session:
            try:
                return self.make(session, scenario.name)
            except errors.InvalidCatalogName:  # drop_scenario has taken the template
                self.templates[scenario.name] = loading.template_of(scenario)
                return self.make(session, scenario.name)

    def ask(self, scenario: str, wanted: int) -> None:
        """Let spare clones be made in the background, SPARES at most."""
        with self.lock:
            coming = len(self.spares.get(scenario, [])) + self.being_made.get(scenario, 0)
            missing = max(0, min(wanted, SPARES) - coming)
            self.being_made[scenario] = self.being_made.get(scenario, 0) + missing
        for _ in range(missing):
            self.tasks.put(("make", scenario))

    def give_back(self, clone: Clone) -> None:
        """Let the clone be dropped in the background."""
        self.tasks.put(("drop", clone.name))

    def close(self) -> None:
        """Drop the spares, wait for what is going on, and end the thread."""
        for spares in self.spares.values():
            for spare in spares:
                spare.connection.close()
        self.tasks.put(None)
        self.thread.join()
        with self.server.cursor() as session:
            for name in clones_of(session, self.process):
                postgres.drop_database(session, name)
        self.server.close()

    def make(self, session: cursor, scenario: str) -> Clone:
        """Make a clone of the scenario's template, and connect to it."""
        template = self.templates[scenario]
        with self.lock:
            number, self.made = self.made % 0x1000, self.made + 1
        name = names.test_name(scenario, self.process, f"{number:03x}")
        large = template.size >= FILE_COPY_FROM
        databases.copy(session, name, template.name, "FILE_COPY" if large else self.strategy)
        wrapper = connections[DEFAULT_DB_ALIAS]
        place = {"host": settings.POSTGRES["host"], "port": settings.POSTGRES["port"], "dbname": name}
        parameters = {**wrapper.get_connection_params(), **place, **isolation.options(name)}
        return Clone(name, scenario, wrapper.get_new_connection(parameters))

    def work(self) -> None:
        """The thread: it makes and drops one database after the other."""
        with postgres.session() as session:
            while task := self.tasks.get():
                what, name = task
                # A test that finds no spare makes its own, and reports the error.
                with suppress(psycopg2.Error, postgres.InUseError):
                    if what == "drop":
                        postgres.drop_database(session, name)
                    else:
                        spare = self.make(session, name)
                        with self.lock:
                            self.spares[name].append(spare)
                if what == "make":
                    with self.lock:
                        self.being_made[name] -= 1
        connections[DEFAULT_DB_ALIAS].close()


def fastest_copy(server: cursor) -> str:
    """The strategy for small databases: files where the server does not wait for the disk."""
    server.execute("SHOW fsync")
    return "FILE_COPY" if server.fetchone() == ("off",) else "WAL_LOG"


# --- The tokens of the processes


def lock_name(process: str) -> str:
    return f"rentomatic tests {names.digest(process)}"


def try_lock(server: cursor, process: str) -> bool:
    server.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [lock_name(process)])
    return bool(server.fetchone() == (True,))


def unlock(server: cursor, process: str) -> None:
    server.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [lock_name(process)])


def own_token(server: cursor) -> str:
    """Four hexadecimal digits that no other process of this checkout has, locked until the session ends."""
    for _ in range(1000):
        process = secrets.token_hex(2)
        if try_lock(server, process):
            if not clones_of(server, process):
                return process
            unlock(server, process)
    raise ScenarioError("There are too many databases of tests. Next: ./manage.py drop_scenario --all")


def process_of(name: str) -> str:
    """The token in the name of a test's clone."""
    match = names.TEST_NAME.fullmatch(name)
    assert match
    return match[2]


def clones_of(server: cursor, process: str = "") -> list[str]:
    """The tests' clones of one process, or ("") of all of this checkout."""
    return [
        database.name
        for database in databases.databases(server)
        if database.metadata.kind == TEST and process in {"", process_of(database.name)}
    ]


def is_alive(server: cursor, name: str) -> bool:
    """Whether the process that has made the clone still runs."""
    process = process_of(name)
    if not try_lock(server, process):
        return True
    unlock(server, process)
    return False


def sweep(server: cursor) -> None:
    """Drop the clones of processes that were killed."""
    for name in clones_of(server):
        if not is_alive(server, name):
            postgres.drop_database(server, name)
