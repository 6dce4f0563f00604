"""nginx's micro-cache, and how it spreads requests over replicas and hides the dying ones."""

import itertools
import time
from collections import Counter

import pytest

from rentomatic_site.testing import rig
from rentomatic_site.testing.proxy import Nginx
from rentomatic_site.testing.replica import Replica

pytestmark = pytest.mark.usefixtures("rooms")

# --- The micro-cache


def caches(edge: Nginx, path: str, **headers: str) -> str | None:
    return edge.get(path, **headers).headers["X-Cache"]


def test_the_second_anonymous_get_within_a_second_comes_from_the_cache(edge):
    first, second = edge.get("/rooms?limit=3"), edge.get("/rooms?limit=3")
    assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
    assert first.body == second.body
    assert first.headers["ETag"] == second.headers["ETag"]
    assert first.headers["X-Request-ID"] != second.headers["X-Request-ID"]


def test_a_client_that_has_the_response_gets_304_from_the_cache(edge):
    etag = edge.get("/rooms?limit=6").headers["ETag"]
    again = edge.get("/rooms?limit=6", If_None_Match=etag)
    assert (again.status, again.body, again.headers["X-Cache"]) == (304, b"", "HIT")


def test_a_head_is_served_from_what_a_get_left(edge):
    page = edge.get("/rooms?limit=7")
    head = edge.get("/rooms?limit=7", method="HEAD")
    assert (head.status, head.body, head.headers["X-Cache"]) == (200, b"", "HIT")
    assert head.headers["Content-Length"] == str(len(page.body))


def test_vary_keys_the_cache(edge):
    assert edge.get("/rooms?limit=4", Accept="application/json").headers["X-Cache"] == "MISS"
    page = edge.get("/rooms?limit=4", Accept="text/html")
    assert page.headers["X-Cache"] == "MISS"
    assert page.headers["Content-Type"].startswith("text/html")


LIMITS = itertools.count(500)
"""A `limit` that no other test requests: a URL that is not in the cache yet."""


@pytest.mark.parametrize("host", ["localhost:1234", "LOCALHOST", "localhost.", "Localhost.:443"])
def test_links_name_the_one_host_however_host_was_written(edge, host):
    response = edge.get(f"/rooms?limit={next(LIMITS)}", Host=host)
    assert response.headers["X-Cache"] == "MISS"
    assert f"<{edge.url}/rooms?limit=" in response.headers["Link"]


@pytest.mark.parametrize(
    "odd",
    [
        {"Host": "localhost:1234"},
        {"Host": "LOCALHOST."},
        {"method": "HEAD"},
        {"method": "OPTIONS", "Origin": "https://a.example", "Access_Control_Request_Method": "GET"},
        {"Accept": "text/html"},
        {"Accept": "application/geo+json"},
        {"Accept": "nonsense"},
        {"Accept_Encoding": "gzip"},
        {"Accept_Language": "de"},
        {"Range": "bytes=0-9"},
        {"If_None_Match": "*"},
        {"If_Match": '"none"'},
        {"If_Modified_Since": "Sat, 01 Jan 2033 00:00:00 GMT"},
        {"If_Unmodified_Since": "Sat, 01 Jan 2000 00:00:00 GMT"},
        {"Origin": "https://a.example"},
        {"Cookie": "__Host-csrftoken=x; sessionid=y"},
        {"Authorization": "Basic eDp4"},
        {"Content_Type": "text/plain; charset=hex", "body": "x"},
        {"Cache_Control": "no-cache", "Pragma": "no-cache"},
        {"X_HTTP_Method_Override": "DELETE"},
        {"X_Forwarded_Prefix": "/evil", "X_Original_URL": "/evil", "X_Rewrite_URL": "/evil"},
        {"X_Forwarded_Host": "evil.example.com", "X_Forwarded_Proto": "http"},
        {"Expect": "100-continue"},
        {"Prefer": "return=minimal", "Save_Data": "on", "User_Agent": "odd"},
    ],
    ids=str,
)
def test_no_request_changes_what_another_gets_from_the_cache(edge, odd):
    def comparable(response: rig.Response) -> tuple:
        own = {"Date", "X-Request-ID", "X-Cache", "Server-Timing"}
        return response.status, response.body, {k: v for k, v in response.headers.items() if k not in own}

    path = f"/rooms?limit={next(LIMITS)}"
    edge.get(path, **odd)
    plain = edge.get(path)
    assert comparable(plain) == comparable(edge.get(path, Authorization="passes the cache by"))
    # In the other order too: what a plain request left is right for the odd one.
    assert odd.keys() & {"method", "Authorization"} or edge.get(path, **odd).status in {
        200,
        206,
        304,
        406,
        412,
    }


def test_a_url_with_a_host_in_it_is_served_for_the_one_host(edge):
    response = edge.get(f"https://localhost:99/rooms?limit={next(LIMITS)}", Host="evil.example.com")
    assert response.status == 200
    assert f"<{edge.url}/rooms?limit=" in response.headers["Link"]


@pytest.mark.parametrize("header", [{"Cookie": "a=1; __Host-sessionid=x"}, {"Authorization": "Basic eDp4"}])
def test_whoever_says_who_he_is_passes_the_cache_by(edge, header):
    path = f"/rooms?limit={len(str(header))}"
    assert [caches(edge, path, **header) for _ in range(2)] == ["BYPASS", "BYPASS"]
    assert caches(edge, path) == "MISS"


def test_a_mistake_is_not_cached(edge):
    assert [caches(edge, "/rooms?nonsense=3") for _ in range(2)] == ["MISS", "MISS"]


