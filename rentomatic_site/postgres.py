"""
PostgreSQL at the level of the server: connections outside Django, databases, roles, locks.

Everything here is for commands and tests, as the role that may create databases (`settings.POSTGRES`).
Requests use Django's connection. Errors are psycopg2's own; a name always goes through `sql.Identifier`.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from itertools import count
from typing import Any
from urllib.parse import quote, urlencode
from weakref import WeakSet

import psycopg2
from django.conf import settings
from django.db import connection as django_connection
from psycopg2 import errors, sql
from psycopg2.extensions import connection, cursor

from rentomatic_site.embedded import server as embedded_server

_closed: set[str] = set()
"""The databases that are closed to this process."""

without_database: WeakSet[threading.Thread] = WeakSet()
"""Threads that get no connection to any database: a scenario left them behind."""


@contextmanager
def closed_to_this_process(names: set[str]) -> Iterator[None]:
    """Let nothing in this process open these databases meanwhile."""
    added = names - _closed
    _closed.update(added)
    try:
        yield
    finally:
        _closed.difference_update(added)


def refuse_closed(dbname: str | None) -> None:
    """
    psycopg2.OperationalError for the application's database where a scenario's is in its place, and for every
    database in a thread that a scenario left behind.
    """
    if dbname in _closed or (settings.SCENARIO and dbname == settings.APPLICATION_DB):
        raise psycopg2.OperationalError(
            f"The database {dbname} is closed to a scenario's code and to what it starts. "
            "Next: use Django's connection, or without arguments postgres.url(): they lead to the scenario's."
        )
    if threading.current_thread() in without_database:
        raise psycopg2.OperationalError(
            "The scenario that started this thread has ended, and its database may be gone. "
            "Next: let run() and check() wait for their threads."
        )


def ready() -> None:
    """Start the embedded server where that is the one configured; psycopg2.OperationalError if it won't."""
    if settings.EMBEDDED_POSTGRES:
        try:
            embedded_server.start(settings.EMBEDDED_POSTGRES)
        except embedded_server.Error as error:
            raise psycopg2.OperationalError(str(error)) from None


def connect(dbname: str | None = None) -> connection:
    """
    A connection in autocommit mode to a database, to the maintenance database when none is named.

    It has no statement limit; the caller closes it.
    """
    refuse_closed(dbname)
    ready()
    changed = {"application_name": "rentomatic manage"} | ({"dbname": dbname} if dbname else {})
    opened: connection = psycopg2.connect(**settings.POSTGRES | changed)
    opened.autocommit = True
    return opened


@contextmanager
def session(dbname: str | None = None) -> Iterator[cursor]:
    """A cursor on a connection of its own, which ends with the block."""
    with closing(connect(dbname)) as opened, opened.cursor() as opened_cursor:
        yield opened_cursor


def url(dbname: str | None = None) -> str:
    """
    The address of a database, of the application's when none is named, as libpq and DATABASE_URL take it.

    It holds the password, if there is one.
    """
    parameters = django_connection.get_connection_params()
    tls = ("sslmode", "sslrootcert", "sslcert", "sslkey")
    query: dict[str, str] = {name: parameters[name] for name in tls if name in parameters}
    host = parameters.get("host", "")
    if host.startswith("/"):  # the folder of a Unix socket
        query["host"], host = host, ""
    elif ":" in host:  # IPv6
        host = f"[{host}]"
    user = quote(parameters["user"], safe="")
    password = ":" + quote(parameters["password"], safe="") if parameters.get("password") else ""
    port = f":{parameters['port']}" if parameters.get("port") else ""
    address = f"postgresql://{user}{password}@{host}{port}/{quote(dbname or parameters['dbname'], safe='')}"
    return f"{address}?{urlencode(query)}" if query else address


# --- Databases. Each function takes the cursor of a session on another database.


def database_exists(server: cursor, name: str) -> bool:
    """Whether the server has a database of that name."""
    server.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
    return server.fetchone() is not None


def create_database(
    server: cursor,
    name: str,
    *,
    template: str | None = None,
    strategy: str | None = None,
    owner: str | None = None,
) -> None:
    """
    Make a database, as a copy of `template` where one is named, which nobody may be connected to.

    `strategy` is WAL_LOG (PostgreSQL's default, quicker below some 50 MB) or FILE_COPY (quicker above).
    psycopg2.errors.DuplicateDatabase where the name is taken.
    """
    statement = [sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))]
    if template is not None:
        statement.append(sql.SQL("TEMPLATE {}").format(sql.Identifier(template)))
    if strategy is not None:
        statement.append(sql.SQL("STRATEGY {}").format(sql.Literal(strategy)))
    if owner is not None:
        statement.append(sql.SQL("OWNER {}").format(sql.Identifier(owner)))
    server.execute(sql.SQL(" ").join(statement))


