"""A folder of scenarios that a test writes, and the commands on it as a user types them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from textwrap import dedent

from django.conf import settings
from django.core.management import CommandError, call_command
from django.test import override_settings

from rentomatic_site import postgres
from rentomatic_site.scenarios import databases
from rentomatic_site.testing.plugin import Manage
from rentomatic_site.testing.rig import wait_until

OWNER = "workshop@tests"
"""Who makes these scenarios: `drop_scenario --all` drops no template that other tests use."""


class Workshop:
    """A folder of scenarios. Names begin with t_: the tests' server may be one that people work on."""

    def __init__(self, folder: Path, manage: Manage, site_env: dict[str, str]) -> None:
        self.folder = folder
        self.run_manage = manage
        self.variables = {"SCENARIOS_DIR": str(folder), "SCENARIOS_OWNER": OWNER}
        self.site_env = site_env | self.variables

    def write(self, name: str, source: str) -> None:
        (self.folder / f"{name}.py").write_text(dedent(source).lstrip())

    def manage(self, *arguments: str, **env: str | None) -> subprocess.CompletedProcess[str]:
        """The command in a process of its own, with further variables."""
        return self.run_manage(*arguments, env={**self.variables, **env})

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The command in this process, which saves half a second."""
        for name in [name for name in sys.modules if name.partition(".")[0] == "scenarios"]:
            del sys.modules[name]
        out, err, status = StringIO(), StringIO(), 0
        with (
            override_settings(SCENARIOS_DIR=self.folder),
            redirect_stdout(out),
            redirect_stderr(err),
        ):
            try:
                call_command(*arguments, stdout=out, stderr=err, no_color=True)
            except CommandError as error:
                err.write(f"CommandError: {error}\n")
                status = 1
        return subprocess.CompletedProcess(arguments, status, out.getvalue(), err.getvalue())

    def load(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return self.call("load_scenario", *arguments)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """The command in the background."""
        return subprocess.Popen(
            [".venv/bin/python", "manage.py", *arguments],
            env=self.site_env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def sql(self, name: str, statement: str) -> list[tuple]:
        """What the statement gives in the scenario's database."""
        with postgres.session(f"scenario_{name}") as session:
            session.execute(statement)
            return session.fetchall() if session.description else []

    def prices(self, name: str) -> list[int]:
        return [price for (price,) in self.sql(name, "SELECT price FROM room ORDER BY id")]

    def settled(self) -> dict[str, databases.Metadata]:
        """The databases, once the server has dropped those that a load has replaced."""
        wait_until(
            lambda: all(metadata.kind != databases.BUILDING for metadata in self.databases().values()),
            "the end of the databases that were replaced",
        )
        return self.databases()

    def databases(self) -> dict[str, databases.Metadata]:
        """Name → metadata of the databases of this test's scenarios."""
        with postgres.session() as server:
            return {
                database.name: database.metadata
                for database in databases.databases(server)
                if database.metadata.scenario.startswith("t_")
            }


@contextmanager
def workshop_in(folder: Path, manage: Manage, site_env: dict[str, str]) -> Iterator[Workshop]:
    """A workshop whose databases go with it."""
    postgres.ready()
    folder.mkdir()
    workshop = Workshop(folder, manage, site_env)
    # Files are rewritten within a second here, which a .pyc file would not notice.
    sys.dont_write_bytecode, usual = True, sys.dont_write_bytecode
    with override_settings(SCENARIOS_OWNER=OWNER):
        yield workshop
        with postgres.session() as server:
            for name in workshop.databases():
                databases.drop(server, name)
    sys.dont_write_bytecode = usual


@contextmanager
def role_with_createdb(name: str) -> Iterator[dict[str, str | None]]:
    """The variables of a new role that has CREATEDB and no other power; what it owns goes with it."""
    with postgres.session() as server:
        server.execute(f"CREATE ROLE {name} LOGIN CREATEDB")
        try:
            yield {
                "DATABASE_URL": None,
                "POSTGRES_HOSTNAME": str(settings.POSTGRES["host"]),
                "POSTGRES_PORT": str(settings.POSTGRES["port"]),
                "POSTGRES_USER": name,
            }
        finally:
            server.execute("SELECT datname FROM pg_database WHERE datdba = %s::regrole", [name])
            for (database,) in server.fetchall():
                postgres.drop_database(server, database)
            server.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")
