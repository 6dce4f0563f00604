"""Caching and CORS headers, counts, and the queries of each response."""

import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from rooms.api import timing
from rooms.api.formats import BY_MEDIA_TYPE
from rooms.api.queries import matching_rooms
from rooms.api.search import Search
from rooms.counting import count_in
from rooms.factories import RoomFactory
from rooms.models import Room
from rooms.tests.conftest import insert_rooms

pytestmark = pytest.mark.django_db

CODE = "f853578c-fc0f-4e65-81b8-566c5dffa35a"


@pytest.fixture
def room():
    return RoomFactory(code=CODE, price=39)


CACHED = [
    "/rooms",
    "/rooms?limit=1&order=price&count=exact",
    "/rooms.geojson?limit=5",
    "/rooms.csv?limit=5",
    f"/rooms/{CODE}",
    "/rooms/stats",
    "/openapi.json",
    "/docs",
]


# --- Validators


@pytest.mark.parametrize("path", CACHED)
def test_a_matching_etag_is_304_with_the_headers_of_200(client, room, path):
    first = client.get(path)
    assert re.fullmatch(r'W/"[0-9a-f]{24}"', first.headers["ETag"])
    for condition in (
        first.headers["ETag"],
        first.headers["ETag"].removeprefix("W/"),
        f'"x", {first.headers["ETag"]}',
        "*",
    ):
        again = client.get(path, HTTP_IF_NONE_MATCH=condition)
        assert (again.status_code, again.content) == (304, b""), condition
        for name in ("ETag", "Vary", "Cache-Control", "Link", "X-Total-Count"):
            assert again.headers.get(name) == first.headers.get(name)
        assert "Content-Type" not in again.headers
    assert client.head(path, HTTP_IF_NONE_MATCH=first.headers["ETag"]).status_code == 304
    assert client.get(path, HTTP_IF_NONE_MATCH='W/"other"').status_code == 200
    assert client.get(path, HTTP_IF_NONE_MATCH="nonsense").status_code == 200


@pytest.mark.parametrize("path", ["/rooms", f"/rooms/{CODE}", "/rooms/stats", "/rooms.geojson?limit=5"])
def test_changed_data_has_another_etag(client, room, path):
    etags = [client.get(path).headers["ETag"]]
    Room.objects.update(price=40)
    etags.append(client.get(path).headers["ETag"])
    RoomFactory(price=41)
    etags.append(client.get(path).headers["ETag"])
    assert len(set(etags)) == (2 if CODE in path else 3)
    assert client.get(path, HTTP_IF_NONE_MATCH=etags[0]).status_code == 200
    assert client.get(path, HTTP_IF_NONE_MATCH=etags[-1]).status_code == 304


def test_formats_have_different_etags(client, room):
    etags = [
        client.get("/rooms?limit=5", HTTP_ACCEPT=media_type).headers["ETag"] for media_type in BY_MEDIA_TYPE
    ]
    assert len(set(etags)) == len(BY_MEDIA_TYPE) == 5


def test_an_error_is_not_cached(client):
    for path, status in (("/rooms?x=1", 400), ("/rooms/nope", 404), ("/nope", 404)):
        response = client.get(path, HTTP_IF_NONE_MATCH="*")
        assert response.status_code == status
        assert response.headers["Cache-Control"] == "no-store"
        assert "ETag" not in response.headers


@pytest.mark.parametrize("path", ["/rooms", "/rooms?x=1", "/nope", f"/rooms/{CODE}", "/rooms.csv"])
def test_answers_vary_with_accept(client, room, path):
    response = client.get(path)
    b"".join(response)
    assert "accept" in response.headers["Vary"].lower()
    assert "cookie" not in response.headers["Vary"].lower()


def test_a_page_may_be_kept_for_a_second_by_anybody(client, room):
    assert client.get("/rooms").headers["Cache-Control"] == "public, max-age=1"


@pytest.mark.parametrize(
    "path",
    ["/", "/rooms", "/rooms.csv", f"/rooms/{CODE}", "/rooms/stats", "/docs", "/openapi.json", "/rooms?x=1"],
)
@pytest.mark.parametrize("accept", ["*/*", "text/html"])
def test_public_pages_set_no_cookie_and_read_none(client, room, path, accept):
    client.cookies["sessionid"] = "a" * 32
    with CaptureQueriesContext(connection) as queries:
        response = client.get(path, HTTP_ACCEPT=accept)
        b"".join(response)
    assert not response.cookies
    assert "Set-Cookie" not in response.headers
    assert not [query for query in queries if "django_session" in query["sql"]]


# --- CORS


