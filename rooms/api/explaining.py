"""The plans of a page: each statement that fetches it, executed under EXPLAIN."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.db import transaction

from rooms.api import queries
from rooms.api.formats import JSON, Format
from rooms.api.rings import parts_by_distance
from rooms.api.search import Search
from rooms.database import connection


@dataclass
class Explainer:
    """A wrapper of Django's `execute` that explains each query before it is executed."""

    options: str
    found: list[tuple[str, list[Any]]] = field(default_factory=list)
    """The statement with its values, and the rows of EXPLAIN."""

    def __call__(self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        settings, semicolon, statement = sql.rpartition("; ")
        if statement.startswith(("SELECT", "(SELECT", "WITH")):
            cursor = context["cursor"]
            execute(f"{settings}{semicolon}EXPLAIN ({self.options}) {statement}", params, many, context)
            rows = [row for (row,) in cursor.fetchall()]
            self.found.append((cursor.mogrify(sql, params).decode(), rows))
        return execute(sql, params, many, context)


def explain(work: Callable[[], Any], options: str = "ANALYZE, BUFFERS") -> list[tuple[str, list[Any]]]:
    """Each statement of the work, and its plan: text lines, or one object for FORMAT JSON."""
    explainer = Explainer(options)
    # In a transaction no statement is prepared: the plan is that of the SQL that is shown.
    with transaction.atomic(connection.alias), connection.execute_wrapper(explainer):
        work()
    return explainer.found


def explain_page(search: Search, options: str = "ANALYZE, BUFFERS") -> list[tuple[str, list[Any]]]:
    """`explain` for a page of rooms."""
    return explain(lambda: queries.page(search, JSON), options)


def explain_export(search: Search, output: Format, options: str) -> list[tuple[str, list[Any]]]:
    """`explain` for an export: as those of its cursors, which are planned for their first rows."""
    found = []
    with connection.cursor() as cursor, transaction.atomic(connection.alias):
        for part in parts_by_distance(search):
            sql, values = queries.export_statement(part, output)
            cursor.execute(f"EXPLAIN ({options}) DECLARE export CURSOR FOR {sql}", values)
            found.append((cursor.mogrify(sql, values).decode(), [row for (row,) in cursor.fetchall()]))
    return found
