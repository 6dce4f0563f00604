"""The deployment's files, read as text: what must be in them, and that they agree with each other."""

import importlib.metadata
import re
import subprocess
from pathlib import Path

import pytest
import yaml
from django.conf import settings

from rentomatic_site.testing import proxy, rig
from rentomatic_site.testing.plugin import needs
from rooms.api.formats import FORMATS

PROJECT = rig.PROJECT
COMPOSE = yaml.safe_load((PROJECT / "compose.yml").read_text())
SERVICES = COMPOSE["services"]
TEMPLATES = sorted((PROJECT / "deploy" / "nginx").glob("*.template"))


def default(text: str, name: str) -> int:
    """The default of `${NAME:-number}` in a file."""
    found = re.search(rf"\$\{{{name}:-(\d+)\}}", text)
    assert found, name
    return int(found[1])


# --- compose.yml


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_is_hardened_and_limited(name):
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["user"] not in {"root", "0", 0}
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert service["restart"] == ("no" if name == "migrate" else "unless-stopped")


def test_the_receiver_of_wal_is_hardened_and_keeps_it_outside_of_the_databases_volume():
    service = yaml.safe_load((PROJECT / "deploy/compose.pitr.yml").read_text())["services"]["archive"]
    hardening = ("init", "read_only", "cap_drop", "security_opt", "logging", "restart")
    assert {name: service[name] for name in hardening} == {name: SERVICES["db"][name] for name in hardening}
    assert service["image"] == SERVICES["db"]["image"]  # a newer server would refuse its programs
    assert service["networks"] == ["data"]
    assert service["secrets"] == ["archive_password"]
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert not [mount for mount in service["volumes"] if "DATABASE_VOLUME" in mount]


def test_the_pooler_is_hardened_and_has_no_password_but_its_own():
    overlay = yaml.safe_load((PROJECT / "deploy/compose.pooler.yml").read_text())
    service = overlay["services"]["pooler"]
    hardening = ("init", "read_only", "cap_drop", "security_opt", "logging", "restart")
    assert {name: service[name] for name in hardening} == {name: SERVICES["db"][name] for name in hardening}
    assert service["user"] == SERVICES["web"]["user"]
    assert service["networks"] == ["data"]
    assert service["secrets"] == list(overlay["secrets"]) == ["pooler_password"]
    assert service["pull_policy"] == "never"
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert service["healthcheck"]
    assert "environment" not in service
    assert "ports" not in service
    assert "build" not in service
    image = (PROJECT / "deploy/pooler/Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", image, re.M) == ["${PYTHON_IMAGE}"]
    assert re.findall(r"^USER (.*)", image, re.M) == ["10001:10001"]


def test_more_clients_than_the_pooler_takes_are_not_reached_by_200_threads():
    template = (PROJECT / "deploy/pooler/pgbouncer.ini.template").read_text()
    (most,) = map(int, re.findall(r"^max_client_conn = (\d+)$", template, re.M))
    service = yaml.safe_load((PROJECT / "deploy/compose.pooler.yml").read_text())["services"]["pooler"]
    assert 2 * 200 * 2 < most < service["ulimits"]["nofile"]
    (wait,) = map(int, re.findall(r"^query_wait_timeout = (\d+)$", template, re.M))
    assert wait < settings.REQUEST_TIMEOUT


@pytest.mark.parametrize("name", ["replica1", "replica2"])
def test_a_replica_is_the_database_with_another_volume_and_name(name):
    services = yaml.safe_load((PROJECT / "deploy/compose.replicas.yml").read_text())["services"]
    replica, primary = services[name], services["db"]
    assert replica["extends"] == {"file": "compose.yml", "service": "db"}
    assert replica["environment"] == primary["environment"] | {"NODE": name}
    assert {key: replica[key] for key in ("entrypoint", "secrets", "dns")} == {
        key: primary[key] for key in ("entrypoint", "secrets", "dns")
    }
    assert f"${{{name.upper()}_VOLUME:-{name}}}:/var/lib/postgresql" in replica["volumes"]
    assert "ports" not in replica


def test_patroni_and_etcd_are_hardened_and_reached_on_the_internal_network_only():
    services = yaml.safe_load((PROJECT / "deploy/compose.ha.yml").read_text())["services"]
    assert services["replica1"] == services["replica2"]
    assert services["db"] == services["replica1"] | {"depends_on": services["db"]["depends_on"]}
    assert services["replica1"].keys() == {
        "build",
        "image",
        "volumes",
        "secrets",
        "healthcheck",
        "environment",
    }
    assert services["replica1"]["environment"].keys() == {"PATRONICTL_CONFIG_FILE"}
    hardening = ("init", "read_only", "cap_drop", "security_opt", "logging", "restart")
    for name in services["db"]["depends_on"]:
        own = services[name]
        assert {key: own[key] for key in hardening} == {key: SERVICES["db"][key] for key in hardening}
        assert own["networks"] == ["data"]
        assert own["environment"] == {"NODE": name}
        assert "ports" not in own
        assert own["mem_limit"]
        assert own["pids_limit"]


