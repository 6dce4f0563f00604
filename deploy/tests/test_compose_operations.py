"""The stack of test_compose.py while variables and secrets change, versions go back, and things break."""

import http.client
import json
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from deploy.tests.stack import Stack
from deploy.tests.test_compose_releases import REVERSIBLE, changed, migration, migrations, replicas
from rentomatic_site.testing import rig

pytestmark = pytest.mark.compose


# --- apply


def test_a_changed_variable_takes_effect_without_a_failed_request(stack):
    old = replicas(stack)
    nginx = stack.containers("nginx")[0]["Id"]
    stack.set("STATEMENT_TIMEOUT", "4000")
    stack.set("NGINX_HSTS", "max-age=1000")
    planned = stack.run("./deploy/rentomatic", "apply", "--dry-run").stdout
    assert "STATEMENT_TIMEOUT: 5000 → 4000" in planned or 'STATEMENT_TIMEOUT: "" → 4000' in planned
    assert replicas(stack) == old
    with stack.load() as clients:
        clients.wait_for(20, 60)
        stack.run("./deploy/rentomatic", "apply")
        clients.wait_for(20, 60)
    assert set(clients.statuses()) == {200}
    assert not replicas(stack).keys() & old.keys()
    assert stack.inside("web", "printenv", "STATEMENT_TIMEOUT").stdout == "4000\n"
    assert stack.containers("nginx")[0]["Id"] == nginx
    long = "/rooms?" + "x" * 9000  # nginx's own response
    assert stack.get(long).headers["Strict-Transport-Security"] == "max-age=1000"
    serving = replicas(stack)
    assert not any(stack.operate("apply")["changes"].values())
    stack.up()
    assert replicas(stack) == serving


def test_a_variable_that_nginx_refuses_changes_nothing(stack):
    stack.set("NGINX_READ_TIMEOUT", "soon")
    try:
        done = stack.run("./deploy/rentomatic", "apply", check=False)
    finally:
        stack.set("NGINX_READ_TIMEOUT", "20s")
    assert done.returncode == 1
    assert "nginx does not accept its configuration" in done.stderr
    assert stack.get("/rooms").status == 200
    stack.compose("restart", "nginx")
    rig.wait_until(lambda: stack.finding("answer")["level"] == "ok", "nginx again", 60)


def test_a_reload_loses_no_request_on_a_kept_connection(stack):
    """Without keepalive_min_timeout nginx closes them all, as their clients may be sending."""
    kept = [
        http.client.HTTPSConnection("localhost", stack.https, timeout=30, context=rig.UNVERIFIED)
        for _ in range(20)
    ]
    bodies = []
    for _ in range(3):
        for connection in kept:
            connection.request("GET", "/rooms?limit=1")
            bodies.append(connection.getresponse().read())
        stack.compose("kill", "--signal", "HUP", "nginx")
        time.sleep(1)  # into the time in which the old workers end
        for connection in kept:
            connection.request("GET", "/rooms?limit=1")  # on the same connection: raises where that is closed
            bodies.append(connection.getresponse().read())
    assert len(set(bodies)) == 1


# --- rotate


