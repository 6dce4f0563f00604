"""`doctor`: each check finds what it is there for, when just that is broken."""

import os
import shutil
import subprocess
import threading
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from psycopg2.extras import RealDictCursor

from deploy.operations.doctor import CHECKS, containers, files, host, server, site, status
from deploy.operations.doctor.finding import ERROR, OK, SKIPPED, WARNING
from deploy.operations.doctor.site import Site
from rentomatic_site.testing import rig
from rentomatic_site.testing.cluster import Cluster
from rentomatic_site.testing.plugin import needs
from rentomatic_site.testing.proxy import self_signed

NOW = datetime(2026, 11, 20, 16, tzinfo=UTC)


def test_there_are_thirty_checks_each_with_a_name_of_its_own():
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names) >= 30


def test_the_status_is_that_of_the_worst():
    assert status([OK, SKIPPED]) == 0
    assert status([OK, WARNING]) == 1
    assert status([WARNING, ERROR, OK]) == 2


# --- The renewal of the certificate


@pytest.mark.parametrize(
    ("text", "level", "words"),
    [
        (None, WARNING, "no certificate was asked for yet"),
        ("ok 20261120T150000Z 43200\nno renewal needed\n", OK, "looked after 60 minutes ago"),
        ("ok 20261119T000000Z 43200\n", WARNING, "looked after 40 hours ago"),
        (
            "failed 20261120T150000Z 3600\nSaving debug log\nDetail: no such host\nHint: …\n",
            ERROR,
            "the old one stays: Detail: no such host",
        ),
    ],
)
def test_a_renewal_that_fails_or_does_not_come_is_noticed(tmp_path, text, level, words):
    if text:
        (tmp_path / "status").write_text(text)
    found = files.renewal(tmp_path / "status", NOW)
    assert found.level == level
    assert words in found.text


# --- The host


def test_a_disk_with_room_is_well(tmp_path):
    assert host.disk([Path("/dev/shm")]).level in {OK, WARNING}  # noqa: S108
    assert host.inodes([tmp_path]).level == OK


@pytest.mark.needs("root", "mount", "unshare")
@pytest.mark.parametrize("check", ["disk", "inodes"])
def test_a_full_disk_is_an_error(tmp_path, check):
    """A file system of 2 MB and 10 inodes, of which all are used."""
    script = (
        f"mount -t tmpfs -o size=2m,nr_inodes=10 none {tmp_path}; "
        f"for n in 1 2 3 4 5 6 7 8 9; do : > {tmp_path}/$n; done; "
        f"exec {rig.sys.executable} -c 'from pathlib import Path; from deploy.operations.doctor import host; "
        f'print(host.{check}([Path("{tmp_path}")]).level)\''
    )
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script], cwd=rig.PROJECT, capture_output=True, text=True
    )
    assert done.stdout == "error\n", done.stderr


@pytest.mark.parametrize(("available", "level"), [(400, ERROR), (800, WARNING), (5000, OK)])
def test_little_memory_is_said(available, level):
    found = host.memory(f"MemTotal:       10000 kB\nMemFree:  1 kB\nMemAvailable:    {available} kB\n")
    assert found.level == level


def test_the_memory_of_this_host_can_be_read():
    assert "GB of memory available" in host.memory(Path("/proc/meminfo").read_text()).text


def test_a_clock_that_went_back_or_is_not_synchronised_is_said():
    assert host.clock(0, 1000, 900).level == OK
    assert host.clock(host.NOT_SYNCHRONISED, 1000, 900).level == WARNING
    assert host.clock(0, 1000, 5000).level == ERROR
    assert host.clock_state() in range(6)


@pytest.mark.parametrize(
    ("versions", "level"), [({"runc": "1.1.5+ds1"}, WARNING), ({"runc": "1.1.12", "PostgreSQL": "18.1"}, OK)]
)
def test_an_engine_with_a_known_fault_is_said(versions, level):
    assert host.versions(versions).level == level


def test_a_host_name_without_an_address_is_an_error():
    assert host.dns("localhost").level == OK
    assert host.dns("rooms.invalid").level == ERROR


