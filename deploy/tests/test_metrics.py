"""/metrics of a real gunicorn: every process counts, one answers, and nothing of it is public."""

import os
import re
import signal
import socket
import threading

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rentomatic_site import postgres
from rentomatic_site.testing import rig


class Measured(rig.Gunicorn):
    """gunicorn with a port for its metrics."""

    def __init__(self, folder, **variables):
        self.metrics_port = rig.free_port()
        self.metrics_folder = folder / "metrics"
        super().__init__(
            folder,
            METRICS_BIND=f"127.0.0.1:{self.metrics_port}",
            METRICS_DIR=str(self.metrics_folder),
            **variables,
        )

    def scrape(self):
        """Each sample's value, by its name and labels as text."""
        text = rig.get(self.metrics_port, "/metrics").body.decode()
        return {
            f"{sample.name}{sorted(sample.labels.items())}": sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def value(self, name, **labels):
        return self.scrape().get(f"{name}{sorted(labels.items())}", 0)

    def files(self):
        return {path.name for path in self.metrics_folder.glob("*.db")}


@pytest.fixture(scope="module")
def measured(live_site, tmp_path_factory):
    with Measured(tmp_path_factory.mktemp("measured"), **live_site.variables) as server:
        yield server


def requests(server, route, method="GET", status="200"):
    return server.value("rentomatic_http_requests_total", route=route, method=method, status=status)


def counted(server, route, path, method="GET", status="200", **options):
    """How many requests of the route are counted for one request of the path."""
    before = requests(server, route, method, status)
    got = server.get(path, method=options.pop("send", method), **options)
    assert str(got.status) == status
    rig.wait_until(lambda: requests(server, route, method, status) > before, f"a count of {path}")
    return requests(server, route, method, status) - before


def test_one_scrape_has_the_requests_of_all_processes(measured):
    before = requests(measured, "places")
    with rig.Load(lambda: measured.get("/places?q=berlin").status, clients=6) as load:
        load.wait_for(60)
    assert set(load.statuses()) == {200}
    assert len([name for name in measured.files() if name.startswith("counter")]) >= 3  # two workers, main
    # Whichever process answers.
    assert {requests(measured, "places") - before for _ in range(8)} == {len(load.responses)}


@pytest.mark.parametrize(
    ("route", "path", "status"),
    [
        ("rooms", "/rooms?limit=1", "200"),
        ("rooms_as_file", "/rooms.csv", "200"),
        ("room_by_code", "/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a", "404"),
        ("livez", "/livez", "200"),
        ("readyz", "/readyz", "200"),
        ("static", "/static/none.css", "404"),
        ("none", "/no/such/page-12345", "404"),
        ("admin:login", "/admin/login/", "200"),
        ("admin:index", "/admin/", "302"),
    ],
)
def test_a_request_is_counted_by_the_name_of_its_route(measured, route, path, status):
    assert counted(measured, route, path, status=status) == 1


def test_an_invented_method_is_counted_as_other(measured):
    assert counted(measured, "rooms", "/rooms", method="other", status="405", send="BREW") == 1


def test_no_label_has_a_path(measured):
    measured.get("/rooms/0123-secret-code")
    measured.get("/places?q=somebody-asked-this")
    text = rig.get(measured.metrics_port, "/metrics").body.decode()
    assert "0123-secret-code" not in text
    assert "somebody-asked-this" not in text
    assert {value for value in re.findall(r'route="([^"]*)"', text) if "/" in value} == set()


def test_latency_and_time_of_the_database_are_counted(measured):
    labels = {"route": "rooms"}
    before = [
        measured.value(name, **labels)
        for name in ("rentomatic_http_request_duration_seconds_count", "rentomatic_database_seconds_total")
    ]
    response = measured.get("/rooms?limit=3")
    rig.wait_until(
        lambda: measured.value("rentomatic_http_request_duration_seconds_count", **labels) == before[0] + 1,
        "one more in the histogram",
    )
    added = measured.value("rentomatic_database_seconds_total", **labels) - before[1]
    assert 0 < added < response.seconds


def test_the_public_port_has_no_metrics(measured):
    assert measured.get("/metrics").status == 404


def test_the_port_of_the_metrics_has_nothing_else(measured):
    assert rig.get(measured.metrics_port, "/metrics?name[]=rentomatic_logins_total").status == 200
    for path in ("/", "/rooms", "/admin/", "/metrics/"):
        assert rig.get(measured.metrics_port, path).status == 404


def test_a_client_that_sends_nothing_keeps_nobody_from_a_scrape(measured):
    idle = [socket.create_connection(("127.0.0.1", measured.metrics_port)) for _ in range(2)]
    try:
        assert requests(measured, "livez") >= 0
    finally:
        for wire in idle:
            wire.close()


def test_a_busy_site_can_be_measured(live_site, tmp_path):
    """All threads of all processes are taken by connections that send no request to its end."""
    with Measured(tmp_path, WEB_WORKERS="1", WEB_THREADS="2", **live_site.variables) as server:
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(4)]
        for wire in slow:
            wire.sendall(b"GET /rooms HTTP/1.1\r\n")
        in_flight = "rentomatic_http_requests_in_flight"
        assert server.value(in_flight) == 0  # none has come to its end
        for wire in slow:
            wire.sendall(b"Host: localhost\r\n\r\n")
        rig.wait_until(lambda: requests(server, "rooms") == 4, "four responses")
        for wire in slow:
            wire.close()


