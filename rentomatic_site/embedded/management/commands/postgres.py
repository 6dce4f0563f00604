"""`./manage.py postgres`: the PostgreSQL server behind this project."""

import os
from argparse import RawDescriptionHelpFormatter
from pathlib import Path
from subprocess import CalledProcessError
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import connection
from django.utils.translation import ngettext

from rentomatic_site import postgres
from rentomatic_site.embedded import server as embedded_server

DATABASES = """
    SELECT datname, pg_size_pretty(pg_database_size(oid)),
           (SELECT count(*) FROM pg_stat_activity WHERE datid = pg_database.oid AND pid <> pg_backend_pid())
    FROM pg_database WHERE NOT datistemplate AND has_database_privilege(oid, 'CONNECT') ORDER BY datname
"""


class Command(BaseCommand):
    help = """The PostgreSQL server that this project uses, embedded or configured.

  status            where it is, its version, its databases, who uses it; starts nothing
  stop              stop the embedded server at once; its data stay, and the next command starts it again
  shell [DATABASE]  psql on the application's database or another one
  url [DATABASE]    the address with the password, for psql, pg_dump and DATABASE_URL"""
    requires_system_checks = []

    def create_parser(self, prog_name: str, subcommand: str, **kwargs: Any) -> CommandParser:
        """The help text above keeps its lines."""
        return super().create_parser(
            prog_name, subcommand, formatter_class=RawDescriptionHelpFormatter, **kwargs
        )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["status", "stop", "shell", "url"])
        parser.add_argument("database", nargs="?", help="for shell and url; the application's unless named")

    def handle(self, *, action: str, database: str | None, **options: Any) -> None:
        if database and action in {"status", "stop"}:
            raise CommandError(f"'{action}' takes no database. Next: ./manage.py postgres {action}")
        match action:
            case "status":
                self.status()
            case "stop":
                self.stop()
            case "shell":
                self.shell(database)
            case "url":
                postgres.ready()
                self.stdout.write(postgres.url(database))

    def status(self) -> None:
        folder = settings.EMBEDDED_POSTGRES
        if folder:
            self.stdout.write(f"Embedded PostgreSQL in {folder}")
            supervisor = embedded_server.supervisor_pid(folder)
            if supervisor is None:
                self.stdout.write("not running; the first command that needs it starts it")
                return
            users = sorted(embedded_server.users(folder))
            self.stdout.write(f"process {embedded_server.server_pid(folder)}, kept by {supervisor}")
            self.stdout.write(f"{size_on_disk(folder)} MB on disk")
            processes = ngettext("%d process", "%d processes", len(users)) % len(users)
            self.stdout.write(f"used by {processes} {users or ''}".rstrip())
        else:
            server = settings.POSTGRES
            self.stdout.write(f"PostgreSQL at {server['host']}:{server['port']}, as {server['user']}")
        with postgres.session() as cursor:
            cursor.execute("SHOW server_version")
            (version,) = cursor.fetchone() or ("",)
            self.stdout.write(f"version {version}")
            cursor.execute(DATABASES)
            for name, size, connections in cursor.fetchall():
                used = ngettext("%d connection", "%d connections", connections) % connections
                self.stdout.write(f"  {name:<40} {size:>10}  {used}")

    def stop(self) -> None:
        folder = settings.EMBEDDED_POSTGRES
        if not folder:
            raise CommandError(
                "Only the embedded server can be stopped here, and a server is configured: "
                f"{settings.POSTGRES['host']}. Next: stop it where it runs."
            )
        stopped = embedded_server.stop(folder)
        self.stdout.write("Stopped; the data stay." if stopped else "It was not running.")

    def shell(self, database: str | None) -> None:
        if database:
            connection.settings_dict["NAME"] = database
        try:
            connection.client.runshell([])
        except FileNotFoundError:
            raise CommandError(
                "psql is not installed. Next: make install, or apt-get install postgresql-client"
            ) from None
        except CalledProcessError as error:
            raise CommandError("psql failed, see above.", returncode=error.returncode) from None


def size_on_disk(folder: Path) -> int:
    """The size of all files below the folder in MB; the server may remove some meanwhile."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            try:
                total += os.lstat(os.path.join(parent, name)).st_size
            except FileNotFoundError:
                continue
    return round(total / 1e6)
