"""A site with two replicas, on three servers of these tests' own, while each of them fails in its ways."""

import json
import re
from contextlib import ExitStack, contextmanager

import pytest

from rentomatic_site.testing import rig
from rentomatic_site.testing.browser import Browser
from rentomatic_site.testing.cluster import Cluster

BOSS = {"DJANGO_SUPERUSER_USERNAME": "boss", "DJANGO_SUPERUSER_PASSWORD": "boss-of-rooms"}
ROOMS = (
    "INSERT INTO room (id, code, size, price, latitude, longitude) OVERRIDING SYSTEM VALUE "
    "SELECT n, md5(n::text)::uuid, 20, 30, 51.5, -0.1 FROM generate_series(1, 200) AS n"
)
CODE = "c4ca4238-a0b9-2382-0dcc-509a6f75849b"  # md5 of 1
CHANGE = "/admin/rooms/room/1/change/"


class Servers:
    """A primary, two replicas, and their site."""

    def __init__(self, folder, stack, **variables):
        def cluster(name, **options):
            (folder / name).mkdir()
            return stack.enter_context(Cluster(folder / name, log_statement="all", **options))

        self.primary = cluster("primary")
        rig.manage("migrate", "--verbosity", "0", **self.primary.variables)
        rig.manage("createsuperuser", "--noinput", "--email=b@example.com", **self.primary.variables, **BOSS)
        self.sql(ROOMS)
        self.replicas = [cluster(f"replica{number}", primary=self.primary) for number in (1, 2)]
        urls = [f"postgres://127.0.0.1:{replica.port}" for replica in self.replicas]
        self.variables = {
            **self.primary.variables,
            "DATABASE_REPLICA_URLS": ",".join(urls),
            "SECOND_FACTOR": "optional",
            "REPLICA_MAX_LAG_BYTES": "1000000",
            "WEB_WORKERS": "1",
            **variables,
        }
        self.gunicorn = stack.enter_context(rig.Gunicorn(folder, **self.variables))
        self.expect("replica1", "is read")
        self.expect("replica2", "is read")

    def sql(self, statement, cluster=None):
        with (cluster or self.primary).session() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None

    def judgements(self, alias):
        """What was logged of a replica."""
        # Not as JSON: the last line may be half there.
        return re.findall(rf'"message": "({alias} \(.*?)", "request_id"', self.gunicorn.log.read_text())

    def expect(self, alias, words):
        """Wait until this was said last."""
        rig.wait_until(lambda: words in "".join(self.judgements(alias)[-1:]), f"{alias} {words}")

    @contextmanager
    def load(self):
        numbers = iter(range(10**9))
        request = lambda: self.gunicorn.get(f"/rooms?filter_price__lt={next(numbers) + 40}").status  # noqa: E731
        with rig.Load(request) as clients:
            yield clients

    def price(self):
        """As somebody sees it who has written nothing."""
        return json.loads(self.gunicorn.get(f"/rooms/{CODE}").body)["price"]

    def selects(self, cluster):
        """How many statements on rooms a server has logged."""
        return len(re.findall(r"FROM room\b", (cluster.data / "server.log").read_text()))

    def expect_no_read_on_the_primary(self, path, cookie=""):
        """Twelve requests in a row; on a busy machine a replica may be left out for a moment."""

        def replicas_alone():
            before = [self.selects(cluster) for cluster in (self.primary, *self.replicas)]
            statuses = {self.gunicorn.get(path, Cookie=f"written={cookie}").status for _ in range(12)}
            assert statuses == {200}
            after = [self.selects(cluster) for cluster in (self.primary, *self.replicas)]
            return after[0] == before[0] and after[1] > before[1] and after[2] > before[2]

        rig.wait_until(replicas_alone, f"{path} from replicas alone")


@pytest.fixture(scope="module")
def servers(tmp_path_factory, live_site):
    with ExitStack() as stack:
        static = live_site.variables["STATIC_ROOT"]
        yield Servers(tmp_path_factory.mktemp("replicas"), stack, STATIC_ROOT=static)


@pytest.fixture
def boss(servers):
    boss = Browser(servers.gunicorn)
    boss.login("boss", "boss-of-rooms")
    return boss


@contextmanager
def held_back(servers, *replicas):
    """Within the block replicas do not show what is written."""
    for replica in replicas:
        servers.sql("SELECT pg_wal_replay_pause()", replica)
    try:
        yield
    finally:
        for replica in replicas:
            servers.sql("SELECT pg_wal_replay_resume()", replica)


def form_of(boss):
    names = ("csrfmiddlewaretoken", "loaded_version", "code", "size", "latitude", "longitude")
    return boss.fields(CHANGE, *names) | {"_save": "Save"}


def change(boss, price):
    """Save a price in the admin; what the anonymous API then shows to the same browser."""
    fields = form_of(boss)
    saved = boss.post(CHANGE, fields.pop("csrfmiddlewaretoken"), price=str(price), **fields)
    assert saved.status == 302, re.findall(r'<ul class="errorlist".*?</ul>', saved.body.decode(), re.S)
    return json.loads(boss.ask(f"/rooms/{CODE}").body)["price"]


