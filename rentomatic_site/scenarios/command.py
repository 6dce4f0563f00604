"""What the commands of the scenarios have in common."""

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


class ScenarioCommand(BaseCommand):
    """A command whose failures are words for people."""

    # The application's database need not exist.
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
            raise CommandError(trouble(error)) from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted; nothing is left half done.") from None

    def table(self, header: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str] = ()) -> None:
        """Print rows in aligned columns; those named in `right` end below each other."""
        widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
        for row in (header, *rows):
            cells = [
                cell.rjust(width) if name in right else cell.ljust(width)
                for name, cell, width in zip(header, row, widths, strict=True)
            ]
            self.stdout.write("  ".join(cells).rstrip())

    def say(self, line: str) -> None:
        """Print a line at once, also into a pipe: something is waited for."""
        self.stdout.write(line)
        self.stdout.flush()

    def allowed(self) -> None:
        """Refuse to change databases where nobody said that this is a place for it."""
        if not settings.SCENARIOS_ALLOWED:
            raise CommandError(
                "Scenarios are for development and are refused here: DEBUG is off. On a server that may hold "
                "throw-away databases set SCENARIOS_ALLOWED=on."
            )


def trouble(error: Exception) -> str:
    """What the server's failure means; a defect of ours is raised again."""
    cause = error if isinstance(error, psycopg2.Error) else error.__cause__
    told = str(error).strip().partition("\n")[0].rstrip(".")
    if isinstance(cause, errors.DiskFull):
        return (
            f"The database server's disk is full: {told}. What was begun is gone again. Next: free some of "
            "it, such as by ./manage.py drop_scenario --older-than 2d, and do this again."
        )
    # psycopg2 has no class of its own for a connection that broke.
    if isinstance(cause, psycopg2.OperationalError) or type(cause) is psycopg2.DatabaseError:
        step = "" if "Next:" in told else " Next: ./manage.py wait_for_db"
        return f"The database server cannot be used: {told}.{step}"
    raise error


def next_step(error: errors.InsufficientPrivilege) -> str:
    """What to do about a right that PostgreSQL misses."""
    role, application = settings.POSTGRES["user"], settings.DATABASES["default"]["USER"]
    told = str(error)
    if "create database" in told:
        return f"Next, as a superuser: ALTER ROLE {role} CREATEDB"
    if "SET ROLE" in told or "member of role" in told:
        return (
            f"The role {role} gives the scenarios' databases to {application}. "
            f"Next, as a superuser: GRANT {application} TO {role}"
        )
    return f"Next: do this as the role that owns the database; you are {role}."


def age(elapsed: timedelta) -> str:
    """In the largest unit that fits, as `drop_scenario --older-than` takes it."""
    for unit, name in ((timedelta(days=1), "d"), (timedelta(hours=1), "h"), (timedelta(minutes=1), "m")):
        if elapsed >= unit:
            return f"{elapsed // unit}{name}"
    return f"{elapsed.seconds}s"
