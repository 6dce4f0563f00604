"""The stack of test_compose.py at faulty starts, on other databases, and to its end."""

import json
import os
import subprocess
import time

import pytest

pytestmark = pytest.mark.compose

CODE = "c41b5c2e-6a52-4b2f-9d63-5f1f5b1b7d0a"


@pytest.fixture(autouse=True, scope="module")
def room(stack):
    """A room of these tests' own, whatever the tests before them have left."""
    stack.sql(
        "INSERT INTO room(code, size, price, longitude, latitude) "
        f"VALUES ('{CODE}', 215, 39, -0.09998975, 51.75436293)"
    )


def test_down_and_up_keep_the_data(stack):
    stack.compose("down")
    stack.up()
    assert stack.get(f"/rooms/{CODE}").status == 200


# --- What may be wrong at a start


def test_a_wrong_password_fails_without_waiting_and_says_so(stack):
    secret = stack.folder / "deploy" / "secrets" / "postgres_password"
    right = secret.read_text()
    secret.write_text("wrong")
    done = stack.compose("run", "--rm", "-T", "migrate", check=False)
    secret.write_text(right)
    assert done.returncode == 2
    assert "Waiting for PostgreSQL" not in done.stdout
    assert "password" in done.stderr
    assert "wrong" not in done.stderr.replace("wrong password", "")
    assert stack.get("/rooms").status == 200


def test_an_absent_database_ends_the_wait_with_its_cause(stack):
    command = ["./manage.py", "wait_for_db", "--timeout", "3"]
    done = stack.compose(
        "run", "--rm", "-T", "--no-deps", "-e", "POSTGRES_HOSTNAME=nowhere", "migrate", *command, check=False
    )
    assert done.returncode == 1
    assert "nowhere:5432" in done.stderr


def test_a_slow_database_is_waited_for(stack):
    stack.compose("pause", "db")
    try:
        waiting = subprocess.Popen(
            ["docker", "compose", "run", "--rm", "-T", "--no-deps", "migrate"],
            cwd=stack.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        time.sleep(4)
        assert waiting.poll() is None
    finally:
        stack.compose("unpause", "db")
    output = waiting.communicate(timeout=60)[0]
    assert waiting.returncode == 0, output


# --- Elsewhere


def test_a_managed_database_by_its_url(stack):
    """The stack's own database plays the managed one, under a name that only its URL has."""
    password = (stack.folder / "deploy/secrets/application_password").read_text()
    secret = stack.folder / "deploy" / "secrets" / "database_url"
    secret.write_text(f"postgres://application:{password}@managed.example.com:5432/application")
    secret.chmod(0o600)
    owner = (stack.folder / "deploy/secrets/secret_key").stat()
    os.chown(secret, owner.st_uid, owner.st_gid)
    files = ["-f", "compose.yml", "-f", "deploy/compose.managed.yml"]
    config = json.loads(stack.compose(*files, "config", "--format", "json").stdout)
    assert sorted(config["services"]) == ["migrate", "nginx", "web"]
    stack.compose(*files, "create", "migrate")  # which makes the network
    outside, database = config["networks"]["outside"]["name"], stack.containers("db")[0]["Id"]
    stack.run("docker", "network", "connect", "--alias", "managed.example.com", outside, database)
    done = stack.compose(*files, "run", "--rm", "-T", "migrate")
    assert "No migrations to apply" in done.stdout
    done = stack.compose(*files, "run", "--rm", "-T", "web", "./manage.py", "rooms", "--format", "csv")
    assert CODE in done.stdout
    stack.run("docker", "network", "disconnect", outside, database)
    stack.run("docker", "network", "rm", outside)


def test_down_with_volumes_is_what_deletes_the_data(stack):
    project = stack.containers("db")[0]["Config"]["Labels"]["com.docker.compose.project"]
    volumes = ["docker", "volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
    stack.compose("down")
    assert stack.run(*volumes).stdout.split() == [f"{project}_database"]
    stack.compose("down", "--volumes")
    assert stack.run(*volumes).stdout == ""
    left = ["docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
    assert stack.run(*left).stdout == ""
