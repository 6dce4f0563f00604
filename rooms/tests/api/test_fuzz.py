"""
schemathesis: thousands of valid and invalid requests from /openapi.json, against a real gunicorn.

Every check of schemathesis is on: no 5xx, no undocumented status, content type, header or body, no wrong
request accepted, no right one refused, no method that is not allowed. fuzz_hooks.py tells it what the
document cannot say. A failure prints the request as a curl line.
"""

import json
import os
import secrets
import subprocess
import sys
from contextlib import ExitStack

import pytest
from django.db import connection

from rentomatic_site.testing import rig
from rooms.columns import COLUMNS

AT_LEAST = 2_000  # requests

ROOMS = f"""
from rooms.seeding import many_rooms, room
room(code="{COLUMNS["code"].example}")
many_rooms(300)
"""


@pytest.fixture(scope="module")
def site(django_db_setup, django_db_blocker, tmp_path_factory):
    """gunicorn on rooms of its own, one of which is the document's example."""
    folder = tmp_path_factory.mktemp("fuzz")
    with ExitStack() as stack:
        with django_db_blocker.unblock():
            variables = stack.enter_context(rig.database(f"{connection.settings_dict['NAME']}_fuzz"))
        rig.manage("shell", "--verbosity", "0", "--command", ROOMS, **variables)
        yield stack.enter_context(rig.Gunicorn(folder, STATIC_ROOT=str(folder), **variables))


def fuzz(site: rig.Gunicorn, folder, *options: str) -> int:
    """Run schemathesis, which has to find nothing; returns how many requests it made."""
    report = folder / "report.json"
    run = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "run", f"{site.url}/openapi.json"),
            *("--checks", "all", "--continue-on-failure", "--no-color", "--workers", "1"),
            *("--generation-database", "none", "--report", "json", "--report-json-path", str(report)),
            *options,
        ],
        cwd=folder,  # it leaves a cache where it runs
        env={
            **os.environ,
            "PYTHONPATH": str(rig.PROJECT),
            "SCHEMATHESIS_HOOKS": "rooms.tests.api.fuzz_hooks",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return json.loads(report.read_text())["test_cases"]["generated"]


def test_no_request_surprises(site, tmp_path):
    assert fuzz(site, tmp_path, "--seed", "1", "--max-examples", "10") >= AT_LEAST


@pytest.mark.fuzz
def test_no_request_surprises_for_longer(site, tmp_path):
    """`make fuzz`: ten minutes with another seed each time; the output of a failure ends with it."""
    seed = str(secrets.randbelow(1_000_000))
    assert fuzz(site, tmp_path, "--seed", seed, "--max-time", "600") >= AT_LEAST
