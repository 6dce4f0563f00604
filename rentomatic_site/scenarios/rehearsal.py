"""
Pending migrations on a copy of a database, measured operation by operation: time, locks, rewritten tables and
rows; then backwards.

A lock that a statement takes is held until its transaction ends. So locks are read after each statement, on
its own connection; those of a statement that cannot run in a transaction, such as CREATE INDEX CONCURRENTLY,
by a second connection while it runs.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from django.core.management.sql import emit_post_migrate_signal
from django.db import connection, transaction
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from psycopg2 import errors

from rentomatic_site import postgres
from rentomatic_site.scenarios import comparison
from rentomatic_site.scenarios.isolation import django_on
from rentomatic_site.scenarios.schema import schema, schema_differences

Say = Callable[[str], None]
Plan = list[tuple[Migration, bool]]

LOCKS = (
    "AccessShareLock",
    "RowShareLock",
    "RowExclusiveLock",
    "ShareUpdateExclusiveLock",
    "ShareLock",
    "ShareRowExclusiveLock",
    "ExclusiveLock",
    "AccessExclusiveLock",
)
"""The locks of a table, weakest first."""

WRITES, ALL = "writes", "reads and writes"
BLOCKS = {
    "ShareUpdateExclusiveLock": "VACUUM and other changes of the schema",
    "ShareLock": WRITES,
    "ShareRowExclusiveLock": WRITES,
    "ExclusiveLock": WRITES,
    "AccessExclusiveLock": ALL,
}
"""What waits for a lock; for a weaker one only writers of the same rows do."""

MIGRATIONS = "django_migrations"

SAMPLE_EVERY = 0.002
"""Seconds between two looks of the second connection."""


@dataclass
class Operation:
    """
    One operation of a migration. `locks`: table → strongest lock that it takes, `held`: those that earlier
    operations of its transaction took; `rewrites`: table → its rows.
    """

    name: str
    seconds: float = 0
    rows: int = 0
    """Inserted, changed and deleted."""
    locks: dict[str, str] = field(default_factory=dict)
    held: dict[str, str] = field(default_factory=dict)
    rewrites: dict[str, int] = field(default_factory=dict)
    error: str = ""


@dataclass
class Rehearsed:
    """One migration. `held`: table → lock that blocks requests, and seconds that it was held."""

    name: str
    operations: list[Operation] = field(default_factory=list)
    held: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        return sum(operation.seconds for operation in self.operations)

    @property
    def error(self) -> str:
        return next((operation.error for operation in self.operations if operation.error), "")


@dataclass(frozen=True)
class Backwards:
    """The way back: what differs from before in the schema and in the rows; `error`: why there is none."""

    seconds: float
    schema: list[str] = field(default_factory=list)
    rows: list[str] = field(default_factory=list)
    error: str = ""


def pending(executor: MigrationExecutor) -> Plan:
    """The migrations that the database of Django's connection does not have, in their order."""
    return executor.migration_plan(executor.loader.graph.leaf_nodes())


def pending_names(database: str) -> list[str]:
    with django_on(database):
        return [str(migration) for migration, _ in pending(MigrationExecutor(connection))]


def forwards(database: str, say: Say) -> list[Rehearsed]:
    """Apply the pending migrations to the database and measure them, up to the first that fails."""
    with django_on(database), postgres.session(database) as second:
        observer = Observer(second, say)
        executor = MigrationExecutor(connection, observer.progress)
        plan = pending(executor)
        operations = [operation for migration, _ in plan for operation in migration.operations]
        try:
            with connection.execute_wrapper(observer), observer.watching(operations):
                state = executor.migrate([], plan)
            state.clear_delayed_apps_cache()
            emit_post_migrate_signal(0, False, connection.alias, apps=state.apps, plan=plan)
        except Exception as error:  # whatever an operation raises is what is reported
            observer.fail(error)
    return observer.migrations