class InUseError(Exception):
    """Somebody is in a database whom this role may not send away; the message says who, and the next step."""


def drop_database(server: cursor, name: str) -> None:
    """
    Drop a database where it exists; connections to it are ended.

    InUseError where one is not ours to end.
    """
    statement = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    try:
        server.execute(statement + sql.SQL(" WITH (FORCE)"))
    except errors.InsufficientPrivilege:
        # FORCE wants the right to end all of them, also a superuser's autovacuum, which the plain statement
        # sends away without it.
        end_sessions(server, name)
        server.execute(statement)


def end_sessions(server: cursor, name: str) -> None:
    """
    End the sessions in a database. InUseError, before any has ended, where one is not this role's to end.

    PostgreSQL's own workers are left to it: they go when a statement needs the database for itself.
    """
    server.execute(
        """
        SELECT pid, theirs.rolname, (me.rolsuper OR NOT theirs.rolsuper)
            AND (pg_has_role(theirs.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))
        FROM pg_stat_activity
            JOIN pg_roles theirs ON theirs.oid = usesysid
            JOIN pg_roles me ON me.rolname = current_user
        WHERE datname = %s AND pid <> pg_backend_pid()
            AND coalesce(backend_type, 'client backend') = 'client backend'  -- null where we may not know
        """,
        [name],
    )
    sessions = server.fetchall()
    foreign = [(pid, role) for pid, role, ours in sessions if not ours]
    if foreign:
        who = " and ".join(f"{role} (process {pid})" for pid, role in foreign)
        statements = "; ".join(f"SELECT pg_terminate_backend({pid})" for pid, _ in foreign)
        raise InUseError(
            f"{name} is in use by {who}, whose sessions the role {settings.POSTGRES['user']} may not end. "
            f"Next: end them where they were begun or, as that role or a superuser: {statements}"
        )
    for pid, _, _ in sessions:
        # False where it has ended by itself.
        server.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])


def rename_database(server: cursor, name: str, new_name: str) -> None:
    """Rename a database that nobody is connected to."""
    server.execute(
        sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(name), sql.Identifier(new_name))
    )


def database_comment(server: cursor, name: str) -> str | None:
    """The database's comment; None without one, and without such a database."""
    server.execute("SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name])
    row = server.fetchone()
    return row[0] if row else None


def comment_on_database(server: cursor, name: str, comment: str) -> None:
    """Set the database's comment."""
    server.execute(sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(comment)))


def allow_connections(server: cursor, name: str, allowed: bool) -> None:
    """Open a database to connections, or refuse them, as a template should."""
    server.execute(
        sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.SQL(str(allowed)))
    )


# --- Locks and limits


@contextmanager
def advisory_lock(
    name: str, dbname: str | None = None, *, waiting: Callable[[], None] | None = None
) -> Iterator[cursor]:
    """
    Hold the lock of that name; whoever asks for it meanwhile waits, and `waiting` is called once before.

    The lock belongs to one database, the maintenance database when none is named, and to a session of its
    own, whose cursor is given: it is free again when this process ends in whatever way.
    """
    with session(dbname) as holder:
        take_lock(holder, name, waiting)
        yield holder
        # Now, and not when the server has noticed the end of the session: the next command may come at once.
        if not holder.closed:
            holder.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])


def take_lock(holder: Any, name: str, waiting: Callable[[], None] | None = None) -> None:
    """`advisory_lock` for a session that is there, until it ends; by its cursor, psycopg2's or Django's."""
    for attempt in count():
        holder.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
        if holder.fetchone() == (True,):
            return
        if waiting and attempt == 0:
            waiting()
        time.sleep(0.05)  # waiting in PostgreSQL would not hear Ctrl-C


@contextmanager
def long_statements(lock_timeout: str = "5s") -> Iterator[None]:
    """
    Lift the statement limit of Django's connection: for commands that work longer than a request may.

    The way for every management command: `with postgres.long_statements(): …`. Waiting for a lock stays
    limited, since requests queue behind whoever waits for a table.
    """
    limits = {
        "statement_timeout": "0",
        "idle_in_transaction_session_timeout": "0",
        "lock_timeout": lock_timeout,
    }
    with django_connection.cursor() as django_cursor:
        for name, value in limits.items():
            django_cursor.execute("SELECT set_config(%s, %s, false)", [name, value])
    try:
        yield
    finally:
        # A failed transaction takes the limits back itself; a new connection begins with the usual ones.
        if django_connection.connection is not None and not django_connection.needs_rollback:
            with django_connection.cursor() as django_cursor:
                for name in limits:
                    django_cursor.execute(f"RESET {name}")