def test_a_port_that_nobody_listens_on_is_an_error():
    port = rig.free_port()
    assert host.ports([port]).text == f"nobody listens on port {port}"
    with rig.socket.create_server(("127.0.0.1", port)):
        assert host.ports([port]).level == OK


# --- The containers, as `docker inspect` shows them


def container(service: str, **state: object) -> dict:
    return {
        "Id": service * 4,
        "Name": f"/rentomatic-{service}-1",
        "RestartCount": state.pop("RestartCount", 0),
        "Config": {
            "Image": state.pop("Image", "rentomatic:2"),
            "Labels": {"com.docker.compose.service": service, "com.docker.compose.config-hash": "hash"},
        },
        "State": {
            "Running": True,
            "OOMKilled": False,
            "StartedAt": "2026-11-20T15:59:00.123456789Z",
            "Health": {"Status": "healthy", "Log": []},
            **state,
        },
    }


WELL = [container("db"), container("nginx"), container("web")]


def test_a_service_that_does_not_run_is_an_error():
    services = {"db", "nginx", "web"}
    assert containers.running(WELL, services).level == OK
    assert (
        containers.running([*WELL[:2], container("web", Running=False)], services).text
        == "web is not running"
    )


def test_a_container_that_starts_over_and_over_is_an_error():
    assert containers.restart_loops(WELL, NOW).level == OK
    assert containers.restart_loops([container("web", RestartCount=4)], NOW).level == ERROR
    assert containers.restart_loops([container("web", RestartCount=4)], NOW + timedelta(days=1)).level == OK


def test_a_kill_for_lack_of_memory_is_said():
    assert containers.memory_kills(WELL, {}).level == OK
    assert containers.memory_kills([container("web", OOMKilled=True)], {}).level == WARNING
    assert "rentomatic-web-1 (3)" in containers.memory_kills(WELL, {WELL[2]["Id"]: 3}).text


def test_an_unhealthy_container_is_an_error_with_its_reason():
    ill = container("web", Health={"Status": "unhealthy", "Log": [{"Output": "/readyz is 503: why\n"}]})
    assert containers.health(WELL).level == OK
    assert containers.health([ill]).text.endswith("(unhealthy): /readyz is 503: why")


def test_a_replica_of_another_image_than_recorded_is_an_error():
    assert containers.image(WELL, "rentomatic:2").level == OK
    assert containers.image(WELL, "rentomatic:3").level == ERROR


def test_a_container_that_is_not_as_its_definition_is_said():
    hashes = {"db": "hash", "nginx": "hash", "web": "hash"}
    assert containers.definitions(WELL, hashes).level == OK
    assert containers.definitions(WELL, hashes | {"db": "other"}).text.startswith("db is not what")


def test_leftovers_are_named_with_the_command_that_removes_them():
    assert containers.leftovers({}).level == OK
    found = containers.leftovers({"role x": "rotate", "role y": "rotate", "container z": "docker rm z"})
    assert (found.level, found.command) == (WARNING, "rotate; docker rm z")


# --- Files


@pytest.fixture
def certificates(tmp_path) -> tuple[Path, Path]:
    needs("openssl")
    self_signed(tmp_path, "rooms.example.com")
    return tmp_path / "fullchain.pem", tmp_path / "privkey.pem"


def test_a_certificate_with_its_own_key_is_well(certificates):
    assert files.certificate_pair(*certificates).level == OK


def test_a_certificate_with_another_key_or_none_is_an_error(certificates, tmp_path):
    chain, key = certificates
    other = tmp_path / "other"
    other.mkdir()
    self_signed(other, "rooms.example.com")
    assert "is not the key of" in files.certificate_pair(chain, other / "privkey.pem").text
    key.unlink()
    assert files.certificate_pair(chain, key).text == "privkey.pem is missing"
    chain.write_text("nothing")
    assert files.certificate_pair(chain, other / "privkey.pem").level == ERROR


