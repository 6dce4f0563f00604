"""
The limits of a request's statements (settings.LIMITS), where a pooler drops those that a connection asks for:
the role has them, and its connections begin with them.
"""

from typing import Any

from django.conf import settings
from psycopg2 import sql
from psycopg2.extensions import cursor


def statement(role: str, limits: dict[str, int]) -> sql.Composed:
    """What gives a role these limits."""
    name = sql.Identifier(role)
    return sql.SQL("; ").join(
        sql.SQL("ALTER ROLE {} SET {} = {}").format(name, sql.Identifier(limit), sql.Literal(value))
        for limit, value in limits.items()
    )


def give(server: cursor, role: str) -> bool:
    """
    Give a role the limits that it does not have; whether there were any.

    For all its databases, not for the application's alone: a restored database is another one, which would
    come without them.
    """
    server.execute(
        "SELECT setting FROM pg_db_role_setting, unnest(setconfig) AS setting"
        " WHERE setrole = (SELECT oid FROM pg_roles WHERE rolname = %s) AND setdatabase = 0",
        [role],
    )
    has = {setting for (setting,) in server.fetchall()}
    missing = {name: value for name, value in settings.LIMITS.items() if f"{name}={value}" not in has}
    if missing:
        server.execute(statement(role, missing))
    return bool(missing)


def lacking(used: Any) -> dict[str, str]:
    """The limits that the connection of a cursor does not have, and what it has instead."""
    used.execute("SELECT name, setting FROM pg_settings WHERE name = ANY(%s)", [list(settings.LIMITS)])
    has = dict(used.fetchall())
    return {name: has[name] for name, value in settings.LIMITS.items() if has[name] != str(value)}
