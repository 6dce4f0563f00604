"""
Several web hosts: nginx and the database on one, `web` on others too.

On the site's host WEB_HOSTS are further upstreams of nginx, and DATABASE_ADDRESS is where the others reach
`db`. On a web host ROLE=web leaves nothing but `web`, behind WEB_ADDRESS (deploy/nginx/web).
"""

import http.client
import ipaddress
import json
import socket
import time
from dataclasses import dataclass

from deploy.operations import environment
from deploy.operations.docker import Docker
from deploy.operations.project import FOLDER, Project
from deploy.operations.report import Failure, Report

OVERLAY = "deploy/compose.hosts.yml"
WEB_OVERLAY = "deploy/compose.web.yml"
SECRETS = ("secret_key", "secret_key_fallbacks", "application_password")
"""Files of deploy/secrets that all hosts share."""

OF_THE_SITE = ("REPLICAS", "PITR", "POOLER", "HTTPS", "WEB_HOSTS", "DATABASE_ADDRESS")
"""Variables of what a web host does not have."""

REACH_IT = (
    "POSTGRES_HOSTNAME and POSTGRES_PORT in .env; application_password in deploy/secrets, a copy of that of "
    "the site's host; there DATABASE_ADDRESS, and its firewall"
)

PATIENCE = 5
"""Seconds that a host may take to answer."""

NO_RESPONSE = "no response"

# --- .env


def choose(project: Project, report: Report, *, dry: bool = False) -> None:
    """Name the overlays in COMPOSE_FILE, or not, as .env says; Failure where that cannot be."""
    role = project.setting("ROLE", "site")
    if role not in {"site", "web"}:
        raise Failure(
            f"ROLE={role} in .env is not known; nothing was changed",
            "ROLE=web on a host that has `web` only, or no ROLE",
        )
    if project.is_web_host:
        expect_a_web_host(project)
    else:
        web_hosts(project)
        expect_a_database(project)
    published = bool(project.setting("DATABASE_ADDRESS"))
    project.choose_overlay(OVERLAY, published, report, dry=dry)
    project.choose_overlay(WEB_OVERLAY, project.is_web_host, report, dry=dry)


def expect_a_web_host(project: Project) -> None:
    for name in OF_THE_SITE:
        if (value := project.setting(name, "off")) != "off":
            raise Failure(
                f"{name}={value} is for the site's host, and ROLE=web in .env; nothing was changed",
                f"take {name} out of .env",
            )
    if project.managed:
        raise Failure(
            "with a managed database each host has all services, and ROLE=web in .env; nothing was changed",
            "take ROLE out of .env",
        )
    one_address(project, "WEB_ADDRESS", "10.0.0.2:8000, of this host, on the network of the hosts")
    if not project.setting("POSTGRES_HOSTNAME"):
        raise Failure(
            "ROLE=web in .env, and no POSTGRES_HOSTNAME; nothing was changed",
            "POSTGRES_HOSTNAME=10.0.0.1, the address in DATABASE_ADDRESS of the site's host",
        )


def expect_a_database(project: Project) -> None:
    """Failure where DATABASE_ADDRESS leads other hosts to what is no database of theirs."""
    if not project.setting("DATABASE_ADDRESS"):
        return
    one_address(project, "DATABASE_ADDRESS", "10.0.0.1:5432, of this host, on the network of the hosts")
    if project.managed:
        raise Failure(
            "DATABASE_ADDRESS is for a database of ours, and .env names a managed one; nothing was changed",
            "take DATABASE_ADDRESS out of .env",
        )
    if project.setting("REPLICAS", "off") != "off":
        raise Failure(
            "DATABASE_ADDRESS leads other hosts to `db`, and with REPLICAS another server may become the "
            "primary; nothing was changed",
            "REPLICAS=off, or a managed database",
        )


def one_address(project: Project, name: str, example: str) -> tuple[str, int]:
    found = addresses(project, name, example)
    if len(found) != 1:
        raise Failure(f"{name} in .env is to be one address; nothing was changed", f"{name}={example}")
    return found[0]


def web_hosts(project: Project) -> list[tuple[str, int]]:
    """The other hosts' addresses and ports."""
    return addresses(project, "WEB_HOSTS", "10.0.0.2:8000,10.0.0.3:8000, the WEB_ADDRESS of each")


