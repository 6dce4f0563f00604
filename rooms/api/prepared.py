"""
Prepared statements, for those whose plan cannot depend on their values: one room by its code, and the first
rooms of an index in its order, whose filter is behind a LIMIT. PostgreSQL parses and plans them once for a
connection. It plans a filter that bounds what is read of an index for its values.

A name is derived from the statement, so that one of another version, on a connection that a pooler shares,
has another name. PREPARE is not undone by a rollback, and a schema change makes PostgreSQL plan anew.
"""

from collections import OrderedDict
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from weakref import WeakKeyDictionary

from django.conf import settings
from django.db import DatabaseError

from rooms.counting import Statement
from rooms.database import connection

Row = tuple[Any, ...]

# SQLSTATEs
NOT_THERE = "26000"  # after DISCARD, or behind a pooler that hands out another connection
ALREADY_THERE = "42P05"  # behind a pooler
OTHER_COLUMNS = "0A000"  # a column's type was changed


MOST = 50
"""Statements of a connection, some 60 kB each; another one takes the place of that used longest ago."""


class Session:
    """What is known of one connection to PostgreSQL; a new connection has a new one."""

    def __init__(self) -> None:
        self.names: OrderedDict[str, None] = OrderedDict()
        self.usable = True

    def command(self, sql: str) -> str:
        """What executes a statement, after preparing it where that is still to be done."""
        name, prepare, call = commands(sql)
        if name in self.names:
            self.names.move_to_end(name)
            return call
        self.names[name] = None
        if len(self.names) <= MOST:
            return f"{prepare}; {call}"
        oldest, _ = self.names.popitem(last=False)
        return f"DEALLOCATE {oldest}; {prepare}; {call}"


sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()
"""By psycopg2's connection."""


def fetch(statement: Statement) -> list[Row]:
    """
    The rows of a statement, which is prepared where that is possible.

    A connection that has lost its statements gets plain ones until it is closed. In a transaction all are
    plain, as the error of a lost one would end it.
    """
    sql, values = statement
    with connection.cursor() as cursor:
        session = sessions.get(cursor.connection)
        if session is None:
            session = sessions[cursor.connection] = Session()
        if cursor.db.in_atomic_block or not (session.usable and settings.PREPARED_STATEMENTS):
            cursor.execute(sql, values)
            return fetched(cursor)
        # EXECUTE makes no uuid[] of ARRAY['…'], which is an array of texts.
        bound = [f"{{{','.join(map(str, v))}}}" if isinstance(v, list) else v for v in values]
        try:
            cursor.execute(session.command(sql), bound)
        except DatabaseError as error:
            if getattr(error.__cause__, "pgcode", None) not in {NOT_THERE, ALREADY_THERE, OTHER_COLUMNS}:
                raise
            session.usable = False
            cursor.execute(sql, values)
        return fetched(cursor)


def fetched(cursor: Any) -> list[Row]:
    rows: list[Row] = cursor.fetchall()
    return rows


@lru_cache(200)
def commands(sql: str) -> tuple[str, str, str]:
    """The name of a prepared statement, the command that prepares it, and the one that executes it."""
    name = f"room_{blake2b(sql.encode(), digest_size=8).hexdigest()}"
    first, *others = sql.split("%s")
    numbered = first + "".join(f"${number}{text}" for number, text in enumerate(others, 1))
    values = f" ({', '.join(['%s'] * len(others))})" if others else ""
    return name, f"PREPARE {name} AS {numbered}", f"EXECUTE {name}{values}"
