"""deploy/monitoring: the rules and the dashboard, by promtool and by a Prometheus that scrapes a site."""

import itertools
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from deploy.tests.test_metrics import Measured
from rentomatic_site.testing import proxy, rig
from rentomatic_site.testing.documents import PROJECT, Document
from rentomatic_site.testing.plugin import needs

MONITORING = PROJECT / "deploy" / "monitoring"
CONFIGURATION = yaml.safe_load((MONITORING / "prometheus.yml").read_text())
RULES = [
    rule
    for group in yaml.safe_load((MONITORING / "rules.yml").read_text())["groups"]
    for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
PANELS = json.loads((MONITORING / "grafana/dashboards/rentomatic.json").read_text())["panels"]
QUERIES = [(panel["title"], target["expr"]) for panel in PANELS for target in panel.get("targets", [])]
OVERLAY = yaml.safe_load((PROJECT / "deploy/compose.monitoring.yml").read_text())
RUNBOOK = Document("docs/runbook.md")

NOT_HERE = re.compile(r"\bnode_|rentomatic_(backup|drill)_|ALERTS|cache=\"hit\"")
"""What the Prometheus of these tests has no target for, or what has not happened."""


def test_rules_are_valid():
    needs("promtool")
    subprocess.run(["promtool", "check", "rules", MONITORING / "rules.yml"], check=True, capture_output=True)


def test_alerts_begin_and_end_as_they_should():
    needs("promtool")
    command = ["promtool", "test", "rules", "monitoring_rules.yml"]
    done = subprocess.run(command, cwd=PROJECT / "deploy/tests", capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_configuration_is_valid(tmp_path):
    needs("promtool")
    for name in ("prometheus.yml", "rules.yml"):
        (tmp_path / name).write_text((MONITORING / name).read_text())
    command = ["promtool", "check", "config", tmp_path / "prometheus.yml"]
    subprocess.run(command, check=True, capture_output=True)


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_has_its_page_in_the_runbook(rule):
    document, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert document == RUNBOOK.name
    assert anchor in RUNBOOK.anchors
    assert rule["alert"] in RUNBOOK.text
    assert rule["labels"]["severity"] in {"page", "ticket"}


def test_every_alert_is_tried():
    tests = yaml.safe_load((PROJECT / "deploy/tests/monitoring_rules.yml").read_text())["tests"]
    tried = {case["alertname"] for one in tests for case in one["alert_rule_test"] if case.get("exp_alerts")}
    assert tried == {rule["alert"] for rule in ALERTS}


def test_every_image_has_its_version():
    images = [service["image"] for service in OVERLAY["services"].values() if "image" in service]
    assert len(images) == 5
    assert [image for image in images if not re.search(r":v?\d+\.\d+\.\d+}$", image)] == []


def test_the_targets_are_services_of_the_overlay():
    targets = [
        target.partition(":")[0]
        for job in CONFIGURATION["scrape_configs"]
        for static in job.get("static_configs", [])
        for target in static["targets"]
    ]
    assert (
        set(targets) == {"postgres_exporter", "nginx_exporter", "node_exporter"} <= set(OVERLAY["services"])
    )
    of_replicas = yaml.safe_load((MONITORING / "replicas.yml").read_text())
    targets = [target.partition(":")[0] for static in of_replicas for target in static["targets"]]
    exporters = yaml.safe_load((PROJECT / "deploy/compose.monitoring-replicas.yml").read_text())["services"]
    assert {*targets, "prometheus"} == set(exporters)
    (replicas,) = CONFIGURATION["scrape_configs"][0]["dns_sd_configs"]
    bind = OVERLAY["services"]["web"]["environment"]["METRICS_BIND"]
    assert (replicas["names"], replicas["type"]) == (["web"], "A")
    assert bind == f"0.0.0.0:{replicas['port']}"


def test_prometheus_sees_replicas_on_one_network_only():
    """DNS would name each replica once for each network."""
    compose = yaml.safe_load((PROJECT / "compose.yml").read_text())
    shared = set(OVERLAY["services"]["prometheus"]["networks"]) & set(compose["services"]["web"]["networks"])
    assert shared == {"front"}


def test_only_this_host_reaches_the_published_ports():
    ports = [port for service in OVERLAY["services"].values() for port in service.get("ports", [])]
    assert ports
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_nginx_knows_nothing_of_the_port_of_the_metrics():
    port = OVERLAY["services"]["web"]["environment"]["METRICS_BIND"].rpartition(":")[2]
    templates = (PROJECT / "deploy" / "nginx").glob("*.template")
    assert [path.name for path in templates if port in path.read_text()] == []


# --- Against a real Prometheus


class Prometheus(rig.Server):
    """prometheus on loopback, that has scraped each target twice."""

    def __init__(self, folder: Path, targets: dict[str, int]) -> None:
        self.port = rig.free_port()
        jobs = [
            {"job_name": job, "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
            for job, port in targets.items()
        ]
        short = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        (folder / "rules.yml").write_text((MONITORING / "rules.yml").read_text())
        (folder / "prometheus.yml").write_text(
            yaml.dump(CONFIGURATION | {"global": short, "scrape_configs": jobs})
        )
        command = [
            "prometheus",
            f"--config.file={folder}/prometheus.yml",
            f"--storage.tsdb.path={folder}/data",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        super().__init__(command, {"PATH": rig.PATH}, folder / "prometheus.log")
        self.wait_for(lambda: rig.get(self.port, "/-/ready").status == 200, 60)
        self.wait_for(lambda: len(self.query("count_over_time(up[1m]) >= 3")) == len(targets), 60)

    def query(self, expression: str) -> list[dict]:
        response = rig.get(self.port, f"/api/v1/query?query={quote(expression)}")
        answer = json.loads(response.body)
        assert answer["status"] == "success", (expression, answer.get("error"))
        return answer["data"]["result"]


@pytest.fixture(scope="module")
def prometheus(live_site, tmp_path_factory) -> Iterator[Prometheus]:
    needs("prometheus", "prometheus-postgres-exporter", "prometheus-nginx-exporter", "nginx", "openssl")
    folder = tmp_path_factory.mktemp("monitoring")
    variables = live_site.variables
    source = " ".join(
        f"{word}={variables[name]}"
        for word, name in (
            ("host", "POSTGRES_HOSTNAME"),
            ("port", "POSTGRES_PORT"),
            ("user", "POSTGRES_USER"),
            ("dbname", "APPLICATION_DB"),
        )
    )
    postgres, nginx, limits = rig.free_port(), rig.free_port(), itertools.count()  # limit=0 is 400
    with (
        Measured(folder, **variables) as site,
        proxy.Nginx(folder / "nginx", site.port) as front,
        rig.Server(
            ["prometheus-postgres-exporter", f"--web.listen-address=127.0.0.1:{postgres}"],
            {"PATH": rig.PATH, "DATA_SOURCE_NAME": f"{source} sslmode=disable"},
            folder / "postgres_exporter.log",
        ),
        rig.Server(
            [
                "prometheus-nginx-exporter",
                f"-web.listen-address=127.0.0.1:{nginx}",
                f"-nginx.scrape-uri=http://127.0.0.1:{front.status}/status",
            ],
            {"PATH": rig.PATH},
            folder / "nginx_exporter.log",
        ),
        rig.Load(lambda: front.get(f"/rooms?limit={next(limits) % 3}").status, clients=1),
        Prometheus(folder, {"web": site.metrics_port, "postgres": postgres, "nginx": nginx}) as server,
    ):
        yield server


@pytest.mark.parametrize(("panel", "expression"), QUERIES, ids=[f"{n}-{q[0]}" for n, q in enumerate(QUERIES)])
def test_a_query_of_the_dashboard_has_data(panel, expression, prometheus):
    found = prometheus.query(expression.replace("$__rate_interval", "1m"))
    if not NOT_HERE.search(expression):
        assert found


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_has_no_error(rule, prometheus):
    prometheus.query(rule["expr"])


def test_no_alert_is_on_while_all_is_well(prometheus):
    assert [result["metric"] for result in prometheus.query('ALERTS{alertstate="firing"}')] == []


def test_routes_and_statuses_are_those_of_the_requests(prometheus):
    found = prometheus.query("sum by (route, status) (rentomatic_http_requests_total)")
    pairs = {(result["metric"]["route"], result["metric"]["status"]) for result in found}
    assert {("rooms", "200"), ("rooms", "400")} <= pairs
