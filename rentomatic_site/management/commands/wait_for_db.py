"""`./manage.py wait_for_db`: the first step of a deployment."""

import re
import time
from contextlib import closing
from typing import Any

import psycopg2
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from rentomatic_site import postgres

LONGEST_PAUSE = 2.0
"""Seconds; the pause between two attempts doubles up to this."""

PERMANENT_ERROR = re.compile(
    "password authentication failed|no password supplied|does not exist|no pg_hba.conf entry"
    "|not permitted to log in|permission denied|does not support SSL|certificate"
)
"""
Errors that waiting does not solve: the settings are wrong. libpq gives a failed connection no SQLSTATE, so
the message has to be matched; the command goes on waiting at other messages, such as those in another
language.
"""

ATTEMPT = re.compile(r"failed: (?:FATAL:\s+)?(.+)")


class Command(BaseCommand):
    help = (
        "Waits until the PostgreSQL server takes connections to the maintenance database POSTGRES_DB; the "
        "application's database need not exist yet. Changes nothing. Exit status 1: it did not in time; "
        "2: it refuses the connection (password, role, database), and waiting does not help."
    )
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--timeout", type=float, default=60, metavar="SECONDS", help="default: 60")

    def handle(self, *, timeout: float, **options: Any) -> None:
        server = settings.POSTGRES
        name = f"{server['host']}:{server['port']}/{server['dbname']}"
        deadline = time.monotonic() + timeout
        pause, shown = 0.1, ""
        while causes := self.causes_of_failure():
            if all(PERMANENT_ERROR.search(cause) for cause in causes):
                raise CommandError(
                    f"PostgreSQL at {name} refuses the connection: {causes[-1]}\n"
                    "Next: correct POSTGRES_USER, POSTGRES_PASSWORD or POSTGRES_DB (or DATABASE_URL); "
                    "waiting does not help.",
                    returncode=2,
                )
            if causes[-1] != shown:
                shown = causes[-1]
                self.stdout.write(f"Waiting for PostgreSQL at {name}: {shown}")
                self.stdout.flush()
            left = deadline - time.monotonic()
            if left <= 0:
                raise CommandError(
                    f"PostgreSQL at {name} did not take connections within {timeout:g} s: {shown}\n"
                    "Next: look whether it runs there, and at POSTGRES_HOSTNAME and POSTGRES_PORT "
                    "(or DATABASE_URL).",
                    returncode=1,
                )
            time.sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_PAUSE)
        self.stdout.write(f"PostgreSQL at {name} takes connections.")

    def causes_of_failure(self) -> list[str]:
        """The errors of a failed connection, one for each host that was tried; empty where it succeeded."""
        try:
            with closing(postgres.connect()):
                return []
        except psycopg2.OperationalError as error:
            text = str(error).strip()
            return ATTEMPT.findall(text) or text.splitlines()[:1]