class Observer:
    """Measures the statements that migrations execute on Django's connection."""

    def __init__(self, second: Any, say: Say) -> None:
        self.second = second
        self.say = say
        self.migrations: list[Rehearsed] = []
        self.tables: dict[int, str] = {}
        """The tables that were there before the migration; nobody waits for a new one."""
        self.files: dict[int, int] = {}
        self.taken: dict[str, tuple[str, float]] = {}
        """Table → its lock in the present transaction, and since when that blocks what it blocks."""

    def progress(self, action: str, migration: Any = None, fake: bool | None = False) -> None:
        """Called by Django before and after each migration."""
        if action == "apply_start":
            self.say(f"Applying {migration} …")
            self.migrations.append(Rehearsed(str(migration)))
            self.tables, self.files = self.look_at_tables()
        elif action == "apply_success":
            self.release()

    @contextmanager
    def watching(self, operations: list[Any]) -> Iterator[None]:
        """Measure the operations that run within the block; they belong to the classes of the migrations."""
        for operation in operations:
            operation.database_forwards = partial(self.run, operation, operation.database_forwards)
        try:
            yield
        finally:
            for operation in operations:
                del operation.database_forwards

    def run(self, operation: Any, forwards: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        migration = self.migrations[-1]
        name = f"{type(operation).__name__}: {operation.describe()}"
        migration.operations.append(Operation(name))
        started = time.monotonic()
        try:
            forwards(*args, **kwargs)
        finally:
            migration.operations[-1].seconds += time.monotonic() - started
            # What follows is what Django leaves for the end of the migration: constraints and indexes.
            migration.operations.append(Operation("end of the migration: constraints and indexes"))

    def fail(self, error: Exception) -> None:
        """Note the error at the operation that raised it, or at the signals after all of them."""
        if not self.migrations or not self.migrations[-1].operations:
            self.migrations.append(Rehearsed("after the migrations", [Operation("post_migrate")]))
        operations = self.migrations[-1].operations
        failed = operations[-1]
        if len(operations) > 1 and not failed.seconds:
            failed = operations[-2]
        failed.error = f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error) else ''}"
        self.release()

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        """Execute a statement for Django and look at what it did."""
        operations = self.migrations[-1].operations if self.migrations else []
        if not operations or MIGRATIONS in str(sql):
            return execute(sql, params, many, context)
        operation = operations[-1]
        started = time.monotonic()
        if connection.in_atomic_block:
            if not self.taken:  # a migration that is not atomic may have many transactions
                transaction.on_commit(self.release)
            result = execute(sql, params, many, context)
            self.look(operation, started)
        else:
            result = self.alone(operation, partial(execute, sql, params, many, context), started)
            self.release()
        if operation.name.startswith("end of"):
            operation.seconds += time.monotonic() - started
        cursor = context["cursor"].cursor
        if (cursor.statusmessage or "").partition(" ")[0] in {"INSERT", "UPDATE", "DELETE"}:
            operation.rows += max(cursor.rowcount, 0)
        return result

    def alone(self, operation: Operation, execute: Callable[[], Any], started: float) -> Any:
        """Execute a statement outside of a transaction; in one of its own where PostgreSQL permits that."""
        with connection.connection.cursor() as raw:
            raw.execute("BEGIN")
            try:
                result = execute()
                self.look(operation, started)
                raw.execute("COMMIT")
            except errors.ActiveSqlTransaction:
                raw.execute("ROLLBACK")
            except Exception as error:
                raw.execute("ROLLBACK")
                if not isinstance(error.__cause__, errors.ActiveSqlTransaction):
                    raise
            else:
                return result
        with self.sampled(operation):
            return execute()

    def look(self, operation: Operation, started: float) -> None:
        """Note the locks of the present transaction, and the tables whose files are new."""
        with connection.connection.cursor() as raw:
            raw.execute("SELECT relation, mode FROM pg_locks WHERE pid = pg_backend_pid() AND granted")
            self.note(operation, raw.fetchall(), started)
            raw.execute(
                "SELECT oid, relfilenode, greatest(reltuples, 0)::bigint FROM pg_class WHERE oid = ANY(%s)",
                [list(self.tables)],
            )
            for oid, file, rows in raw.fetchall():
                if file != self.files[oid]:
                    operation.rewrites[self.tables[oid]] = rows
                    self.files[oid] = file

    def note(self, operation: Operation, locks: list[tuple[int, str]], started: float) -> None:
        strongest: dict[str, str] = {}
        for oid, mode in locks:
            if (table := self.tables.get(oid)) and mode in LOCKS:
                strongest[table] = max(mode, strongest.get(table, mode), key=LOCKS.index)
        for table, mode in strongest.items():
            before, since = self.taken.get(table, ("", started))
            if not before or LOCKS.index(mode) > LOCKS.index(before):
                self.taken[table] = (mode, since if blocks_requests(before) else started)
                operation.locks[table] = mode
            elif table not in operation.locks:
                operation.held[table] = before

    @contextmanager
    def sampled(self, operation: Operation) -> Iterator[None]:
        """Look at the locks by the second connection while the block runs."""
        pid, started, over = connection.connection.info.backend_pid, time.monotonic(), threading.Event()

        def sample() -> None:
            while not over.wait(SAMPLE_EVERY):
                self.second.execute("SELECT relation, mode FROM pg_locks WHERE pid = %s AND granted", [pid])
                self.note(operation, self.second.fetchall(), started)

        sampler = threading.Thread(target=sample)
        sampler.start()
        try:
            yield
        finally:
            over.set()
            sampler.join()

    def release(self) -> None:
        """The transaction has ended: note for how long its locks blocked requests."""
        held = self.migrations[-1].held
        for table, (mode, since) in self.taken.items():
            seconds = time.monotonic() - since
            if blocks_requests(mode) and (table not in held or seconds > held[table][1]):
                held[table] = (mode, seconds)
        self.taken = {}

    def look_at_tables(self) -> tuple[dict[int, str], dict[int, int]]:
        """OID → name and file of each table."""
        with connection.connection.cursor() as raw:
            raw.execute(
                "SELECT oid, relname::text, relfilenode FROM pg_class WHERE relkind IN ('r', 'p')"
                " AND relnamespace = 'public'::regnamespace AND relname <> %s",
                [MIGRATIONS],
            )
            rows = raw.fetchall()
        return {oid: name for oid, name, _ in rows}, {oid: file for oid, _, file in rows}


def blocks_requests(lock: str) -> bool:
    return BLOCKS.get(lock) in {WRITES, ALL}


def backwards(source: str, database: str, applied: list[str], say: Say) -> Backwards:
    """Take the migrations back in a copy that has them, and compare it with the database before them."""
    with postgres.session(source) as session:
        before = schema(session)
    started = time.monotonic()
    with django_on(database):
        executor = MigrationExecutor(connection)
        by_name = {str(migration): migration for migration in executor.loader.graph.nodes.values()}
        plan = [(by_name[name], True) for name in reversed(applied)]
        say(f"Going back, {len(plan)} migrations …")
        try:
            executor.migrate([], plan)
        except Exception as error:  # whatever an operation raises is what is reported
            cause = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
            return Backwards(time.monotonic() - started, error=cause)
    seconds = time.monotonic() - started
    with postgres.session(database) as session:
        different = schema_differences(before, schema(session))
    rows = []
    without = frozenset({MIGRATIONS})
    for table in comparison.differences(source, database, shown=0, without=without, say=say):
        counts = ", ".join(f"{number:,} rows {kind}" for kind, number in table.counts.items() if number)
        if counts:
            rows.append(f"{table.name}: {counts}")
    return Backwards(seconds, different, rows)
