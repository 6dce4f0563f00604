"""The site as its clients see it, through nginx."""

import http.client
import re
import socket
import ssl
from dataclasses import dataclass

from deploy.operations.doctor.finding import Finding, error, ok, skipped, warning


@dataclass(frozen=True)
class Site:
    """Where it listens on this host, and the name that it answers to."""

    host: str
    port: int
    address: str = "127.0.0.1"

    def wire(self) -> socket.socket:
        return self.connect()

    def connect(self) -> ssl.SSLSocket:
        wire = socket.create_connection((self.address, self.port), 10)
        context = ssl._create_unverified_context()  # noqa: S323 - the certificate has checks of its own
        return context.wrap_socket(wire, server_hostname=self.host)

    def get(self, path: str, **headers: str) -> tuple[int, dict[str, str], str]:
        """Status (0: no response), headers with small letters, and the text."""
        connection = http.client.HTTPConnection(self.host, self.port)
        try:
            connection.sock = self.wire()
            connection.request("GET", path, headers=self.forwarded() | headers)
            response = connection.getresponse()
            text = response.read().decode(errors="replace")
            return response.status, {name.lower(): value for name, value in response.getheaders()}, text
        except (OSError, http.client.HTTPException) as reason:
            return 0, {}, str(reason)
        finally:
            connection.close()

    def forwarded(self) -> dict[str, str]:
        """What nginx of the site's host would say of the client, where it stands in its place."""
        return {}


class WebHost(Site):
    """A host with `web` only, which the site's host asks by plain HTTP."""

    def wire(self) -> socket.socket:
        return socket.create_connection((self.address, self.port), 10)

    def forwarded(self) -> dict[str, str]:
        return {"X-Forwarded-Proto": "https"}


def answer(site: Site) -> Finding:
    status, _, text = site.get("/rooms?limit=1&fields=price", Accept="application/json")
    if status == 200:
        return ok("a list comes through nginx")
    return error(
        f"/rooms is {status or 'no response'}: {text[:200]}", "docker compose logs --tail 20 nginx web"
    )


def cache(site: Site, wanted: bool) -> Finding:
    """The second of two equal requests comes from nginx's cache."""
    if not wanted:
        return ok("the cache is off (NGINX_MICROCACHE)")
    for _ in range(5):  # a second may end between two requests
        said = [site.get("/rooms?limit=1", Accept="application/json")[1].get("x-cache", "") for _ in range(2)]
        if said[1] in {"HIT", "UPDATING", "STALE"}:
            return ok("a repeated request comes from the cache")
    return warning(
        f"a repeated request does not come from the cache ({said[1] or 'no X-Cache'})",
        "./deploy/rentomatic apply",
    )


def login(site: Site, is_under_maintenance: bool = False) -> Finding:
    if is_under_maintenance:
        return error(
            "the maintenance page is in place of the admin",
            "wait for the end of restore or upgrade; where none is under way, rm deploy/rendered/maintenance",
        )
    status, _, text = site.get("/admin/login/")
    if status == 200 and "csrfmiddlewaretoken" in text:
        return ok("the admin's login page comes")
    return error(f"/admin/login/ is {status or 'no response'}", "docker compose logs --tail 20 web")


def static_files(site: Site) -> Finding:
    status, _, text = site.get("/admin/login/")
    if status != 200:
        return skipped("not looked at: the login page, which names them, does not come")
    paths = re.findall(r'(?:href|src)="(/static/[^"]+)"', text)
    missing = [path for path in paths if site.get(path)[0] != 200]
    if missing or not paths:
        return error(
            f"static files are missing: {', '.join(missing[:3]) or 'the login page names none'}",
            "./deploy/rentomatic rollout",
        )
    return ok(f"{len(paths)} static files of the login page come")


def map_file(site: Site, name: str) -> Finding:
    """Whether the tiles of the map come by ranges; the file may have gigabytes."""
    if not name:
        return ok("the map has no file of tiles (MAP_PMTILES)")
    status, _, text = site.get(f"/map/{name}", Range="bytes=0-6")
    if status == 206 and text == "PMTiles":
        return ok(f"{name} comes by ranges of bytes")
    found = "is no PMTiles file" if status == 206 else f"is {status or 'no response'}"
    return error(f"/map/{name} {found}", f"ls -l deploy/maps/{name}")


def served_certificate(site: Site, chain: str) -> Finding:
    """Whether nginx has loaded the certificate that is in the file."""
    try:
        with site.connect() as tls:
            served = tls.getpeercert(binary_form=True) or b""
    except OSError as reason:
        return error(f"no TLS with {site.host}: {reason}", "docker compose logs --tail 20 nginx")
    first = chain[: chain.find("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----")]
    if ssl.DER_cert_to_PEM_cert(served).split() == first.split():
        return ok("nginx serves the certificate of deploy/certificates")
    return error("nginx serves another certificate than deploy/certificates has", "./deploy/rentomatic apply")
