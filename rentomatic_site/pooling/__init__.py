"""
A pooler in transaction mode, such as PgBouncer, between the web processes and PostgreSQL: many threads share
a few connections, each for the time of a transaction.

    DATABASE_POOLER_URL → address.py → settings.POOLED → use(), by wsgi.py

What needs a session of its own does not work there: locks that outlast a transaction, SET, prepared
statements. Commands need it, so they connect to the server itself; requests use transactions and SET LOCAL.
limits.py has what each connection is to have all the same.
"""

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections


def use() -> None:
    """Let Django's connections of this process lead through the pooler from now on."""
    connections[DEFAULT_DB_ALIAS].close()
    # All threads share this dictionary, and their connections refer to it.
    connections.settings[DEFAULT_DB_ALIAS].update(settings.POOLED)
