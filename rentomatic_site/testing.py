"""The project's pytest plugin (see pytest.ini): it says where the tests' database is."""

import os

# The developer's own .env has no say in the tests; the real environment has.
os.environ["ENV_FILE"] = os.devnull
os.environ.setdefault("DEBUG", "on")
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from deploy.tests.rig import Gunicorn


@pytest.fixture(scope="session")
def live_site(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[Gunicorn]":
    """
    A running gunicorn with production settings on an empty, migrated database of its own.

    `live_site.get("/rooms")` asks it, `live_site.url` is its address, `live_site.variables` leads other
    processes (`rig.manage("rooms", **live_site.variables)`) to its database.
    """
    from deploy.tests import rig

    folder = tmp_path_factory.mktemp("live")
    static = {"STATIC_ROOT": str(folder / "static")}
    with rig.database(f"test_live_{os.getpid()}") as variables:
        rig.manage("collectstatic", "--noinput", **variables, **static)
        with rig.Gunicorn(folder, **variables, **static) as gunicorn:
            yield gunicorn
