"""./manage.py postgres, dbshell and what starts the embedded server, on a cluster of this module's own."""

import os
import subprocess
import sys
from pathlib import Path

import psycopg2
import pytest

from rentomatic_site.embedded import server as embedded_server
from rentomatic_site.testing.plugin import PROJECT, run_manage


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("postgres") / "pg18"
    yield folder
    embedded_server.stop(folder)


def postgres(folder: Path, *arguments: str, command: str = "postgres", sql: str = ""):
    env = {"EMBEDDED_POSTGRES_DIR": str(folder), "DATABASE_URL": None, "POSTGRES_HOSTNAME": None}
    return run_manage(command, *arguments, stdin=sql, env={**os.environ, **env})


@pytest.mark.parametrize("arguments", [("help",), ("help", "migrate"), ("check",), ("postgres", "status")])
def test_help_and_check_start_nothing(tmp_path, arguments):
    folder = tmp_path / "pg18"
    done = postgres(folder, *arguments[1:], command=arguments[0])
    assert done.returncode == 0, done.stderr
    assert not folder.exists()


def test_importing_the_settings_starts_nothing(tmp_path):
    script = "import django; django.setup(); import rentomatic_site.wsgi, rentomatic_site.urls"
    folder = tmp_path / "pg18"
    env = os.environ | {
        "EMBEDDED_POSTGRES_DIR": str(folder),
        "DJANGO_SETTINGS_MODULE": "rentomatic_site.settings",
    }
    subprocess.run([sys.executable, "-c", script], cwd=PROJECT, env=env, check=True)
    assert not folder.exists()


def test_a_relative_folder_is_one_of_the_project(tmp_path):
    script = "from rentomatic_site import settings; print(settings.EMBEDDED_POSTGRES)"
    env = os.environ | {"EMBEDDED_POSTGRES_DIR": ".rentomatic/other", "PYTHONPATH": str(PROJECT)}
    env.pop("DATABASE_URL", None)
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.stdout.strip() == str(PROJECT / ".rentomatic" / "other")


def test_the_url_serves_psql_and_DATABASE_URL(folder):
    url = postgres(folder, "url").stdout.strip()
    connection = psycopg2.connect(url)
    assert connection.info.dbname == "application"
    connection.close()
    script = "from django.db import connection; connection.cursor(); print(connection.vendor)"
    done = run_manage("shell", "-v0", "-c", script, env=os.environ | {"DATABASE_URL": url})
    assert (done.stdout, done.stderr) == ("postgresql\n", "")


def test_the_url_of_another_database(folder):
    connection = psycopg2.connect(postgres(folder, "url", "postgres").stdout.strip())
    assert connection.info.dbname == "postgres"
    connection.close()


def test_the_shell_is_on_the_applications_database(folder):
    done = postgres(folder, "shell", sql="SELECT current_database(), 6 * 7 AS answer \\g (format=csv)\n")
    assert done.stdout == "current_database,answer\napplication,42\n"
    assert done.returncode == 0


def test_the_shell_on_a_named_database(folder):
    done = postgres(folder, "shell", "postgres", sql="SELECT current_database() \\g (format=csv)\n")
    assert done.stdout == "current_database\npostgres\n"


def test_the_shell_on_a_missing_database_fails(folder):
    done = postgres(folder, "shell", "no_such")
    assert done.returncode == 2
    assert 'database "no_such" does not exist' in done.stderr


def test_dbshell_works_too(folder):
    done = postgres(folder, command="dbshell", sql="SELECT 7 AS n \\g (format=csv)\n")
    assert done.stdout == "n\n7\n"


def test_the_status_says_what_there_is(folder):
    embedded_server.start(folder)
    status = postgres(folder, "status").stdout
    assert f"Embedded PostgreSQL in {folder}" in status
    assert (
        f"process {embedded_server.server_pid(folder)}, kept by {embedded_server.supervisor_pid(folder)}"
        in status
    )
    assert "version 18." in status
    assert str(os.getpid()) in status  # we are a user, and the status says who
    assert " MB on disk" in status
    assert "application " in status


def test_stop_stops_it_and_the_next_command_starts_it_again(folder):
    embedded_server.start(folder)
    assert postgres(folder, "stop").stdout == "Stopped; the data stay.\n"
    assert embedded_server.supervisor_pid(folder) is None
    assert "not running; the first command that needs it starts it" in postgres(folder, "status").stdout
    assert postgres(folder, "stop").stdout == "It was not running.\n"
    assert postgres(folder, "shell", sql="SELECT 1;").returncode == 0


def test_a_configured_server_is_never_stopped():
    env = os.environ | {"DATABASE_URL": "postgres://rooms:secret@127.0.0.1:1/rooms"}
    done = run_manage("postgres", "stop", env=env)
    assert done.returncode == 1
    assert "Only the embedded server can be stopped here" in done.stderr


def test_the_status_of_a_configured_server(password_server):
    done = run_manage("postgres", "status", env=os.environ | password_server.env())
    assert done.stdout.startswith(f"PostgreSQL at 127.0.0.1:{password_server.port}, as postgres\nversion 18.")


def test_the_shell_on_a_configured_server_needs_no_typing_of_the_password(password_server):
    env = os.environ | password_server.env(APPLICATION_DB="postgres")
    done = run_manage("postgres", "shell", env=env, stdin="SELECT 8 AS n \\g (format=csv)\n")
    assert done.stdout == "n\n8\n"


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://rooms:s%40cret@[::1]:6432/rooms",
        "postgresql://rooms@db.example.com:5432/rooms?sslmode=verify-full&sslrootcert=%2Fetc%2Fca.pem",
        "postgresql://rooms@:5432/rooms?host=%2Frun%2Fpostgresql",
    ],
)
def test_a_url_survives_a_round_trip(url):
    assert run_manage("postgres", "url", env=os.environ | {"DATABASE_URL": url}).stdout == f"{url}\n"


def test_the_url_of_a_configured_server_works_with_any_password(password_server):
    password = "p@ss:w/rd ?&#%é"
    password_server.query(f"CREATE ROLE odd LOGIN PASSWORD '{password}'")
    env = os.environ | password_server.env(
        APPLICATION_DB="postgres", POSTGRES_USER="odd", POSTGRES_PASSWORD=password
    )
    url = run_manage("postgres", "url", env=env).stdout.strip()
    psycopg2.connect(url).close()
    again = os.environ | {"DATABASE_URL": url}
    assert run_manage("postgres", "url", env=again).stdout.strip() == url
    password_server.query("DROP ROLE odd")
