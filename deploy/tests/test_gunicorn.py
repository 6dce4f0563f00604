"""gunicorn with the shipped configuration, on its own."""

import http.client
import json
import os
import re
import signal
import socket

import pytest
from gunicorn.config import Config
from gunicorn.http import get_parser, wsgi

from deploy import worker
from rentomatic_site import postgres
from rentomatic_site.testing import rig


@pytest.fixture(scope="module")
def gunicorn(live_site, tmp_path_factory):
    """A gunicorn that the tests may hurt, on the live site's database."""
    with rig.Gunicorn(tmp_path_factory.mktemp("gunicorn"), **live_site.variables) as server:
        yield server


def test_access_lines_are_in_the_applications_format_with_nginxs_request_id(gunicorn):
    response = gunicorn.get("/no-such-page?price=1", X_Request_ID="0123456789abcdef")
    assert response.headers["X-Request-ID"] == "0123456789abcdef"
    record = rig.access_record(gunicorn, "0123456789abcdef")
    assert record["logger"] == "gunicorn.access"
    assert (record["method"], record["target"], record["status"]) == ("GET", "/no-such-page?price=1", 404)
    assert record["bytes"] == len(response.body)
    assert 0 < record["seconds"] <= response.seconds


def test_a_line_names_the_process_of_its_database_connection(gunicorn, live_site):
    gunicorn.get("/rooms?limit=1")
    gunicorn.get("/readyz")  # has a connection of its own
    gunicorn.get("/rooms?limit=1", X_Request_ID="process-of-postgresql")
    process = rig.access_record(gunicorn, "process-of-postgresql")["database_process"]
    with postgres.session(live_site.variables["APPLICATION_DB"]) as cursor:
        cursor.execute("SELECT query FROM pg_stat_activity WHERE pid = %s", [process])
        (query,) = cursor.fetchone()
    assert " room_" in query  # PREPARE or EXECUTE of the page's statement, as the thread had it or not


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


def packets(method: str, headers: list[tuple[str, str]], *pieces: bytes) -> list[bytes]:
    """What is sent for a response, one item for each system call: the socket keeps them apart."""
    client, server = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with client, server:
        client.sendall(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        request = next(get_parser(Config(), server, ("127.0.0.1", 1)))
        response, _ = wsgi.create(request, server, ("127.0.0.1", 1), ("127.0.0.1", 2), Config())
        assert isinstance(response, worker.Response)
        response.start_response("200 OK", headers)
        for piece in pieces:
            response.write(piece)
        response.close()
        server.shutdown(socket.SHUT_WR)
        return list(iter(lambda: client.recv(10_000), b""))


def test_a_body_in_one_piece_is_sent_with_the_headers():
    (packet,) = packets("GET", [("Content-Type", "text/plain"), ("Content-Length", "5")], b"rooms")
    head, _, body = packet.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"\r\nContent-Type: text/plain\r\n" in head
    assert body == b"rooms"


@pytest.mark.parametrize(
    ("method", "length", "pieces", "body"),
    [
        ("HEAD", "5", [], b""),
        ("GET", "10", [b"rooms", b"rooms"], b"roomsrooms"),
        ("GET", "4", [b"rooms"], b"room"),
        ("GET", "", [b"rooms", b"rooms"], b"5\r\nrooms\r\n5\r\nrooms\r\n0\r\n\r\n"),
    ],
    ids=["none", "several", "too long", "chunked"],
)
def test_other_bodies_are_sent_as_they_come(method, length, pieces, body):
    sent = b"".join(packets(method, [("Content-Length", length)] if length else [], *pieces))
    assert sent.partition(b"\r\n\r\n")[2] == body


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


HOST = b"Host: localhost\r\n"
INVALID = {
    "two hosts": (b"GET /rooms HTTP/1.1\r\n" + HOST + b"Host: example.com\r\n\r\n", 400),
    "a length that is no number": (b"POST /rooms HTTP/1.1\r\n" + HOST + b"Content-Length: x\r\n\r\n", 400),
    "a negative length": (b"POST /rooms HTTP/1.1\r\n" + HOST + b"Content-Length: -1\r\n\r\n", 400),
    "two lengths": (
        b"POST /rooms HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        400,
    ),
    "a length and chunks": (
        b"POST /rooms HTTP/1.1\r\n"
        + HOST
        + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
    ),
    "two types": (b"POST / HTTP/1.1\r\n" + HOST + b"Content-Type: a/b\r\nContent-Type: c/d\r\n\r\n", 400),
    "no HTTP": (b"\x16\x03\x01 hello\r\n\r\n", 400),
    "an expectation": (b"POST /rooms HTTP/1.1\r\n" + HOST + b"Expect: tea\r\n\r\n", 417),
    "a long header": (b"GET /rooms HTTP/1.1\r\n" + HOST + b"X-Long: " + b"x" * 9000 + b"\r\n\r\n", 431),
    "many headers": (
        b"GET /rooms HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: x\r\n" % n for n in range(101)) + b"\r\n",
        431,
    ),
    "no ASCII": ("GET /rooms?städte=1 HTTP/1.1\r\n".encode() + HOST + b"\r\n", 400),
}


def refused(server: rig.Gunicorn, request: bytes) -> int:
    """The status of the one response, which is a problem document, before the connection is closed."""
    with socket.create_connection(("127.0.0.1", server.port)) as wire:
        received = rig.exchange(wire, request)
    head, _, body = received.partition(b"\r\n\r\n")
    assert received.count(b"HTTP/1.1 ") == 1
    assert b"Content-Type: application/problem+json\r\n" in head + b"\r\n"
    problem = json.loads(body)
    assert problem.keys() >= {"type", "message", "title", "status", "detail"}
    assert head.split()[1] == str(problem["status"]).encode()
    return problem["status"]


@pytest.mark.parametrize(("request_", "status"), INVALID.values(), ids=list(INVALID))
def test_invalid_http_gets_a_response_before_the_connection_closes(gunicorn, request_, status):
    assert refused(gunicorn, request_) == status


@pytest.mark.parametrize(("length", "status"), [(4081, 400), (4082, 414)])
def test_a_url_may_have_4081_bytes(gunicorn, length, status):
    """400 is the application's response to an unknown parameter."""
    path = "/rooms?".ljust(length, "x").encode()
    assert (
        refused(gunicorn, b"GET " + path + b" HTTP/1.1\r\nConnection: close\r\n" + HOST + b"\r\n") == status
    )


def test_a_body_that_is_no_valid_http_gets_one_response(gunicorn):
    chunked = b"POST /rooms HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\nno length\r\n"
    assert refused(gunicorn, chunked) == 405


def test_a_killed_worker_is_replaced(gunicorn):
    before = gunicorn.workers()
    os.kill(before[0], signal.SIGKILL)
    rig.wait_until(lambda: set(gunicorn.workers()) - set(before), "a new worker")
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
