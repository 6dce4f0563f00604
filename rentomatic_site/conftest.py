"""Fixtures of the site's apps: a server with passwords, a folder of scenarios."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_django import DjangoDbBlocker

from rentomatic_site.scenarios.tests.workshop import Workshop, workshop_in
from rentomatic_site.testing.password_server import PasswordServer
from rentomatic_site.testing.plugin import Manage


@pytest.fixture(scope="session")
def password_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PasswordServer]:
    with PasswordServer(tmp_path_factory.mktemp("password_server")) as server:
        yield server


@pytest.fixture
def workshop(
    tmp_path: Path, manage: Manage, site_env: dict[str, str], django_db_blocker: DjangoDbBlocker
) -> Iterator[Workshop]:
    """An empty folder of scenarios, for one test."""
    with (
        django_db_blocker.unblock(),  # of databases that are not the tests' own
        workshop_in(tmp_path / "scenarios", manage, site_env) as workshop,
    ):
        yield workshop