def test_a_chain_without_its_intermediate_certificate_is_an_error(tmp_path):
    needs("openssl")
    self_signed(tmp_path, "authority.example.com")
    for name in ("fullchain.pem", "privkey.pem"):
        (tmp_path / name).rename(tmp_path / f"authority-{name}")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -subj /CN=x"
    command += (
        " -CA authority-fullchain.pem -CAkey authority-privkey.pem -keyout privkey.pem -out fullchain.pem"
    )
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    found = files.certificate_pair(tmp_path / "fullchain.pem", tmp_path / "privkey.pem")
    assert "intermediate certificates are missing" in found.text


def test_a_certificate_for_another_host_is_an_error(certificates):
    assert files.certificate_host(certificates[0], "rooms.example.com").level == OK
    assert files.certificate_host(certificates[0], "other.example.com").level == ERROR


@pytest.mark.parametrize(("days", "level"), [(-60, OK), (0, WARNING), (3, ERROR)])
def test_a_certificate_is_said_to_end_before_it_does(certificates, days, level):
    """It ends two days from now."""
    then = datetime.now(UTC) + timedelta(days=days)
    assert files.certificate_days(certificates[0], then).level == level


@pytest.fixture
def secrets(tmp_path) -> Path:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    for name in ("secret_key", "postgres_verifier"):
        (folder / name).write_text("x")
        (folder / name).chmod(0o644 if name == "postgres_verifier" else 0o600)
    return folder


def test_a_secret_that_others_may_read_is_an_error(secrets):
    owner = f"{os.getuid()}:{os.getgid()}"
    assert files.secret_files(secrets, owner).level == OK
    assert "belongs to" in files.secret_files(secrets, "4711:4711").text
    secrets.chmod(0o755)
    assert files.secret_files(secrets, owner).text == "others may look into deploy/secrets"
    (secrets / "secret_key").chmod(0o640)
    assert "mode 640" in files.secret_files(secrets, owner).text


@pytest.mark.parametrize(("hours", "level"), [(3, OK), (30, WARNING), (200, ERROR)])
def test_an_old_backup_is_said(tmp_path, hours, level):
    assert files.backup_age(tmp_path, NOW).text == "there is no backup"
    taken = NOW - timedelta(hours=hours)
    (tmp_path / f"rentomatic-{taken:%Y%m%dT%H%M%SZ}.dump").touch()
    (tmp_path / "rentomatic-zebra.dump").touch()
    assert files.backup_age(tmp_path, NOW).level == level


def test_a_backup_from_the_future_is_said_and_is_not_the_newest(tmp_path):
    (tmp_path / f"rentomatic-{NOW - timedelta(hours=2):%Y%m%dT%H%M%SZ}.dump").touch()
    assert files.backup_age(tmp_path, NOW).level == OK
    ahead = tmp_path / f"rentomatic-{NOW + timedelta(hours=2):%Y%m%dT%H%M%SZ}.dump"
    ahead.touch()
    found = files.backup_age(tmp_path, NOW)
    assert found.level == WARNING
    assert f"{ahead.name} is from the future" in found.text


def test_a_backup_that_was_never_proven_is_said():
    def proof(days: int, **facts) -> dict:
        return {"at": f"{NOW - timedelta(days=days):%Y%m%dT%H%M%SZ}", **facts}

    restored, drilled = {"command": "restore", "file": "x.dump"}, {"command": "drill", "ok": True}
    assert files.proof_age([], NOW).level == WARNING
    assert files.proof_age([proof(1, **restored)], NOW).level == OK
    assert files.proof_age([proof(100, **restored), proof(3, **drilled)], NOW).level == OK
    assert files.proof_age([proof(40, **drilled)], NOW).level == WARNING
    failed = proof(0, command="drill", ok=False, reason="room has 3 rows\nof 4")
    found = files.proof_age([proof(1, **drilled), failed], NOW)
    assert found.level == ERROR
    assert "room has 3 rows of 4" in found.text


def test_backups_that_do_not_reach_their_other_place_are_said():
    def copied(hours: int, place: str = "nas:rooms") -> dict:
        return {"at": f"{NOW - timedelta(hours=hours):%Y%m%dT%H%M%SZ}", "place": place}

    assert files.copy_age("", [], NOW).level == OK
    assert files.copy_age("nas:rooms", [copied(1, "former:place")], NOW).level == WARNING
    assert files.copy_age("nas:rooms", [copied(60), copied(3)], NOW).level == OK
    assert files.copy_age("nas:rooms", [copied(60)], NOW).level == ERROR


