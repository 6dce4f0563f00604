"""Slow clients: whatever they hold, a list is served meanwhile as ever."""

import contextlib
import json
import socket
import ssl
from collections import Counter
from collections.abc import Iterator

import pytest

from rentomatic_site import postgres
from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs
from rentomatic_site.testing.proxy import Nginx

HOST = b" HTTP/1.1\r\nHost: localhost\r\n"
EXPORT = b"GET /rooms.csv" + HOST + b"\r\n"


@pytest.fixture(scope="module")
def many_rooms(live_site) -> Iterator[dict[str, str]]:
    """The variables of a site whose export (25 MB) is more than all buffers on its way hold."""
    with postgres.session(live_site.variables["APPLICATION_DB"]) as cursor:
        cursor.execute("DELETE FROM room")
        cursor.execute(
            "INSERT INTO room (code, size, price, latitude, longitude) "
            "SELECT gen_random_uuid(), n % 90 + 10, n % 70, 51.5 + random() / 10, random() / 10 "
            "FROM generate_series(1, 300000) AS n"
        )
        cursor.execute("ANALYZE room")
        yield live_site.variables
        cursor.execute("TRUNCATE room")


@pytest.fixture(scope="module")
def gunicorn(many_rooms, tmp_path_factory) -> Iterator[rig.Gunicorn]:
    """Two processes of four threads."""
    with rig.Gunicorn(tmp_path_factory.mktemp("load"), **many_rooms | {"HTTPS": "on"}) as server:
        yield server


@pytest.fixture(scope="module")
def edge(gunicorn, tmp_path_factory) -> Iterator[Nginx]:
    needs("nginx")
    with Nginx(tmp_path_factory.mktemp("edge"), *[gunicorn.port] * 4, NGINX_RATE="10000r/s") as nginx:
        yield nginx


class Crowd:
    """Clients who send their bytes and then do nothing; they hang up after the `with` block."""

    def __init__(self, port: int, tls: bool = False) -> None:
        self.port, self.tls = port, tls
        self.wires: list[socket.socket] = []

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for wire in self.wires:
            with contextlib.suppress(OSError):
                wire.close()

    def send(self, request: bytes) -> None:
        wire = socket.socket()
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.settimeout(15)
        wire.connect(("127.0.0.1", self.port))
        if self.tls:
            wire = ssl._create_unverified_context().wrap_socket(wire, server_hostname="localhost")  # noqa: S323 - of our own, on loopback
        wire.sendall(request)
        self.wires.append(wire)

    def heads(self) -> list[bytes]:
        """What each reads first: status, headers, the beginning of the body; all of a problem document."""
        return [self.head(wire) for wire in self.wires]

    @staticmethod
    def head(wire: socket.socket) -> bytes:
        head = wire.recv(1500)
        while b"\r\n\r\n" not in head or (b"problem+json" in head and not head.endswith(b"}")):
            piece = wire.recv(1500)
            if not piece:
                break
            head += piece
        return head


def status(head: bytes) -> int:
    return int(head.split()[1])


def assert_refused(head: bytes) -> None:
    """A problem document that says when to come back."""
    headers, _, body = head.partition(b"\r\n\r\n")
    assert b"application/problem+json" in headers
    assert b"\r\nRetry-After: " in headers
    assert json.loads(body)["status"] == 429


# --- Exports


def test_of_twelve_slow_exports_of_one_ip_address_two_go_on_and_lists_are_served(edge):
    with Crowd(edge.https, tls=True) as crowd:
        for _ in range(12):
            crowd.send(EXPORT)
        heads = crowd.heads()
        assert Counter(map(status, heads)) == {200: 2, 429: 10}
        for head in heads:
            if status(head) == 429:
                assert_refused(head)
        lists = [edge.get(f"/rooms?limit={n}", timeout=10).status for n in range(1, 40)]
    assert set(lists) == {200}


@pytest.mark.parametrize(
    "accept",
    [
        "text/csv",
        "application/x-ndjson",
        "TEXT/CSV",
        "text/*",
        "application/geo+json",
        "application/json;q=0, */*",
    ],
)
def test_an_export_by_accept_counts_as_one_by_suffix(edge, accept):
    def two_of_three() -> bool:
        with Crowd(edge.https, tls=True) as crowd:
            for _ in range(3):
                crowd.send(f"GET /rooms HTTP/1.1\r\nHost: localhost\r\nAccept: {accept}\r\n\r\n".encode())
            return Counter(map(status, crowd.heads())) == {200: 2, 429: 1}

    rig.wait_until(two_of_three, "two exports")  # once the places of the last test are free


