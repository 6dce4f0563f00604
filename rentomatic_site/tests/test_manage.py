"""manage.py: what a person can put right is said in a line or two, with the next command."""

import ast
import os
import shutil
import subprocess
import sys

import pytest

from rentomatic_site import postgres
from rentomatic_site.testing.plugin import PROJECT, run_manage


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
    assert (done.returncode, done.stderr) == (1, "manage.py: Django is not installed. Next: make run\n")


def test_it_prefers_the_projects_python_to_a_django_of_the_systems(tmp_path):
    shutil.copy(PROJECT / "manage.py", tmp_path)
    (tmp_path / "system" / "django").mkdir(parents=True)
    (tmp_path / "system" / "django" / "__init__.py").touch()
    own = tmp_path / ".venv" / "bin" / "python"
    own.parent.mkdir(parents=True)
    own.write_text("#!/bin/sh\necho the own python: $*\n")
    own.chmod(0o755)
    command = [f"{sys.base_prefix}/bin/python3", tmp_path / "manage.py", "check"]
    done = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path / "system")}, capture_output=True, text=True
    )
    assert done.stdout == f"the own python: {tmp_path / 'manage.py'} check\n", done.stderr


def test_a_python_that_is_too_old_can_read_it():
    tree = ast.parse((PROJECT / "manage.py").read_text(), feature_version=(3, 7))
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    annotations = [node.returns for node in functions] + [
        argument.annotation for node in functions for argument in node.args.args
    ]
    # Unions by `|` are evaluated when the function is defined, which fails before Python 3.10.
    assert [ast.unparse(a) for a in annotations if isinstance(a, ast.BinOp)] == []


@pytest.mark.parametrize("command", [("rooms",), ("runserver",), ("migrate",)], ids=" ".join)
def test_without_env_file_it_names_the_command_that_makes_one(command):
    # As in a fresh clone, where nothing is set.
    env = {"PATH": os.environ["PATH"], "ENV_FILE": os.devnull}
    done = run_manage(*command, env=env)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (1, "", 1)
    assert done.stderr.startswith("manage.py: SECRET_KEY is not set.")
    assert "cp .env.example .env" in done.stderr


@pytest.mark.unpooled("the start looks at the pooler, too")
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