def test_another_volume_of_the_database_is_another_definition_of_its_container():
    name = "${DATABASE_VOLUME_NAME:-}"
    assert SERVICES["db"]["labels"] == {"rentomatic.volume": name}
    assert COMPOSE["volumes"]["database"]["name"].startswith(name.removesuffix("}"))


def test_only_nginx_is_published():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["nginx"]


def test_the_database_is_on_an_internal_network_of_its_own():
    assert COMPOSE["networks"]["data"]["internal"] is True
    assert SERVICES["db"]["networks"] == SERVICES["migrate"]["networks"] == ["data"]
    assert SERVICES["nginx"]["networks"] == ["front"]
    assert set(SERVICES["web"]["networks"]) == {"front", "data"}


def megabytes(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mMgG])B?", text).groups()
    return int(number) * (1024 if unit in "gG" else 1)


def test_postgres_reckons_with_no_more_memory_than_its_container_has():
    limit = megabytes(SERVICES["db"]["mem_limit"])
    command = " ".join(SERVICES["db"]["command"])
    shared = megabytes(re.search(r"shared_buffers=(\w+)", command)[1])
    assert shared <= limit / 2
    assert shared < megabytes(re.search(r"effective_cache_size=(\w+)", command)[1]) <= limit * 3 / 4


def test_a_tmpfs_lies_where_the_image_has_a_folder_that_its_user_may_write_to():
    """Older runc gives a restarted container's tmpfs the mode of that folder, whatever is asked for here."""
    for name, service in SERVICES.items():
        paths = {mount.split(":")[0] for mount in service["tmpfs"]}
        assert paths <= ({"/tmp", "/run/postgresql"} if name == "db" else {"/tmp"}), name  # noqa: S108 - of a container
        assert "mode" not in str(service["tmpfs"])


def test_nothing_but_a_rollout_decides_which_version_runs():
    assert not any("build" in service for service in SERVICES.values())
    assert {SERVICES[name]["image"].split(":-")[0] for name in ("web", "migrate")} == {"${IMAGE"}
    assert {SERVICES[name]["pull_policy"] for name in ("web", "migrate")} == {"never"}


def test_every_secret_of_the_settings_is_a_file_in_the_containers():
    assert SERVICES["web"]["environment"]["SECRET_KEY_FALLBACKS_FILE"] == "/run/secrets/secret_key_fallbacks"
    managed = (PROJECT / "deploy/compose.managed.yml").read_text()
    assert set(SERVICES["web"]["secrets"]) == {"secret_key", "secret_key_fallbacks", "application_password"}
    assert "[secret_key, secret_key_fallbacks, database_url]" in managed


