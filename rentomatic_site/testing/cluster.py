"""A PostgreSQL server that tests may stop, freeze and fill up."""

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Self

import psycopg2
import pytest

from rentomatic_site.embedded import server as embedded_server
from rentomatic_site.embedded import supervisor
from rentomatic_site.testing.rig import children, ends_with_pytest, free_port, wait_until


class Cluster:
    """A PostgreSQL server of one test's own, to be stopped, frozen and filled up; or a replica of one."""

    def __init__(self, folder: Path, primary: "Cluster | None" = None, **options: str) -> None:
        self.data = folder / "data"
        self.port = free_port()
        self.options = {
            "port": str(self.port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",
            **options,
        }
        # PostgreSQL refuses to run as root; in a user namespace root is somebody else.
        self.prefix = supervisor.IN_NAMESPACE if os.getuid() == 0 else []
        if self.prefix and not supervisor.succeeds([*self.prefix, "true"]):
            pytest.skip("needs user namespaces, or not to be root")
        program, arguments = "initdb", ["-A", "trust"]
        if primary:
            program, arguments = (
                "pg_basebackup",
                ["-h", "127.0.0.1", "-p", str(primary.port), "-R", "-c", "fast"],
            )
        command = [embedded_server.binary(program), "-D", str(self.data), "-U", "postgres", "--no-sync"]
        subprocess.run([*self.prefix, *command, *arguments], check=True, capture_output=True)
        self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.thaw()
            self.stop()

    def start(self, ready: Callable[[], bool] | None = None) -> None:
        settings = [part for name, value in self.options.items() for part in ("-c", f"{name}={value}")]
        server = [*self.prefix, embedded_server.binary("postgres"), "-D", str(self.data), *settings]
        command = [*ends_with_pytest("INT"), *server]
        with (self.data / "server.log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        wait_until(ready or self.accepts_connections, "PostgreSQL accepts connections")

    def accepts_connections(self) -> bool:
        try:
            psycopg2.connect(**self.parameters).close()
        except psycopg2.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Like `pg_ctl stop -m fast`: statements under way are cancelled."""
        self.process.send_signal(signal.SIGINT)
        self.process.wait(30)

    def kill(self) -> None:
        """Every process of it at once, as when its machine dies."""
        self.send(signal.SIGKILL)
        self.process.wait(30)

    def freeze(self) -> None:
        """Stop every process of it in the middle of what it does, as a machine that swaps or a lost disk."""
        self.send(signal.SIGSTOP)

    def thaw(self) -> None:
        self.send(signal.SIGCONT)

    def send(self, number: signal.Signals) -> None:
        for pid in self.processes():
            with suppress(ProcessLookupError):  # its client has gone meanwhile
                os.kill(pid, number)

    def processes(self) -> list[int]:
        return [self.process.pid, *children(self.process.pid)]

    @property
    def parameters(self) -> dict[str, Any]:
        return {"host": "127.0.0.1", "port": self.port, "user": "postgres", "dbname": "postgres"}

    @property
    def variables(self) -> dict[str, str]:
        """The environment in which the site uses it."""
        return {
            "POSTGRES_HOSTNAME": "127.0.0.1",
            "POSTGRES_PORT": str(self.port),
            "APPLICATION_DB": "postgres",
        }

    @contextmanager
    def session(self, **parameters: Any) -> Iterator[Any]:
        """A cursor on a connection of its own; every statement takes effect at once."""
        connection = psycopg2.connect(**self.parameters | parameters)
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                yield cursor
        finally:
            connection.close()
