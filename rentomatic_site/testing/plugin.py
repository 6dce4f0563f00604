"""
The project's pytest plugin (see pytest.ini): the tests' database, other processes on it, missing tools.

The tests run on a PostgreSQL of their own in the temporary folder, quick and unsafe, that ends with pytest,
even when pytest is killed. Where DATABASE_URL or POSTGRES_HOSTNAME is in the environment, they run on that
server, in databases named `test_…`. Each process of pytest, with or without pytest-xdist, has a clone of
the migrated template.

Fixtures:

- `site_env`: the environment in which another process, such as gunicorn, uses the tests' database. It sees
  only what is committed: mark the test `@pytest.mark.django_db(transaction=True)`.
- `manage("rooms", "price__lt=66", stdin=…, env={…})`: a run of manage.py in that environment, as a user would
  type it; its exit status and output are for the test to judge.
- `live_site`: a running gunicorn with production settings on a migrated database of its own.

With TEST_POOLER=on (`make test-pooler`) Django's connection of the tests, and the web processes that they
start on the tests' database, go through PgBouncer. `@pytest.mark.unpooled("reason")` leaves a test out.

Tools that a machine may lack: `@pytest.mark.needs("nginx", "root")`, or `needs("chromium")` within a test or
a fixture. Without the tool the test is skipped with the reason; with REQUIRE_ALL_TOOLS=1 it fails.
"""

import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import pytest

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper
    from pytest_django import DjangoDbBlocker
    from xdist.remote import Producer
    from xdist.scheduler import Scheduling
    from xdist.workermanage import WorkerController

    from rentomatic_site.testing.pooler import Pooler
    from rentomatic_site.testing.rig import Gunicorn

PROJECT = Path(__file__).resolve().parents[2]

ENVIRONMENT = dict(os.environ)
"""The environment as it was: of the database that the developer works on."""

# Not inherited: another pytest that a test starts is no worker.
SERVER = ("DATABASE_URL", "DATABASE_URL_FILE", "POSTGRES_HOSTNAME")
"""The variables that name a server."""

IS_WORKER = os.environ.pop("PYTEST_XDIST_WORKER", None) is not None

# A shell that runs us in the background makes us and our children deaf to Ctrl-C, which is under test too.
signal.signal(signal.SIGINT, signal.default_int_handler)

if not IS_WORKER:  # which inherits all of this
    # The developer's own .env is not read in the tests; the real environment is.
    os.environ["ENV_FILE"] = os.devnull
    os.environ.setdefault("DEBUG", "on")
    # Where Debian keeps nginx, off the path of ordinary users, who may run it all the same.
    os.environ["PATH"] += ":/usr/sbin:/sbin"
    if not any(os.environ.get(name) for name in SERVER):
        # The first connection makes it, the end of the last process that uses it removes it (supervisor.py).
        os.environ["EMBEDDED_POSTGRES_DIR"] = str(
            Path(tempfile.gettempdir()) / f"rentomatic-tests-{secrets.token_hex(8)}.ephemeral"
        )


THROUGH_POOLER = os.environ.get("TEST_POOLER") == "on"
if THROUGH_POOLER:  # each worker of pytest-xdist has one of its own
    os.environ["DATABASE_POOLER_URL"] = f"postgres://127.0.0.1:{random.randrange(12_000, 32_000)}"

LEFT = pytest.StashKey[list[str]]()


class Manage(Protocol):
    """The type of the fixture `manage`."""

    def __call__(
        self,
        *arguments: str,
        stdin: str = "",
        env: Mapping[str, str | None] = {},
        timeout: float = 60,
    ) -> "subprocess.CompletedProcess[str]": ...


