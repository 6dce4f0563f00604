"""Sites on which the documents' commands run."""

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from rentomatic_site.testing import rig
from rentomatic_site.testing.documents import Command
from rentomatic_site.testing.plugin import PROJECT

ADDRESS = "http://localhost:8000"
"""Where the documents say that the site is."""

Run = Callable[[Command], str]


@contextmanager
def site_with(scenario: str, static_root: str, folder: Path) -> Iterator[Run]:
    """A site with the rooms of a scenario, and what runs a command against it as a shell would."""
    with rig.database(f"test_documents_{scenario}_{os.getpid()}") as variables:  # one for each worker
        variables["STATIC_ROOT"] = static_root
        fill = f"from rooms.seeding import seed; from scenarios import {scenario}; seed(1); {scenario}.run()"
        rig.manage("shell", "-c", fill, **variables)
        with rig.Gunicorn(folder, **variables) as site:

            def run(command: Command) -> str:
                line = command.line.replace(ADDRESS, site.url)
                done = subprocess.run(["bash", "-c", line], cwd=PROJECT, capture_output=True, text=True)
                assert done.returncode == 0, done.stderr
                return done.stdout.replace(site.url, ADDRESS)

            yield run


@pytest.fixture(scope="session")
def on_book_rooms(static_root: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with site_with("book_rooms", static_root, tmp_path_factory.mktemp("book_rooms")) as run:
        yield run


@pytest.fixture(scope="session")
def on_demo(static_root: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with site_with("demo", static_root, tmp_path_factory.mktemp("demo")) as run:
        yield run
