"""`doctor`: each check finds what it is there for, when just that is broken."""

import os
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from deploy.operations.doctor import CHECKS, containers, files, host, site, status
from deploy.operations.doctor.finding import ERROR, OK, SKIPPED, WARNING
from deploy.operations.doctor.site import Site
from deploy.tests.test_compose_doctor import BREAKS
from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs
from rentomatic_site.testing.proxy import self_signed

NOW = datetime(2026, 11, 20, 16, tzinfo=UTC)


def test_there_are_thirty_checks_each_with_a_name_of_its_own():
    names = [check.name for check in CHECKS]
    assert len(set(names)) == len(names) >= 30


PROOFS = {
    "disk": "test_a_full_disk_is_an_error",
    "inodes": "test_a_full_disk_is_an_error",
    "memory": "test_little_memory_is_said",
    "clock": "test_a_clock_that_went_back_or_is_not_synchronised_is_said",
    "versions": "test_an_engine_with_a_known_fault_is_said",
    "ports": "test_a_port_that_nobody_listens_on_is_an_error",
    "health": "test_doctor_says_what_is_broken_and_nothing_else",
    "leftovers": "test_a_killed_restore_is_named_by_doctor_and_cleared_by_the_next",
    "secrets": "test_a_secret_that_others_may_read_is_an_error",
    "renewal": "test_a_renewal_that_fails_or_does_not_come_is_noticed",
    "copy": "test_backups_that_do_not_reach_their_other_place_are_said",
    "archive-copy": "test_an_archive_that_does_not_reach_its_other_place_is_said",
    "drill": "test_a_drill_that_fails_is_an_error_of_doctor_and_leaves_nothing",
    "archive": "test_a_gap_an_old_base_backup_and_an_empty_archive_are_said",
    "wraparound": "test_an_old_transaction_id_is_said_and_its_commands_freeze_each_database",
    "bloat": "test_dead_rows_are_said_and_their_command_removes_them",
    "checksums": "test_a_damaged_page_is_an_error",
    "primary": "test_a_second_primary_is_an_error_that_names_both",
    "etcd": "test_an_etcd_that_is_away_is_a_warning_of_doctor_and_writes_go_on",
    "failover": "test_a_patroni_that_is_paused_is_an_error_and_its_command_ends_that",
    "replicas": "test_a_replica_that_is_away_is_an_error_and_the_other_one_is_left",
    "replica-logins": "test_a_replica_with_a_wrong_password_is_an_error",
    "pooler": "test_a_pool_of_another_mode_size_or_server_and_a_paused_one_are_said",
    "pooler-clients": "test_clients_that_wait_for_a_connection_are_said",
    "pooler-login": "test_a_pooler_that_may_not_ask_is_an_error",
    "point-in-time": "test_a_full_archive_is_an_error_of_doctor_and_what_was_kept_back_comes_later",
    "wal": "test_an_archive_that_refuses_is_an_error_and_one_that_takes_is_well",
    "locks": "test_a_session_that_waits_for_a_lock_is_an_error_and_its_command_frees_it",
    "transactions": "test_a_long_transaction_is_said_and_its_command_ends_it",
    "answer": "test_a_site_without_upstreams_fails_its_checks",
    "cache": "test_a_cache_that_is_switched_off_is_noticed",
    "login": "test_a_site_without_upstreams_fails_its_checks",
    "static-files": "test_a_static_file_that_is_gone_is_an_error",
    "web-hosts": "test_a_web_host_that_is_away_not_ready_or_another_is_said",
    "map-file": "test_the_file_of_the_map_has_to_come_by_ranges",
}
"""The test that breaks what a check looks at; BREAKS of test_compose_doctor.py has the other checks."""


def test_each_check_has_a_test_that_breaks_what_it_looks_at():
    assert {check.name for check in CHECKS} == {*PROOFS, *BREAKS}
    tests = "".join(path.read_text() for path in (rig.PROJECT / "deploy/tests").rglob("test_*.py"))
    assert [name for name in PROOFS.values() if f"def {name}(" not in tests] == []


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
    assert host.ports([("127.0.0.1", port)]).text == f"nobody listens on port {port}"
    with rig.socket.create_server(("127.0.0.1", port)):
        assert host.ports([("127.0.0.1", port)]).level == OK


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
    found = containers.health([*WELL, ill])
    assert (found.level, found.text.endswith("(unhealthy): /readyz is 503: why")) == (ERROR, True)


def test_a_container_that_still_starts_is_no_error_yet():
    young = container("web", Health={"Status": "starting", "Log": [{"Output": "/readyz is 503: why\n"}]})
    ill = container("db", Health={"Status": "unhealthy", "Log": []})
    found = containers.health([*WELL, young])
    assert (found.level, found.command) == (WARNING, "docker compose up -d --wait")
    assert containers.health([young, ill]).level == ERROR


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
    assert site.static_files(at).level == SKIPPED


def test_a_static_file_that_is_gone_is_an_error(nginx, live_site, tmp_path):
    static = tmp_path / "static"
    shutil.copytree(live_site.variables["STATIC_ROOT"], static)
    variables = live_site.variables | {"HTTPS": "on", "STATIC_ROOT": str(static)}
    with rig.Gunicorn(tmp_path, **variables) as gunicorn:
        at = Site("localhost", nginx(gunicorn.port).https)
        assert site.static_files(at).level == OK
        (gone,) = (static / "admin/css").glob("login.*.css")
        for path in gone.parent.glob(f"{gone.name}*"):
            path.unlink()
        found = site.static_files(at)
        assert (found.level, found.text) == (
            ERROR,
            f"static files are missing: /static/admin/css/{gone.name}",
        )
        assert site.answer(at).level == site.login(at).level == OK


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