def test_reads_of_the_changes_count_as_exports(edge):
    def two_of_three() -> bool:
        with Crowd(edge.https, tls=True) as crowd:
            for _ in range(3):
                crowd.send(b"GET /rooms/changes" + HOST + b"\r\n")
            return Counter(map(status, crowd.heads())) == {200: 2, 429: 1}

    rig.wait_until(two_of_three, "two reads")  # once the places of the last test are free


def test_pages_in_a_streaming_format_are_no_exports(edge):
    with Crowd(edge.https, tls=True) as crowd:
        for _ in range(10):
            crowd.send(b"GET /rooms.csv?limit=1000" + HOST + b"\r\n")
        assert Counter(map(status, crowd.heads())) == {200: 10}


def test_without_nginx_slow_exports_hold_half_of_the_threads_at_most(gunicorn):
    tls = b"X-Forwarded-Proto: https\r\n\r\n"
    with Crowd(gunicorn.port) as crowd:
        for _ in range(24):
            crowd.send(b"GET /rooms.csv" + HOST + tls)
        heads = crowd.heads()
        # Two in each process; the kernel chooses the process.
        assert set(map(status, heads)) == {200, 429}
        assert 2 <= Counter(map(status, heads))[200] <= 4
        for head in heads:
            if status(head) == 429:
                assert_refused(head)
        for wire, head in zip(crowd.wires, heads, strict=True):
            if status(head) == 429:
                wire.close()
        lists = [
            gunicorn.get(f"/rooms?limit={n}", timeout=10, X_Forwarded_Proto="https").status
            for n in range(1, 40)
        ]
    assert set(lists) == {200}


def test_an_export_ends_with_its_longest_life_visibly_torn_and_frees_its_place(many_rooms, tmp_path):
    short = many_rooms | {"EXPORT_TIMEOUT": "3", "WEB_WORKERS": "1", "WEB_THREADS": "2"}
    with rig.Gunicorn(tmp_path, **short) as gunicorn, Crowd(gunicorn.port) as crowd:
        crowd.send(EXPORT)
        assert status(crowd.heads()[0]) == 200
        assert gunicorn.get("/rooms.csv").status == 429

        def begins() -> bool:
            with Crowd(gunicorn.port) as another:
                another.send(EXPORT)
                return status(another.heads()[0]) == 200

        rig.wait_until(begins, "a free place")
        received = b""
        while piece := crowd.wires[0].recv(1_000_000):
            received += piece
        assert not received.endswith(b"\r\n0\r\n\r\n")  # the end of a whole response
        assert "its client is cut off" in gunicorn.log.read_text()


def test_the_place_of_an_export_whose_client_left_is_free_again(many_rooms, tmp_path):
    with rig.Gunicorn(tmp_path, **many_rooms | {"WEB_WORKERS": "1", "WEB_THREADS": "2"}) as gunicorn:
        for _ in range(3):
            with Crowd(gunicorn.port) as crowd:
                crowd.send(EXPORT)
                assert status(crowd.heads()[0]) == 200
            rig.wait_until(lambda: gunicorn.get("/rooms.csv?limit=1").status == 200, "a list")
            rig.wait_until(lambda: gunicorn.get("/rooms.csv").status == 200, "a free place")


# --- Everything else that a client may do slowly

COOKIE = b"Cookie: __Host-sessionid=x\r\n"  # past the cache, which would take a response at once
SLOW = {
    "readers of big pages": b"GET /rooms.geojson?limit=1000" + HOST + COOKIE + b"\r\n",
    "uploads": b"POST /admin/login/" + HOST + b"Content-Length: 10000\r\n\r\nx",
    "chunked uploads": b"POST /admin/login/" + HOST + b"Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n",
    "headers": b"GET /rooms" + HOST + b"X-Slow: ",
    "kept connections": b"GET /livez" + HOST + b"\r\n",
}


@pytest.mark.parametrize("requests", SLOW.values(), ids=list(SLOW))
def test_slow_clients_hold_no_thread(edge, requests):
    with Crowd(edge.https, tls=True) as crowd:
        for _ in range(45):  # of one IP address, which may have 50 at once
            crowd.send(requests)
        lists = [edge.get(f"/rooms?limit={n}", timeout=10).status for n in range(40, 80)]
    assert set(lists) == {200}