# --- A real server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    options = {
        "max_prepared_transactions": "2",
        "wal_level": "replica",
        "autovacuum": "off",
        "max_wal_size": "32MB",
        "wal_keep_size": "0",
    }
    with Cluster(tmp_path_factory.mktemp("doctor"), **options) as cluster:
        yield cluster


@pytest.fixture
def ask(cluster):
    """Queries as `doctor` asks them, in a session of their own."""

    def ask(query: str) -> list[dict]:
        with cluster.session(cursor_factory=RealDictCursor) as cursor:
            cursor.execute(query)
            return [dict(row) for row in cursor.fetchall()]

    return ask


@pytest.fixture
def sql(cluster):
    def sql(*statements: str) -> None:
        with cluster.session() as cursor:
            for statement in statements:
                cursor.execute(statement)

    return sql


@contextmanager
def table(sql, name: str, rows: int):
    sql(f"CREATE TABLE {name} AS SELECT n FROM generate_series(1, {rows}) AS n")
    try:
        yield
    finally:
        sql(f"DROP TABLE {name}")


LOOKS = (
    server.invalid_indexes,
    server.wraparound,
    server.bloat,
    server.statistics,
    server.checksums,
    server.slots,
    server.write_ahead_log,
    server.locks,
    server.long_transactions,
    lambda ask: server.connections(ask, 2, 2, 4),
)


@pytest.mark.parametrize("check", LOOKS)
def test_a_fresh_server_is_well(ask, check):
    assert check(ask).level == OK


def test_an_invalid_index_is_an_error_with_the_command_that_builds_it(ask, sql):
    with table(sql, "doubled", 3):
        sql("INSERT INTO doubled VALUES (1)")
        with pytest.raises(Exception, match="could not create unique index"):
            sql("CREATE UNIQUE INDEX CONCURRENTLY doubled_n ON doubled (n)")
        found = server.invalid_indexes(ask)
    assert found.level == ERROR
    assert "REINDEX INDEX CONCURRENTLY doubled_n" in found.command


@pytest.mark.parametrize(("age", "level"), [(10, OK), (600_000_000, WARNING), (1_500_000_000, ERROR)])
def test_an_old_transaction_id_is_said(age, level):
    """Of a server's answer: to make one so old takes a day."""
    assert server.wraparound(lambda query: [{"name": "application", "age": age}]).level == level


def test_dead_rows_and_old_statistics_are_said(ask, sql):
    with table(sql, "changed", 12_000):
        sql("SELECT pg_stat_force_next_flush()")
        assert server.statistics(ask).text == "the planner's statistics are old: changed"
        sql("ANALYZE changed", "SELECT pg_stat_force_next_flush()")
        assert server.statistics(ask).level == OK
        assert server.bloat(ask).level == OK
        sql("UPDATE changed SET n = n + 1", "SELECT pg_stat_force_next_flush()")
        assert "changed (12000 dead rows" in server.bloat(ask).text


def test_damaged_pages_and_missing_checksums_are_said():
    assert server.checksums(lambda query: [{"state": "on", "failures": 2}]).level == ERROR
    assert server.checksums(lambda query: [{"state": "off", "failures": 0}]).level == WARNING


def test_a_slot_that_nobody_reads_is_an_error(ask, sql):
    sql("SELECT pg_create_physical_replication_slot('forgotten', true)")
    try:
        found = server.slots(ask)
    finally:
        sql("SELECT pg_drop_replication_slot('forgotten')")
    assert found.level == ERROR
    assert "pg_drop_replication_slot('forgotten')" in found.command


@pytest.mark.parametrize(
    ("changed", "level"),
    [({}, OK), ({"bytes": 10**9}, WARNING), ({"failing": True}, ERROR), ({"archive": "on"}, OK)],
)
def test_a_growing_log_or_a_failing_archive_is_said(ask, changed, level):
    rows: list[dict] = []
    server.write_ahead_log(lambda query: rows.extend(ask(query)) or rows)
    assert server.write_ahead_log(lambda query: [rows[0] | {"age": 3, "wal": "00A"} | changed]).level == level


