"""
PostgreSQL at the level of the server: connections outside Django, databases, roles, locks.

For commands and tests, as the role that may create databases (`settings.POSTGRES`); requests use Django's
connection. Errors are those of psycopg2; names are passed through `sql.Identifier`.
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
from psycopg2.extras import wait_select

from rentomatic_site.embedded import server as embedded_server

POOLED = (
    "The database is reached through a pooler, which has no session of its own for this. Next: name the "
    "server itself in DATABASE_URL or POSTGRES_HOSTNAME, and the pooler in DATABASE_POOLER_URL."
)

unguarded_connect = psycopg2._connect  # type: ignore[attr-defined]  # see guarded_connect

_closed: set[str] = set()
"""The databases that are closed to this process."""

without_database: WeakSet[threading.Thread] = WeakSet()
"""Threads of a scenario that has ended; they cannot open a connection to any database."""


@contextmanager
def closed_to_this_process(names: set[str]) -> Iterator[None]:
    """Within the block nothing in this process can open these databases."""
    added = names - _closed
    close_to_this_process(*added)
    try:
        yield
    finally:
        _closed.difference_update(added)


def close_to_this_process(*names: str) -> None:
    """Let nothing in this process open these databases: from now on every connection is checked."""
    psycopg2._connect = guarded_connect  # type: ignore[attr-defined]  # see guarded_connect
    _closed.update(names)


def guarded_connect(*args: Any, **kwargs: Any) -> connection:
    """
    `psycopg2._connect`, which psycopg2.connect() calls for Django, for pools and for everybody else.

    psycopg2.OperationalError for the application's database while a scenario's replaces it, and for every
    database in a thread of a scenario that has ended.
    """
    if threading.current_thread() in without_database:
        raise psycopg2.OperationalError(
            "The scenario that started this thread has ended, and its database may be gone. "
            "Next: let run() and check() wait for their threads."
        )
    opened: connection = unguarded_connect(*args, **kwargs)
    # Checked afterwards, because libpq resolves the name: from a URL, a service file, a variable or the role.
    if opened.info.dbname in _closed:
        dbname = opened.info.dbname
        opened.close()
        raise psycopg2.OperationalError(
            f"The database {dbname} is closed to a scenario's code and to what it starts. "
            "Next: use Django's connection, or without arguments postgres.url(): they lead to the scenario's."
        )
    return opened


def ready() -> None:
    """Start the embedded server where it is the one configured; psycopg2.OperationalError on failure."""
    if settings.EMBEDDED_POSTGRES:
        try:
            embedded_server.start(settings.EMBEDDED_POSTGRES)
        except embedded_server.Error as error:
            raise psycopg2.OperationalError(str(error)) from None


def connect(dbname: str | None = None) -> connection:
    """
    A connection in autocommit mode to a database, by default the maintenance database.

    It has no statement_timeout; the caller closes it.
    """
    ready()
    changed = {"application_name": "rentomatic manage"} | ({"dbname": dbname} if dbname else {})
    opened: connection = psycopg2.connect(**settings.POSTGRES | changed)
    opened.autocommit = True
    return opened


@contextmanager
def session(dbname: str | None = None) -> Iterator[cursor]:
    """A cursor on a new connection, which is closed at the end of the block."""
    with closing(connect(dbname)) as opened, opened.cursor() as opened_cursor:
        yield opened_cursor


def url(dbname: str | None = None) -> str:
    """
    The URL of a database, by default the application's, for libpq and DATABASE_URL: on the server itself.

    It contains the password, if there is one.
    """
    place = {name: settings.POSTGRES[name] for name in ("host", "port")}
    parameters = django_connection.get_connection_params() | place
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
    url = f"postgresql://{user}{password}@{host}{port}/{quote(dbname or parameters['dbname'], safe='')}"
    return f"{url}?{urlencode(query)}" if query else url


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
    Create a database, optionally as a copy of `template`, which must have no sessions.

    `strategy` is WAL_LOG (PostgreSQL's default, faster below about 50 MB) or FILE_COPY (faster above).
    psycopg2.errors.DuplicateDatabase where the name is taken.
    """
    server.execute(creation(name, template, strategy, owner))


def creation(name: str, template: str | None, strategy: str | None, owner: str | None) -> sql.Composable:
    """The statement of `create_database`."""
    statement = [sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name))]
    if template is not None:
        statement.append(sql.SQL("TEMPLATE {}").format(sql.Identifier(template)))
    if strategy is not None:
        statement.append(sql.SQL("STRATEGY {}").format(sql.Literal(strategy)))
    if owner is not None:
        statement.append(sql.SQL("OWNER {}").format(sql.Identifier(owner)))
    return sql.SQL(" ").join(statement)


