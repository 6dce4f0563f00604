"""nginx with the shipped templates, in front of servers on loopback."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import yaml

from deploy.operations import setup
from rentomatic_site.testing.rig import PATH, PROJECT, Response, Server, free_port, get, wait_until


class Nginx(Server):
    """nginx with the shipped templates in front of servers on loopback: TLS, redirect and all."""

    def __init__(self, folder: Path, *upstreams: int | str, **variables: str) -> None:
        folder.mkdir(exist_ok=True)
        self.http, self.https, self.status, health = (free_port() for _ in range(4))
        self.url = f"https://localhost:{self.https}"
        self.certificates = folder / "certificates"
        self.certificates.mkdir()
        self.folder, self.acme = folder, folder / "acme"
        self.acme.mkdir()
        self.maps = folder / "maps"
        self.maps.mkdir()
        self_signed(self.certificates, "localhost")
        servers = [
            f"127.0.0.1:{server} max_fails=0" if isinstance(server, int) else server for server in upstreams
        ]
        variables = {
            **defaults(),
            "NGINX_RUN": str(folder),
            "NGINX_ACCESS_LOG": "/dev/stdout",
            "NGINX_CERTIFICATES": str(self.certificates),
            "NGINX_ACME": str(self.acme),
            "NGINX_MAPS": str(self.maps),
            "NGINX_HTTP": f"127.0.0.1:{self.http}",
            "NGINX_HTTPS": f"127.0.0.1:{self.https}",
            "NGINX_HEALTH_PORT": str(health),
            "NGINX_STATUS": f"127.0.0.1:{self.status}",
            "NGINX_ADDRESS": self.url,
            "NGINX_UPSTREAM": " ".join(f"server {server};" for server in servers),
            **variables,
        }
        # `http2 on` came with nginx 1.25.1; in older ones it is a parameter of `listen`.
        if nginx_version() < (1, 25, 1):
            variables["NGINX_HTTP2"] = ""
        if nginx_version() < (1, 27, 4):
            variables["NGINX_KEEPALIVE"] = ""
        for template in (PROJECT / "deploy" / "nginx").glob("*.template"):
            (folder / template.stem).write_text(render(template.read_text(), variables))
        # As root, nginx would give its workers to a user who may not enter a test's folder.
        user = "user root;" if os.getuid() == 0 else ""
        command = ["nginx", "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", f"daemon off; {user}"]
        self.access_log = folder / "access.log"
        super().__init__(command, {"PATH": PATH}, folder / "error.log", stdout=self.access_log)
        self.wait_for(lambda: get(health, "/health", timeout=2).status == 200)

    def get(self, path: str, **options: Any) -> Response:
        """A request over TLS for the host that it serves."""
        return get(self.https, path, tls=True, **options)

    def lines(self) -> list[dict]:
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]

    def line(self, response: Response) -> dict:
        """The access log's line about a response, once it is written."""
        request_id = response.headers["X-Request-ID"]

        def found() -> list[dict]:
            return [line for line in self.lines() if line["request_id"] == request_id]

        wait_until(found, f"a line about {request_id}")
        return found()[0]


def defaults() -> dict[str, str]:
    """The variables that compose.yml gives to nginx, each with its default."""
    variables = yaml.safe_load((PROJECT / "compose.yml").read_text())["x-nginx"]
    return {name: re.sub(r"\$\{\w+:?-([^}]*)\}", r"\1", str(value)) for name, value in variables.items()}


def render(template: str, variables: dict[str, str]) -> str:
    """What envsubst does in the image: `${NAME}` for each defined name, everything else stays."""
    return re.sub(r"\$\{(\w+)\}", lambda found: variables.get(found[1], found[0]), template)


def nginx_version() -> tuple[int, ...]:
    version = subprocess.run(["nginx", "-v"], capture_output=True, text=True, env={"PATH": PATH}).stderr
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])


def self_signed(folder: Path, host: str) -> None:
    """A key and a certificate for `host`, for two days, under the names that nginx looks for."""
    setup.self_signed(host, folder / "fullchain.pem", folder / "privkey.pem", days=2)
