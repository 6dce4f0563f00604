"""SQL on the project's server, as its superuser over the socket in the container."""

import json
from typing import IO, Any

from deploy.operations import process
from deploy.operations.docker import Docker, environment_options
from deploy.operations.process import Done
from deploy.operations.report import Failure


def identifier(name: str) -> str:
    """A name as SQL takes it, whatever is in it."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A text as SQL takes it, whatever is in it."""
    return "'" + text.replace("'", "''") + "'"


class Database:
    """The server of the primary, or the one in another container."""

    def __init__(self, docker: Docker, container: str = "") -> None:
        if docker.project.managed:
            raise Failure(
                "the database is a managed one; nothing was changed", "use its provider's tools for this"
            )
        self.docker = docker
        self.container = container or docker.running(docker.primary)

    def execute(
        self, *statements: str, database: str = "postgres", check: bool = True, timeout: float | None = None
    ) -> Done:
        """
        Run statements one by one, each in a transaction of its own; the first that fails is the last.

        They are read from stdin: no password stands in a list of processes.
        """
        command = ["exec", "-i", self.container, "psql", "--username", "postgres", "--dbname", database]
        command += ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1"]
        text = "".join(f"{statement};\n" for statement in statements)
        done = self.docker(*command, check=False, text=text, timeout=timeout)
        if check and not done:
            raise Failure(
                f"the database refused: {done.text}",
                f"docker compose logs --tail 20 {self.docker.primary}",
            )
        return done

    def rows(
        self, query: str, database: str = "postgres", timeout: float | None = 30
    ) -> list[dict[str, Any]]:
        """The rows of a query, by the names of their columns."""
        wrapped = f"SELECT coalesce(json_agg(answer), '[]') FROM ({query}) AS answer"
        result: list[dict[str, Any]] = json.loads(
            self.execute(wrapped, database=database, timeout=timeout).stdout
        )
        return result

    def create(self, database: str, owner: str, comment: str = "") -> None:
        """
        An empty database; Failure where there is one of this name.

        A signal waits for it: a statement goes on in the server when its psql is ended, and would make the
        database after it was dropped.
        """
        name = identifier(database)
        with process.held():
            self.execute(
                f"CREATE DATABASE {name} OWNER {identifier(owner)}",
                f"COMMENT ON DATABASE {name} IS {literal(comment)}",
            )

    def exists(self, database: str) -> bool:
        return bool(self.rows(f"SELECT 1 FROM pg_database WHERE datname = {literal(database)}"))

    def shell(self, script: str) -> Done:
        """Run a script of the shell in the container."""
        return self.docker("exec", self.container, "sh", "-c", script, check=False)

    def program(
        self,
        *command: str,
        environment: dict[str, str] | None = None,
        stdin: IO[bytes] | None = None,
        stdout: IO[bytes] | None = None,
    ) -> Done:
        """Run one of PostgreSQL's programs in the container."""
        options = [*(["-i"] if stdin else []), *environment_options(environment)]
        words = ["exec", *options, self.container, *command]
        return self.docker(*words, check=False, stdin=stdin, stdout=stdout)


def execute_where_it_runs(docker: Docker, *statements: str, container: str = "") -> None:
    """Take back what a service that is gone has left; nothing where the database does not run, or refuses."""
    try:
        database = Database(docker, container)
    except Failure:
        return
    database.execute(*statements, check=False)
