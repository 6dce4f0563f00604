"""`setup`: what a first start needs, .env, secrets and a certificate."""

import argparse
import base64
import hashlib
import hmac
import os
import re
import secrets
import sys
from pathlib import Path

from deploy.operations import environment, process
from deploy.operations.project import FOLDER, lock_file
from deploy.operations.report import Failure, Report

HELP = """\
Prepare a production start: .env, secrets and a self-signed certificate.

HOST is the name under which people reach the site (default: localhost). What exists is kept, so it is safe to
run again; nothing is started."""

ENVIRONMENT = """\
# Production, written by ./deploy/rentomatic setup. No secret is in here; those are files in deploy/secrets.
# Every variable of compose.yml may be set; docs/deployment.md explains them. What you change takes effect
# with ./deploy/rentomatic apply.

# The name of this folder's containers and of its volume, and the folder: commands refuse to work elsewhere.
COMPOSE_PROJECT_NAME=rentomatic-{id}
PROJECT_FOLDER={folder}

# The host name, and the one address that people are sent to.
SITE_HOST={host}
SITE_ADDRESS=https://{host}:8443
HTTP_PORT=8080
HTTPS_PORT=8443
# How many gunicorn containers; `docker compose up -d --no-recreate --scale web=3` changes it for now.
WEB_REPLICAS=2
# Who the containers are: the owner (user:group) of deploy/secrets and of the certificate's key.
RUN_AS={owner}
# The major version of the database's files; ./deploy/rentomatic upgrade changes it.
POSTGRES_VERSION=18
# on: two more database servers, which are read from and can each become the primary (docs/scaling.md).
REPLICAS=off
# on: the threads of the site share a few connections to the database (docs/scaling.md).
POOLER=off
# When backups are made, and the newest is proven, in the words of systemd's OnCalendar; then
# ./deploy/rentomatic schedule.
BACKUP_AT=03:15
DRILL_AT=Sun 04:15
# Another place for them: a folder, or a remote of deploy/secrets/rclone.conf, such as store:bucket/rooms.
BACKUP_TO=
"""

SECRETS = ("secret_key", "postgres_password", "application_password")


def owner() -> tuple[int, int]:
    """Who the containers run as: the person who runs this or, for root, a user of no rights."""
    return (os.getuid(), os.getgid()) if os.getuid() else (10001, 10001)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("host", nargs="?", metavar="HOST", help="the site's host name (default: localhost)")