class Browser:
    """Somebody who is logged in to the admin, and takes the cookies that it gets."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.session = login(stack)

    def status(self) -> int:
        response = self.stack.get("/admin/rooms/room/", Cookie=f"__Host-sessionid={self.session}")
        for cookie in response.headers.get_all("Set-Cookie") or []:
            if found := re.match(r"__Host-sessionid=(\w+)", cookie):
                # Django signs a session anew that a former key has signed, under another id.
                self.session = found[1]
        return response.status


def login(stack: Stack) -> str:
    """The id of a session, made by the application."""
    script = (
        "from importlib import import_module; "
        "from django.conf import settings; "
        "from django.contrib.auth.models import Permission, User; "
        "from django.contrib.auth import SESSION_KEY, BACKEND_SESSION_KEY, HASH_SESSION_KEY; "
        "u, _ = User.objects.get_or_create(username='ann', is_staff=True); "
        "u.user_permissions.add(Permission.objects.get(codename='view_room')); "
        "s = import_module(settings.SESSION_ENGINE).SessionStore(); "
        "s[SESSION_KEY] = u.pk; s[BACKEND_SESSION_KEY] = 'django.contrib.auth.backends.ModelBackend'; "
        "s[HASH_SESSION_KEY] = u.get_session_auth_hash(); s.create(); print(s.session_key)"
    )
    return stack.inside("web", "./manage.py", "shell", "-c", script).stdout.split()[-1]


def test_a_new_secret_key_keeps_sessions_and_cursors(stack):
    stack.sql(
        "INSERT INTO room(code, price, longitude, latitude) "
        "SELECT gen_random_uuid(), 1, 0, 0 FROM generate_series(1, 9)"
    )
    ann = Browser(stack)
    assert ann.status() == 200
    (cursor,) = re.findall(r'<[^>]*?(/rooms[^>]*)>; rel="next"', stack.get("/rooms?limit=2").headers["Link"])
    before = (stack.folder / "deploy/secrets/secret_key").read_text()
    admin: list[int] = []
    with stack.load() as clients:
        rotation = subprocess.Popen(
            ["./deploy/rentomatic", "rotate", "secret_key"], cwd=stack.folder, stdout=subprocess.DEVNULL
        )
        while rotation.poll() is None:
            admin.append(ann.status())
            time.sleep(0.2)
    assert rotation.returncode == 0
    assert set(clients.statuses()) == {200}
    assert set(admin) == {200}
    assert ann.status() == 200
    assert stack.get(cursor).status == 200
    assert (stack.folder / "deploy/secrets/secret_key").read_text() != before
    assert (stack.folder / "deploy/secrets/secret_key_fallbacks").read_text().split(",")[0] == before
    stack.sql("DELETE FROM room WHERE latitude = 0")  # other modules have rooms of their own


@pytest.mark.parametrize("secret", ["application_password", "postgres_password"])
def test_a_new_password_fails_no_request_and_the_old_one_is_refused(stack, secret):
    old = (stack.folder / "deploy/secrets" / secret).read_text()
    role = "application" if secret == "application_password" else "postgres"
    with stack.load() as clients:
        clients.wait_for(20, 60)
        stack.run("./deploy/rentomatic", "rotate", secret)
        clients.wait_for(20, 60)
    assert set(clients.statuses()) == {200}
    new = (stack.folder / "deploy/secrets" / secret).read_text()
    accepted = []
    for password in (old, new):
        command = [
            "exec",
            "-T",
            "-e",
            f"PGPASSWORD={password}",
            "db",
            "psql",
            "-h",
            "127.0.0.1",
            "-U",
            role,
            "-d",
            "application",
        ]
        # The image trusts its own loopback: the container's name leads to its address on the network.
        command[command.index("127.0.0.1")] = "db"
        accepted.append(stack.compose(*command, "-c", "SELECT 1", check=False).returncode == 0)
    assert accepted == [False, True]
    assert (
        stack.sql("SELECT string_agg(rolname, ' ') FROM pg_roles WHERE rolname LIKE 'application%'")
        == "application"
    )
    serving = replicas(stack)
    stack.up()
    assert replicas(stack) == serving


# --- rollback


def test_a_rollback_takes_the_migration_back_without_a_failed_request(stack):
    stack.run("./deploy/rentomatic", "rollout")
    earlier, known = stack.setting("IMAGE"), migrations(stack)
    with changed(*migration(stack, REVERSIBLE.replace("floor", "balcony"))):
        stack.run("./deploy/rentomatic", "rollout")
    refused = stack.run("./deploy/rentomatic", "rollback", check=False)
    assert refused.returncode == 1
    assert "DROP COLUMN balcony" in refused.stderr
    assert stack.setting("IMAGE") != earlier
    with stack.load() as clients:
        clients.wait_for(20, 60)
        stack.run("./deploy/rentomatic", "rollback", "--accept")
        clients.wait_for(20, 60)
    assert set(clients.statuses()) == {200}
    assert set(replicas(stack).values()) == {earlier} == {stack.setting("IMAGE")}
    assert migrations(stack) == known
    assert stack.finding("migrations")["level"] == "ok"


UNSAFE = {
    "an index that blocks writes": (
        "CREATE INDEX x ON room (price, size)",
        "DROP INDEX x",
        "AddIndexConcurrently",
    ),
    "a rewrite": ("ALTER TABLE room ALTER COLUMN price TYPE bigint", "SELECT 1", "AlterFieldOnline"),
    "no way back": ("ALTER TABLE room ADD COLUMN attic int", None, "give the operation its reverse"),
}


@pytest.mark.parametrize("what", UNSAFE)
def test_a_migration_that_is_not_safe_is_refused_with_the_safe_way(stack, what):
    forwards, backwards, safe_way = UNSAFE[what]
    serving, known = replicas(stack), migrations(stack)
    with changed(*migration(stack, f"migrations.RunSQL({forwards!r}, {backwards!r})")):
        done = stack.run("./deploy/rentomatic", "rollout", check=False)
    assert done.returncode == 1
    assert safe_way in done.stderr
    assert "nothing was migrated" in done.stderr
    assert replicas(stack) == serving
    assert migrations(stack) == known


# --- doctor


def test_doctor_finds_no_error_in_a_site_that_serves(stack):
    stack.run("./deploy/rentomatic", "backup")
    found = stack.findings().values()
    # Of the host, which is not the project's: its clock, memory and disk.
    assert [one for one in found if one["level"] == "error" and one["group"] != "host"] == []
    assert len(found) >= 30


def test_doctor_says_what_is_broken_and_nothing_else(stack):
    (web, _) = stack.containers("web")
    stack.run("docker", "pause", web["Id"])
    try:
        rig.wait_until(lambda: stack.finding("health")["level"] == "error", "an unhealthy replica", 60)
    finally:
        stack.run("docker", "unpause", web["Id"])
    rig.wait_until(lambda: stack.finding("health")["level"] == "ok", "a healthy replica", 60)
    secret = stack.folder / "deploy/secrets/secret_key"
    secret.chmod(0o644)
    assert stack.finding("secrets")["level"] == "error"
    refused = stack.run("./deploy/rentomatic", "rollout", check=False)
    assert "others may read or write secret_key" in refused.stderr
    secret.chmod(0o600)
    assert stack.finding("secrets")["level"] == "ok"
    stack.inside("db", "createdb", "-U", "postgres", "application_incoming")
    assert "application_incoming" in stack.finding("leftovers")["text"]
    stack.inside("db", "dropdb", "-U", "postgres", "application_incoming")
    assert "application_incoming" not in stack.finding("leftovers")["text"]


def test_doctor_without_a_database_names_it_and_does_not_look_further(stack):
    stack.compose("stop", "db")
    try:
        done = stack.run(
            "./deploy/rentomatic", "doctor", "database", "indexes", "migrations", "--json", check=False
        )
        found = {one["name"]: one["level"] for one in json.loads(done.stdout)["checks"]}
    finally:
        stack.compose("start", "db")
        stack.up("--no-recreate")
    assert done.returncode == 2
    assert found == {"database": "error", "indexes": "skipped", "migrations": "error"}


def test_status_and_logs_show_a_request_that_was_made(stack):
    request_id = stack.get("/rooms?limit=7").headers["X-Request-ID"]
    lines = stack.operate("logs", request_id)["lines"]
    assert {line["container"].split("-")[0] for line in lines} == {"nginx", "web"}
    assert stack.operate("status")["requests"]["total"] > 0


def test_logs_show_postgresqls_lines_of_a_request_and_of_no_other(stack):
    holding = "BEGIN; LOCK TABLE room; SELECT pg_sleep(600)"
    holder = subprocess.Popen(
        [
            "docker",
            "compose",
            "exec",
            "-T",
            "db",
            "psql",
            "-U",
            "postgres",
            "-d",
            "application",
            "-c",
            holding,
        ],
        cwd=stack.folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'BEGIN; LOCK%'"
    try:
        rig.wait_until(lambda: stack.sql(waiting) == "1", "the lock on rooms", 60)
        with ThreadPoolExecutor(2) as both:
            asked = [both.submit(stack.get, f"/rooms?filter_price__lt={n}&limit=3") for n in (71, 72)]
            failed = [response.result() for response in asked]
    finally:
        stack.sql(waiting.replace("count(*)", "pg_terminate_backend(pid)"))
        holder.wait(60)
    assert [response.status for response in failed] == [503, 503]
    for number, response in zip((71, 72), failed, strict=True):
        lines = stack.operate("logs", response.headers["X-Request-ID"])["lines"]
        of_server = [line["text"] for line in lines if line["container"] == "db-1"]
        assert any("ERROR:  canceling statement" in text for text in of_server)
        statements = [text for text in of_server if "STATEMENT:" in text]
        assert statements
        assert all(re.search(rf"\b{number}\b", text) for text in statements)
        assert {line["container"].split("-")[0] for line in lines} == {"db", "web", "nginx"}
        assert [line["time"] for line in lines] == sorted(line["time"] for line in lines)


# --- backup


SLEEPER = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"
DUMPS = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'rentomatic backup%'"


@contextmanager
def blocked_backup(stack: Stack) -> Iterator["subprocess.Popen[str]"]:
    """A backup that waits for the table of rooms within the block, and may go on after it."""
    holding = ["docker", "compose", "exec", "-T", "db", "psql", "-U", "postgres", "-d", "application"]
    holding += ["-c", "BEGIN", "-c", "LOCK TABLE room", "-c", "SELECT pg_sleep(600)"]
    holder = subprocess.Popen(holding, cwd=stack.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        rig.wait_until(lambda: stack.sql(SLEEPER) == "1", "the lock on rooms", 60)
        backup = subprocess.Popen(
            ["./deploy/rentomatic", "backup", "--json"],
            cwd=stack.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        rig.wait_until(lambda: stack.sql(DUMPS) == "1", "a dump that waits", 60)
        yield backup
    finally:
        stack.sql(SLEEPER.replace("count(*)", "pg_terminate_backend(pid)"))
        holder.wait(60)


def test_of_two_backups_at_once_one_says_that_the_other_is_at_work(stack):
    with blocked_backup(stack) as first:
        second = stack.run("./deploy/rentomatic", "backup", check=False)
        assert first.poll() is None
    assert second.returncode == 3
    assert f"backup (process {first.pid}, since" in second.stderr
    assert json.loads(first.communicate(timeout=120)[0])["ok"] is True


def test_ctrl_c_ends_a_backup_and_its_pg_dump_and_leaves_no_file(stack):
    folder = stack.folder / "deploy" / "backups"
    before = sorted(folder.iterdir())
    with blocked_backup(stack) as backup:
        backup.send_signal(signal.SIGINT)
        output = backup.communicate(timeout=120)[1]
        rig.wait_until(lambda: stack.sql(DUMPS) == "0", "no dump", 30)
    assert backup.returncode == 130
    assert "interrupted" in output
    assert sorted(folder.iterdir()) == before


@pytest.mark.needs("root", "mount")
def test_a_full_disk_for_backups_is_named_and_leaves_nothing(stack, tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", tmp_path], check=True)
    try:
        done = stack.run("./deploy/rentomatic", "backup", str(tmp_path), check=False)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", tmp_path], check=True)
    assert done.returncode == 1
    assert str(tmp_path) in done.stderr
    assert "database's disk" not in done.stderr


def test_the_folder_of_a_backup_is_the_callers(stack, tmp_path):
    done = subprocess.run(
        [stack.folder / "deploy" / "rentomatic", "backup", "here"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "here").glob("rentomatic-*.dump"))) == 1
