"""manage.py: what a person can put right is said in a line or two, with the next command."""

import os
import shutil
import subprocess
import sys

import pytest

from rentomatic_site import postgres
from rentomatic_site.testing import PROJECT, run_manage


def test_it_is_executable_and_finds_the_projects_own_python():
    if not (PROJECT / ".venv" / "bin" / "python").exists():
        pytest.skip("needs .venv, as make install makes it")
    done = subprocess.run(
        [PROJECT / "manage.py", "check"], env=os.environ | {"PYTHONPATH": ""}, capture_output=True, text=True
    )
    assert (done.stdout, done.returncode) == ("System check identified no issues (0 silenced).\n", 0), (
        done.stderr
    )


def test_without_django_it_names_the_command_that_installs_it(tmp_path):
    shutil.copy(PROJECT / "manage.py", tmp_path)
    done = subprocess.run(
        [sys.executable, "-S", tmp_path / "manage.py", "check"], env={}, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (1, "manage.py: Django is not installed. Next: make install\n")


@pytest.mark.parametrize("command", [("migrate",), ("init_postgres",)])
def test_a_server_that_is_away(command):
    env = os.environ | {"DATABASE_URL": "postgres://rooms:hidden@127.0.0.1:1/rooms"}
    done = run_manage(*command, env=env)
    assert done.returncode == 1
    assert done.stderr == (
        'manage.py: connection to server at "127.0.0.1", port 1 failed: Connection refused\n'
        "Next: ./manage.py wait_for_db && ./manage.py init_postgres\n"
    )


@pytest.fixture
def empty_database():
    name = f"test_manage_{os.getpid()}"
    with postgres.session() as server:
        postgres.create_database(server, name)
        yield name
        postgres.drop_database(server, name)


def test_a_database_without_tables(empty_database):
    done = run_manage("rooms", env=os.environ | {"DATABASE_URL": postgres.url(empty_database)})
    assert done.returncode == 1
    assert done.stderr == 'manage.py: relation "room" does not exist\nNext: ./manage.py migrate\n'


def test_traceback_shows_the_rest(empty_database):
    env = os.environ | {"DATABASE_URL": postgres.url(empty_database)}
    done = run_manage("rooms", "--traceback", env=env)
    assert "Traceback (most recent call last)" in done.stderr
