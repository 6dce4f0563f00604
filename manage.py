#!/usr/bin/env python3
"""Rent-o-matic's command line: `./manage.py help` lists the commands."""

import importlib.util
import os
import sys
from pathlib import Path

VENV = Path(__file__).resolve().parent / ".venv"


def main() -> None:
    # `./manage.py …` works as printed everywhere, without activating .venv. The system's Python may be too
    # old, or have a Django of its own; an activated environment that has one is somebody's choice.
    python = VENV / "bin" / "python"
    chosen = sys.prefix != sys.base_prefix and importlib.util.find_spec("django") is not None
    if Path(sys.executable).parent != python.parent and python.exists() and not chosen:
        os.execv(str(python), [str(python), *sys.argv])  # noqa: S606 - our own Python, without a shell
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
        from django.db import DatabaseError
        from psycopg2 import OperationalError
    except ImportError:
        sys.exit("manage.py: Django is not installed. Next: make run")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")
    try:
        execute_from_command_line(sys.argv)
    except (ImproperlyConfigured, DatabaseError, OperationalError) as error:
        # What the person in front can put right is told in a line or two; --traceback shows the rest.
        advice = next_step(error)
        if advice is None or "--traceback" in sys.argv:
            raise
        sys.exit(f"manage.py: {str(error).strip().splitlines()[0]}{advice}")
    except BrokenPipeError:  # `| head` has seen enough; what is still buffered goes nowhere
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def next_step(error: Exception) -> "str | None":  # quoted for Pythons that are too old, which get this far
    """What to do about it, in words to append; None for a defect of ours."""
    import psycopg2.errors
    from django.core.exceptions import ImproperlyConfigured

    cause = error.__cause__ or error
    if isinstance(error, ImproperlyConfigured) or "Next:" in str(error):
        return ""
    if isinstance(cause, psycopg2.errors.UndefinedTable):
        return "\nNext: ./manage.py migrate"
    if type(cause) is psycopg2.OperationalError:
        # Only errors of connecting are of this very class; the others have one of their own.
        return "\nNext: ./manage.py wait_for_db && ./manage.py init_postgres"
    return None


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:  # while the settings or a command are loaded; most commands report their own
        sys.exit(130)
