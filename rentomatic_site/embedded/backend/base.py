"""Django's PostgreSQL backend with a cheaper health check and the embedded server behind it."""

import os
import select
from contextlib import suppress
from typing import Any

import psycopg2
from django.conf import settings
from django.db import connections
from django.db.backends.postgresql import base

from rentomatic_site import postgres
from rentomatic_site.embedded.backend.client import DatabaseClient


class DatabaseWrapper(base.DatabaseWrapper):
    """`django.db.backends.postgresql` with the differences below; its shell is in client.py."""

    client_class = DatabaseClient

    def ensure_connection(self) -> None:
        """Open the connection anew where NAME has changed since (scenarios/isolation.py)."""
        if self.connection is not None and self.connection.info.dbname != self.settings_dict["NAME"]:
            self.close()
        super().ensure_connection()

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        """Start the embedded server first, where it is the one configured."""
        postgres.ready()
        try:
            return super().get_new_connection(conn_params)
        except psycopg2.OperationalError as error:
            if "unsupported startup parameter" in str(error):
                raise psycopg2.OperationalError(postgres.POOLED) from None
            if settings.SCENARIO and "does not exist" in str(error):
                raise psycopg2.OperationalError(
                    f"The scenario {settings.SCENARIO} is not loaded. "
                    f"Next: ./manage.py load_scenario {settings.SCENARIO}"
                ) from None
            raise

    def is_usable(self) -> bool:
        """
        Whether the server still holds its end of an idle connection.

        A server that ends a connection writes to the socket, which has nothing to read otherwise. A poll
        takes 2 µs; Django's `SELECT 1` takes a round trip of 100 µs in every request.
        """
        if self.connection is None or self.connection.closed:
            return False
        poll = select.poll()
        poll.register(self.connection.fileno(), select.POLLIN | select.POLLHUP | select.POLLERR)
        return not poll.poll(0)


def forget_connections() -> None:
    """Let a forked process open its own connections: its parent goes on using the inherited ones."""
    for alias in connections:
        with suppress(AttributeError):
            del connections[alias]


os.register_at_fork(after_in_child=forget_connections)
