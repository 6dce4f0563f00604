"""Several web hosts: what .env asks for, what nginx is told of them, and what `doctor` says of real ones."""

import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from deploy.operations import hosts, overlays
from deploy.operations.doctor import web_hosts
from deploy.operations.doctor.finding import ERROR, OK, WARNING
from deploy.operations.doctor.site import WebHost, answer, login, static_files
from deploy.operations.hosts import Answer
from deploy.operations.main import OF_THE_DATABASE
from deploy.operations.project import Project
from deploy.operations.report import Failure, Report
from rentomatic_site.testing import rig
from rentomatic_site.testing.proxy import defaults, render

WEB = {"ROLE": "web", "WEB_ADDRESS": "10.0.0.2:8000", "POSTGRES_HOSTNAME": "10.0.0.1"}

# --- .env


@pytest.fixture
def project(tmp_path) -> Project:
    (tmp_path / "deploy/secrets").mkdir(parents=True)
    (tmp_path / ".env").write_text(f"COMPOSE_PROJECT_NAME=x\nPROJECT_FOLDER={tmp_path}\nREPLICAS=off\n")
    return Project(tmp_path)


def choose(project: Project, **settings: str) -> None:
    for name, value in settings.items():
        project.record(name, value)
    overlays.choose(project, Report("apply"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"ROLE": "database"}, "ROLE=database in .env is not known"),
        ({"WEB_HOSTS": "10.0.0.2"}, "'10.0.0.2' has no port"),
        ({"WEB_HOSTS": "10.0.0.2:8000,web2:8000"}, "'web2' is no IP address"),
        ({"WEB_HOSTS": "10.0.0.2:8000;"}, "has no port"),
        ({"WEB_HOSTS": "10.0.0.2:0"}, "has no port"),
        ({"WEB_HOSTS": "10.0.0.2:٨"}, "has no port"),
        ({"WEB_HOSTS": "fd00::2:8000"}, "IPv6 without brackets"),
        ({"DATABASE_ADDRESS": "5432"}, "is no IP address"),
        ({"DATABASE_ADDRESS": "0.0.0.0:5432"}, "is no host's address"),
        ({"DATABASE_ADDRESS": "10.0.0.1:5432,10.0.0.2:5432"}, "is to be one address"),
        ({"DATABASE_ADDRESS": "10.0.0.1:5432", "REPLICAS": "on"}, "another server may become the primary"),
        (
            {"DATABASE_ADDRESS": "10.0.0.1:5432", "COMPOSE_FILE": "compose.yml:deploy/compose.managed.yml"},
            "a managed one",
        ),
        ({**WEB, "WEB_ADDRESS": "8000"}, "is no IP address"),
        ({**WEB, "WEB_ADDRESS": ""}, "WEB_ADDRESS in .env is to be one address"),
        ({**WEB, "POSTGRES_HOSTNAME": ""}, "no POSTGRES_HOSTNAME"),
        ({**WEB, "REPLICAS": "on"}, "REPLICAS=on is for the site's host"),
        ({**WEB, "PITR": "on"}, "PITR=on is for the site's host"),
        ({**WEB, "POOLER": "on"}, "POOLER=on is for the site's host"),
        ({**WEB, "HTTPS": "acme"}, "HTTPS=acme is for the site's host"),
        ({**WEB, "WEB_HOSTS": "10.0.0.3:8000"}, "WEB_HOSTS=10.0.0.3:8000 is for the site's host"),
        ({**WEB, "COMPOSE_FILE": "compose.yml:deploy/compose.managed.yml"}, "with a managed database"),
    ],
    ids=str,
)
def test_what_does_not_fit_in_the_env_changes_nothing_and_names_the_next_step(project, settings, words):
    for name, value in settings.items():
        project.record(name, value)
    before = project.environment.read_text()
    with pytest.raises(Failure, match="nothing was changed") as failure:
        choose(project)
    assert words in failure.value.reason
    assert failure.value.next_step
    assert project.environment.read_text() == before


def test_each_role_has_its_overlay(project):
    choose(project)
    assert project.setting("COMPOSE_FILE") == ""
    choose(project, DATABASE_ADDRESS="10.0.0.1:5432")
    assert project.setting("COMPOSE_FILE") == "compose.yml:deploy/compose.hosts.yml"
    choose(project, DATABASE_ADDRESS="", **WEB)
    assert project.setting("COMPOSE_FILE") == "compose.yml:deploy/compose.web.yml"
    choose(project, ROLE="")
    assert project.setting("COMPOSE_FILE") == ""


