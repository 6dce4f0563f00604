"""Django's database router: anonymous reads on a replica, everything else on the primary."""

from contextvars import ContextVar
from typing import Any

from django.db import DEFAULT_DB_ALIAS

read_from: ContextVar[str] = ContextVar("read_from", default=DEFAULT_DB_ALIAS)
"""The database that this thread reads from; reading.py sets it while a public view runs."""


class Router:
    """For DATABASE_ROUTERS."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return read_from.get()

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return DEFAULT_DB_ALIAS

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return True  # it is one database, copied

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == DEFAULT_DB_ALIAS
