#!/usr/bin/env python3
"""Rent-o-matic's command line: `./manage.py help` lists the commands."""

import importlib.util
import os
import sys
from pathlib import Path

VENV_PYTHON = Path(__file__).resolve().parent / ".venv" / "bin" / "python"


def main() -> None:
    # `./manage.py …` works as printed everywhere, without activating what `make run` installed.
    inside = Path(sys.prefix) == VENV_PYTHON.parent.parent
    if not inside and VENV_PYTHON.exists() and importlib.util.find_spec("django") is None:
        os.execv(VENV_PYTHON, [str(VENV_PYTHON), *sys.argv])  # noqa: S606
    try:
        from django.core.exceptions import ImproperlyConfigured
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("manage.py: Django is not installed. Next: make install")
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "rentomatic_site.settings")
    try:
        execute_from_command_line(sys.argv)
    except ImproperlyConfigured as error:
        sys.exit(f"manage.py: {error}")


if __name__ == "__main__":
    main()
