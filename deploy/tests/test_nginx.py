"""nginx with the shipped templates: TLS, hosts, forwarding, limits, the cache and load balancing."""

import contextlib
import gzip
import http.client
import http.server
import json
import socket
import ssl
import threading
import time
from collections import Counter

import pytest

from rentomatic_site.testing import rig
from rentomatic_site.testing.proxy import Nginx
from rentomatic_site.testing.replica import Replica

pytestmark = pytest.mark.usefixtures("rooms")

PROBLEM = "application/problem+json"
SECURITY_HEADERS = {
    "Strict-Transport-Security": "max-age=31536000",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
}


def assert_nginx_problem(response: rig.Response, status: int) -> None:
    """A problem body of nginx's own, with every security header."""
    assert (response.status, response.headers["Content-Type"]) == (status, PROBLEM)
    body = json.loads(response.body)
    assert body["status"] == status
    assert {"type", "title", "message", "detail", "request_id"} <= body.keys()
    assert {name: response.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert response.headers["Server"] == "nginx"
    assert response.headers["Access-Control-Allow-Origin"] == "*"


# --- TLS and hosts


def handshake(edge: Nginx, name: str | None = "localhost", **limits: ssl.TLSVersion) -> str | None:
    """The version of TLS that a handshake comes to."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(edge.certificates / "fullchain.pem")
    context.check_hostname = name == "localhost"
    for limit, version in limits.items():
        setattr(context, limit, version)
    with (
        socket.create_connection(("127.0.0.1", edge.https), timeout=5) as wire,
        context.wrap_socket(wire, server_hostname=name) as tls,
    ):
        return tls.version()


def test_tls_1_3_and_1_2_are_spoken_with_the_hosts_certificate(edge):
    assert handshake(edge) == "TLSv1.3"
    assert handshake(edge, maximum_version=ssl.TLSVersion.TLSv1_2) == "TLSv1.2"


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_tls_is_refused(edge, version):
    with pytest.raises(ssl.SSLError):
        handshake(edge, minimum_version=version, maximum_version=version)


def test_ciphers_without_forward_secrecy_are_refused(edge):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers("AES128-SHA:AES256-GCM-SHA384:ECDHE-ECDSA-AES128-SHA")
    with (
        socket.create_connection(("127.0.0.1", edge.https)) as wire,
        pytest.raises(ssl.SSLError, match="HANDSHAKE_FAILURE"),
    ):
        context.wrap_socket(wire, server_hostname="localhost")


@pytest.mark.parametrize("name", ["evil.example.com", None])
def test_another_host_gets_no_handshake(edge, name):
    with pytest.raises(ssl.SSLError, match="UNRECOGNIZED_NAME"):
        handshake(edge, name)


def test_another_host_behind_the_right_handshake_gets_no_response(edge):
    with pytest.raises(ConnectionResetError):
        edge.get("/rooms", Host="evil.example.com")


def test_another_host_on_the_plain_port_gets_no_response(edge):
    with pytest.raises(ConnectionResetError):
        rig.get(edge.http, "/rooms", Host="evil.example.com")


def test_the_plain_port_redirects_to_the_one_url(edge):
    response = rig.get(edge.http, "/rooms?filter_price__lt=66", Host="localhost:80")
    assert response.status == 301
    assert response.headers["Location"] == f"{edge.url}/rooms?filter_price__lt=66"
    assert response.headers["X-Content-Type-Options"] == "nosniff"


def test_an_acme_challenge_is_served_on_the_plain_port(edge):
    folder = edge.acme / ".well-known" / "acme-challenge"
    folder.mkdir(parents=True)
    (folder / "token").write_text("proof")
    assert rig.get(edge.http, "/.well-known/acme-challenge/token", Host="localhost").body == b"proof"


def test_the_maps_file_is_served_by_ranges_of_bytes(edge):
    (edge.maps / "streets.pmtiles").write_bytes(b"PMTiles\x03" + bytes(1000))
    response = edge.get("/map/streets.pmtiles", Range="bytes=0-6")
    assert (response.status, response.body) == (206, b"PMTiles")
    assert response.headers["Content-Range"] == "bytes 0-6/1008"
    assert response.headers["Content-Type"] == "application/vnd.pmtiles"
    assert response.headers["ETag"]
    assert response.headers["X-Request-ID"]
    assert "max-age=86400" in response.headers["Cache-Control"]
    assert edge.get("/map/streets.pmtiles", Range="bytes=2000-").status == 416
    for path in ("/map/other.pmtiles", "/map/..%2Fcertificates%2Fx.pmtiles"):
        assert edge.get(path).status == 404


# --- What reaches the application


def test_the_site_responds_through_tls(edge):
    response = edge.get("/rooms?limit=1")
    assert response.status == 200
    assert len(json.loads(response.body)) == 1
    for name in ("Strict-Transport-Security", "X-Content-Type-Options", "X-Frame-Options", "Referrer-Policy"):
        assert response.headers.get_all(name) == [SECURITY_HEADERS[name]]
    assert "gunicorn" not in response.headers["Server"]


@pytest.mark.parametrize(
    "header",
    [
        {"X_Forwarded_Host": "evil.example.com"},
        {"X_Forwarded_For": "6.6.6.6"},
        {"X_Forwarded_Proto": "http"},
        {"X_Forwarded_Ssl": "off"},
        {"X_Forwarded_Protocol": "http"},
        {"X_Forwarded_Port": "1"},
        {"X_Real_IP": "6.6.6.6"},
        {"Forwarded": "for=6.6.6.6;host=evil.example.com;proto=http"},
        {"Script_Name": "/evil"},
    ],
    ids=lambda header: next(iter(header)),
)
def test_a_forwarding_header_of_a_client_has_no_effect(edge, site, header):
    response = edge.get(f"/rooms?limit=1&price__lt={len(str(header))}", **header)  # a mistake: not cached
    assert response.status == 400
    assert b"evil" not in response.body
    assert "evil" not in str(response.headers)
    assert rig.access_record(site, response.headers["X-Request-ID"])["client"] == "127.0.0.1"
    assert edge.line(response)["client"] == "127.0.0.1"


def test_links_carry_the_public_url(edge):
    response = edge.get("/rooms?limit=2")
    assert f"<{edge.url}/rooms?limit=2" in response.headers["Link"]


def test_the_request_id_is_nginxs_and_the_same_everywhere(edge, site):
    response = edge.get("/rooms?nonsense=1", X_Request_ID="claimed-by-the-client")
    request_id = response.headers["X-Request-ID"]
    assert response.headers.get_all("X-Request-ID") == [request_id]
    assert len(request_id) == 32
    assert rig.access_record(site, request_id)["status"] == 400


def test_the_access_log_names_upstream_and_timings(edge, site):
    line = edge.line(edge.get("/rooms?nonsense=2"))
    assert line["upstream"] == f"127.0.0.1:{site.port}"
    assert (line["method"], line["target"], line["status"]) == ("GET", "/rooms?nonsense=2", 400)
    assert 0 < float(line["upstream_seconds"]) <= line["seconds"] + 0.002
    assert line["tls"] == "TLSv1.3"


@pytest.mark.parametrize("path", ["/rooms", "/rooms.json", "/rooms.csv", "/rooms.geojson", "/rooms.ndjson"])
def test_text_is_compressed(edge, path):
    response = edge.get(f"{path}?limit=100", Accept_Encoding="gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    plain = edge.get(f"{path}?limit=100")
    assert plain.headers["Content-Encoding"] is None
    assert gzip.decompress(response.body) == plain.body
    # Caches on the way keep both kinds apart, and both from other formats.
    for headers in (response.headers, plain.headers):
        varied = {name.strip() for line in headers.get_all("Vary") for name in line.split(",")}
        assert {"Accept", "Accept-Encoding"} <= varied


@pytest.mark.parametrize("path", ["/rooms.csv", "/rooms.ndjson"])
def test_a_line_of_an_export_passes_before_the_next_one_exists(nginx, path):
    rest = threading.Event()
    with Replica("first\nsecond\n", rest=rest) as replica:
        edge = nginx(replica.port)
        connection = http.client.HTTPSConnection("localhost", edge.https, context=rig.UNVERIFIED, timeout=20)
        connection.request("GET", path)
        response = connection.getresponse()
        assert response.readline() == b"first\n"
        rest.set()
        assert response.read() == b"second\n"


def test_an_export_is_neither_cached_nor_written_to_disk(edge):
    response = edge.get("/rooms.csv", Accept="text/csv")
    assert response.body.count(b"\n") == 20_001
    assert "X-Cache" not in response.headers
    assert not list(edge.folder.glob("proxy/**/*[0-9]"))


def test_changes_never_come_from_the_cache(edge):
    for _ in range(2):
        response = edge.get("/rooms/changes")
        assert response.status == 200
        assert "X-Cache" not in response.headers
        assert response.headers["Cache-Control"] == "no-store"
    assert response.body.count(b"\n") == 20_001
    assert not list(edge.folder.glob("proxy/**/*[0-9]"))


def test_an_export_by_accept_is_not_cached_either(edge):
    for _ in range(2):
        response = edge.get("/rooms", Accept="text/csv")
        assert response.body.count(b"\n") == 20_001
        assert response.headers["X-Cache"] in {None, "MISS"}


def test_posting_the_login_form_passes_the_csrf_check(edge):
    page = edge.get("/admin/login/")
    assert page.status == 200
    token = page.headers["Set-Cookie"].split(";")[0].split("=", 1)[1]
    form = f"csrfmiddlewaretoken={token}&username=nobody&password=nothing"
    headers = {
        "Cookie": f"__Host-csrftoken={token}",
        "Origin": edge.url,
        "Content_Type": "application/x-www-form-urlencoded",
    }
    assert edge.get("/admin/login/", method="POST", body=form, **headers).status == 200
    foreign = headers | {"Origin": "https://evil.example.com"}
    assert edge.get("/admin/login/", method="POST", body=form, **foreign).status == 403


# --- Limits, in the words of the API


def test_a_body_over_a_megabyte_is_413(edge):
    assert_nginx_problem(edge.get("/rooms", method="POST", body=b"x" * 1_100_000), 413)


def test_a_spreadsheet_for_the_admin_may_be_larger(edge):
    assert edge.get("/admin/rooms/room/import/", method="POST", body=b"x" * 1_100_000).status == 403  # CSRF


def test_an_endless_url_is_414(edge):
    assert_nginx_problem(edge.get("/rooms?" + "x" * 9000), 414)


def test_an_endless_header_is_431(edge):
    assert_nginx_problem(edge.get("/rooms", X_Long="x" * 9000), 431)


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/rooms?" + "x" * 5000, {}, 414),
        ("/rooms?nonsense=7", {f"X_{n}": "x" for n in range(110)}, 431),
    ],
    ids=["the URL", "many headers"],
)
def test_what_only_gunicorn_refuses_is_a_problem_document_too(edge, path, headers, status):
    response = edge.get(path, **headers)
    assert (response.status, response.headers["Content-Type"]) == (status, PROBLEM)
    assert json.loads(response.body)["status"] == status
    assert response.headers["X-Request-ID"]


LOCALHOST = b"Host: localhost\r\n"


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /rooms HTTP/1.1\r\n" + LOCALHOST + b"Host: example.com\r\n\r\n", 400),
        (b"POST /rooms HTTP/1.1\r\n" + LOCALHOST + b"Content-Length: x\r\n\r\n", 400),
        (
            b"POST /rooms HTTP/1.1\r\n"
            + LOCALHOST
            + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            400,
        ),
        (b"POST /rooms HTTP/1.1\r\n" + LOCALHOST + b"Transfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET /rooms HTTP/3.0\r\n" + LOCALHOST + b"\r\n", 505),
    ],
    ids=["two hosts", "a length that is no number", "a length and chunks", "an unknown coding", "HTTP/3.0"],
)
def test_invalid_http_gets_a_response_before_the_connection_closes(edge, request_, status):
    with (
        socket.create_connection(("127.0.0.1", edge.https)) as wire,
        rig.UNVERIFIED.wrap_socket(wire, server_hostname="localhost") as tls,
    ):
        received = rig.exchange(tls, request_)
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert PROBLEM.encode() in head
    assert json.loads(body)["status"] == status


def test_too_many_requests_are_429_with_retry_after(nginx, site):
    edge = nginx(site.port, NGINX_RATE="1r/s")
    began = time.monotonic()
    accepted = 0
    while (response := edge.get("/rooms?limit=1")).status == 200:
        accepted += 1
    assert 101 <= accepted <= 102 + time.monotonic() - began  # the burst, and one a second
    assert_nginx_problem(response, 429)
    assert response.headers["Retry-After"] == "2"


@pytest.mark.parametrize("path", ["/admin/", "/admin/login/", "/admin/rooms/room/import/"])
def test_too_many_pages_of_the_admin_are_429(nginx, path):
    with Replica("page") as replica:
        edge = nginx(replica.port, NGINX_RATE="1r/s")
        began = time.monotonic()
        statuses = Counter(edge.get(path).status for _ in range(150))
        seconds = time.monotonic() - began
    assert 101 <= statuses[200] <= 102 + seconds
    assert statuses[429] == 150 - statuses[200]


def test_the_seventh_login_in_a_row_is_429(nginx, site):
    """One, and a burst of five; passwords, codes and e-mails that are asked for count together."""
    edge = nginx(site.port)
    paths = ["/admin/login/", "/admin/login/code/", "/admin/password_reset/"]
    statuses = [edge.get(path, method="POST", body="x=1").status for path in [*paths, *paths, *paths]]
    assert statuses == [403] * 6 + [429] * 3
    assert edge.get("/admin/login/").status == 200  # looking is not trying


def test_too_many_connections_of_one_client_are_429(nginx):
    with Replica("slow", seconds=1) as slow:
        edge = nginx(slow.port)
        threads = [
            threading.Thread(target=lambda: statuses.append(edge.get("/rooms/x").status)) for _ in range(60)
        ]
        statuses: list[int] = []
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert Counter(statuses)[429] > 0
    assert set(statuses) == {200, 429}


def test_the_third_upload_of_a_spreadsheet_at_once_is_429(nginx):
    head = b"POST /admin/rooms/room/import/ HTTP/1.1\r\n" + LOCALHOST + b"Content-Length: 1000000\r\n\r\n"
    with Replica("page") as replica, contextlib.ExitStack() as uploads:
        edge = nginx(replica.port)
        for _ in range(2):
            wire = uploads.enter_context(socket.create_connection(("127.0.0.1", edge.https)))
            tls = uploads.enter_context(rig.UNVERIFIED.wrap_socket(wire, server_hostname="localhost"))
            tls.sendall(head + b"x" * 100_000)
        rig.wait_until(lambda: edge.get("/admin/rooms/room/import/").status == 429, "a refusal")
        assert edge.get("/admin/").status == 200
        assert "POST /admin/rooms/room/import/" not in replica.requests  # nginx keeps what is not complete


@pytest.mark.parametrize(("path", "size"), [("/rooms/x", 400_000), ("/admin/rooms/room/export/", 12_000_000)])
def test_a_large_page_is_buffered_at_once_for_a_slow_reader(nginx, path, size):
    with Replica("x" * size) as replica, socket.socket() as wire:
        edge = nginx(replica.port, NGINX_MICROCACHE="off")
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        wire.connect(("127.0.0.1", edge.https))
        with rig.UNVERIFIED.wrap_socket(wire, server_hostname="localhost") as tls:
            tls.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            rig.wait_until(lambda: replica.responses_sent == 1, "a response on its way", 10)


def test_readiness_is_not_for_the_public(nginx):
    with Replica("ready") as replica:
        edge = nginx(replica.port)
        assert_nginx_problem(edge.get("/readyz"), 404)
        assert edge.get("/livez").status == 200
    assert replica.requests == ["GET /livez"]


def test_readiness_is_for_the_tls_terminator_in_front_and_not_for_its_clients(nginx):
    with Replica("ready") as replica:
        edge = nginx(replica.port, NGINX_PLAIN="site", NGINX_TRUSTED_PROXY="127.0.0.1")
        assert rig.get(edge.http, "/readyz", Host="localhost").body == b"ready"
        assert rig.get(edge.http, "/readyz", Host="localhost", X_Forwarded_For="9.9.9.9").status == 404


def test_without_an_upstream_it_is_502(nginx):
    edge = nginx(rig.free_port())
    assert_nginx_problem(edge.get("/rooms"), 502)
    page = edge.get("/admin/", Accept="text/html")
    assert (page.status, page.headers["Content-Type"]) == (502, "text/html")
    assert {name: page.headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_in_maintenance_the_admin_is_a_page_with_retry_after_and_reads_go_on(nginx, site, tmp_path):
    switch = tmp_path / "maintenance"
    server = nginx(site.port, NGINX_MAINTENANCE=str(switch))
    assert server.get("/admin/login/").status == 200
    switch.touch()
    for path in ("/admin/", "/admin/login/", "/admin/rooms/room/import/"):
        response = server.get(path, method="POST", body=b"x")
        assert (response.status, response.headers["Retry-After"]) == (503, "60")
        assert response.headers["X-Frame-Options"] == "DENY"
        assert b"Maintenance" in response.body
    assert server.get("/rooms").status == 200
    assert server.get("/.error/maintenance").status == 404
    switch.unlink()
    assert server.get("/admin/login/").status == 200


def test_a_write_that_was_sent_and_failed_is_502_and_not_begun_again(nginx):
    with Replica("dying", hang_up=True) as dying:
        edge = nginx(dying.port)
        assert_nginx_problem(edge.get("/rooms", method="POST", body="x=1"), 502)
        assert dying.requests == ["POST /rooms"]


def test_a_static_file_that_one_version_lacks_comes_from_another_one(nginx):
    with Replica("old") as old, Replica("new") as new:
        old.status = 404
        edge = nginx(old.port, new.port)
        files = [edge.get(f"/static/rooms/rooms.{number}.css") for number in range(4)]
        assert {(response.status, response.body) for response in files} == {(200, b"new")}
        assert old.requests
        # What else is not there is said at once.
        assert {edge.get("/admin/nowhere").status for _ in range(4)} == {200, 404}


def test_a_silent_upstream_is_504(nginx):
    with socket.create_server(("127.0.0.1", rig.free_port())) as silent:
        edge = nginx(silent.getsockname()[1], NGINX_READ_TIMEOUT="1s")
        assert_nginx_problem(edge.get("/rooms"), 504)


@pytest.mark.parametrize("accept", ["application/json", "text/html"])
def test_a_response_of_nginx_is_not_stored_and_names_its_request(nginx, accept):
    edge = nginx(rig.free_port())
    response = edge.get("/rooms", Accept=accept)
    assert response.status == 502
    assert response.headers.get_all("Cache-Control") == ["no-store"]
    assert response.headers.get_all("Retry-After") == ["2"]
    assert response.headers.get_all("X-Request-ID") == [edge.line(response)["request_id"]]
    assert response.headers["X-Request-ID"] in response.body.decode()
    assert {name: response.headers.get_all(name) for name in SECURITY_HEADERS} == {
        name: [value] for name, value in SECURITY_HEADERS.items()
    }
    # A page of another origin may read why the API refused, and no page of ours.
    origin = None if accept == "text/html" else "*"
    assert response.headers["Access-Control-Allow-Origin"] == origin
    assert edge.get("/admin/x" + "x" * 9000).headers["Retry-After"] is None
