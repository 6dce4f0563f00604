"""A PostgreSQL as in production: on TCP, with passwords, and a log of every statement."""

import subprocess
from pathlib import Path
from types import TracebackType

import psycopg2

from rentomatic_site.embedded import server as embedded_server
from rentomatic_site.embedded.supervisor import Supervisor
from rentomatic_site.testing.rig import ends_with_pytest, free_port, wait_until

PASSWORD = "only the tests' server has this one"


class PasswordServer:
    """Runs for the time of the block; `start` and `stop` may come in between."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.log = folder / "log"
        self.prefix = Supervisor(folder, -1, 0).prefix
        (folder / "password").write_text(PASSWORD)
        command = [
            "initdb",
            "-D",
            str(folder / "data"),
            "-U",
            "postgres",
            "--auth=scram-sha-256",
            "--no-sync",
        ]
        self.run(*command, f"--pwfile={folder / 'password'}", "--locale=C", "--encoding=UTF8")

    def run(self, name: str, *arguments: str) -> None:
        command = [*self.prefix, embedded_server.binary(name), *arguments]
        subprocess.run(command, check=True, capture_output=True)

    def __enter__(self) -> "PasswordServer":
        self.start()
        wait_until(self.accepts_connections, "PostgreSQL accepts connections")
        return self

    def start(self) -> None:
        options = {"listen_addresses": "127.0.0.1", "port": self.port, "unix_socket_directories": ""}
        options |= {"fsync": "off", "log_statement": "all"}
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        program = [embedded_server.binary("postgres"), "-D", str(self.folder / "data")]
        with self.log.open("ab") as log:
            command = [*ends_with_pytest("INT"), *self.prefix, *program, *settings]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)

    def stop(self) -> None:
        self.process.send_signal(2)  # "fast"
        self.process.wait(timeout=20)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.stop()

    def accepts_connections(self) -> bool:
        try:
            self.query("SELECT 1")
        except psycopg2.OperationalError:
            return False
        return True

    def query(
        self, sql: str, dbname: str = "postgres", user: str = "postgres", password: str = PASSWORD
    ) -> list:
        connection = psycopg2.connect(
            host="127.0.0.1", port=self.port, dbname=dbname, user=user, password=password
        )
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def env(self, **variables: str) -> dict[str, str]:
        """The variables that lead a command to this server, as compose.yml gives them."""
        return {
            "POSTGRES_HOSTNAME": "127.0.0.1",
            "POSTGRES_PORT": str(self.port),
            "POSTGRES_USER": "postgres",
            "POSTGRES_PASSWORD": PASSWORD,
        } | variables
