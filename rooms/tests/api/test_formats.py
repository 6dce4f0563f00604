"""Formats: content negotiation, contents and streams."""

import csv
import http.client
import io
import json
import re
import tracemalloc

import psycopg2
import pytest
from django.db import connection

from rentomatic_site import postgres
from rentomatic_site.testing.rig import wait_until
from rooms.api.negotiation import preferred_media_type
from rooms.columns import COLUMNS
from rooms.factories import RoomFactory, varied_rooms
from rooms.models import Room
from rooms.tests.conftest import insert_rooms

pytestmark = pytest.mark.django_db

JSON, NDJSON, CSV, GEOJSON, HTML = (
    "application/json",
    "application/x-ndjson",
    "text/csv; charset=utf-8",
    "application/geo+json",
    "text/html; charset=utf-8",
)
SUFFIXES = {"json": JSON, "ndjson": NDJSON, "csv": CSV, "geojson": GEOJSON}


def body(response):
    return b"".join(response).decode()


# --- Content negotiation


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("*/*", JSON),
        ("", JSON),
        ("application/json", JSON),
        ("APPLICATION/JSON", JSON),
        ("application/json; charset=utf-8", JSON),
        ("application/*", JSON),
        ("text/csv", CSV),
        ("text/*", CSV),
        ("application/geo+json", GEOJSON),
        ("application/x-ndjson", NDJSON),
        ("text/html", HTML),
        ("text/csv, application/json", JSON),  # of equal quality: the first offer
        ("text/csv;q=0.9, application/geo+json;q=0.8", CSV),
        ("text/csv;q=0.5,application/geo+json;q=0.8", GEOJSON),
        ("text/csv ; Q=0.5 , application/geo+json", GEOJSON),
        ("application/json;q=0, */*", NDJSON),
        ("text/html, application/json;q=1", JSON),
        ("application/json;q=0.1, */*;q=0.2, text/csv", CSV),
        ("image/png, */*;q=0.1", JSON),
        ("text/html;q=0.5, */*;q=0.8", JSON),
        ("text/csv;q=banana", CSV),
        ("text/html;q=2, text/csv;q=nan, application/json;q=0.5", CSV),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", HTML),
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,"
            "application/signed-exchange;v=b3;q=0.7",
            HTML,
        ),
        ("text/csv;x*=hex''%41", CSV),
        (",,;q=1,text/csv", CSV),
    ],
)
def test_accept_chooses_the_format(client, accept, content_type):
    response = client.get("/rooms", HTTP_ACCEPT=accept)
    assert (response.status_code, response.headers["Content-Type"]) == (200, content_type)
    b"".join(response)


@pytest.mark.parametrize(
    "accept",
    [
        "image/png",
        "foo",
        "/",
        "application/xml",
        "text/csv;q=0",
        "*/*;q=0",
        "application/json;q=0.000",
        "text",
        ";q=1",
    ],
)
def test_an_unavailable_media_type_is_406(client, accept):
    response = client.get("/rooms", HTTP_ACCEPT=accept)
    assert response.status_code == 406
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "Accept" in response.headers["Vary"]


def test_without_accept_it_is_json(client):
    assert client.get("/rooms").headers["Content-Type"] == JSON


@pytest.mark.parametrize(("suffix", "content_type"), SUFFIXES.items())
def test_a_suffix_overrides_accept(client, suffix, content_type):
    for accept in ("*/*", "text/html", "image/png"):
        response = client.get(f"/rooms.{suffix}", HTTP_ACCEPT=accept)
        assert (response.status_code, response.headers["Content-Type"]) == (200, content_type)
        b"".join(response)


def test_a_preference_among_equals_is_ours():
    assert preferred_media_type("*/*", ["a/b", "c/d"]) == "a/b"
    assert preferred_media_type("c/d, a/b", ["a/b", "c/d"]) == "a/b"
    assert preferred_media_type("c/*", ["a/b", "c/d"]) == "c/d"
    assert preferred_media_type("e/f", ["a/b", "c/d"]) is None


def test_a_problem_is_a_page_for_browsers_only(client):
    browser = "text/html,application/xhtml+xml,*/*;q=0.8"
    assert client.get("/rooms?x=1", HTTP_ACCEPT=browser).headers["Content-Type"] == HTML
    for accept in ("*/*", "application/json", "text/csv", "application/problem+json, text/html;q=0.5"):
        response = client.get("/rooms?x=1", HTTP_ACCEPT=accept)
        assert response.headers["Content-Type"] == "application/problem+json"


# --- Contents


@pytest.fixture
def rooms():
    return Room.objects.bulk_create(varied_rooms(60))


def plain(room):
    return {
        "code": str(room.code),
        "size": room.size,
        "price": room.price,
        "latitude": float(room.latitude),
        "longitude": float(room.longitude),
    }


