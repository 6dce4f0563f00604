"""
Keeping the database of a failed test, as the scenario `pytest_NAME_HASH`, until the test passes.

Where the tests have a server of their own, which ends with them, it is copied to the developer's: by pg_dump
and `adopt_scenario`.
"""

import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import IO

import pytest
from django.conf import settings

from rentomatic_site import postgres
from rentomatic_site.embedded import server as embedded_server
from rentomatic_site.scenarios import ScenarioError, databases, names
from rentomatic_site.scenarios.clones import Clone
from rentomatic_site.scenarios.databases import TARGET, Metadata
from rentomatic_site.scenarios.pytest_fixture import DEVELOPERS


def alias(scenario: str, nodeid: str) -> str:
    """The value of SCENARIO under which the database of that test is kept."""
    return f"pytest_{scenario[:36]}_{sha256(nodeid.encode()).hexdigest()[:6]}"


def opening(name: str) -> str:
    """The line that opens the database."""
    return f"Its database is kept: SCENARIO={name} ./manage.py dbshell"


def keep(config: pytest.Config, clone: Clone, name: str) -> None:
    """Keep the clone under the name; it is renamed or copied."""
    if DEVELOPERS in config.stash:
        copy_to_developers(config, clone, name)
        return
    metadata = Metadata(TARGET, clone.scenario, complete=False, error="kept by a test that failed")
    with postgres.session() as server:
        databases.promote(server, clone.name, names.target_name(name), metadata)


def copy_to_developers(config: pytest.Config, clone: Clone, name: str) -> None:
    """Copy the clone to the developer's server; ScenarioError where that fails."""
    try:
        program = embedded_server.binary("pg_dump")
    except embedded_server.Error:  # where the wheel is not installed it is the one on the path
        program = "pg_dump"
    command = [program, "--no-owner", "--no-privileges", "--dbname", postgres.url(clone.name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as dump:
        done = manage(config, "adopt_scenario", clone.scenario, "--as", name, stdin=dump.stdout)
    if done.returncode or dump.returncode:
        raise ScenarioError(f"The database of the failed test cannot be kept: {done.stdout.strip()}")


def forget_unless(config: pytest.Config, name: str, failed: bool) -> None:
    """Drop what an earlier run has kept under the name, unless the test has failed again."""
    cache = getattr(config, "cache", None)
    if cache is None:
        return
    key = f"scenarios/{name}"
    if not failed and cache.get(key, False):
        manage(config, "drop_scenario", name)
    if failed != cache.get(key, False):
        cache.set(key, failed)


def manage(
    config: pytest.Config, *arguments: str, stdin: IO[bytes] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run manage.py on the developer's server; its output is in `stdout`."""
    environment = config.stash.get(DEVELOPERS, None)
    return subprocess.run(
        [sys.executable, str(Path(settings.BASE_DIR, "manage.py")), *arguments],
        cwd=settings.BASE_DIR,
        env=environment and {"DEBUG": "on", **environment},
        stdin=stdin or subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