# --- Who reads where


@pytest.mark.parametrize(
    "path",
    [
        "/rooms?filter_price__lt=31",
        f"/rooms/{CODE}",
        "/rooms.csv",
        "/rooms/stats",
        "/rooms/clusters?zoom=1",
        "/rooms?near=-0.1,51.5",
        "/ogc/collections/rooms/items",
        "/",
    ],
)
def test_anonymous_reads_go_to_replicas_alone(servers, path):
    servers.expect_no_read_on_the_primary(path)


def test_the_admin_reads_and_writes_on_the_primary(servers, boss):
    before = [servers.selects(cluster) for cluster in servers.replicas]
    with held_back(servers, *servers.replicas):
        assert b"200 rooms" in boss.ask("/admin/rooms/room/").body
    assert [servers.selects(cluster) for cluster in servers.replicas] == before


def test_the_feed_of_changes_is_complete_on_a_replica(servers):
    lines = servers.gunicorn.get("/rooms/changes").body.splitlines()
    assert len(lines) == 201
    last = json.loads(lines[-1])
    assert last["complete_to"] is None  # a replica does not know
    servers.sql(f"UPDATE room SET size = size + 1 WHERE code = '{CODE}'")

    def came():
        return CODE.encode() in servers.gunicorn.get(f"/rooms/changes?after={last['cursor']}").body

    rig.wait_until(came, "the change")


# --- Read your writes


def test_those_who_have_written_see_it_at_once_and_others_when_a_replica_has_it(servers, boss):
    for price in range(31, 51):
        with held_back(servers, *servers.replicas):
            assert change(boss, price) == price
            rig.wait_until(lambda price=price: servers.price() != price, "the former price for others")


def test_those_who_have_written_read_from_replicas_once_these_have_it(servers, boss):
    change(boss, 60)
    place = servers.sql("SELECT pg_current_wal_flush_lsn()")[0][0]
    shows = f"SELECT pg_last_wal_replay_lsn() >= '{place}'"
    for replica in servers.replicas:
        rig.wait_until(lambda replica=replica: servers.sql(shows, replica) == [(True,)], "the replay")
    servers.expect_no_read_on_the_primary(f"/rooms/{CODE}", boss.cookies["written"])
    assert json.loads(boss.ask(f"/rooms/{CODE}").body)["price"] == 60


@pytest.mark.parametrize("cookie", ["18446744073709551616", "18446744073709551616:1tT0aa:x", "", ":"])
def test_a_cookie_that_is_not_ours_sends_nobody_to_the_primary(servers, cookie):
    servers.expect_no_read_on_the_primary(f"/rooms/{CODE}", cookie)


# --- A replica fails


def test_a_replica_that_is_stopped_costs_no_request_and_is_read_again_when_it_is_back(servers):
    first, _ = servers.replicas
    with servers.load() as clients:
        clients.wait_for(20)
        first.stop()
        servers.expect("replica1", "is left out")
        clients.wait_for(20)
        first.start()
        servers.expect("replica1", "is read")
        clients.wait_for(20)
    assert set(clients.statuses()) == {200}


def test_a_replica_that_is_frozen_costs_no_request(servers):
    _, second = servers.replicas
    with servers.load() as clients:
        clients.wait_for(20)
        second.freeze()
        servers.expect("replica2", "does not answer")
        clients.wait_for(20)
        second.thaw()
        servers.expect("replica2", "is read")
    assert set(clients.statuses()) == {200}


def test_without_any_replica_the_primary_is_read(servers):
    with ExitStack() as stack:
        for replica in servers.replicas:
            replica.stop()
            stack.callback(replica.start)
        assert {servers.gunicorn.get("/rooms").status for _ in range(12)} == {200}
    servers.expect("replica1", "is read")
    servers.expect("replica2", "is read")


def test_a_replica_that_is_too_many_bytes_behind_is_left_out_until_it_is_not(servers):
    first, _ = servers.replicas
    with held_back(servers, first):
        servers.sql("CREATE TABLE wide AS SELECT repeat('x', 1000) FROM generate_series(1, 2000)")
        servers.expect("replica1", "more than REPLICA_MAX_LAG_BYTES")
    servers.expect("replica1", "is read")
    servers.sql("DROP TABLE wide")


def test_a_replica_that_is_too_many_seconds_behind_is_left_out(servers, tmp_path):
    first, _ = servers.replicas
    variables = servers.variables | {"REPLICA_MAX_LAG": "1"}
    with rig.Gunicorn(tmp_path, **variables) as gunicorn, held_back(servers, first):
        servers.sql(f"UPDATE room SET size = size + 1 WHERE code = '{CODE}'")
        gunicorn.wait_for(lambda: 'more than REPLICA_MAX_LAG"' in gunicorn.log.read_text())


