"""PgBouncer in transaction mode, in front of a server that tests have."""

import os
from pathlib import Path
from typing import Any, Self

import psycopg2

from rentomatic_site.embedded import supervisor
from rentomatic_site.testing.rig import Server, free_port, wait_until

SIZE = 20
"""Connections to PostgreSQL that it shares out, for each database and role."""

CONFIGURATION = """\
[databases]
* = host={host} port={port} {parameters}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen_port}
unix_socket_dir =
auth_type = trust
auth_file = {folder}/users
admin_users = postgres
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 1000
query_wait_timeout = {wait}
ignore_startup_parameters = {ignored}
"""


class Pooler:
    """
    Runs for the time of a `with` block; `start` and `stop` may come in between.

    A client waits `wait` seconds for one of `size` connections. It refuses a connection with `options`, as by
    default, unless `ignored` names that. `parameters` are those of the line in [databases].
    """

    def __init__(
        self,
        folder: Path,
        host: str,
        port: int | str,
        users: list[str],
        *,
        listen_port: int = 0,
        size: int = SIZE,
        wait: int = 5,
        parameters: str = "",
        ignored: str = "",
    ) -> None:
        folder.mkdir(exist_ok=True)
        self.folder = folder
        self.port = listen_port or free_port()
        (folder / "users").write_text("".join(f'"{user}" ""\n' for user in {"postgres", *users}))
        (folder / "pgbouncer.ini").write_text(
            CONFIGURATION.format(
                host=host,
                port=port,
                parameters=parameters,
                listen_port=self.port,
                folder=folder,
                size=size,
                wait=wait,
                ignored=ignored,
            )
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        # It refuses to run as root, as PostgreSQL does.
        prefix = supervisor.IN_NAMESPACE if os.getuid() == 0 else []
        command = [*prefix, "pgbouncer", str(self.folder / "pgbouncer.ini")]
        self.server = Server(command, dict(os.environ), self.folder / "pgbouncer.log")
        self.server.wait_for(self.accepts_connections)

    def stop(self) -> None:
        """At once: connections are cut, also in the middle of a statement."""
        self.server.stop()

    def accepts_connections(self) -> bool:
        try:
            self.console("SHOW VERSION")
        except psycopg2.OperationalError:
            return False
        return True

    def console(self, command: str) -> list[dict[str, Any]]:
        """What its own console says, such as SHOW POOLS or SHOW STATS."""
        opened = psycopg2.connect(host="127.0.0.1", port=self.port, user="postgres", dbname="pgbouncer")
        opened.autocommit = True
        try:
            with opened.cursor() as cursor:
                cursor.execute(command)
                names = [column.name for column in cursor.description or ()]
                return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()] if names else []
        finally:
            opened.close()

    def idle(self) -> None:
        """Wait until no client has a connection to PostgreSQL."""
        wait_until(lambda: not any(pool["sv_active"] for pool in self.console("SHOW POOLS")), "idle pools")

    @property
    def url(self) -> str:
        return f"postgres://127.0.0.1:{self.port}"