def test_a_prepared_transaction_and_a_long_one_are_said(ask, sql, cluster):
    def long(query: str) -> list[dict]:
        return ask(query.replace("10 minutes", "0 seconds"))

    with table(sql, "held", 1):
        sql("BEGIN; INSERT INTO held VALUES (2); PREPARE TRANSACTION 'forgotten'")
        found = server.long_transactions(long)
        sql("ROLLBACK PREPARED 'forgotten'")
    assert "ROLLBACK PREPARED 'forgotten'" in found.command


def test_a_session_that_waits_for_a_lock_is_an_error_that_names_the_holder(ask, sql, cluster):
    with table(sql, "held", 1), cluster.session() as holder:
        holder.execute("BEGIN; LOCK TABLE held")
        holder.execute("SELECT pg_backend_pid()")
        (pid,) = holder.fetchone()
        waiter = threading.Thread(target=sql, args=["SELECT * FROM held"])
        waiter.start()

        def soon(query: str) -> list[dict]:
            return ask(query.replace("10 seconds", "0 seconds"))

        rig.wait_until(lambda: server.locks(soon).level == ERROR, "a session that waits")
        assert f"pg_terminate_backend({pid})" in server.locks(soon).command
        assert server.locks(ask).level == OK  # not yet ten seconds
        holder.execute("ROLLBACK")
        waiter.join()


def test_more_threads_than_connections_are_an_error(ask):
    found = server.connections(ask, 8, 2, 4)
    assert found.level == ERROR
    assert "a rollout needs 170" in found.text


# --- The site, through nginx


def test_a_site_that_serves_is_well(edge):
    at = Site("localhost", edge.https)
    assert site.answer(at).level == site.cache(at, True).level == site.login(at).level == OK
    assert site.served_certificate(at, (edge.certificates / "fullchain.pem").read_text()).level == OK


def test_the_file_of_the_map_has_to_come_by_ranges(edge):
    at = Site("localhost", edge.https)
    assert site.map_file(at, "").level == OK
    missing = site.map_file(at, "of_doctor.pmtiles")
    assert (missing.level, missing.text) == (ERROR, "/map/of_doctor.pmtiles is 404")
    assert missing.command == "ls -l deploy/maps/of_doctor.pmtiles"
    (edge.maps / "of_doctor.pmtiles").write_bytes(b"<html>")
    assert site.map_file(at, "of_doctor.pmtiles").text == "/map/of_doctor.pmtiles is no PMTiles file"
    (edge.maps / "of_doctor.pmtiles").write_bytes(b"PMTiles\x03")
    assert site.map_file(at, "of_doctor.pmtiles").level == OK


def test_a_site_without_upstreams_fails_its_checks(nginx):
    at = Site("localhost", nginx(rig.free_port()).https)
    assert site.answer(at).text.startswith("/rooms is 502")
    assert site.login(at).text == "/admin/login/ is 502"
    assert site.static_files(at).level == ERROR


def test_a_cache_that_is_switched_off_is_noticed(site_without_cache):
    assert site.cache(site_without_cache, True).level == WARNING
    assert site.cache(site_without_cache, False).level == OK


@pytest.fixture
def site_without_cache(nginx, live_site):
    return Site("localhost", nginx(live_site.port, NGINX_MICROCACHE="off").https)


def test_nothing_behind_the_port_is_an_error():
    found = site.answer(Site("localhost", rig.free_port()))
    assert found.text.startswith("/rooms is no response")


def test_a_certificate_that_nginx_has_not_loaded_is_an_error(nginx, live_site, tmp_path):
    server_ = nginx(live_site.port)
    shutil.copytree(server_.certificates, tmp_path / "newer")
    self_signed(tmp_path / "newer", "localhost")
    found = site.served_certificate(
        Site("localhost", server_.https), (tmp_path / "newer/fullchain.pem").read_text()
    )
    assert found.command == "./deploy/rentomatic apply"