def test_a_replica_without_the_migrations_is_not_read_until_it_has_them(servers, tmp_path):
    last = "(SELECT max(id) FROM django_migrations WHERE app = 'rooms')"
    name = servers.sql(f"DELETE FROM django_migrations WHERE id = {last} RETURNING name")[0][0]
    try:
        with rig.Gunicorn(tmp_path, **servers.variables) as gunicorn:
            gunicorn.wait_for(lambda: f"migrations pending: rooms.{name}" in gunicorn.log.read_text())
            servers.sql(
                f"INSERT INTO django_migrations (app, name, applied) VALUES ('rooms', '{name}', now())"
            )
            gunicorn.wait_for(lambda: gunicorn.log.read_text().count(") is read") == 2)
    finally:
        rig.manage("migrate", "--fake", "--verbosity", "0", **servers.primary.variables)


# --- The primary fails


def test_searches_go_on_without_the_primary_and_writes_are_refused_in_words(servers, boss):
    fields = form_of(boss)
    token = fields.pop("csrfmiddlewaretoken")
    with servers.load() as clients:
        clients.wait_for(20)
        servers.primary.stop()
        clients.wait_for(40)
        refused = boss.post(CHANGE, token, Accept="text/html", **fields | {"price": "77"})
        login = boss.post("/admin/login/", token, Accept="text/html", username="boss", password="secret")
        ready = servers.gunicorn.get("/readyz")
        servers.primary.start()
        clients.wait_for(20)
    assert set(clients.statuses()) == {200}
    assert refused.status == 503
    assert int(refused.headers["Retry-After"]) > 0
    assert login.status == 503
    assert b"secret" not in login.body
    assert ready.status == 200
    assert json.loads(ready.body)["writes"] is False
    # What was typed is in the page, and is sent again from there.
    kept = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', refused.body.decode()))
    assert kept["price"] == "77"
    assert boss.post(CHANGE, kept.pop("csrfmiddlewaretoken"), **kept).status == 302
    rig.wait_until(lambda: "writes" not in json.loads(servers.gunicorn.get("/readyz").body), "all is well")


# --- Wrong from the start


@pytest.fixture(scope="module")
def another(tmp_path_factory):
    with Cluster(tmp_path_factory.mktemp("another")) as cluster:
        yield cluster


def test_wrong_addresses_are_named_at_the_start_and_the_primary_serves(servers, another, tmp_path):
    urls = [
        f"postgres://127.0.0.1:{servers.primary.port}",
        f"postgres://127.0.0.1:{another.port}",
        f"postgres://127.0.0.1:{rig.free_port()}",
        f"postgres://nobody:secret-word@127.0.0.1:{servers.replicas[0].port}",
    ]
    with rig.Gunicorn(tmp_path, **servers.variables | {"DATABASE_REPLICA_URLS": ",".join(urls)}) as gunicorn:
        assert gunicorn.get("/rooms").status == 200
        gunicorn.wait_for(lambda: gunicorn.log.read_text().count("is left out") >= 4)
        text = gunicorn.log.read_text()
        assert "replica1 (127.0.0.1" in text
    assert "it accepts writes: it is the primary, or was promoted" in text
    assert "replica2" in text
    assert "Connection refused" in text
    assert 'role \\"nobody\\" does not exist' in text
    assert "secret-word" not in text


@pytest.mark.parametrize("url", ["db", "mysql://db", "postgres:///rooms", "postgres://u:secret-word@db:x"])
def test_an_address_of_another_form_stops_the_start_in_words(servers, url):
    with pytest.raises(AssertionError) as error:
        rig.manage("check", **servers.variables | {"DATABASE_REPLICA_URLS": f"postgres://db,{url}"})
    assert "DATABASE_REPLICA_URLS: its item 2 is not of the form postgres://" in str(error.value)
    assert "secret-word" not in str(error.value)


# --- Last: it changes who is the primary


@pytest.fixture(scope="module")
def promoted(servers):
    """The first replica."""
    servers.sql("SELECT pg_promote()", servers.replicas[0])
    return servers.replicas[0]


def test_a_replica_that_was_promoted_is_left_out(servers, promoted):
    servers.expect("replica1", "it accepts writes: it is the primary, or was promoted")
    assert {servers.gunicorn.get("/rooms").status for _ in range(12)} == {200}


def test_a_replica_with_wal_that_was_left_behind_is_not_read(servers, promoted, tmp_path):
    _, second = servers.replicas
    servers.sql("UPDATE room SET price = 4321")
    shows = f"SELECT price FROM room WHERE code = '{CODE}'"
    rig.wait_until(lambda: servers.sql(shows, second) == [(4321,)], "the second replica has the change")
    servers.primary.stop()
    variables = promoted.variables | {"DATABASE_REPLICA_URLS": f"postgres://127.0.0.1:{second.port}"}
    with rig.Gunicorn(tmp_path, **servers.variables | variables) as gunicorn:

        def prices():
            return {json.loads(gunicorn.get(f"/rooms/{CODE}").body)["price"] for _ in range(12)}

        gunicorn.wait_for(lambda: "that was left behind" in gunicorn.log.read_text())
        assert 4321 not in prices()
        # Later the primary has more again.
        servers.sql("CREATE TABLE wide AS SELECT repeat('x', 1000) FROM generate_series(1, 500)", promoted)
        servers.sql("UPDATE room SET price = 1234", promoted)
        assert prices() == {1234}
