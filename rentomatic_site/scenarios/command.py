"""What the commands of the scenarios have in common."""

from typing import Any

import psycopg2
from django.conf import settings
from django.core.management import BaseCommand, CommandError

from rentomatic_site.scenarios import ScenarioError


class ScenarioCommand(BaseCommand):
    """A command whose failures are words for people."""

    # The application's database need not exist.
    requires_system_checks: list[str] = []

    def execute(self, *args: Any, **options: Any) -> str | None:
        try:
            return super().execute(*args, **options)
        except ScenarioError as error:
            raise CommandError(str(error)) from None
        except psycopg2.OperationalError as error:
            raise CommandError(f"The database server cannot be used: {str(error).strip()}") from None
        except KeyboardInterrupt:
            raise CommandError("Interrupted; nothing is left half done.") from None

    def allowed(self) -> None:
        """Refuse to change databases where nobody said that this is a place for it."""
        if not settings.SCENARIOS_ALLOWED:
            raise CommandError(
                "Scenarios are for development and are refused here: DEBUG is off. On a server that may hold "
                "throw-away databases set SCENARIOS_ALLOWED=on."
            )
