"""The base class of the scenarios' management commands."""

from collections.abc import Sequence
from datetime import timedelta
from io import StringIO
from typing import Any

import psycopg2
from django.conf import settings
from django.core.management import BaseCommand, CommandError
from django.db import DatabaseError
from psycopg2 import errors

from rentomatic_site import postgres
from rentomatic_site.scenarios import ScenarioError

INTERRUPTED = 130
"""The exit status after Ctrl-C, as shells have it."""


class ScenarioCommand(BaseCommand):
    """A command that turns the errors of scenarios and of the server into CommandError."""

    # The checks load the admin, and the application's database need not exist.
    requires_system_checks: list[str] = []

    def execute(self, *args: Any, **options: Any) -> str | None:
        if options["verbosity"] == 0:
            options["stdout"] = StringIO()
        try:
            return super().execute(*args, **options)
        except ScenarioError as error:
            raise CommandError(str(error)) from None
        except postgres.InUseError as error:
            raise CommandError(str(error)) from None
        except errors.InsufficientPrivilege as error:
            raise CommandError(f"PostgreSQL refuses: {str(error).strip()}. {next_step(error)}") from None
        except (psycopg2.Error, DatabaseError) as error:
            raise CommandError(server_error(error)) from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted; nothing is left half done.", returncode=INTERRUPTED) from None

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
        """Print rows in aligned columns; those named in `right` are right-aligned."""
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            cells = [
                cell.rjust(width) if name in right else cell.ljust(width)
                for name, cell, width in zip(header, row, widths, strict=True)
            ]
            self.stdout.write("  ".join(cells).rstrip())

    def say(self, line: str) -> None:
        """Print a line of progress at once, also into a pipe."""
        self.stdout.write(line)
        self.stdout.flush()

    def require_permission(self) -> None:
        """CommandError unless SCENARIOS_ALLOWED permits scenarios here."""
        if not settings.SCENARIOS_ALLOWED:
            raise CommandError(
                "Scenarios are for development and are refused here: DEBUG is off. On a server that may hold "
                "throw-away databases set SCENARIOS_ALLOWED=on."
            )


def server_error(error: Exception) -> str:
    """The message for a full disk or a lost connection; raise any other error again."""
    cause = error if isinstance(error, psycopg2.Error) else error.__cause__
    message = str(error).strip().partition("\n")[0].rstrip(".")
    if isinstance(cause, errors.DiskFull):
        return (
            f"The database server's disk is full: {message}. Nothing of this is kept. Next: free some of it, "
            "such as by ./manage.py drop_scenario --older-than 2d, and do this again."
        )
    # psycopg2 has no separate class for a broken connection.
    if isinstance(cause, psycopg2.OperationalError) or type(cause) is psycopg2.DatabaseError:
        step = "" if "Next:" in message else " Next: ./manage.py wait_for_db"
        return f"The database server cannot be used: {message}.{step}"
    raise error


def next_step(error: errors.InsufficientPrivilege) -> str:
    """The statement that grants the missing privilege."""
    role, application = settings.POSTGRES["user"], settings.DATABASES["default"]["USER"]
    message = str(error)
    if "create database" in message:
        return f"Next, as a superuser: ALTER ROLE {role} CREATEDB"
    if "SET ROLE" in message or "member of role" in message:
        return (
            f"The role {role} gives the scenarios' databases to {application}. "
            f"Next, as a superuser: GRANT {application} TO {role}"
        )
    return f"Next: do this as the role that owns the database; you are {role}."


def age(elapsed: timedelta) -> str:
    """A time span in its largest whole unit, as `drop_scenario --older-than` reads it."""
    for unit, name in ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "m")):
        if elapsed >= unit:
            return f"{elapsed // unit}{name}"
    return f"{elapsed.seconds}s"
