"""gunicorn with the shipped configuration, on its own."""

import http.client
import json
import os
import re
import signal
import socket

import pytest

from deploy.tests import rig


@pytest.fixture(scope="module")
def gunicorn(live_site, tmp_path_factory):
    """A gunicorn that the tests may hurt, on the live site's database."""
    with rig.Gunicorn(tmp_path_factory.mktemp("gunicorn"), **live_site.variables) as server:
        yield server


def test_access_lines_are_in_the_applications_format_with_nginxs_request_id(gunicorn):
    answer = gunicorn.get("/no-such-page?price=1", X_Request_ID="0123456789abcdef")
    assert answer.headers["X-Request-ID"] == "0123456789abcdef"
    record = rig.access_record(gunicorn, "0123456789abcdef")
    assert record["logger"] == "gunicorn.access"
    assert (record["method"], record["target"], record["status"]) == ("GET", "/no-such-page?price=1", 404)
    assert record["bytes"] == len(answer.body)
    assert 0 < record["seconds"] < 5


def test_every_line_of_the_log_is_json(gunicorn):
    gunicorn.get("/no-such-page", X_Request_ID="every-line-is-json")
    rig.access_record(gunicorn, "every-line-is-json")
    messages = [json.loads(line)["message"] for line in gunicorn.log.read_text().splitlines()]
    assert any(message.startswith("Listening at") for message in messages)


def test_probes_that_succeed_leave_no_line(gunicorn):
    assert gunicorn.get("/livez", X_Request_ID="probe-without-line").status == 200
    gunicorn.get("/no-such-page", X_Request_ID="line-after-the-probe")
    rig.access_record(gunicorn, "line-after-the-probe")
    assert "probe-without-line" not in gunicorn.log.read_text()


def test_a_connection_is_kept_for_the_next_request(gunicorn):
    connection = http.client.HTTPConnection("127.0.0.1", gunicorn.port, timeout=5)
    for _ in range(2):
        connection.request("GET", "/livez")
        assert connection.getresponse().read() == b'{"live": true}'
        assert connection.sock is not None  # http.client drops it when the server says `close`
    connection.close()


def test_no_control_socket_and_no_file_outside_memory(gunicorn):
    open_files = {
        os.readlink(f"/proc/{pid}/fd/{fd}")
        for pid in gunicorn.workers()
        for fd in os.listdir(f"/proc/{pid}/fd")
    }
    written = {
        name for name in open_files if name.startswith("/") and not name.startswith(("/dev/", "/proc/"))
    }
    assert written == {str(gunicorn.log)}
    assert "gunicorn.ctl" not in open_files


@pytest.mark.parametrize(
    ("request_line", "status"),
    [(b"GET /" + b"x" * 5000, 414), (b"GET /livez", 200)],
)
def test_an_endless_request_line_is_414(gunicorn, request_line, status):
    with socket.create_connection(("127.0.0.1", gunicorn.port), timeout=5) as wire:
        wire.sendall(request_line + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert wire.recv(100).startswith(f"HTTP/1.1 {status}".encode())


def test_a_killed_worker_is_back_within_a_second(gunicorn):
    before = gunicorn.workers()
    os.kill(before[0], signal.SIGKILL)
    rig.wait_until(lambda: set(gunicorn.workers()) - set(before), "a new worker", 1)
    assert gunicorn.get("/livez").status == 200


def test_reloading_three_times_under_load_fails_no_request(gunicorn):
    with rig.Load(lambda: gunicorn.get("/livez", timeout=10).status) as load:
        for _ in range(3):
            before = set(gunicorn.workers())
            gunicorn.signal(signal.SIGHUP)
            rig.wait_until(lambda b=before: not b & set(gunicorn.workers()), "new workers")
            load.wait_for(50)
    assert set(load.statuses()) == {200}


def test_a_missing_variable_stops_the_start_with_one_line(tmp_path, live_site):
    with pytest.raises(
        RuntimeError, match=r"ended with status 1:\ngunicorn.conf.py: SECRET_KEY is not set. .*\n$"
    ):
        rig.Gunicorn(tmp_path, **(live_site.variables | {"SECRET_KEY": ""}))


def test_the_port_and_the_numbers_come_from_variables(live_site, tmp_path):
    with rig.Gunicorn(tmp_path, WEB_WORKERS="3", WEB_THREADS="2", **live_site.variables) as server:
        rig.wait_until(lambda: len(server.workers()) == 3, "three workers")
    assert re.search(r"Shutting down: Master", server.log.read_text())


def test_log_level_warning_silences_access_lines(live_site, tmp_path):
    with rig.Gunicorn(tmp_path, LOG_LEVEL="warning", **live_site.variables) as server:
        server.get("/livez")
        server.get("/no-such-page")
    assert "gunicorn" not in server.log.read_text()
