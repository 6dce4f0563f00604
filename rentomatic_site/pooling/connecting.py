"""The connections of a process, through the pooler."""

from django.conf import settings
from django.db import DEFAULT_DB_ALIAS, connections


def use() -> None:
    """Let Django's connections of this process lead through the pooler from now on."""
    connections[DEFAULT_DB_ALIAS].close()
    # All threads share this dictionary, and their connections refer to it.
    connections.settings[DEFAULT_DB_ALIAS].update(settings.POOLED)