@pytest.mark.parametrize("query", ["", "?limit=1000"])
def test_every_format_tells_the_same_rooms(client, rooms, query):
    expected = [plain(room) for room in rooms]
    assert client.get(f"/rooms.json{query}").json() == expected

    lines = body(client.get(f"/rooms.ndjson{query}"))
    assert lines.endswith("\n")
    assert [json.loads(line) for line in lines.splitlines()] == expected

    read = csv.DictReader(io.StringIO(body(client.get(f"/rooms.csv{query}")), newline=""), strict=True)
    types = {
        "code": str,
        "size": lambda text: int(text) if text else None,
        "price": int,
        "latitude": float,
        "longitude": float,
    }
    assert read.fieldnames == list(types)
    assert [{name: types[name](text) for name, text in row.items()} for row in read] == expected

    collection = json.loads(body(client.get(f"/rooms.geojson{query}")))
    assert collection["type"] == "FeatureCollection"
    assert collection["features"] == [
        {
            "type": "Feature",
            "id": room["code"],
            "geometry": {"type": "Point", "coordinates": [room["longitude"], room["latitude"]]},
            "properties": {name: room[name] for name in ("code", "size", "price")},
        }
        for room in expected
    ]


def test_csv_lines_end_with_crlf(client, rooms):
    for query in ("", "?limit=2", "?filter_price__lt=0"):
        text = body(client.get(f"/rooms.csv{query}"))
        assert text.endswith("\r\n")
        assert text.count("\n") == text.count("\r\n")


# --- Fields


def test_fields_are_those_that_were_named_in_their_order(client, rooms):
    expected = [plain(room) for room in rooms]
    query = "fields=price,code"
    picked = [{name: room[name] for name in ("price", "code")} for room in expected]
    assert body(client.get(f"/rooms.json?limit=1&{query}")) == json.dumps(picked[:1], separators=(",", ":"))
    assert client.get(f"/rooms.json?{query}").json() == picked
    lines = body(client.get(f"/rooms.ndjson?{query}")).splitlines()
    assert [json.loads(line) for line in lines] == picked
    heading, *lines = body(client.get(f"/rooms.csv?{query}")).split("\r\n")
    assert heading == "price,code"
    assert lines == [*(f"{room['price']},{room['code']}" for room in expected), ""]


@pytest.mark.parametrize(
    ("fields", "properties"),
    [("price", ["price"]), ("size,code", ["size", "code"]), ("latitude", []), ("longitude,latitude", [])],
)
def test_a_feature_keeps_its_id_and_its_point_whatever_the_fields(client, rooms, fields, properties):
    features = json.loads(body(client.get(f"/rooms.geojson?fields={fields}")))["features"]
    assert [list(feature["properties"]) for feature in features] == [properties] * 60
    whole = json.loads(body(client.get("/rooms.geojson")))["features"]
    for key in ("id", "geometry"):
        assert [feature[key] for feature in features] == [feature[key] for feature in whole]


@pytest.mark.parametrize("suffix", ["json", "ndjson", "csv"])
def test_distance_is_a_field_where_there_is_near(client, rooms, suffix):
    near = "near=0,0&within=20015115"
    with_distance = body(client.get(f"/rooms.{suffix}?{near}&fields=distance,price"))
    assert with_distance.count("distance") == (1 if suffix == "csv" else 60)
    without = body(client.get(f"/rooms.{suffix}?{near}&fields=code"))
    assert "distance" not in without
    codes = re.findall(r"[0-9a-f]{8}-[0-9a-f-]{27}", without)
    assert codes == [room["code"] for room in client.get(f"/rooms?{near}").json()]


def test_fields_are_the_columns_of_the_page(client, rooms):
    url = "/rooms?fields=price&near=0,0&within=20015115&limit=3&view=table"
    page = body(client.get(url, HTTP_ACCEPT="text/html"))
    assert re.findall(r"<th [^>]*><a [^>]*>(\w+)</a>", page) == ["Price"]
    assert len(re.findall(r"<td>[0-9,]+</td>", page)) == 3
    assert 'name="fields" value="price"' in page


def test_fields_need_not_have_what_the_order_sorts_by(client, rooms):
    found = client.get("/rooms?order=-price&fields=code&limit=5")
    assert [room["code"] for room in found.json()] == [
        room["code"] for room in client.get("/rooms?order=-price&limit=5").json()
    ]
    assert 'rel="next"' in found.headers["Link"]