def addresses(project: Project, name: str, example: str) -> list[tuple[str, int]]:
    """The `IP:PORT` of a variable. No names: nginx does not start where DNS does not resolve one."""
    value = project.setting(name)
    try:
        return [parsed(text.strip()) for text in value.split(",")] if value else []
    except ValueError as reason:
        raise Failure(f"{name}={value} in .env: {reason}; nothing was changed", f"{name}={example}") from None


def parsed(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise ValueError(f"{text!r} has no port")
    if ":" in host and not (host.startswith("[") and host.endswith("]")):
        raise ValueError(f"{text!r} is IPv6 without brackets")
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        raise ValueError(f"{host!r} is no IP address") from None
    if address.is_unspecified:
        raise ValueError(f"{host!r} is no host's address")
    return str(address), int(port)


def written(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def upstreams(project: Project) -> str:
    """
    nginx's `server` lines of the other hosts, each with as many requests as this host's replicas.

    A host that is away costs a request half a second: after three of them it is left out for five seconds.
    Twice, so that a request that meets a worker's end may ask the host again, where no other one is left.
    """
    replicas = int(project.setting("WEB_REPLICAS", "2")) or 1
    # compose.yml names each replica of this host four times.
    line = "server {} weight={} max_fails=3 fail_timeout=5s;"
    return " ".join(line.format(written(one), 2 * replicas) for one in web_hosts(project) for _ in range(2))


def expect_the_database(project: Project) -> None:
    """Failure where a web host does not reach the database; its replicas would say so after a minute."""
    if not project.is_web_host:
        return
    address = project.setting("POSTGRES_HOSTNAME"), int(project.setting("POSTGRES_PORT", "5432"))
    try:
        socket.create_connection(address, PATIENCE).close()
    except OSError as reason:
        raise Failure(
            f"the database does not answer at {written(address)}: {reason}; nothing was done", REACH_IT
        ) from None


def refuse(command: str) -> None:
    """Failure where this folder's .env says that the database is another host's."""
    file = FOLDER / ".env"
    if file.exists() and environment.parse(file.read_text()).get("ROLE") == "web":
        raise Failure(
            f"{command} is for the site's host, and this one has `web` only (ROLE=web); nothing was done",
            "the same on the site's host; docs/scaling.md, Several web hosts, has the order",
        )


def next_step(project: Project, reason: str, otherwise: str) -> str:
    """What mends a replica of a web host that is not ready for this reason."""
    if not project.is_web_host:
        return otherwise
    if "migrations pending" in reason:
        return "./deploy/rentomatic rollout on the site's host, then here"
    if "schema is newer" in reason:
        return "the release of the site's host here: git pull; then ./deploy/rentomatic rollout"
    if "database does not answer" in reason:
        return REACH_IT
    return otherwise


# --- What they say


@dataclass(frozen=True)
class Answer:
    """What /readyz of a host says; of one that does not respond only why."""

    reason: str = ""
    """Why it is not ready; empty where it is."""
    release: str = ""
    """A digest of its code."""
    key: str = ""
    """A digest of its SECRET_KEY."""


def answer(text: str) -> Answer:
    """The answer that a body of /readyz is; ValueError where it is none."""
    body = json.loads(text)
    if not isinstance(body, dict):
        raise ValueError("no object")
    reason = "" if body.get("ready") else str(body.get("reason", "it does not say why"))
    return Answer(reason, str(body.get("release", "")), str(body.get("key", "")))


def ask(address: tuple[str, int]) -> Answer:
    """What a host says of itself; one that does not respond, as when it is restarted, is asked again."""
    deadline = time.monotonic() + PATIENCE
    while (found := ask_once(address)).reason.startswith(NO_RESPONSE) and time.monotonic() < deadline:
        time.sleep(0.5)
    return found


def ask_once(address: tuple[str, int]) -> Answer:
    """As nginx asks."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE)
    try:
        connection.request("GET", "/readyz")
        return answer(connection.getresponse().read().decode(errors="replace"))
    except (OSError, http.client.HTTPException) as reason:
        return Answer(f"{NO_RESPONSE}: {reason}")
    except ValueError:
        return Answer(f"{NO_RESPONSE} of this application")
    finally:
        connection.close()


def ask_all(project: Project) -> dict[str, Answer]:
    return {written(one): ask(one) for one in web_hosts(project)}


def own(docker: Docker) -> Answer:
    """What a replica of this host says; only that it is not ready where none is."""
    command = ["python", "deploy/healthcheck.py"]
    try:
        return answer(docker("exec", docker.running("web"), *command, check=False, timeout=20).stdout)
    except (Failure, ValueError):
        return Answer("not ready")