def run_manage(
    *arguments: str, env: Mapping[str, str | None], stdin: str = "", timeout: float = 60
) -> "subprocess.CompletedProcess[str]":
    """Run manage.py with exactly this environment, of which None takes a variable out."""
    return subprocess.run(
        [sys.executable, str(PROJECT / "manage.py"), *arguments],
        env={name: value for name, value in env.items() if value is not None},
        input=stdin,  # by default empty, so that no command waits for the terminal
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: "WorkerController") -> None:
    """What a worker of pytest-xdist does not inherit."""
    node.workerinput["environment"] = ENVIRONMENT


def pytest_configure(config: pytest.Config) -> None:
    """Give a worker of pytest-xdist its share of the ports, and the environment as it was."""
    from rentomatic_site.scenarios import pytest_fixture

    workerinput = getattr(config, "workerinput", None)
    if workerinput:
        from rentomatic_site.testing import rig

        ENVIRONMENT.clear()
        ENVIRONMENT.update(workerinput["environment"])
        number = int(workerinput["workerid"].removeprefix("gw"))
        rig.PORTS = rig.PORTS[number % workerinput["workercount"] :: workerinput["workercount"]]
    if not any(ENVIRONMENT.get(name) for name in SERVER):  # that of the tests ends with them
        config.stash[pytest_fixture.DEVELOPERS] = ENVIRONMENT


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_node_collection_finished() -> None:
    """Keep the server until `pytest_sessionfinish` has looked at it: the workers, its users, end before."""
    from rentomatic_site import postgres

    postgres.ready()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail the run, and say why, where a test has left a process or a database behind."""
    if IS_WORKER or session.config.option.collectonly or session.exitstatus == pytest.ExitCode.INTERRUPTED:
        return
    from pytest_django.plugin import blocking_manager_key

    from rentomatic_site.testing import leftovers

    with session.config.stash[blocking_manager_key].unblock():
        left = leftovers.found(session.config._tmp_path_factory.getbasetemp())  # type: ignore[attr-defined]  # private
    if left:
        session.config.stash[LEFT] = left
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What the tests have left behind, one line each."""
    for line in config.stash.get(LEFT, []):
        terminalreporter.write_line(f"ERROR a test left behind: {line}", red=True)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: "Producer") -> "Scheduling":
    """The tests of a module stay together, whatever `--dist` says: they share fixtures."""
    from rentomatic_site.testing.scheduling import ByUnit

    return ByUnit(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Workers begin with what takes longest; without them the files' order stays."""
    if THROUGH_POOLER:
        for item in items:
            for mark in item.iter_markers("unpooled"):
                item.add_marker(pytest.mark.skip(reason=f"through a pooler: {mark.args[0]}"))
    if IS_WORKER:
        from rentomatic_site.testing import scheduling

        scheduling.sort(items)


@pytest.fixture(scope="session")
def django_db_setup(
    request: pytest.FixtureRequest, django_test_environment: None, django_db_blocker: "DjangoDbBlocker"
) -> Iterator[None]:
    """
    This process's clone of the migrated template. pytest-django's own fixture would migrate a database
    for each process. `--reuse-db` and `--create-db` have no meaning here.
    """
    from django.db import connection
    from django.db.backends.signals import connection_created
    from django.test import TransactionTestCase

    from rentomatic_site.testing import database

    with ExitStack() as stack:
        with django_db_blocker.unblock():
            name = stack.enter_context(database.own_name())
            stack.enter_context(database.migrated(name))
            if THROUGH_POOLER:
                stack.enter_context(pooler(request.getfixturevalue("tmp_path_factory").mktemp("pooler")))
            else:
                connection_created.connect(let_transactions_idle)
            usual = connection.settings_dict["NAME"]
            connection.settings_dict["NAME"] = name
            rows = database.stored_rows(database.django_tables())
            # A transactional test ends with what the next one may count on, such as the groups.
            patch = pytest.MonkeyPatch()
            stack.callback(patch.undo)
            patch.setattr(TransactionTestCase, "_fixture_teardown", lambda case: database.restore(rows))
        yield
        with django_db_blocker.unblock():
            connection.close()
        connection.settings_dict["NAME"] = usual


def pooler(folder: Path) -> "Pooler":
    """PgBouncer, which Django's connections of this process use from now on."""
    from django.conf import settings

    from rentomatic_site.pooling import connecting
    from rentomatic_site.testing.pooler import Pooler

    # What a role has in production, but for the time that a test may take.
    pooled: dict[str, Any] = settings.POOLED or {}
    limits = settings.LIMITS | {"idle_in_transaction_session_timeout": 0}
    commands = "; ".join(f"SET {name} = {value}" for name, value in limits.items())
    connecting.use()
    return Pooler(
        folder,
        settings.POSTGRES["host"],
        settings.POSTGRES["port"],
        [pooled["USER"]],
        listen_port=pooled["PORT"],
        parameters=f"connect_query='{commands}'",
    )


def let_transactions_idle(connection: "BaseDatabaseWrapper", **kwargs: object) -> None:
    """A test is one transaction, in which a busy machine may pause for longer than a request may."""
    with connection.cursor() as cursor:
        cursor.execute("SET idle_in_transaction_session_timeout = 0")


@pytest.fixture(scope="session")
def site_env(django_db_setup: None) -> dict[str, str]:
    """The environment of processes that use the tests' database."""
    from django.db import connection

    from rentomatic_site import postgres

    return os.environ | {"DATABASE_URL": postgres.url(connection.settings_dict["NAME"])}


@pytest.fixture(scope="session")
def manage(site_env: dict[str, str]) -> Manage:
    """manage.py on the tests' database; `env` adds variables, None takes one out."""

    def run(
        *arguments: str, stdin: str = "", env: Mapping[str, str | None] = {}, timeout: float = 60
    ) -> "subprocess.CompletedProcess[str]":
        return run_manage(*arguments, env={**site_env, **env}, stdin=stdin, timeout=timeout)

    return run


@pytest.fixture(scope="session")
def static_root(django_db_setup: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of the static files of a site with production settings."""
    from rentomatic_site.testing import rig

    folder = str(tmp_path_factory.mktemp("static"))
    rig.manage("collectstatic", "--noinput", STATIC_ROOT=folder, **rig.server_variables())
    return folder


@pytest.fixture(scope="session")
def live_site(
    static_root: str,
    django_db_setup: None,
    django_db_blocker: "DjangoDbBlocker",
    tmp_path_factory: pytest.TempPathFactory,
) -> "Iterator[Gunicorn]":
    """
    A running gunicorn with production settings on an empty, migrated database of its own.

    `live_site.get("/rooms")` sends a request, `live_site.url` is its base URL, and `live_site.variables`
    configures other processes (`rig.manage("rooms", **live_site.variables)`) for its database.
    """
    from django.db import connection

    from rentomatic_site.testing import rig

    folder = tmp_path_factory.mktemp("live")
    with ExitStack() as stack:
        with django_db_blocker.unblock():
            variables = stack.enter_context(rig.database(f"{connection.settings_dict['NAME']}_live"))
        variables["STATIC_ROOT"] = static_root
        yield stack.enter_context(rig.Gunicorn(folder, **variables))


@pytest.fixture(scope="session", autouse=True)
def _quick_passwords() -> Iterator[None]:
    """A password costs 0.2 s to hash, on purpose; in tests it costs nothing."""
    from django.test import override_settings

    with override_settings(PASSWORD_HASHERS=["django.contrib.auth.hashers.MD5PasswordHasher"]):
        yield


def needs(*tools: str) -> None:
    """Skip the running test, or fail it where REQUIRE_ALL_TOOLS is set, unless each tool is there."""
    for tool in tools:
        found = os.geteuid() == 0 if tool == "root" else shutil.which(tool) is not None
        if not found:
            (pytest.fail if os.environ.get("REQUIRE_ALL_TOOLS") else pytest.skip)(f"needs {tool}")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """The marker's way to `needs`."""
    for mark in item.iter_markers("needs"):
        needs(*mark.args)