def run(options: argparse.Namespace, report: Report) -> None:
    host = options.host
    if host is None:
        asked = input("Host name of the site [localhost]: ").strip() if sys.stdin.isatty() else ""
        host = asked or "localhost"
    if not re.fullmatch(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*", host) or len(host) > 253:
        raise Failure(f"{host!r} is no host name", "./deploy/rentomatic setup rooms.example.com", status=2)
    setup = Setup(FOLDER, report, options.dry_run)
    setup.refuse_a_foreign(host)
    if options.dry_run:
        setup.prepare(host)
    else:
        with lock_file(setup.deploy / ".lock", "setup", options.wait):
            setup.prepare(host)


class Setup:
    """The files of a folder; with `dry` they are named and not written."""

    def __init__(self, project: Path, report: Report, dry: bool) -> None:
        self.project = project
        self.deploy = project / "deploy"
        self.report = report
        self.dry = dry
        self.written = "missing " if dry else "written "

    def prepare(self, host: str) -> None:
        file = self.project / ".env"
        self.write_all(file, host)
        address = self.variables(file).get("SITE_ADDRESS", f"https://{host}:8443")
        self.report.data["url"] = f"{address}/rooms"
        self.report.say(f"\nNext:\n    ./deploy/rentomatic rollout\nthen open {address}/rooms")

    def variables(self, file: Path) -> dict[str, str]:
        return environment.parse(file.read_text()) if file.exists() else {}

    def refuse_a_foreign(self, host: str) -> None:
        """Failure where .env is a developer's, or another folder's."""
        file = self.project / ".env"
        if not file.exists():
            return
        folder = self.variables(file).get("PROJECT_FOLDER")
        if folder is None:
            raise Failure(
                "there is a .env that is not from this command, probably a developer's. Nothing was changed",
                f"mv .env .env.development && ./deploy/rentomatic setup {host}",
            )
        if folder != str(self.project):
            raise Failure(
                "the .env here is that of another folder, and so are the containers and the data that it "
                "names. Nothing was changed",
                f"for a site of its own, mv .env .env.copied && ./deploy/rentomatic setup {host}; if the "
                f"folder has moved, write PROJECT_FOLDER={self.project} into .env",
            )

    def write_all(self, file: Path, host: str) -> None:
        self.make_folder(self.deploy / "secrets", 0o700)
        for name in ("certificates", "acme", "maps", "rendered"):
            self.make_folder(self.deploy / name, 0o755)
        for name in SECRETS:
            self.write(self.deploy / "secrets" / name, secrets.token_urlsafe(50), 0o600)
        self.write(self.deploy / "secrets" / "secret_key_fallbacks", "", 0o600)
        password = self.deploy / "secrets" / "postgres_password"
        # The database's container reads it as a user of its own.
        verifier = scram(password.read_text().strip()) if password.exists() else ""
        self.write(self.deploy / "secrets" / "postgres_verifier", verifier, 0o644)
        text = ENVIRONMENT.format(
            host=host, owner="{}:{}".format(*owner()), id=secrets.token_hex(4), folder=self.project
        )
        self.write(file, text, 0o644)
        self.certificate(host)

    def make_folder(self, path: Path, mode: int) -> None:
        if not path.exists() and not self.dry:
            path.mkdir(mode=mode)
            path.chmod(mode)  # whatever the umask is

    def write(self, path: Path, text: str, mode: int) -> None:
        """Write a new file that at no time more people may read than `mode` says; keep an existing one."""
        name = path.relative_to(self.project)
        if path.exists():
            self.report.step(f"kept     {name}")
            return
        if not self.dry:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with os.fdopen(descriptor, "w") as file:
                os.fchmod(descriptor, mode)
                if os.getuid() == 0:
                    os.fchown(descriptor, *owner())
                file.write(text)
        self.report.step(f"{self.written} {name}")

    def certificate(self, host: str) -> None:
        """A self-signed certificate for a year, until one from an authority takes its place."""
        chain, key = (self.deploy / "certificates" / name for name in ("fullchain.pem", "privkey.pem"))
        if chain.exists() or key.exists():
            self.report.step("kept     deploy/certificates")
            return
        if not self.dry:
            self_signed(host, chain, key)
            if os.getuid() == 0:
                os.chown(key, *owner())
        self.report.step(f"{self.written} deploy/certificates: self-signed, for a year")


def self_signed(host: str, chain: Path, key: Path, days: int = 365) -> None:
    """Make a key, and a certificate for `host` that is valid for so long."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", str(days)]
    command += ["-subj", f"/CN={host[:64]}", "-addext", f"subjectAltName=DNS:{host}"]
    command += ["-keyout", str(key), "-out", str(chain)]
    before = os.umask(0o077)
    try:
        made = process.run(command)
    except FileNotFoundError:
        raise Failure(
            "openssl is missing, and no certificate was made",
            "apt install openssl && ./deploy/rentomatic setup",
        ) from None
    finally:
        os.umask(before)
    if not made:
        raise Failure(f"openssl made no certificate: {made.text}")
    chain.chmod(0o644)


def scram(password: str) -> str:
    """What PostgreSQL keeps of a password (RFC 5803): it checks a login and cannot be used for one."""
    salt = secrets.token_bytes(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, 4096)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored = hashlib.sha256(client).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256$4096:{salt64}${stored64}:{server64}"
