"""A site of 200 threads behind PgBouncer in transaction mode, which has 20 connections to PostgreSQL."""

import re
import time
from contextlib import ExitStack, contextmanager

import psycopg2.extras
import pytest

from rentomatic_site.testing import rig
from rentomatic_site.testing.browser import Browser
from rentomatic_site.testing.cluster import Cluster
from rentomatic_site.testing.plugin import needs, run_manage
from rentomatic_site.testing.pooler import SIZE, Pooler

BOSS = {"DJANGO_SUPERUSER_USERNAME": "boss", "DJANGO_SUPERUSER_PASSWORD": "boss-of-rooms"}
ROLE = {"APPLICATION_DB": "rooms", "APPLICATION_USER": "web", "APPLICATION_PASSWORD": "unused"}
ROOMS = 20_000
INSERT = (
    "INSERT INTO room (id, code, size, price, latitude, longitude) OVERRIDING SYSTEM VALUE "
    f"SELECT n, md5(n::text)::uuid, 20, 30 + n % 50, 51.5, -0.1 FROM generate_series(1, {ROOMS}) AS n"
)
CODE = "c4ca4238-a0b9-2382-0dcc-509a6f75849b"  # md5 of 1
CHANGE = "/admin/rooms/room/1/change/"
LIMITS = {
    "statement_timeout": "5s",
    "lock_timeout": "2s",
    "idle_in_transaction_session_timeout": "10s",
    "client_connection_check_interval": "500ms",
}


class Site:
    """A server whose role has the limits of requests, its pooler, and gunicorn on that."""

    def __init__(self, folder, enter, **variables):
        self.cluster = enter(Cluster(folder))
        self.pooler = enter(Pooler(folder / "pooler", "127.0.0.1", self.cluster.port, ["web"], wait=20))
        self.direct = {**self.cluster.variables, **ROLE}
        self.variables = {**self.direct, "DATABASE_POOLER_URL": self.pooler.url, **variables}
        self.said = rig.manage("init_postgres", **self.variables)
        rig.manage("migrate", "--verbosity", "0", **self.variables)
        rig.manage("createsuperuser", "--noinput", "--email=b@example.com", **self.variables, **BOSS)
        self.sql(INSERT)
        self.sql("ANALYZE room")
        self.gunicorn = enter(rig.Gunicorn(folder, **self.variables))

    def sql(self, statement):
        with self.cluster.session(dbname="rooms") as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def clients(self):
        """How many connections of the web processes the pooler has."""
        return sum(client["user"] == "web" for client in self.pooler.console("SHOW CLIENTS"))

    def servers(self):
        """How many connections it has to PostgreSQL for them."""
        ((number,),) = self.sql("SELECT count(*) FROM pg_stat_activity WHERE usename = 'web'")
        return number

    def shown(self):
        return {name: self.through(f"SHOW {name}")[0][0] for name in LIMITS}

    def through(self, statement):
        with self.session() as cursor:
            cursor.execute(statement)
            return cursor.fetchall()

    @contextmanager
    def session(self):
        opened = psycopg2.connect(host="127.0.0.1", port=self.pooler.port, user="web", dbname="rooms")
        try:
            with opened.cursor() as cursor:
                yield cursor
        finally:
            opened.close()


@pytest.fixture(scope="module")
def enter():
    """Open a context until the end of the module."""
    with ExitStack() as stack:
        yield stack.enter_context


@pytest.fixture(scope="module")
def site(tmp_path_factory, live_site, enter):
    needs("pgbouncer")
    return Site(
        tmp_path_factory.mktemp("pooled"),
        enter,
        STATIC_ROOT=live_site.variables["STATIC_ROOT"],
        SECOND_FACTOR="optional",
        WEB_WORKERS="2",
        WEB_THREADS="100",
        REQUEST_TIMEOUT="60",  # for a busy machine
    )


@pytest.fixture
def boss(site):
    boss = Browser(site.gunicorn)
    boss.login("boss", "boss-of-rooms")
    return boss


def save(boss, form, price):
    """Send the form that was loaded, with another price."""
    names = ("csrfmiddlewaretoken", "loaded_version", "code", "size", "latitude", "longitude")
    fields = {name: re.search(rf'name="{name}"[^>]*? value="([^"]*)"', form)[1] for name in names}
    return boss.post(CHANGE, fields.pop("csrfmiddlewaretoken"), price=str(price), _save="Save", **fields)


