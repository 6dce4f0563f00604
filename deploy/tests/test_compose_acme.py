"""HTTPS=acme: a certificate of pebble, Let's Encrypt's authority for tests, over the real protocol."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.operations.doctor.site import Site
from deploy.operations.setup import self_signed
from deploy.tests.stack import PRICES, CountedLoad, Stack
from rentomatic_site.testing import rig
from rentomatic_site.testing.plugin import needs

pytestmark = [pytest.mark.compose, pytest.mark.needs("docker", "git", "pebble", "openssl")]

IMAGES = Path(__file__).parent / "images"
HOST = "rooms.example.test"

# certbot renews after half of so short a life: pebble's certificates live for a minute.
CONFIGURATION = {
    "listenAddress": "0.0.0.0:14000",
    "managementListenAddress": "0.0.0.0:15000",
    "certificate": "/pebble/fullchain.pem",
    "privateKey": "/pebble/privkey.pem",
    "httpPort": 8080,
    "tlsPort": 8443,
    "certificateValidityPeriod": 60,
}

# `busy` refuses everybody, as Let's Encrypt does who asks too often.
SERVICES = """
services:
  nginx:
    networks: {{front: {{aliases: [{host}]}}}}
  ca:
    image: {image}
    networks: [front]
  busy:
    image: python:3.13-slim
    networks: [front]
    command:
      - python3
      - -c
      - |
        from http.server import BaseHTTPRequestHandler, HTTPServer
        class Busy(BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(429)
                self.send_header("Content-Type", "application/problem+json")
                self.end_headers()
                kind = b"urn:ietf:params:acme:error:rateLimited"
                self.wfile.write(b'{{"type": "' + kind + b'", "detail": "too many"}}')
            do_POST = do_HEAD = do_GET
        HTTPServer(("", 8000), Busy).serve_forever()
"""


def build(tag: str, file: str, folder: Path) -> None:
    subprocess.run(
        ["docker", "build", "--quiet", "--tag", tag, "--file", str(IMAGES / file), str(folder)],
        check=True,
        stdout=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def acme(tmp_path_factory) -> Iterator[Stack]:
    """A stack whose host resolves, beside an authority; it has the self-signed certificate of `setup`."""
    needs("docker", "git", "pebble", "openssl")
    certbot = "certbot/certbot:v5.8.0"
    if subprocess.run(["docker", "image", "inspect", certbot], capture_output=True).returncode and (
        subprocess.run(["docker", "pull", certbot], capture_output=True).returncode
    ):
        build(certbot, "certbot.Dockerfile", IMAGES)
    authority = tmp_path_factory.mktemp("authority")
    self_signed("ca", authority / "fullchain.pem", authority / "privkey.pem")
    (authority / "config.json").write_text(json.dumps({"pebble": CONFIGURATION}))
    shutil.copy2(shutil.which("pebble"), authority / "pebble")
    stack = Stack(tmp_path_factory.mktemp("acme"))
    image = f"pebble-of-{stack.setting('COMPOSE_PROJECT_NAME')}"
    build(image, "pebble.Dockerfile", authority)
    (stack.folder / "ca.yml").write_text(SERVICES.format(host=HOST, image=image))
    for name, value in {
        "SITE_HOST": HOST,
        "SITE_ADDRESS": f"https://{HOST}:{stack.https}",
        "COMPOSE_FILE": "compose.yml:ca.yml",
        "ACME_SERVER": "https://ca:14000/dir",
        "ACME_CA_BUNDLE": "/etc/letsencrypt/ca.pem",
        "ACME_INTERVAL": "5",
    }.items():
        stack.set(name, value)
    (stack.folder / "deploy/letsencrypt").mkdir()
    shutil.copy2(authority / "fullchain.pem", stack.folder / "deploy/letsencrypt/ca.pem")
    try:
        stack.run("./deploy/rentomatic", "rollout")
        yield stack
    finally:
        stack.remove()
        subprocess.run(["docker", "image", "rm", image], check=True, stdout=subprocess.DEVNULL)


def site(stack: Stack) -> Site:
    return Site(HOST, stack.https)


def served(stack: Stack) -> bytes:
    """The certificate that clients get."""
    with site(stack).connect() as tls:
        return tls.getpeercert(binary_form=True) or b""


def clients(stack: Stack) -> rig.Load:
    def request() -> int:
        time.sleep(0.02)
        return site(stack).get(f"/rooms?filter_price__gte={next(PRICES)}", Accept="application/json")[0]

    return CountedLoad(request)


def test_a_certificate_of_the_authority_takes_the_place_of_the_self_signed_one(acme):
    first = served(acme)
    acme.set("HTTPS", "acme")
    planned = acme.run("./deploy/rentomatic", "apply", "--dry-run").stdout
    assert "COMPOSE_FILE=compose.yml:ca.yml:deploy/compose.acme.yml" in planned
    assert acme.setting("COMPOSE_FILE") == "compose.yml:ca.yml"
    acme.run("./deploy/rentomatic", "apply", "--accept")
    rig.wait_until(lambda: served(acme) != first, "a certificate of the authority", 120)
    chain = acme.folder / "deploy/certificates/fullchain.pem"
    issuer = subprocess.check_output(["openssl", "x509", "-in", chain, "-noout", "-issuer"], text=True)
    assert "Pebble Intermediate CA" in issuer
    assert chain.read_text().count("BEGIN CERTIFICATE") >= 2
    key = acme.folder / "deploy/certificates/privkey.pem"
    assert key.stat().st_mode & 0o777 == 0o600
    assert acme.finding("renewal")["level"] == "ok"
    assert acme.finding("certificate-host")["level"] == "ok"
    assert not any(acme.operate("apply")["changes"].values())


def test_it_renews_by_itself_without_a_failed_request(acme):
    before, seen = served(acme), set()
    with clients(acme) as load:
        load.wait_for(20, 60)

        def renewed_twice() -> bool:
            seen.add(served(acme))
            return len(seen - {before}) >= 2

        rig.wait_until(renewed_twice, "two renewals", 300)
        load.wait_for(50, 60)
    assert set(load.statuses()) == {200}


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("ACME_SERVER", "https://nowhere:14000/dir", "nowhere"),
        ("ACME_SERVER", "http://busy:8000/dir", "too many"),
        ("SITE_HOST", "other.example.test", "other.example.test"),
    ],
)
def test_a_failure_keeps_the_certificate_and_doctor_says_it(acme, variable, value, reason):
    right = acme.setting(variable)
    certificate = acme.folder / "deploy/certificates/fullchain.pem"
    acme.compose("stop", "acme")
    before = certificate.read_bytes()
    acme.set(variable, value)
    try:
        acme.compose("up", "--detach", "--no-deps", "acme")
        rig.wait_until(lambda: acme.finding("renewal")["level"] == "error", "a failure", 120)
        found = acme.finding("renewal")
    finally:
        acme.set(variable, right)
    assert reason in found["text"]
    assert "the old one stays" in found["text"]
    assert found["command"] == "docker compose logs --tail 30 acme"
    assert certificate.read_bytes() == before
    assert site(acme).get("/rooms?limit=1", Accept="application/json")[0] == 200
    acme.compose("up", "--detach", "--no-deps", "acme")
    rig.wait_until(lambda: acme.finding("renewal")["level"] == "ok", "a certificate again", 120)


def test_without_https_the_service_goes(acme):
    acme.set("HTTPS", "")
    acme.run("./deploy/rentomatic", "apply", "--accept")
    assert acme.setting("COMPOSE_FILE") == "compose.yml:ca.yml"
    project = acme.setting("COMPOSE_PROJECT_NAME")
    names = acme.run("docker", "ps", "--all", "--format", "{{.Names}}").stdout.split()
    assert f"{project}-nginx-1" in names
    assert f"{project}-acme-1" not in names
