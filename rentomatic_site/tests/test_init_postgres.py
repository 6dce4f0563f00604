import os
import subprocess
import sys

import psycopg2
import pytest

from rentomatic_site.testing.password_server import PasswordServer
from rentomatic_site.testing.plugin import PROJECT, run_manage

SECRET = "the application's own: it's \"quoted\" \\ and é"


@pytest.fixture
def server(password_server, request) -> PasswordServer:
    """The server without the databases and roles that these tests make."""
    yield password_server
    for dbname in ("rooms_db", "odd-Name"):
        password_server.query(f'DROP DATABASE IF EXISTS "{dbname}" WITH (FORCE)')
    for role in ("rooms_web", "manager"):
        password_server.query(f"DROP ROLE IF EXISTS {role}")


def init_postgres(server: PasswordServer, **variables: str) -> "subprocess.CompletedProcess[str]":
    env = server.env(APPLICATION_DB="rooms_db", **variables)
    return run_manage("init_postgres", env={**os.environ, **env, "DATABASE_URL": None})


def as_role(server: PasswordServer, password: str = SECRET) -> list:
    return server.query("SELECT current_user", "rooms_db", "rooms_web", password)


def test_it_creates_the_database_and_then_keeps_it(server):
    assert init_postgres(server).stdout == "Database 'rooms_db' created.\n"
    server.query("CREATE TABLE kept()", "rooms_db")
    again = init_postgres(server)
    assert again.stdout == "Database 'rooms_db' already exists and will not be recreated.\n"
    assert again.returncode == 0
    assert server.query("SELECT to_regclass('kept')", "rooms_db") == [("kept",)]


def test_a_name_with_a_hyphen_and_a_capital_is_taken_as_it_is(server):
    env = {**os.environ, **server.env(APPLICATION_DB="odd-Name"), "DATABASE_URL": None}
    assert run_manage("init_postgres", env=env).returncode == 0
    assert server.query("SELECT 1 FROM pg_database WHERE datname = 'odd-Name'") == [(1,)]


def test_three_at_once_make_one_database_and_one_role(server):
    env = os.environ | server.env(
        APPLICATION_DB="rooms_db", APPLICATION_USER="rooms_web", APPLICATION_PASSWORD=SECRET
    )
    racers = [
        subprocess.Popen(
            [sys.executable, PROJECT / "manage.py", "init_postgres"],
            env=env,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    outputs = [racer.communicate(timeout=60) for racer in racers]
    assert [racer.returncode for racer in racers] == [0, 0, 0], outputs
    assert sum("created" in out and "Database 'rooms_db' created" in out for out, _ in outputs) == 1
    assert as_role(server) == [("rooms_web",)]


@pytest.mark.unpooled("it says that the role has the limits of requests, too")
def test_the_role_owns_the_database_and_has_no_powers(server):
    done = init_postgres(server, APPLICATION_USER="rooms_web", APPLICATION_PASSWORD=SECRET)
    assert done.stdout == "Role 'rooms_web' created.\nDatabase 'rooms_db' created.\n"
    powers = "rolsuper, rolcreatedb, rolcreaterole, rolreplication, rolbypassrls, rolcanlogin"
    assert server.query(f"SELECT {powers} FROM pg_roles WHERE rolname = 'rooms_web'") == [
        (False,) * 5 + (True,)
    ]
    owned = "SELECT datname FROM pg_database WHERE datdba = 'rooms_web'::regrole"
    assert server.query(owned) == [("rooms_db",)]
    server.query("CREATE TABLE mine()", "rooms_db", "rooms_web", SECRET)


def test_again_it_sets_the_password_and_takes_powers_away(server):
    server.query("CREATE ROLE rooms_web SUPERUSER CREATEDB NOLOGIN")
    done = init_postgres(server, APPLICATION_USER="rooms_web", APPLICATION_PASSWORD="first")
    assert done.stdout.startswith("Role 'rooms_web' updated.\n")
    assert server.query("SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = 'rooms_web'") == [
        (False, False)
    ]
    assert init_postgres(server, APPLICATION_USER="rooms_web", APPLICATION_PASSWORD=SECRET).returncode == 0
    assert as_role(server) == [("rooms_web",)]
    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        as_role(server, "first")


def test_the_hash_of_a_password_that_is_the_same_stays_for_poolers_that_know_it(server):
    stored = "SELECT rolpassword FROM pg_authid WHERE rolname = 'rooms_web'"
    variables = {"APPLICATION_USER": "rooms_web", "APPLICATION_PASSWORD": "unchanged"}
    init_postgres(server, **variables)
    before = server.query(stored)
    assert init_postgres(server, **variables).returncode == 0
    assert server.query(stored) == before
    init_postgres(server, **variables | {"APPLICATION_PASSWORD": "another"})
    assert server.query(stored) != before
    assert as_role(server, "another") == [("rooms_web",)]


def test_the_password_is_in_no_output_and_no_log(server):
    done = init_postgres(server, APPLICATION_USER="rooms_web", APPLICATION_PASSWORD="unmistakable-word")
    assert done.returncode == 0
    assert "unmistakable-word" not in done.stdout + done.stderr
    assert "unmistakable-word" not in server.log.read_text()
    assert "PASSWORD 'SCRAM-SHA-256$" in server.log.read_text()  # the log does hold the statement


def test_a_database_from_before_the_role_is_handed_over_with_what_is_in_it(server):
    init_postgres(server)
    server.query(
        "CREATE TABLE room (id int GENERATED ALWAYS AS IDENTITY, size int);"
        "INSERT INTO room (size) VALUES (1);"
        "CREATE VIEW large AS SELECT * FROM room;"
        "CREATE FUNCTION touch() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "rooms_db",
    )
    done = init_postgres(server, APPLICATION_USER="rooms_web", APPLICATION_PASSWORD=SECRET)
    assert done.returncode == 0, done.stderr
    server.query(
        "ALTER TABLE room ADD price int; INSERT INTO room (size) VALUES (2); "
        "CREATE OR REPLACE FUNCTION touch() RETURNS int LANGUAGE sql AS 'SELECT 2'",
        "rooms_db",
        "rooms_web",
        SECRET,
    )
    assert server.query("SELECT count(*) FROM large", "rooms_db", "rooms_web", SECRET) == [(2,)]


def test_an_administrator_without_superuser_as_on_managed_servers(server):
    server.query("CREATE ROLE manager LOGIN CREATEDB CREATEROLE PASSWORD 'm'")
    variables = {"POSTGRES_USER": "manager", "POSTGRES_PASSWORD": "m"}
    role = {"APPLICATION_USER": "rooms_web", "APPLICATION_PASSWORD": SECRET}
    for _ in range(2):
        env = {
            **os.environ,
            **server.env(APPLICATION_DB="rooms_db"),
            **variables,
            **role,
            "DATABASE_URL": None,
        }
        done = run_manage("init_postgres", env=env)
        assert done.returncode == 0, done.stderr
    assert as_role(server) == [("rooms_web",)]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"APPLICATION_USER": "rooms_web"}, "APPLICATION_USER is set and APPLICATION_PASSWORD is not."),
        ({"APPLICATION_USER": "postgres", "APPLICATION_PASSWORD": "x"}, "must not be the administrator"),
    ],
)
def test_a_contradiction_changes_nothing_and_names_the_next_step(server, variables, message):
    done = init_postgres(server, **variables)
    assert done.returncode == 1
    assert message in done.stderr
    assert "Next: " in done.stderr
    assert server.query("SELECT 1 FROM pg_database WHERE datname = 'rooms_db'") == []
