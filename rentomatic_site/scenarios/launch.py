"""Opening a scenario's database: this process becomes the application on it, psql or any command."""

import os
import socket
import sys
from typing import NoReturn

from django.conf import settings

from rentomatic_site.scenarios import ScenarioError

DEFAULT_PORT = 8000
MANAGE = str(settings.BASE_DIR / "manage.py")
ACCESS_LINE = "%(t)s %(r)s %(s)s, %(B)s bytes in %(M)s ms"


def listen(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes any that is free."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        raise ScenarioError(
            f"Port {port} cannot be had ({getattr(error, 'strerror', None) or error}). "
            "Next: --serve 0 takes any that is free."
        ) from None
    listener.listen()
    return listener


def serve(scenario: str, listener: socket.socket) -> NoReturn:
    """Become gunicorn on that socket, as in production but for one process that follows changed files."""
    arguments = ["--bind", f"fd://{listener.fileno()}", "--threads", "8", "--no-control-socket"]
    arguments += ["--log-level", "error", "--access-logfile", "-", "--access-logformat", ACCESS_LINE]
    if settings.DEBUG:
        arguments.append("--reload")
        for template in settings.BASE_DIR.glob("r*/templates/**/*.html"):
            arguments += ["--reload-extra-file", str(template)]
    os.set_inheritable(listener.fileno(), True)
    become(scenario, "-m", "gunicorn", *arguments, "rentomatic_site.wsgi")


def shell(scenario: str) -> NoReturn:
    """Become psql."""
    become(scenario, MANAGE, "dbshell")


def command(scenario: str, *words: str) -> NoReturn:
    """Become another command of manage.py."""
    become(scenario, MANAGE, *words)


def become(scenario: str, *arguments: str) -> NoReturn:
    """Replace this process by Python with these arguments, on the scenario's database."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(settings.BASE_DIR)
    # Neither our name nor a shell is involved: the words arrive as they are.
    os.execve(sys.executable, [sys.executable, *arguments], os.environ | {"SCENARIO": scenario})  # noqa: S606
