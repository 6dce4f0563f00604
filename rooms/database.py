"""The connection that rooms are read on."""

from typing import Any, cast

from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.connection import ConnectionProxy


class Routed:
    """Django's connections, of which the database router chooses the one to read rooms from."""

    def __getitem__(self, alias: str) -> Any:
        from rooms.models import Room

        return connections[router.db_for_read(Room)]


connection = cast(BaseDatabaseWrapper, ConnectionProxy(cast(Any, Routed()), DEFAULT_DB_ALIAS))
"""`django.db.connection` for statements that only read."""