@pytest.mark.parametrize(
    "path",
    [
        *("/rooms", "/rooms.csv", f"/rooms/{CODE}", "/rooms/stats", "/rooms/changes", "/openapi.json"),
        *("/rooms?x=1", "/rooms/nope", "/rooms/changes?after=x"),
    ],
)
def test_any_site_may_read_the_api_and_its_headers(client, room, path):
    response = client.get(path, HTTP_ORIGIN="https://elsewhere.example")
    b"".join(response)
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert "Access-Control-Allow-Credentials" not in response.headers
    exposed = {name.strip() for name in response.headers["Access-Control-Expose-Headers"].split(",")}
    assert exposed >= {
        "Link",
        "ETag",
        "X-Total-Count",
        "X-Total-Count-Precision",
        "Server-Timing",
        "Retry-After",
    }


def test_a_response_to_the_own_site_has_no_cors_header_but_its_vary(client, room):
    response = client.get("/rooms")
    assert not [name for name in response.headers if name.startswith("Access-Control-")]
    assert {name.lower() for name in response.headers["Vary"].split(", ")} == {
        "accept",
        "accept-encoding",
        "origin",
    }
    assert "origin" not in client.get("/admin/login/").headers["Vary"].lower()


def test_a_preflight_is_answered(client):
    response = client.options(
        "/rooms", HTTP_ORIGIN="https://elsewhere.example", HTTP_ACCESS_CONTROL_REQUEST_METHOD="GET"
    )
    assert response.status_code == 200
    assert response.headers["Access-Control-Allow-Origin"] == "*"
    assert {method.strip() for method in response.headers["Access-Control-Allow-Methods"].split(",")} == {
        "GET",
        "HEAD",
    }


def test_a_script_may_send_the_validator_that_it_was_shown(client):
    response = client.options(
        "/rooms",
        HTTP_ORIGIN="https://elsewhere.example",
        HTTP_ACCESS_CONTROL_REQUEST_METHOD="GET",
        HTTP_ACCESS_CONTROL_REQUEST_HEADERS="if-none-match",
    )
    assert "if-none-match" in response.headers["Access-Control-Allow-Headers"].lower()


def test_the_admin_is_closed_to_other_sites(client):
    response = client.get("/admin/login/", HTTP_ORIGIN="https://elsewhere.example")
    assert "Access-Control-Allow-Origin" not in response.headers


# --- Queries


SAMPLE = ["EXPLAIN", "uuid_hash"]
PLACE = ["count(*)", "DEFAULT"]
QUERIES = [
    ("/rooms", "*/*", ["FROM room WHERE TRUE"]),
    ("/rooms?filter_price__lt=66&order=-size&limit=5", "*/*", ["price < 66", "size IS NULL"]),
    ("/rooms.csv?limit=5", "*/*", ["FROM room"]),
    ("/rooms?near=0,0", "*/*", ["<->", "count(*)", "distance"]),
    ("/rooms?near=0,0&within=500", "*/*", ["count(*)", "distance"]),
    ("/rooms?near=0,0&order=price", "*/*", ["distance"]),
    (f"/rooms/{CODE}", "*/*", [CODE]),
    (f"/rooms/{CODE}", "text/html", [CODE, "LIMIT 5000", "uuid_hash", "EXPLAIN", "distance", "DEFAULT"]),
    ("/rooms?count=exact", "*/*", ["FROM room", "EXPLAIN", "count(*)"]),
    ("/rooms?count=estimated", "*/*", ["FROM room", *SAMPLE, "count(*)"]),
    ("/rooms/stats", "*/*", [*SAMPLE, "GROUPING SETS"]),
    ("/rooms?filter_price__lt=66", "text/html", ["price < 66", *SAMPLE, "GROUPING SETS", "around"]),
    ("/rooms/clusters", "*/*", [*SAMPLE, "EXPLAIN", "WITHIN GROUP"]),
    ("/openapi.json", "*/*", []),
    ("/docs", "*/*", ["LIMIT 20"]),
    ("/", "*/*", [*SAMPLE, "GROUPING SETS", "generate_series", *SAMPLE, *PLACE, *2 * [*SAMPLE, "count(*)"]]),
    ("/nope", "*/*", []),
]


@pytest.mark.parametrize(("path", "accept", "expected"), QUERIES)
def test_the_queries_of_an_answer(client, room, path, accept, expected):
    with CaptureQueriesContext(connection) as queries:
        client.get(path, HTTP_ACCEPT=accept)
    asked = [query["sql"] for query in queries]
    assert len(asked) == len(expected), asked
    for sql, words in zip(asked, expected, strict=True):
        assert words in sql


def test_a_304_costs_no_more_than_the_page(client, room, django_assert_num_queries):
    etag = client.get("/rooms").headers["ETag"]
    with django_assert_num_queries(1):
        client.get("/rooms", HTTP_IF_NONE_MATCH=etag)


