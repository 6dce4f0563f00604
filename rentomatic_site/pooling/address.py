"""The entry of a pooler in DATABASES. For settings.py, before Django is set up."""

from typing import Any

from rentomatic_site.replication.addresses import database_at


def pooled(url: str, server: dict[str, Any]) -> dict[str, Any]:
    """
    The server's entry through a pooler in transaction mode at a URL such as postgres://HOST:PORT.

    ValueError, whose message has no password in it, where it is no such URL.
    """
    try:
        database = database_at(url, server)
    except ValueError as error:
        raise ValueError(f"it {error}") from None
    # A pooler refuses or drops `options`: its connections are shared. The role has them instead.
    database["OPTIONS"].pop("options", None)
    # Outside a transaction a cursor would be on another connection than its FETCH. Exports open theirs within
    # a transaction, by chunked_cursor(), which this does not concern.
    return {**database, "DISABLE_SERVER_SIDE_CURSORS": True}