def begin_to_create(name: str, *, template: str, strategy: str, owner: str) -> None:
    """
    `create_database` without waiting for it: the server executes the statement although its client has gone.
    Nobody hears of an error; the database can be seen once it is complete.
    """
    send_and_leave(creation(name, template, strategy, owner))


class InUseError(Exception):
    """A database has sessions that this role may not end; the message has their roles and the next step."""


def drop_database(server: cursor, name: str) -> None:
    """
    Drop a database where it exists, and end its sessions.

    InUseError where this role may not end one of them.
    """
    statement = sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name))
    try:
        server.execute(statement + sql.SQL(" WITH (FORCE)"))
    except errors.InsufficientPrivilege:
        # FORCE needs the privilege to end all sessions, also a superuser's autovacuum worker; the plain
        # statement cancels that one without the privilege.
        end_sessions(server, name)
        server.execute(statement)


def begin_to_drop(name: str) -> None:
    """
    Let the server drop a database that has no sessions, without waiting for it: the server executes the
    statement although its client has gone. The database stays where the server fails or is stopped.
    """
    send_and_leave(sql.SQL("DROP DATABASE IF EXISTS {}").format(sql.Identifier(name)))


def send_and_leave(statement: sql.Composable) -> None:
    """Let the server execute a statement in a session of its own, whose result nobody reads."""
    with closing(psycopg2.connect(**settings.POSTGRES, async_=True)) as sender:
        wait_select(sender)
        sender.cursor().execute(statement)


def end_sessions(server: cursor, name: str) -> None:
    """
    End the sessions in a database. InUseError, before any has ended, where this role may not end one of them.

    PostgreSQL's background workers are not ended: the server cancels them when a statement needs it.
    """
    server.execute(
        """
        SELECT pid, theirs.rolname, (me.rolsuper OR NOT theirs.rolsuper)
            AND (pg_has_role(theirs.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))
        FROM pg_stat_activity
            JOIN pg_roles theirs ON theirs.oid = usesysid
            JOIN pg_roles me ON me.rolname = current_user
        WHERE datname = %s AND pid <> pg_backend_pid()
            AND coalesce(backend_type, 'client backend') = 'client backend'  -- null without the privilege
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
        # Returns false where the session has ended meanwhile.
        server.execute("SELECT pg_terminate_backend(%s, 1000)", [pid])


def rename_database(server: cursor, name: str, new_name: str) -> None:
    """Rename a database that has no sessions."""
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
    Hold the lock of that name, after waiting for it; `waiting` is called once where another session has it.

    The lock belongs to one database, by default the maintenance database, and to a new session, whose cursor
    is yielded: PostgreSQL releases it when this process ends, also after SIGKILL.
    """
    with session(dbname) as holder:
        take_lock(holder, name, waiting)
        yield holder
        # Explicitly: the server may notice the end of the session only after the next command has started.
        if not holder.closed:
            holder.execute("SELECT pg_advisory_unlock(hashtextextended(%s, 0))", [name])


def take_lock(holder: Any, name: str, waiting: Callable[[], None] | None = None) -> None:
    """
    `advisory_lock` on the session of a cursor, psycopg2's or Django's, until that session ends.

    psycopg2.OperationalError where a pooler shares the session with others.
    """
    if is_pooled(holder):
        raise psycopg2.OperationalError(POOLED)
    for attempt in count():
        holder.execute("SELECT pg_try_advisory_lock(hashtextextended(%s, 0))", [name])
        if holder.fetchone() == (True,):
            return
        if waiting and attempt == 0:
            waiting()
        time.sleep(0.05)  # a wait inside PostgreSQL would delay Ctrl-C


def is_pooled(used: Any) -> bool:
    """
    Whether a pooler is between the cursor, psycopg2's or Django's, and PostgreSQL.

    The process id that a connection begins with is one of the pooler's own then, for cancelling statements.
    """
    used.execute("SELECT pg_backend_pid()")
    return bool(used.fetchone() != (used.connection.info.backend_pid,))


@contextmanager
def long_statements(lock_timeout: str = "5s") -> Iterator[None]:
    """
    Lift statement_timeout on Django's connection, for management commands that take longer than a request
    may.

    Waiting for a lock stays limited, since requests queue behind a session that waits for a table lock.
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
        # A rollback restores the limits by itself, and a new connection starts with the usual ones.
        if django_connection.connection is not None and not django_connection.needs_rollback:
            with django_connection.cursor() as django_cursor:
                for name in limits:
                    django_cursor.execute(f"RESET {name}")