@pytest.mark.parametrize("number", [11_000, 20_000])
def test_an_estimated_count_of_many_rooms_takes_four_queries(client, django_assert_num_queries, number):
    """The page, the plan of all rooms, a sample, and a larger one or, where it has found few, a count."""
    insert_rooms(number)
    with django_assert_num_queries(4):
        client.get("/rooms?count=estimated")


@pytest.mark.parametrize(
    ("path", "accept", "queries"),
    [
        ("/rooms", "*/*", 1),
        ("/rooms?count=exact", "*/*", 2),
        ("/rooms", "text/html", 2),
        ("/rooms?count=exact", "text/html", 3),
        (f"/rooms/{CODE}", "text/html", 1),
        ("/rooms/stats", "*/*", 1),
        ("/rooms.csv?limit=1", "*/*", 1),
        ("/rooms.geojson?limit=1&count=exact", "*/*", 2),
    ],
)
def test_server_timing_covers_every_query(client, room, path, accept, queries):
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE room RENAME TO elsewhere")
        cursor.execute(
            "CREATE VIEW room AS WITH late AS MATERIALIZED (SELECT pg_sleep(0.05))"
            " SELECT elsewhere.* FROM elsewhere, late"
        )
    response = client.get(path, HTTP_ACCEPT=accept)
    assert response.status_code == 200
    b"".join(response)
    milliseconds = float(response.headers["Server-Timing"].removeprefix("db;dur="))
    assert milliseconds >= 50 * queries


def test_exports_and_responses_without_queries_have_no_server_timing(client):
    for path in ("/rooms.csv", "/openapi.json", "/rooms?x=1"):
        response = client.get(path)
        b"".join(response)
        assert "Server-Timing" not in response.headers


def test_server_timing_has_the_milliseconds_of_the_database(client, room):
    for path in ("/rooms", f"/rooms/{CODE}", "/rooms/stats"):
        assert (
            0 < float(re.fullmatch(r"db;dur=([0-9.]+)", client.get(path).headers["Server-Timing"])[1]) < 5000
        )


def test_server_timing_adds_up_milliseconds(monkeypatch):
    times = iter([5, 5.25, 6, 6.5])
    monkeypatch.setattr(timing, "perf_counter", lambda: next(times))
    timer = timing.QueryTimer()
    with connection.execute_wrapper(timer), connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        cursor.execute("SELECT 2")
    assert (timer.queries, timer.header) == (2, "db;dur=750.00")


# --- Counts


def test_nothing_is_counted_unasked(client, room):
    response = client.get("/rooms")
    assert "X-Total-Count" not in response.headers
    assert "X-Total-Count-Precision" not in response.headers


@pytest.mark.parametrize("count", ["exact", "estimated"])
@pytest.mark.parametrize("suffix", ["", ".geojson", ".csv"])
def test_few_rooms_are_counted_exactly(client, count, suffix):
    RoomFactory.create_batch(7, price=5)
    RoomFactory.create_batch(3, price=70)
    response = client.get(f"/rooms{suffix}?limit=2&filter_price__lt=66&count={count}")
    assert (response.headers["X-Total-Count"], response.headers["X-Total-Count-Precision"]) == ("7", "exact")
    none = client.get(f"/rooms{suffix}?limit=2&filter_price__lt=2&count={count}")
    assert (none.headers["X-Total-Count"], none.headers["X-Total-Count-Precision"]) == ("0", "exact")


def test_a_count_is_of_all_pages(client):
    RoomFactory.create_batch(7)
    response = client.get("/rooms?limit=3&count=exact")
    second = client.get(re.search(r'<([^>]*)>; rel="next"', response.headers["Link"])[1])
    assert second.headers["X-Total-Count"] == "7"


@pytest.mark.parametrize(
    "query",
    [
        "",
        "filter_price__gte=50",
        "near=0,51.5&within=20000000",
        "near=0,51.5&within=70000",
        "bbox=-1,51,1,51.8&filter_price__lt=500",
    ],
)
def test_many_rooms_are_estimated_well(client, thirty_thousand, query):
    exact = count_in("", matching_rooms(Search.parse(query)))
    response = client.get(f"/rooms?count=estimated&limit=1&{query}".rstrip("&"))
    assert response.headers["X-Total-Count-Precision"] == "estimated"
    assert int(response.headers["X-Total-Count"]) == pytest.approx(exact, rel=0.1)


def test_an_estimate_is_never_less_than_what_was_seen(client, thirty_thousand):
    with connection.cursor() as cursor:  # the planner assumes that the columns are independent
        cursor.execute("UPDATE room SET longitude = latitude WHERE latitude > 51.4")
        cursor.execute("ANALYZE room")
    response = client.get("/rooms?count=estimated&filter_latitude__gt=51.4&filter_longitude__gt=51.4")
    assert response.headers["X-Total-Count-Precision"] == "estimated"
    assert int(response.headers["X-Total-Count"]) > 10_000