def test_a_request_that_waits_is_in_flight(measured, live_site):
    """For a table that another transaction has locked."""
    with postgres.session(live_site.variables["APPLICATION_DB"]) as cursor:
        cursor.execute("BEGIN; LOCK TABLE room")
        waiting = threading.Thread(target=measured.get, args=["/rooms?limit=1"])
        waiting.start()
        in_flight = "rentomatic_http_requests_in_flight"
        rig.wait_until(lambda: measured.value(in_flight) == 1, "a request in flight")
        cursor.execute("ROLLBACK")
        waiting.join()
    rig.wait_until(lambda: measured.value(in_flight) == 0, "none in flight")


def replace_a_worker(server):
    workers = server.workers()
    os.kill(workers[0], signal.SIGKILL)
    rig.wait_until(lambda: workers[0] not in server.workers() and server.booted(), "another worker")


def test_a_killed_worker_takes_no_counts_with_it_and_leaves_no_files(live_site, tmp_path):
    with Measured(tmp_path, **live_site.variables) as server:
        total = 0
        for _ in range(4):
            for _ in range(10):
                server.get("/rooms?limit=1")
            total += 10
            rig.wait_until(lambda total=total: requests(server, "rooms") == total, f"{total} requests")
            replace_a_worker(server)
            assert requests(server, "rooms") == total
        histogram = server.value("rentomatic_http_request_duration_seconds_bucket", route="rooms", le="+Inf")
        assert histogram == total
        pids = {int(re.search(r"_(\d+)\.db", name)[1]) for name in server.files()}
        assert pids <= {0, server.process.pid, *server.workers()}


def test_connections_of_a_killed_worker_are_not_counted_as_open(live_site, tmp_path):
    with Measured(tmp_path, WEB_WORKERS="1", **live_site.variables) as server:
        server.get("/rooms?limit=1")
        assert server.value("rentomatic_database_connections") >= 1
        replace_a_worker(server)
        assert server.value("rentomatic_database_connections") == 0
        assert server.value("rentomatic_database_connections_opened_total") >= 1


def test_a_reload_keeps_the_counts(live_site, tmp_path):
    with Measured(tmp_path, **live_site.variables) as server:
        server.get("/rooms?limit=1")
        rig.wait_until(lambda: requests(server, "rooms") == 1, "the request")
        old = set(server.workers())
        server.signal(signal.SIGHUP)
        rig.wait_until(lambda: not old & set(server.workers()) and server.booted(), "new workers")
        assert requests(server, "rooms") == 1


def test_a_start_empties_the_folder_of_the_one_before(live_site, tmp_path):
    with Measured(tmp_path, **live_site.variables) as server:
        server.get("/rooms?limit=1")
        server.process.kill()
        server.process.wait()
    with Measured(tmp_path, **live_site.variables) as server:
        assert requests(server, "rooms") == 0


def test_a_port_that_is_taken_ends_the_start_with_its_name(live_site, tmp_path):
    with pytest.raises(RuntimeError, match=r"cannot listen on METRICS_BIND=127\.0\.0\.1:\d+ \("):
        rig.Gunicorn(
            tmp_path,
            METRICS_BIND=f"127.0.0.1:{live_site.port}",
            METRICS_DIR=str(tmp_path / "metrics"),
            **live_site.variables,
        )


@pytest.mark.needs("root")
def test_a_folder_of_somebody_else_ends_the_start(live_site, tmp_path):
    folder = tmp_path / "metrics"
    folder.mkdir()
    os.chown(folder, 1, 1)
    (folder / "counter_1.db").touch()
    with pytest.raises(RuntimeError, match="METRICS_DIR cannot be used"):
        rig.Gunicorn(
            tmp_path,
            METRICS_BIND=f"127.0.0.1:{rig.free_port()}",
            METRICS_DIR=str(folder),
            **live_site.variables,
        )
    assert (folder / "counter_1.db").exists()
