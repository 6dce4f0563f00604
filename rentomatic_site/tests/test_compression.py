"""Compression of public responses, and of nothing else."""

import gzip
import zlib

import brotli
import pytest

from rentomatic_site.compression import preferred_coding
from rooms.factories import RoomFactory
from rooms.tests.conftest import insert_rooms

pytestmark = pytest.mark.django_db

DECODERS = {"br": brotli.decompress, "gzip": gzip.decompress}


@pytest.mark.parametrize(
    ("accept", "coding"),
    [
        ("", ""),
        ("gzip", "gzip"),
        ("br", "br"),
        ("gzip, deflate, br, zstd", "br"),
        ("GZIP", "gzip"),
        ("br;q=0.5, gzip", "gzip"),
        ("br;q=0, gzip;q=0", ""),
        ("gzip;q=0.5, identity", ""),
        ("identity", ""),
        ("*", "br"),
        ("br;q=0, *", "gzip"),
        ("deflate, zstd", ""),
        (";;,,q=1", ""),
        ("gzip;q=banana", "gzip"),
    ],
)
def test_the_coding_is_the_one_that_the_client_prefers(accept, coding):
    assert preferred_coding(accept) == coding


@pytest.mark.parametrize("coding", DECODERS)
@pytest.mark.parametrize(
    "path",
    ["/rooms", "/rooms.geojson?limit=50", "/rooms.csv?limit=50", "/openapi.json", "/docs", "/rooms?bbox=1"],
)
def test_public_responses_are_compressed(client, coding, path):
    RoomFactory.create_batch(50)
    plain = client.get(path)
    compressed = client.get(path, HTTP_ACCEPT_ENCODING=coding)
    for response in (plain, compressed):
        assert "Accept-Encoding" in response.headers["Vary"].split(", ")
    if len(plain.content) < 1000:
        assert "Content-Encoding" not in compressed.headers
        return
    assert compressed.headers["Content-Encoding"] == coding
    assert len(compressed.content) < len(plain.content) * 0.6
    assert compressed.headers["Content-Length"] == str(len(compressed.content))
    if path != "/docs":
        assert DECODERS[coding](compressed.content) == plain.content
        assert compressed.headers.get("ETag") == plain.headers.get("ETag")
    head = client.head(path, HTTP_ACCEPT_ENCODING=coding)
    assert head.headers["Content-Length"] == compressed.headers["Content-Length"]


def test_an_etag_holds_for_every_coding(client):
    RoomFactory.create_batch(50)
    etag = client.get("/rooms", HTTP_ACCEPT_ENCODING="br").headers["ETag"]
    assert etag.startswith("W/")
    for coding in ("", "gzip", "br"):
        response = client.get("/rooms", HTTP_ACCEPT_ENCODING=coding, HTTP_IF_NONE_MATCH=etag)
        assert (response.status_code, response.content) == (304, b"")
        assert "Content-Encoding" not in response.headers
        assert "Accept-Encoding" in response.headers["Vary"]


@pytest.mark.parametrize("path", ["/rooms.csv", "/rooms.ndjson"])
def test_a_stream_can_be_read_chunk_by_chunk(client, path):
    insert_rooms(5_000)
    plain = [len(chunk) for chunk in client.get(path)]
    response = client.get(path, HTTP_ACCEPT_ENCODING="gzip")
    assert response.headers["Content-Encoding"] == "gzip"
    assert "Content-Length" not in response.headers
    decoder = zlib.decompressobj(zlib.MAX_WBITS | 16)
    assert [len(decoder.decompress(chunk)) for chunk in response][: len(plain)] == plain
    assert decoder.eof
    text = b"".join(client.get(path, HTTP_ACCEPT_ENCODING="br"))
    assert len(brotli.decompress(text)) == sum(plain)


def test_head_of_a_stream_has_no_body(client):
    response = client.head("/rooms.csv", HTTP_ACCEPT_ENCODING="gzip")
    assert b"".join(response) == b""


def test_pages_with_secrets_are_not_compressed(client, admin_client):
    login = client.get("/admin/login/", HTTP_ACCEPT_ENCODING="gzip, br")
    assert b"csrfmiddlewaretoken" in login.content
    for response in (
        login,
        admin_client.get("/admin/rooms/room/", HTTP_ACCEPT_ENCODING="gzip, br"),
        admin_client.get("/admin/rooms/room/add/", HTTP_ACCEPT_ENCODING="gzip, br"),
    ):
        assert response.status_code == 200
        assert "Content-Encoding" not in response.headers
