"""
Statements name the request that they are of, in the form of sqlcommenter (google.github.io/sqlcommenter): in
PostgreSQL's log, in pg_stat_activity, and in pg_stat_statements, which tells no statements apart by it.

A statement that prepares another one has no comment: PostgreSQL would show it with each later use.
"""

import re
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import cache
from typing import Any

from django.db import connections
from django.http import HttpRequest

# Weak, as the thread keeps it until its next request: uploaded files would be kept, too.
current: ContextVar[Callable[[], HttpRequest | None]] = ContextVar("current", default=lambda: None)
"""The request that this thread handles; set by `middleware.request_ids`."""


def handles(request: HttpRequest) -> None:
    current.set(weakref.ref(request))


@cache
def route_comment(name: str) -> str:
    """`,route='…'` without what would need escapes, in the comment or as a placeholder."""
    return f",route='{re.sub(r'[^A-Za-z0-9_.:-]', '_', name)}'"


def comment(execute: Callable, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Wrapper around each statement of a connection (django.db.connection.execute_wrappers); takes 1 µs."""
    request = current.get()()
    if request is not None and isinstance(sql, str) and not sql.startswith(("PREPARE ", "DEALLOCATE ")):
        route = route_comment(request.resolver_match.view_name) if request.resolver_match else ""
        # The id is of letters, digits, dots and dashes (middleware.SENT_ID).
        sql = f"{sql} /*request_id='{request.id}'{route}*/"  # type: ignore[attr-defined]  # of request_ids
    return execute(sql, params, many, context)


def connected(connection: Any, **kwargs: Any) -> None:
    """Receiver of `connection_created`."""
    if connections[connection.alias] is connection and comment not in connection.execute_wrappers:
        # First, as `connection.execute_wrapper()` removes the last one at its end.
        connection.execute_wrappers.insert(0, comment)