def test_services_start_in_their_order():
    assert SERVICES["migrate"]["depends_on"] == {"db": {"condition": "service_healthy"}}
    assert SERVICES["web"]["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert SERVICES["nginx"]["depends_on"] == {"web": {"condition": "service_healthy"}}


def test_only_migrate_holds_the_superusers_password():
    holders = [
        name for name, service in SERVICES.items() if "postgres_password" in service.get("secrets", [])
    ]
    assert holders == ["migrate"]


def test_no_secret_is_in_an_environment():
    for name, service in SERVICES.items():
        for variable in service.get("environment", {}):
            if re.search("PASSWORD|SECRET", variable):
                assert variable.endswith("_FILE"), (name, variable)


def test_images_are_pinned_and_the_volume_is_the_parent_of_the_data():
    images = {name: service["image"] for name, service in SERVICES.items()}
    assert images["db"] == "${POSTGRES_IMAGE:-postgres:${POSTGRES_VERSION:-18}}"
    assert images["nginx"] == "${NGINX_IMAGE:-nginx:1.30}"
    data = SERVICES["db"]["environment"]["PGDATA"]
    assert data == "/var/lib/postgresql/${POSTGRES_VERSION:-18}/docker"
    assert SERVICES["db"]["volumes"] == ["${DATABASE_VOLUME:-database}:/var/lib/postgresql"]


def test_connections_stay_within_the_databases_limit():
    """Twice the replicas during a rollout, each process with a probe; migrate, a backup, five people."""
    text = (PROJECT / "compose.yml").read_text()
    each = settings.WEB_WORKERS * (settings.WEB_THREADS + 1)
    (allowed,) = re.findall(r"max_connections=(\d+)", text)
    reserved_for_superusers = 3
    for replicas in (default(text, "WEB_REPLICAS"), 3):
        assert 2 * replicas * each + 1 + 1 + 5 <= int(allowed) - reserved_for_superusers


@pytest.mark.unpooled("the limits are those of the role")
def test_timeouts_nest():
    """Whoever is nearer to the cause gives up first, and can say why."""
    gunicorn = (PROJECT / "deploy" / "gunicorn.conf.py").read_text()
    graceful = int(re.search(r"^graceful_timeout = (\d+)", gunicorn, re.M)[1])
    keepalive = int(re.search(r"^keepalive = (\d+)", gunicorn, re.M)[1])
    nginx = (PROJECT / "deploy" / "nginx" / "nginx.conf.template").read_text()
    read = int(proxy.defaults()["NGINX_READ_TIMEOUT"].removesuffix("s"))
    (statement,) = re.findall(r"statement_timeout=(\d+)", settings.DATABASES["default"]["OPTIONS"]["options"])
    assert int(statement) / 1000 < settings.REQUEST_TIMEOUT < read < graceful
    assert graceful < int(SERVICES["web"]["stop_grace_period"].removesuffix("s"))
    upstream_idle = re.search(r"keepalive_timeout (\d+)s;\n    }", nginx)
    assert int(upstream_idle[1]) < keepalive


def test_no_worker_leaves_after_a_share_of_requests():
    """It would take no new request until its slowest export is read, and its successor starts only then."""
    assert not re.search(r"^max_requests", (PROJECT / "deploy" / "gunicorn.conf.py").read_text(), re.M)


def test_hsts_of_nginx_is_that_of_the_application():
    assert proxy.defaults()["NGINX_HSTS"] == "max-age=31536000"
    assert "#HSTS_SECONDS=31536000\n" in (PROJECT / ".env.example").read_text()


@pytest.mark.parametrize("variables", ["compose.yml", "deploy/systemd/nginx.env"])
def test_every_variable_of_the_templates_has_a_value(variables):
    wanted = {name for path in TEMPLATES for name in re.findall(r"\$\{(\w+)\}", path.read_text())}
    passed = (
        set(proxy.defaults())
        if variables == "compose.yml"
        else set(re.findall(r"^(\w+)=", (PROJECT / variables).read_text(), re.M))
    )
    assert wanted <= passed
    assert passed - wanted == set()


def test_every_variable_of_a_web_hosts_nginx_is_one_of_the_sites():
    text = (PROJECT / "deploy/nginx/web/nginx.conf.template").read_text()
    assert set(re.findall(r"\$\{(\w+)\}", text)) <= set(proxy.defaults())


def test_a_web_hosts_nginx_takes_what_that_of_the_site_lets_through():
    """Bodies, headers; and it keeps a connection for longer, so that the site's nginx closes it."""
    site = "".join(path.read_text() for path in TEMPLATES)
    web = (PROJECT / "deploy/nginx/web/nginx.conf.template").read_text()
    largest = max(int(size) for size in re.findall(r"client_max_body_size (\d+)m;", site))
    assert f"client_max_body_size {largest}m;" in web
    for name in ("client_header_buffer_size", "large_client_header_buffers"):
        assert re.search(rf"{name} (.*?);", site)[1] == re.search(rf"{name} (.*?);", web)[1]
    upstream = re.search(r"keepalive 16;\s*keepalive_timeout (\d+)s", site)[1]
    assert int(re.search(r"keepalive_timeout (\d+)s", web)[1]) > int(upstream)


def test_nginx_takes_each_format_that_streams_for_an_export():
    streaming = {row.name for row in FORMATS.values() if row.streams}
    text = "".join(path.read_text() for path in TEMPLATES)
    by_suffix = re.findall(r"/rooms\\\.\(([a-z|]+)\)", text)
    by_accept = re.findall(r":/rooms:\.\*\(([^)]+)\)", text.replace(r"geo\+json", "geojson"))
    assert [set(names.split("|")) for names in by_suffix] == [streaming] * 2
    assert [streaming - set(names.replace("geo\\+json", "geojson").split("|")) for names in by_accept] == [
        set()
    ]


# --- The image


def test_the_image_builds_in_two_stages_and_ends_as_an_ordinary_user():
    text = (PROJECT / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", text, re.M) == ["${PYTHON_IMAGE}"] * 2
    assert "ARG PYTHON_IMAGE=python:3.13-slim" in text
    assert re.findall(r"^USER (.*)", text, re.M)[-1] == "10001:10001"
    assert "--require-hashes" in text
    assert "HEALTHCHECK" in text
    assert "syntax=" not in text  # would fetch a front end from a registry
    assert text.index("pip --python") < text.index("COPY . .")


def test_nothing_reaches_the_image_but_what_is_named():
    lines = (PROJECT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert not [
        rule for rule in rules if rule.startswith("!") and re.search(r"env|secret|cert|test|git", rule)
    ]
    assert "**/tests" in rules


def test_the_image_has_every_module_of_deploy_that_gunicorn_imports():
    named = (PROJECT / ".dockerignore").read_text().splitlines()
    imported = {
        module
        for path in (PROJECT / "deploy").glob("*.py")
        for module in re.findall(r"""(?:from |import |")deploy\.(\w+)""", path.read_text())
    }
    assert imported == {"watchdog", "worker"}
    assert {f"!deploy/{module}.py" for module in imported} <= set(named)


def test_versions_are_not_below_what_is_known_to_be_safe():
    def version(package: str) -> tuple[int, ...]:
        return tuple(int(part) for part in importlib.metadata.version(package).split(".")[:3])

    assert version("django")[:2] == (5, 2)
    assert version("gunicorn") >= (26, 1)


# --- Without containers


def test_templates_are_filled_in_for_a_plain_host(tmp_path):
    needs("nginx", "envsubst", "openssl")
    (tmp_path / "certificates").mkdir()
    proxy.self_signed(tmp_path / "certificates", "rooms.example.com")
    environment = (PROJECT / "deploy/systemd/nginx.env").read_text()
    for name, value in {
        "NGINX_CERTIFICATES": str(tmp_path / "certificates"),
        "NGINX_RUN": str(tmp_path),
        "NGINX_ACCESS_LOG": str(tmp_path / "access.log"),
        "NGINX_HTTP": str(rig.free_port()),
        "NGINX_HTTPS": f"'{rig.free_port()} http2'",
        "NGINX_HTTP2": "",
        "NGINX_KEEPALIVE": "",
    }.items():
        environment = re.sub(rf"^{name}=.*$", f"{name}={value}", environment, flags=re.M)
    (tmp_path / "environment").write_text(environment)
    subprocess.run(["deploy/nginx/render", tmp_path / "environment", tmp_path], cwd=PROJECT, check=True)
    done = subprocess.run(
        ["nginx", "-t", "-p", tmp_path, "-c", tmp_path / "nginx.conf"],
        env={"PATH": rig.PATH},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_systemd_accepts_the_units(tmp_path):
    needs("systemd-analyze")
    for unit in (PROJECT / "deploy" / "systemd").glob("rentomatic*"):
        # Where the programs are on this machine is not what is looked at.
        text = unit.read_text().replace("/srv/rentomatic/.venv/bin/python", "/bin/true")
        text = text.replace("/srv/rentomatic/.venv/bin/gunicorn", "/bin/true")
        text = text.replace("/srv/rentomatic/deploy/rentomatic", "/bin/true")
        (tmp_path / unit.name).write_text(text)
    units = sorted(str(path) for path in tmp_path.iterdir())
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if "rentomatic" in line]
    assert complaints == []


@pytest.mark.parametrize("name", ["rentomatic", "rentomatic-migrate"])
def test_systemd_counts_a_unit_for_well_protected(tmp_path, name):
    """By its own score from 0 (nothing is exposed) to 10; 9.2 is what a unit without protections has."""
    needs("systemd-analyze")
    text = (PROJECT / "deploy" / "systemd" / f"{name}.service").read_text()
    unit = tmp_path / f"{name}.service"
    unit.write_text(re.sub(r"/srv/rentomatic/.venv/bin/\w+", "/bin/true", text))
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=25", str(unit)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_gunicorn_takes_the_socket_that_systemd_opened(live_site, tmp_path):
    needs("systemd-socket-activate")
    port = rig.free_port()
    command = ["systemd-socket-activate", "--listen", f"127.0.0.1:{port}"]
    variables = rig.environment(**live_site.variables, WEB_BIND="127.0.0.1:1")
    command += [f"--setenv={name}={value}" for name, value in variables.items()]
    command += [rig.sys.executable, "-m", "gunicorn", "-c", "deploy/gunicorn.conf.py"]
    with rig.Server(command, variables, tmp_path / "gunicorn.log") as server:
        server.wait_for(lambda: rig.get(port, "/readyz", timeout=5).status == 200)


def test_shell_scripts_are_clean():
    needs("shellcheck")
    scripts = [
        path
        for path in sorted(Path(PROJECT, "deploy").rglob("*"))
        if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh")
    ]
    names = {"archive", "etcd", "node", "reload", "render", "renew", "start"}
    assert {path.name for path in scripts} == names
    subprocess.run(["shellcheck", "-x", *scripts], cwd=PROJECT, check=True)