@pytest.mark.parametrize("query", ["filter_price__lt=0", "filter_price__lt=0&limit=5"])
def test_no_room_at_all_is_a_sound_file(client, query):
    assert body(client.get(f"/rooms.json?{query}")) == "[]"
    assert body(client.get(f"/rooms.ndjson?{query}")) == ""
    assert body(client.get(f"/rooms.csv?{query}")) == "code,size,price,latitude,longitude\r\n"
    assert json.loads(body(client.get(f"/rooms.geojson?{query}"))) == {
        "type": "FeatureCollection",
        "features": [],
    }
    assert "No room matches" in body(client.get(f"/rooms?{query}", HTTP_ACCEPT="text/html"))


@pytest.mark.parametrize("size", [215, None])
def test_one_room_in_every_format(client, size):
    room = RoomFactory(size=size)

    def shown(accept):
        response = client.get(f"/rooms/{room.code}", HTTP_ACCEPT=accept)
        assert response.headers["Content-Type"] == accept
        return response.content.decode()

    assert json.loads(shown(JSON)) == plain(room)
    assert json.loads(shown(GEOJSON))["properties"]["size"] == size
    assert shown(NDJSON) == shown(JSON) + "\n"
    (row,) = csv.DictReader(io.StringIO(shown(CSV)))
    assert list(row) == list(COLUMNS)
    assert row["size"] == str(size or "")
    assert str(room.code) in shown(HTML)


# --- HEAD


@pytest.mark.parametrize(
    "path",
    [
        "/rooms",
        "/rooms?limit=2&count=exact",
        "/rooms.geojson",
        "/rooms.csv",
        "/rooms.ndjson?count=exact",
        "/rooms.csv?limit=2",
        "/rooms/stats",
        "/docs",
        "/openapi.json",
        "/rooms?x=1",
        "/rooms.csv?x=1",
    ],
)
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_head_has_the_headers_of_get_and_no_body(client, rooms, path, accept):
    get, head = client.get(path, HTTP_ACCEPT=accept), client.head(path, HTTP_ACCEPT=accept)
    b"".join(get)
    assert b"".join(head) == b""
    assert head.status_code == get.status_code
    varying = {"Server-Timing", "X-Request-ID"}
    assert {name: value for name, value in head.headers.items() if name not in varying} == {
        name: value for name, value in get.headers.items() if name not in varying
    }


def test_head_of_a_stream_asks_the_database_nothing(client, django_assert_num_queries):
    with django_assert_num_queries(0):
        client.head("/rooms.csv")


@pytest.mark.parametrize("path", ["/rooms", "/rooms.csv", "/rooms?x=1", "/docs", "/nope"])
def test_head_has_no_body_on_the_wire(live_site, path):
    get, head = live_site.get(path), live_site.get(path, method="HEAD")
    assert (head.status, head.body) == (get.status, b"")
    assert head.headers["Content-Length"] in {get.headers["Content-Length"], None}


# --- Streams


@pytest.mark.parametrize("suffix", ["csv", "ndjson"])
def test_a_stream_is_complete_unless_limit_is_given(client, suffix):
    insert_rooms(2_500)
    response = client.get(f"/rooms.{suffix}")
    assert response.streaming
    assert response.headers["Cache-Control"] == "no-store"
    assert f"rooms.{suffix}" in response.headers["Content-Disposition"]
    assert "Content-Length" not in response.headers
    chunks = list(response.streaming_content)
    assert len(chunks) > 1
    heading = suffix == "csv"
    lines = b"".join(chunks).decode().splitlines()
    assert len(lines) == 2_500 + heading
    assert len(set(lines)) == len(lines)

    page = client.get(f"/rooms.{suffix}?limit=1000")
    assert not page.streaming
    assert len(page.content.decode().splitlines()) == 1000 + heading
    assert page.content.decode().splitlines() == lines[: 1000 + heading]
    assert 'rel="next"' in page.headers["Link"]


@pytest.mark.parametrize(
    ("query", "rows"), [("order=-price&filter_size__isnull=true", 250), ("near=0,51.5&within=20000000", 2500)]
)
def test_a_stream_heeds_filters_orders_and_places(client, query, rows):
    insert_rooms(2_500)
    read = list(csv.DictReader(io.StringIO(body(client.get(f"/rooms.csv?{query}")))))
    assert len(read) == rows
    values = [float(row.get("distance") or -int(row["price"])) for row in read]
    assert values == sorted(values)


@pytest.mark.parametrize("query", ["order=price_per_m2", "near=0,51.5&within=20000000&order=price_per_m2"])
def test_a_stream_by_price_per_m2_ends_with_unknown_sizes(client, query):
    insert_rooms(2_500)
    read = list(csv.DictReader(io.StringIO(body(client.get(f"/rooms.csv?{query}")))))
    rates = [int(room["price"]) / float(room["size"] or "inf") for room in read]
    assert rates[:2250] == sorted(rates[:2250])
    assert [room["size"] for room in read[2250:]] == [""] * 250


