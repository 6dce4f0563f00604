"""compose.monitoring.yml in containers: Prometheus finds replicas and exporters, nobody else does."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from deploy.tests.stack import Stack
from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs

pytestmark = [pytest.mark.compose, pytest.mark.needs("docker", "git")]

OVERLAID = "compose.yml:deploy/compose.monitoring.yml"
IMAGES = Path(__file__).parent / "images"
DEBIAN = {
    "PROMETHEUS_IMAGE": "prometheus",
    "POSTGRES_EXPORTER_IMAGE": "prometheus-postgres-exporter",
    "NGINX_EXPORTER_IMAGE": "prometheus-nginx-exporter",
    "NODE_EXPORTER_IMAGE": "prometheus-node-exporter",
    # Debian has no Grafana. Its dashboard's queries are tried in test_monitoring.py.
    "GRAFANA_IMAGE": "prometheus-node-exporter",
}


@pytest.fixture(scope="module")
def monitored(tmp_path_factory) -> Iterator[Stack]:
    """A stack to which `apply` has added the services of the overlay."""
    needs("docker", "git")
    for program in sorted(set(DEBIAN.values())):
        command = ["docker", "build", "--quiet", "--build-arg", f"PROGRAM={program}"]
        file = ["--tag", f"debian-{program}", "--file", IMAGES / "debian.Dockerfile"]
        subprocess.run([*command, *file, IMAGES], check=True, stdout=subprocess.DEVNULL)
    stack = Stack(tmp_path_factory.mktemp("monitored"))
    for name, program in DEBIAN.items():
        stack.set(name, f"debian-{program}")
    stack.set("PROMETHEUS_PORT", str(rig.free_port()))
    stack.set("GRAFANA_PORT", str(rig.free_port()))
    try:
        stack.run("./deploy/rentomatic", "rollout")
        stack.set("COMPOSE_FILE", OVERLAID)
        stack.run("./deploy/rentomatic", "apply")
        yield stack
    finally:
        stack.set("COMPOSE_FILE", OVERLAID)  # with its volumes
        stack.remove()


def query(stack: Stack, expression: str) -> list[dict]:
    """Prometheus' result; none while it starts."""
    try:
        got = rig.get(int(stack.setting("PROMETHEUS_PORT")), f"/api/v1/query?query={quote(expression)}")
    except OSError:
        return []
    return json.loads(got.body)["data"]["result"] if got.status == 200 else []


def up(stack: Stack, job: str) -> int:
    """Targets of a job that answer."""
    return len(query(stack, f'up{{job="{job}"}} == 1'))


def test_prometheus_finds_each_replica_and_every_exporter(monitored):
    rig.wait_until(lambda: up(monitored, "web") == 2, "two replicas", 120)
    for job in ("postgres", "nginx", "node"):
        rig.wait_until(lambda job=job: up(monitored, job) == 1, job, 120)
    for one in ("pg_up", "nginx_up"):
        rig.wait_until(lambda one=one: [r["value"][1] for r in query(monitored, one)] == ["1"], one, 120)
    rig.wait_until(lambda: query(monitored, 'node_filesystem_avail_bytes{mountpoint="/"}'), "the disk", 60)


def test_a_third_replica_is_found(monitored):
    monitored.compose("up", "--detach", "--wait", "--no-recreate", "--scale", "web=3", "web")
    rig.wait_until(lambda: up(monitored, "web") == 3, "three replicas", 120)
    monitored.compose("up", "--detach", "--wait", "--no-recreate", "--scale", "web=2", "web")
    rig.wait_until(lambda: not query(monitored, 'up{job="web"} == 0'), "two replicas again", 120)


def test_no_way_leads_to_the_metrics_from_outside(monitored):
    assert monitored.get("/metrics").status == 404
    assert monitored.get("/status").status == 404
    published = [
        port
        for service in ("web", "nginx")
        for container in monitored.containers(service)
        for port, hosts in (container["NetworkSettings"]["Ports"] or {}).items()
        if hosts
    ]
    assert set(published) == {"8080/tcp", "8443/tcp"}


def test_an_apply_that_changes_nothing_says_so(monitored):
    assert "nothing was done" in monitored.run("./deploy/rentomatic", "apply").stdout


def test_the_administrator_sees_what_statements_cost(monitored):
    monitored.get("/rooms?limit=1")
    statement = "SELECT sum(calls) > 0 FROM pg_stat_statements WHERE query LIKE '%FROM room%'"
    command = ["psql", "-U", "postgres", "-d", "postgres", "-Atc", statement]
    assert monitored.inside("db", *command).stdout == "t\n"
    assert monitored.sql("SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'") == "0"


def test_a_slow_statement_is_found_by_its_request(monitored):
    request = "0123456789abcdef0123456789abcdef"
    monitored.sql(f"SELECT pg_sleep(1.1) /*request_id='{request}',route='rooms'*/")
    found = monitored.run("./deploy/rentomatic", "logs", request).stdout
    assert "duration: 1" in found
    assert "route='rooms'" in found


def test_with_replicas_each_server_has_an_exporter(monitored):
    monitored.set("REPLICAS", "on")
    monitored.run("./deploy/rentomatic", "apply", "--accept")

    def roles() -> dict[str, str]:
        found = query(monitored, "pg_settings_in_hot_standby")
        return {one["metric"]["server"]: one["value"][1] for one in found}

    rig.wait_until(lambda: roles() == {"db": "0", "replica1": "1", "replica2": "1"}, "three servers", 120)
    assert "nothing was done" in monitored.run("./deploy/rentomatic", "apply").stdout
    monitored.compose("stop", "replica2")
    down = 'pg_up{server="replica2"} == 0'
    rig.wait_until(lambda: bool(query(monitored, down)), "a server that is away", 60)
    alert = 'ALERTS{alertname="ServerDown", server="replica2"}'
    rig.wait_until(lambda: bool(query(monitored, alert)), "its alert", 60)
    assert not query(monitored, 'ALERTS{alertname="DatabaseDown"}')
    monitored.set("REPLICAS", "off")
    monitored.run("./deploy/rentomatic", "apply", "--accept")
    assert not monitored.containers("replica1_exporter")


def test_without_the_overlay_its_services_go(monitored):
    monitored.set("COMPOSE_FILE", "compose.yml")
    monitored.run("./deploy/rentomatic", "apply")
    project = f"label=com.docker.compose.project={monitored.setting('COMPOSE_PROJECT_NAME')}"
    names = ["--format", '{{.Label "com.docker.compose.service"}}']
    running = monitored.run("docker", "ps", "--filter", project, *names).stdout.split()
    assert set(running) == {"db", "web", "nginx"}


def test_a_managed_postgresql_has_no_exporter_of_ours():
    files = ["-f", "compose.yml", "-f", "deploy/compose.monitoring.yml", "-f", "deploy/compose.managed.yml"]
    done = subprocess.run(
        ["docker", "compose", *files, "config", "--services"],
        cwd=rig.PROJECT,
        env={"PATH": rig.PATH, "COMPOSE_PROJECT_NAME": "managed"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) >= {"web", "prometheus", "grafana", "node_exporter"}
    assert "postgres_exporter" not in done.stdout