@pytest.mark.parametrize("command", sorted(OF_THE_DATABASE))
def test_a_command_of_the_database_is_refused_on_a_web_host(tmp_path, command):
    (tmp_path / "deploy").mkdir()
    for name in ("__init__.py", "operations", "rentomatic"):
        (tmp_path / "deploy" / name).symlink_to(rig.PROJECT / "deploy" / name)
    (tmp_path / ".env").write_text(f"COMPOSE_PROJECT_NAME=x\nPROJECT_FOLDER={tmp_path}\nROLE=web\n")
    words = {"rotate": ["secret_key"], "upgrade": ["19"], "restore": ["x"]}.get(command, [])
    script = (
        "import sys, pathlib; from deploy.operations import hosts, main; "
        f"hosts.FOLDER = pathlib.Path({str(tmp_path)!r}); sys.exit(main.main({[command, *words]!r}))"
    )
    done = subprocess.run(
        ["python3", "-c", script], cwd=rig.PROJECT, capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 1
    assert f"{command} is for the site's host" in done.stderr


# --- nginx


def test_each_host_gets_as_many_requests_as_the_replicas_of_this_one(project):
    assert hosts.upstreams(project) == ""
    project.record("WEB_HOSTS", "10.0.0.2:8000, [fd00::3]:8000")
    project.record("WEB_REPLICAS", "3")
    lines = hosts.upstreams(project).rstrip(";").split("; ")
    own = 4 * 3  # servers, of weight 1
    for address in ("10.0.0.2:8000", "[fd00::3]:8000"):
        assert lines.count(f"server {address} weight={own // 2} max_fails=3 fail_timeout=5s") == 2


@pytest.fixture
def web_host(site, tmp_path):
    """nginx of a web host in front of a real gunicorn."""
    started = []

    def start(upstream: int) -> "WebNginx":
        started.append(WebNginx(tmp_path, upstream))
        return started[-1]

    yield start
    for server in started:
        server.stop()


class WebNginx(rig.Server):
    """nginx with deploy/nginx/web."""

    def __init__(self, folder: Path, upstream: int) -> None:
        self.port, health, status = (rig.free_port() for _ in range(3))
        variables = {
            **defaults(),
            "NGINX_RUN": str(folder),
            "NGINX_HTTP": f"127.0.0.1:{self.port}",
            "NGINX_HEALTH_PORT": str(health),
            "NGINX_STATUS": f"127.0.0.1:{status}",
            "NGINX_UPSTREAM": f"server 127.0.0.1:{upstream} max_fails=0;",
        }
        templates = rig.PROJECT / "deploy/nginx"
        for path in [*templates.glob("balance-*.template"), *(templates / "web").glob("*.template")]:
            (folder / path.stem).write_text(render(path.read_text(), variables))
        command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", "daemon off;"]
        super().__init__(command, {"PATH": rig.PATH}, folder / "error.log")
        self.wait_for(lambda: rig.get(health, "/health", timeout=2).status == 200)


@pytest.mark.needs("nginx")
def test_a_web_host_passes_on_what_the_sites_nginx_says_and_is_well(site, web_host):
    server = web_host(site.port)
    response = rig.get(server.port, "/rooms?limit=1", X_Request_ID="a" * 32, X_Forwarded_Proto="https")
    assert (response.status, response.headers["X-Request-ID"]) == (200, "a" * 32)
    feed = rig.get(server.port, "/rooms/changes", X_Forwarded_Proto="https")
    direct = rig.get(site.port, "/rooms/changes", X_Forwarded_Proto="https")
    assert feed.headers["X-Accel-Buffering"] == direct.headers["X-Accel-Buffering"]
    well = WebHost("localhost", server.port)
    assert [check(well).level for check in (answer, login, static_files)] == [OK] * 3


@pytest.mark.needs("nginx")
def test_a_web_host_without_replicas_is_like_a_replica_that_is_gone(web_host, nginx, site, rooms):
    gone = web_host(rig.free_port())
    with pytest.raises(ConnectionError):
        rig.get(gone.port, "/rooms")
    edge = nginx(f"127.0.0.1:{gone.port} max_fails=0", site.port, NGINX_MICROCACHE="off")
    responses = [edge.get(f"/rooms?limit=1&filter_price__gte={number}") for number in range(20)]
    assert {response.status for response in responses} == {200}
    assert any(str(gone.port) in edge.line(response)["upstream"] for response in responses)


# --- doctor


def test_a_web_host_that_is_away_not_ready_or_another_is_said(live_site, tmp_path):
    # The right one, another key, and a database that is not there.
    right = live_site.variables
    wrong = right | {"POSTGRES_PORT": str(rig.free_port())}
    with (
        rig.Gunicorn(tmp_path, WEB_WORKERS="1", **right) as first,
        rig.Gunicorn(tmp_path, WEB_WORKERS="1", **right | {"SECRET_KEY": "x" + rig.SECRET_KEY}) as second,
        rig.Gunicorn(tmp_path, WEB_WORKERS="1", **wrong) as third,
    ):
        own, strange, ill = (hosts.ask(("127.0.0.1", one.port)) for one in (first, second, third))
        away = hosts.ask(("127.0.0.1", rig.free_port()))
    assert (own.reason, len(own.release), len(own.key)) == ("", 12, 12)
    assert own.release == strange.release == ill.release
    assert web_hosts.ready({"10.0.0.2:8000": own}, own).level == OK
    for other, words in (
        (away, "10.0.0.2:8000: no response: "),
        (ill, "10.0.0.2:8000: the database does not answer"),
        (strange, "10.0.0.2:8000 has another SECRET_KEY"),
    ):
        found = web_hosts.ready({"10.0.0.2:8000": other, "10.0.0.3:8000": own}, own)
        assert found.level == ERROR
        assert words in found.text
        assert found.command
    later = Answer(release="0123456789ab", key=own.key)
    found = web_hosts.ready({"10.0.0.2:8000": later}, own)
    assert (found.level, "runs another release" in found.text) == (WARNING, True)


class Ready(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b'{"ready": true, "release": "0123456789ab"}')


def test_a_web_host_that_comes_back_meanwhile_is_waited_for():
    address = ("127.0.0.1", rig.free_port())
    with ThreadPoolExecutor() as pool:
        asked = pool.submit(hosts.ask, address)
        time.sleep(1)
        with HTTPServer(address, Ready) as server:
            server.timeout = hosts.PATIENCE
            server.handle_request()
            assert asked.result() == Answer(release="0123456789ab")
