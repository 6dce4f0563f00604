"""`./manage.py wait_for_db`: the first step of a deployment."""

import socket
import struct
import time
from contextlib import closing
from typing import Any

import psycopg2
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from rentomatic_site import postgres

CANNOT_CONNECT_NOW = "57P03"
TOO_MANY_CONNECTIONS = "53300"
LONGEST_PAUSE = 2.0
"""Seconds between two trials, towards which the pause doubles."""


class Command(BaseCommand):
    help = (
        "Waits until the PostgreSQL server takes connections to the maintenance database POSTGRES_DB; the "
        "application's database need not exist yet. Changes nothing. Exit status 1: it did not in time; "
        "2: it refuses us (password, role, database), and waiting is no help."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="default: 60")

    def handle(self, *, timeout: float, **options: Any) -> None:
        server = settings.POSTGRES
        name = f"{server['host']}:{server['port']}/{server['dbname']}"
        deadline = time.monotonic() + timeout
        pause, said, refused_before = 0.1, "", False
        while True:
            # A connection's error has no SQLSTATE and comes in the server's language: so knock first.
            obstacle = self.knock()
            if obstacle is None:
                try:
                    with closing(postgres.connect()):
                        self.stdout.write(f"PostgreSQL at {name} takes connections.")
                        return
                except psycopg2.OperationalError as error:
                    # Once may have been a restart in just this moment.
                    if refused_before:
                        cause = str(error).strip().splitlines()[0].rpartition("failed: ")[2]
                        raise CommandError(
                            f"PostgreSQL at {name} refuses us: {cause}\nNext: correct POSTGRES_USER, "
                            "POSTGRES_PASSWORD or POSTGRES_DB (or DATABASE_URL); waiting is no help.",
                            returncode=2,
                        ) from None
                    refused_before = True
                    continue
            refused_before = False
            if obstacle != said:
                said = obstacle
                self.stdout.write(f"Waiting for PostgreSQL at {name}: {obstacle}")
                self.stdout.flush()
            left = deadline - time.monotonic()
            if left <= 0:
                raise CommandError(
                    f"PostgreSQL at {name} did not take connections within {timeout:g} s: {obstacle}\n"
                    "Next: look whether it runs there, and at POSTGRES_HOSTNAME and POSTGRES_PORT "
                    "(or DATABASE_URL).",
                    returncode=1,
                )
            time.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)

    def knock(self) -> str | None:
        """None when the server gets as far as asking who we are, else what is in the way."""
        if settings.EMBEDDED_POSTGRES:
            return None  # connecting starts it
        server = settings.POSTGRES
        obstacle = None
        for host in server["host"].split(","):
            try:
                code = refusal(host, int(server["port"]), server["user"], server["dbname"])
            except OSError as error:
                obstacle = error.strerror or str(error)
                continue
            if code == CANNOT_CONNECT_NOW:
                obstacle = "it starts or stops just now"
            elif code == TOO_MANY_CONNECTIONS:
                obstacle = "all its connections are taken"
            else:
                return None
        return obstacle


def refusal(host: str, port: int, user: str, dbname: str) -> str | None:
    """
    The SQLSTATE with which the server turns a greeting down; None when it asks for a password instead.

    Speaks the first message of PostgreSQL's protocol, "StartupMessage" 3.0, and reads the first answer:
    a server that cannot take connections says so before TLS and passwords. Raises OSError.
    """
    words = b"\0".join(word.encode() for word in ("user", user, "database", dbname)) + b"\0\0"
    message = struct.pack("!ii", len(words) + 8, 3 << 16) + words
    if host.startswith("/"):
        opened = socket.socket(socket.AF_UNIX)
        opened.settimeout(2)
        opened.connect(f"{host}/.s.PGSQL.{port}")
    else:
        opened = socket.create_connection((host or "localhost", port), timeout=2)
    with opened:
        opened.sendall(message)
        answer = opened.recv(4096)
    if not answer:
        raise ConnectionResetError(0, "it closed the connection")
    if answer[:1] != b"E":
        return None
    fields = answer[5:].split(b"\0")
    return next((field[1:].decode() for field in fields if field[:1] == b"C"), None)
