import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rentomatic_site.testing.password_server import PASSWORD, PasswordServer
from rentomatic_site.testing.plugin import PROJECT, run_manage


def wait_for_db(env: dict[str, str], *arguments: str) -> tuple[int, str, float]:
    """Exit status, output, seconds."""
    began = time.monotonic()
    done = run_manage("wait_for_db", *arguments, env={**os.environ, **env, "DATABASE_URL": None})
    return done.returncode, done.stdout + done.stderr, time.monotonic() - began


def test_a_server_that_is_there(password_server):
    status, output, _ = wait_for_db(password_server.env(APPLICATION_DB="does_not_exist_yet"))
    assert (status, output) == (
        0,
        f"PostgreSQL at 127.0.0.1:{password_server.port}/postgres takes connections.\n",
    )


def test_a_server_that_comes_late(tmp_path):
    server = PasswordServer(tmp_path)
    waiting = subprocess.Popen(
        [sys.executable, PROJECT / "manage.py", "wait_for_db", "--timeout", "30"],
        env=os.environ | server.env(),
        stdout=subprocess.PIPE,
        text=True,
    )
    first = waiting.stdout.readline()
    assert first == f"Waiting for PostgreSQL at 127.0.0.1:{server.port}/postgres: Connection refused\n"
    with server:
        rest, _ = waiting.communicate(timeout=30)
        assert rest.endswith("takes connections.\n")
        assert waiting.returncode == 0


def test_a_deadline_is_exit_status_1(password_server):
    nowhere = password_server.env(POSTGRES_PORT="1")
    status, output, seconds = wait_for_db(nowhere, "--timeout", "1")
    assert status == 1
    assert seconds >= 1
    assert (
        "PostgreSQL at 127.0.0.1:1/postgres did not take connections within 1 s: Connection refused" in output
    )
    assert "Next: look whether it runs there" in output
    assert PASSWORD not in output


@pytest.mark.parametrize(
    ("variables", "cause"),
    [
        ({"POSTGRES_PASSWORD": "wrong one"}, "password authentication failed"),
        ({"POSTGRES_USER": "nobody_such"}, "password authentication failed"),  # scram tells no more
        ({"POSTGRES_DB": "no_such"}, 'database "no_such" does not exist'),
    ],
)
def test_a_permanent_error_is_exit_status_2_at_once(password_server, variables, cause):
    status, output, _ = wait_for_db(password_server.env(**variables), "--timeout", "30")
    assert status == 2
    assert "Waiting for PostgreSQL" not in output
    assert cause in output
    assert "Next: correct POSTGRES_USER, POSTGRES_PASSWORD or POSTGRES_DB" in output
    assert "wrong one" not in output


@contextmanager
def refusing_server(message: str) -> Iterator[tuple[int, list[bytes]]]:
    """
    A server that refuses one client after the other with this message, as PostgreSQL does while it starts.

    Yields its port and a list with what each client sent after the refusal: b"" where it hung up.
    """
    body = "\0".join(["SFATAL", "C57P03", f"M{message}", "", ""]).encode()
    packet = b"E" + struct.pack("!i", len(body) + 4) + body
    sent_afterwards: list[bytes] = []

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            with client:
                while len(client.recv(1000)) == 8:  # a request for encryption, before the greeting
                    client.sendall(b"N")
                client.sendall(packet)
                client.settimeout(20)
                sent_afterwards.append(client.recv(1))

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, daemon=True).start()
        yield server.getsockname()[1], sent_afterwards
        server.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    "message",
    ["the database system is starting up", "sorry, too many clients already", "le système se lance"],
)
def test_a_server_that_refuses_all_clients_is_waited_for(password_server, message):
    with refusing_server(message) as (port, _):
        status, output, _ = wait_for_db(password_server.env(POSTGRES_PORT=str(port)), "--timeout", "1")
    assert status == 1
    assert f"within 1 s: {message}" in output


def test_each_attempt_closes_its_connection(password_server):
    """A server that starts has few to give; this one accepts the next only when the last is closed."""
    with refusing_server("the database system is starting up") as (port, sent_afterwards):
        status, output, _ = wait_for_db(password_server.env(POSTGRES_PORT=str(port)), "--timeout", "3")
    assert status == 1
    assert "timed out" not in output
    assert output.count("Waiting for PostgreSQL") == 1
    assert set(sent_afterwards) == {b""}
    assert len(sent_afterwards) > 1


def test_the_embedded_server_is_started(tmp_path):
    folder = tmp_path / "it.ephemeral"
    status, output, _ = wait_for_db({"EMBEDDED_POSTGRES_DIR": str(folder), "POSTGRES_HOSTNAME": ""})
    assert (status, output) == (0, f"PostgreSQL at {folder}:5432/postgres takes connections.\n")