# --- Many threads, few connections


def test_200_clients_at_once_are_served_by_20_connections(site):
    numbers = iter(range(10**9))
    seen = []

    def request():
        number = next(numbers)
        # A page that is walked, a page that is filtered, one room, figures, the map.
        paths = (
            f"/rooms?limit={number % 90 + 10}",
            f"/rooms?filter_price__lt={number % 40 + 35}&order=price",
            f"/rooms/{CODE}",
            "/rooms/stats",
            "/rooms/clusters?zoom=1",
        )
        return site.gunicorn.get(paths[number % len(paths)], timeout=120).status

    with rig.Load(request, clients=200) as load:
        for _ in range(6):
            load.wait_for(200, seconds=120)
            seen.append((site.clients(), site.servers()))
    assert set(load.statuses()) == {200}
    assert max(servers for _, servers in seen) <= SIZE
    assert max(clients for clients, _ in seen) > 5 * SIZE


@pytest.mark.parametrize(
    "path",
    [
        "/",
        f"/rooms/{CODE}",
        "/rooms?filter_price__lt=40",
        "/rooms?near=-0.1,51.5&within=5000",
        "/rooms?count=exact",
        "/rooms/stats",
        "/rooms/clusters?zoom=3",
        "/rooms/changes",
        "/ogc/collections/rooms/items",
        "/readyz",
    ],
)
def test_a_request_is_served_through_the_pooler(site, path):
    assert site.gunicorn.get(path).status == 200


@pytest.mark.parametrize("suffix", ["csv", "ndjson", "geojson"])
def test_an_export_of_20_000_rooms_is_whole(site, suffix):
    export = site.gunicorn.get(f"/rooms.{suffix}", timeout=120)
    assert export.status == 200
    site.pooler.idle()
    codes = re.findall(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", export.body)
    assert len(set(codes)) == ROOMS


def test_a_save_is_shown_and_a_stale_form_is_refused(site, boss):
    form = boss.ask(CHANGE).body.decode()
    assert save(boss, form, 77).status == 302
    assert b'"price":77' in site.gunicorn.get(f"/rooms/{CODE}").body
    stale = save(boss, form, 78)
    assert stale.status == 200
    assert site.sql("SELECT price FROM room WHERE id = 1") == [(77,)]


# --- What a pooler drops, and the role has


def test_the_role_has_the_limits_of_requests_and_keeps_them(site):
    assert "Role 'web' got the limits of requests.\n" in site.said
    assert site.shown() == LIMITS
    assert "limits" not in rig.manage("init_postgres", **site.variables)


def test_a_role_of_an_earlier_version_gets_another_limit_at_the_next_init(site):
    site.sql("ALTER ROLE web RESET lock_timeout; ALTER ROLE web SET statement_timeout = '7s'")
    assert "got the limits" in rig.manage("init_postgres", **site.variables)
    site.pooler.console("RECONNECT")
    rig.wait_until(lambda: site.shown() == LIMITS, "the limits on new connections")


def test_without_a_pooler_the_role_is_left_as_it_is(site):
    site.sql("ALTER ROLE web RESET lock_timeout")
    rig.manage("init_postgres", **site.direct)
    ((settings,),) = site.sql("SELECT setconfig FROM pg_db_role_setting WHERE setrole = 'web'::regrole")
    assert not any(setting.startswith("lock_timeout") for setting in settings)
    rig.manage("init_postgres", **site.variables)


def test_the_check_names_the_limits_that_a_connection_lacks_and_the_next_step(site):
    def check():
        done = run_manage("check", "--database", "default", env=rig.environment(**site.variables))
        assert done.returncode == 0
        return done.stderr

    site.pooler.console("RECONNECT")
    rig.wait_until(lambda: site.shown() == LIMITS, "the limits on new connections")
    assert "W004" not in check()
    site.sql("ALTER ROLE web RESET statement_timeout")
    site.pooler.console("RECONNECT")
    rig.wait_until(lambda: site.shown() != LIMITS, "new connections")
    try:
        said = check()
    finally:
        rig.manage("init_postgres", **site.variables)
        site.pooler.console("RECONNECT")
    assert "W004" in said
    assert "statement_timeout is 0" in said
    assert 'ALTER ROLE "web" SET statement_timeout = 5000' in said


def test_the_check_says_that_the_pooler_is_away(site):
    away = {**site.variables, "DATABASE_POOLER_URL": f"postgres://127.0.0.1:{rig.free_port()}"}
    done = run_manage("check", "--database", "default", env=rig.environment(**away))
    assert "W003" in done.stderr
    assert "Connection refused" in done.stderr


def test_statements_are_not_prepared(site):
    for _ in range(3):
        assert site.gunicorn.get("/rooms?limit=11").status == 200
    assert site.through("SELECT name FROM pg_prepared_statements") == []


# --- What needs a session of its own


def test_commands_connect_to_the_server_itself_and_a_paused_pooler_is_named(site):
    site.pooler.console("PAUSE")  # no statement passes
    try:
        done = run_manage("migrate", env=rig.environment(**site.variables))
        found = rig.manage("rooms", "limit=3", "--format", "csv", **site.variables)
    finally:
        site.pooler.console("RESUME")
    assert done.returncode == 0, done.stderr
    assert "W003" in done.stderr
    assert len(found.splitlines()) == 4


@pytest.mark.parametrize("ignored", ["", "options"], ids=["refuses options", "drops options"])
@pytest.mark.parametrize("command", ["migrate", "init_postgres"])
def test_a_command_whose_server_is_a_pooler_refuses_in_words(site, tmp_path, ignored, command):
    with Pooler(tmp_path / "pooler", "127.0.0.1", site.cluster.port, ["web"], ignored=ignored) as pooler:
        done = run_manage(command, env=rig.environment(**{**site.direct, "POSTGRES_PORT": str(pooler.port)}))
    assert done.returncode == 1
    assert "reached through a pooler" in done.stderr
    assert (
        "Next: name the server itself in DATABASE_URL or POSTGRES_HOSTNAME, and the pooler in" in done.stderr
    )
    assert "Traceback" not in done.stderr
    assert site.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]