def test_a_response_is_fresh_again_after_a_second(nginx):
    with Replica("one") as replica:
        edge = nginx(replica.port)
        edge.get("/rooms")
        time.sleep(2.1)  # nginx counts whole seconds: a response is fresh for one to two
        stale = edge.get("/rooms")  # what was there, while the cache is filled in the background
        assert (stale.headers["X-Cache"], stale.body) == ("STALE", b"one")
        rig.wait_until(lambda: len(replica.requests) == 2, "a request in the background")
        rig.wait_until(lambda: caches(edge, "/rooms") == "HIT", "a fresh response")


def test_one_request_fills_the_cache_for_all(nginx):
    with Replica("slow", seconds=0.5) as replica:
        edge = nginx(replica.port)
        with rig.Load(lambda: edge.get("/rooms").status, clients=20) as load:
            load.wait_for(20)
            assert len(replica.requests) == 1
    assert set(load.statuses()) == {200}


def test_when_the_upstream_is_away_what_was_there_is_served(nginx):
    with Replica("one") as replica:
        edge = nginx(replica.port)
        assert edge.get("/rooms").body == b"one"
    time.sleep(2.1)
    response = edge.get("/rooms")
    assert (response.status, response.body, response.headers["X-Cache"]) == (200, b"one", "STALE")


def test_one_variable_switches_the_cache_off(nginx):
    with Replica("one") as replica:
        edge = nginx(replica.port, NGINX_MICROCACHE="off")
        assert [caches(edge, "/rooms") for _ in range(3)] == [None] * 3
        assert len(replica.requests) == 3


# --- Load balancing


def test_replicas_take_turns(nginx):
    with Replica("a") as a, Replica("b") as b:
        edge = nginx(a.port, b.port, NGINX_MICROCACHE="off")
        for _ in range(20):
            edge.get("/rooms")
        assert abs(len(a.requests) - len(b.requests)) <= 4


def test_a_weight_of_three_takes_three_quarters(nginx):
    with Replica("big") as big, Replica("small") as small:
        servers = f"server 127.0.0.1:{big.port} weight=3; server 127.0.0.1:{small.port};"
        edge = nginx(NGINX_UPSTREAM=servers, NGINX_MICROCACHE="off")
        for _ in range(80):
            edge.get("/rooms")
        assert 56 <= len(big.requests) <= 64
        assert len(big.requests) + len(small.requests) == 80


def test_consistent_hashing_moves_only_the_share_of_the_one_that_left(nginx):
    with Replica("a") as a, Replica("b") as b, Replica("c") as c:
        paths = [f"/rooms/{n}" for n in range(60)]
        hashed = {"NGINX_BALANCE": "consistent_hash", "NGINX_MICROCACHE": "off"}
        three = nginx(a.port, b.port, c.port, **hashed)
        before = {path: three.get(path).body for path in paths}
        assert before == {path: three.get(path).body for path in paths}
        assert set(before.values()) == {b"a", b"b", b"c"}
        two = nginx(a.port, b.port, **hashed)
        after = {path: two.get(path).body for path in paths}
    assert [path for path in paths if before[path] != b"c" and before[path] != after[path]] == []


def test_least_conn_spares_the_busy_one(nginx):
    with Replica("busy", seconds=0.5) as busy, Replica("free") as free:
        edge = nginx(busy.port, free.port, NGINX_BALANCE="least_conn", NGINX_MICROCACHE="off")
        with rig.Load(lambda: edge.get("/rooms").status, clients=4) as load:
            load.wait_for(40)
    assert len(free.requests) > 3 * len(busy.requests)


def test_a_dead_replica_is_hidden_from_reads_and_writes(nginx):
    with Replica("alive") as alive:
        edge = nginx(rig.free_port(), alive.port, NGINX_MICROCACHE="off")
        responses = [edge.get("/rooms", method=method) for method in ("GET", "POST") for _ in range(6)]
    assert {response.body for response in responses} == {b"alive"}
    assert any(", " in line["upstream"] for line in edge.lines())


def test_a_write_that_was_sent_is_never_repeated(nginx):
    with Replica("dying", hang_up=True) as dying, Replica("alive") as alive:
        edge = nginx(dying.port, alive.port, NGINX_MICROCACHE="off")
        reads = {edge.get("/rooms").status for _ in range(8)}
        assert reads == {200}
        dying.requests.clear()
        alive.requests.clear()
        statuses = Counter(edge.get("/rooms", method="POST", body="x=1").status for _ in range(8))
        assert len(dying.requests) + len(alive.requests) == 8
        assert statuses == {502: len(dying.requests), 200: len(alive.requests)}


def test_the_site_may_be_served_behind_another_tls_terminator(nginx):
    with Replica("site") as replica:
        edge = nginx(replica.port, NGINX_PLAIN="site", NGINX_TRUSTED_PROXY="127.0.0.1")
        response = rig.get(edge.http, "/rooms", Host="localhost", X_Forwarded_For="9.9.9.9")
        assert response.body == b"site"
        assert replica.headers[-1]["X-Forwarded-Proto"] == "https"
        assert replica.headers[-1]["X-Forwarded-For"] == "9.9.9.9"
        assert edge.line(response)["client"] == "9.9.9.9"


@pytest.mark.parametrize("status", [502, 503, 504])
def test_while_the_upstream_fails_what_was_there_is_served(nginx, status):
    with Replica("one") as replica:
        edge = nginx(replica.port)
        edge.get("/rooms")
        replica.status = status
        time.sleep(2.1)

        def requests_after_a_stale_response() -> int:
            response = edge.get("/rooms")
            assert (response.status, response.body) == (200, b"one")
            # UPDATING: while a request in the background is under way.
            assert response.headers["X-Cache"] in {"STALE", "UPDATING"}
            return len(replica.requests)

        rig.wait_until(lambda: requests_after_a_stale_response() >= 3, "two requests in the background")
        assert edge.get("/rooms/other").status == status
