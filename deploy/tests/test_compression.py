"""Compressed responses from gunicorn itself, and through nginx with its cache."""

import gzip
import http.client
import zlib

import brotli
import pytest

from rentomatic_site.testing import rig

pytestmark = pytest.mark.usefixtures("rooms")

DECODERS = {"br": brotli.decompress, "gzip": gzip.decompress}
BROWSER = "gzip, deflate, br, zstd"


def varied(response):
    return [name.strip() for line in response.headers.get_all("Vary") or [] for name in line.split(",")]


@pytest.mark.parametrize("coding", DECODERS)
@pytest.mark.parametrize(
    "path", ["/rooms?limit=1000", "/rooms.csv", "/rooms.ndjson", "/openapi.json", "/ogc"]
)
def test_gunicorn_compresses_for_those_who_ask_it(live_site, coding, path):
    plain = live_site.get(path)
    assert plain.headers["Content-Encoding"] is None
    response = live_site.get(path, Accept_Encoding=coding)
    if len(plain.body) < 1000:
        assert response.body == plain.body
        return
    assert response.headers["Content-Encoding"] == coding
    assert DECODERS[coding](response.body) == plain.body
    assert "Accept-Encoding" in varied(response)
    assert "Accept-Encoding" in varied(plain)


def open_export(port, tls=False):
    connection = (
        http.client.HTTPSConnection("localhost", port, context=rig.UNVERIFIED)
        if tls
        else http.client.HTTPConnection("127.0.0.1", port)
    )
    connection.request("GET", "/rooms.csv", headers={"Accept-Encoding": "gzip"})
    return connection, connection.getresponse()


@pytest.mark.parametrize("server", ["live_site", "edge"])
def test_the_first_rows_of_a_compressed_export_are_readable_at_once(request, server):
    server = request.getfixturevalue(server)
    tls = hasattr(server, "https")
    connection, response = open_export(server.https if tls else server.port, tls)
    assert response.headers["Content-Encoding"] == "gzip"
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
    text, received = b"", 0
    while text.count(b"\n") < 2_000:  # the first rows that the application fetches
        piece = response.read1(1_000)
        assert piece
        received += len(piece)
        text += decoder.decompress(piece)
    rest = response.read()
    assert text.startswith(b"code,")
    assert len(rest) > received  # most of it was still to come
    text += decoder.decompress(rest)
    assert decoder.eof
    assert text.count(b"\n") == 20_001
    connection.close()


def test_a_compressed_export_that_is_left_frees_its_slot(live_site):
    def begins_and_leaves():
        connection, response = open_export(live_site.port)
        response.read1(100)
        response.close()
        connection.close()
        return response.status == 200  # 429 until the server has noticed that the others were left

    for _ in range(12):
        rig.wait_until(begins_and_leaves, "a slot is free")


@pytest.mark.parametrize(
    ("accept", "coding"),
    [(BROWSER, "br"), ("gzip", "gzip"), ("br;q=0, gzip", "gzip"), ("gzip;q=0", None), ("zstd", None)],
)
@pytest.mark.parametrize(
    "path", ["/rooms?limit=300", "/rooms.geojson", "/openapi.json", "/docs", "/rooms.csv"]
)
def test_nginx_passes_on_what_is_compressed_once(edge, path, accept, coding):
    plain = edge.get(path)
    response = edge.get(path, Accept_Encoding=accept)
    assert response.status == 200
    assert response.headers.get_all("Content-Encoding", [None]) == [coding]
    body = DECODERS[coding](response.body) if coding else response.body
    assert body == plain.body
    assert varied(response).count("Accept-Encoding") == 1


@pytest.mark.parametrize("path", ["/rooms", "/rooms?bbox=1", "/rooms/stats", "/openapi.json", "/ogc"])
def test_vary_names_what_the_key_of_the_cache_has(live_site, path):
    found = {name.lower() for name in varied(live_site.get(path, Origin="https://a.example"))}
    assert found <= {"accept", "accept-encoding", "origin"}


def test_browsers_that_write_codings_differently_share_a_variant_of_the_cache(edge):
    path = "/rooms?limit=77"
    for _ in range(3):  # within a second of the first one
        found = [
            edge.get(path, Accept_Encoding=accept).headers["X-Cache"]
            for accept in (BROWSER, "gzip, br", "br", "gzip, deflate, gzip", "gzip", "identity", "deflate")
        ]
        if found == ["MISS", "HIT", "HIT", "MISS", "HIT", "MISS", "HIT"]:
            return
        path += "7"
    pytest.fail(str(found))


@pytest.mark.parametrize("coding", ["br", "gzip", ""])
def test_a_compressed_answer_that_the_client_has_is_304(edge, coding):
    etag = edge.get("/rooms?limit=300", Accept_Encoding="gzip").headers["ETag"]
    assert etag.startswith("W/")
    response = edge.get("/rooms?limit=300", Accept_Encoding=coding, If_None_Match=etag)
    assert (response.status, response.body) == (304, b"")
    assert response.headers["Content-Encoding"] is None


@pytest.mark.parametrize("path", ["/admin/login/", "/admin/login/?next=/admin/rooms/room/"])
def test_pages_with_a_secret_are_never_compressed(edge, live_site, path):
    for server in (edge, live_site):
        response = server.get(path, Accept_Encoding=BROWSER)
        assert b"csrfmiddlewaretoken" in response.body
        assert len(response.body) > 1000
        assert response.headers["Content-Encoding"] is None


def test_static_files_come_as_they_were_compressed(edge, live_site):
    path = b"/static/" + edge.get("/docs").body.partition(b"/static/")[2].partition(b'"')[0]
    response = edge.get(path.decode(), Accept_Encoding=BROWSER)
    assert response.status == 200
    assert response.headers["Content-Encoding"] in {None, *DECODERS}
