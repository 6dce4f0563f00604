import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from rentomatic_site import postgres
from rentomatic_site.scenarios import databases
from rentomatic_site.testing import Manage
from rentomatic_site.tests.password_server import PasswordServer
from rentomatic_site.tests.workshop import Workshop


@pytest.fixture(scope="session")
def password_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PasswordServer]:
    with PasswordServer(tmp_path_factory.mktemp("password_server")) as server:
        yield server


@pytest.fixture
def workshop(
    tmp_path: Path,
    manage: Manage,
    site_env: dict[str, str],
    django_db_blocker: DjangoDbBlocker,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Workshop]:
    postgres.ready()
    # Files are rewritten within a second here, which a .pyc file would not notice.
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    folder = tmp_path / "scenarios"
    folder.mkdir()
    workshop = Workshop(folder, manage, site_env)
    with django_db_blocker.unblock():  # of databases that are not the tests' own
        yield workshop
    with postgres.session() as server:
        for name in workshop.databases():
            databases.drop(server, name)