# --- Failures


def test_a_full_pool_is_503_with_retry_after(site):
    site.pooler.console("SET query_wait_timeout = 1")
    try:
        holders = [site.session() for _ in range(SIZE)]
        for holder in holders:
            holder.__enter__().execute("SELECT 1")  # begins a transaction
        full = site.gunicorn.get("/rooms?limit=12")
        not_ready = site.gunicorn.get("/readyz")
        for holder in holders:
            holder.__exit__(None, None, None)
    finally:
        site.pooler.console("SET query_wait_timeout = 20")
    assert (full.status, not_ready.status) == (503, 503)
    assert full.headers["Retry-After"]
    assert "query_wait_timeout" in (site.pooler.folder / "pgbouncer.log").read_text()
    assert site.gunicorn.get("/rooms?limit=12").status == 200


def test_a_frozen_server_makes_the_site_not_ready(site):
    rig.wait_until(lambda: site.gunicorn.get("/readyz").status == 200, "ready, whatever was a second ago")
    site.cluster.freeze()
    try:
        rig.wait_until(lambda: site.gunicorn.get("/readyz").status == 503, "not ready")
    finally:
        site.cluster.thaw()
    rig.wait_until(lambda: site.gunicorn.get("/readyz").status == 200, "ready again")


def test_the_statement_of_a_client_that_is_gone_is_cancelled(site):
    sleeping = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%pg_sleep(600)%'"
    sleeping += " AND pid <> pg_backend_pid()"
    opened = psycopg2.connect(
        host="127.0.0.1", port=site.pooler.port, user="web", dbname="rooms", async_=True
    )
    psycopg2.extras.wait_select(opened)
    opened.cursor().execute("/* SET */ SELECT pg_sleep(600)")
    rig.wait_until(lambda: site.sql(sleeping) == [(1,)], "a statement")
    opened.close()
    rig.wait_until(lambda: site.sql(sleeping) == [(0,)], "its end")


def test_a_pooler_that_restarts_under_load_costs_503_at_most_and_no_login(site, boss):
    numbers = iter(range(10**9))
    request = lambda: site.gunicorn.get(f"/rooms?filter_price__lt={next(numbers) % 40 + 35}").status  # noqa: E731
    with rig.Load(request, clients=20) as load:
        load.wait_for(100)
        site.pooler.stop()
        load.wait_for(20)
        site.pooler.start()
        back = time.monotonic() - load.began
        load.wait_for(200)
    assert set(load.statuses()) == {200, 503}
    assert {status for began, _, status in load.responses if began > back} == {200}
    assert boss.ask("/admin/rooms/room/").status == 200