@pytest.mark.parametrize("query", ["", "near=0,51.5&within=20000000&fields=price,distance"])
def test_a_stream_of_geojson_is_one_whole_collection(client, query):
    insert_rooms(4_500)
    response = client.get(f"/rooms.geojson?{query}")
    assert response.streaming
    assert "rooms.geojson" in response.headers["Content-Disposition"]
    chunks = list(response.streaming_content)
    assert len(chunks) > 3
    collection = json.loads(b"".join(chunks))
    assert list(collection) == ["type", "features"]
    assert len({feature["id"] for feature in collection["features"]}) == 4_500
    for cut in range(1, len(chunks)):  # an export that breaks off at any place
        with pytest.raises(json.JSONDecodeError):
            json.loads(b"".join(chunks[:cut]))


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "geojson"])
@pytest.mark.parametrize("count", ["exact", "estimated"])
def test_a_stream_tells_the_count_that_was_asked_for(client, rooms, suffix, count):
    response = client.get(f"/rooms.{suffix}?count={count}&filter_price__lt=66")
    b"".join(response)
    assert response.headers["X-Total-Count"] == str(sum(room.price < 66 for room in rooms))
    assert response.headers["X-Total-Count-Precision"] == "exact"
    assert "X-Total-Count" not in client.head(f"/rooms.{suffix}").headers


@pytest.mark.parametrize("suffix", ["csv", "geojson"])
def test_a_stream_holds_little_at_a_time(client, suffix):
    def peak(rooms):
        Room.objects.all().delete()
        insert_rooms(rooms)
        b"".join(client.get(f"/rooms.{suffix}?limit=1"))
        response = client.get(f"/rooms.{suffix}")
        tracemalloc.start()
        size = sum(len(chunk) for chunk in response.streaming_content)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert size > rooms * 40
        return most

    few, many = peak(6_000), peak(30_000)
    assert many < few * 1.3
    assert many < 5_000_000


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_closing_a_stream_ends_its_transaction(client, chunks):
    connection.close()  # a connection older than CONN_MAX_AGE would be closed with the response
    insert_rooms(10_000)
    response = client.get("/rooms.csv")
    for _ in range(chunks):
        next(iter(response.streaming_content))
    assert connection.in_atomic_block
    response.close()  # as the server does when the client disconnects
    assert not connection.in_atomic_block
    assert connection.connection.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE
    assert len(client.get("/rooms").json()) == 100


def test_the_first_rows_come_before_the_status(client, monkeypatch):
    """A database error before the first row is a problem document, not a truncated file."""
    client.raise_request_exception = False
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE room RENAME TO elsewhere")
    response = client.get("/rooms.csv")
    assert response.status_code == 503
    assert response.headers["Content-Type"] == "application/problem+json"
    assert "Content-Disposition" not in response.headers


def activity(live_site, what):
    """Statements of the site's database, as PostgreSQL sees them."""
    with postgres.session(live_site.variables["APPLICATION_DB"]) as cursor:
        cursor.execute(what)
        return cursor.fetchall() if cursor.description else None


def test_a_disconnected_client_ends_its_query(live_site):
    activity(
        live_site,
        "INSERT INTO room (code, size, price, latitude, longitude)"
        " SELECT gen_random_uuid(), 5, 66, 51.123456789, 0.123456789 FROM generate_series(1, 150000)",
    )
    try:
        client = http.client.HTTPConnection("127.0.0.1", live_site.port, timeout=10)
        client.request("GET", "/rooms.csv")
        response = client.getresponse()
        assert response.status == 200
        assert response.read(10) == b"code,size,"
        busy = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND state <> 'idle'"
        )
        assert activity(live_site, busy) == [(1,)]
        response.close()
        client.close()
        wait_until(lambda: activity(live_site, busy) == [(0,)], "the end of the transaction")
        assert live_site.get("/rooms?limit=1").status == 200

        broken = http.client.HTTPConnection("127.0.0.1", live_site.port, timeout=10)
        broken.request("GET", "/rooms.geojson")
        response = broken.getresponse()
        begun = response.read(10_000)
        [(ended,)] = activity(
            live_site,
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'",
        )
        assert ended == 1
        with pytest.raises((http.client.IncompleteRead, ConnectionError)) as cut:
            begun += response.read()
        begun += getattr(cut.value, "partial", b"")
        with pytest.raises(json.JSONDecodeError):
            json.loads(begun)
        broken.close()

        whole = live_site.get("/rooms.ndjson")
        assert whole.headers["Transfer-Encoding"] == "chunked"
        assert whole.body.count(b"\n") == 150_000
    finally:
        activity(live_site, "TRUNCATE room")


def test_a_stream_waits_for_a_slow_reader(client):
    insert_rooms(5_000)
    response = client.get("/rooms.ndjson")
    next(iter(response.streaming_content))
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        assert cursor.fetchone() == ("1min",)
    b"".join(response.streaming_content)
