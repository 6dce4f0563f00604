"""Launch gunicorn, psql or a management command on a scenario's database, in place of this process."""

import os
import socket
import sys
from pathlib import Path
from typing import NoReturn

from django.apps import apps
from django.conf import settings

from rentomatic_site.scenarios import ScenarioError

DEFAULT_PORT = 8000
MANAGE = str(settings.BASE_DIR / "manage.py")
ACCESS_LOG_FORMAT = "%(t)s %(r)s %(s)s, %(B)s bytes in %(M)s ms"


def listen(port: int) -> socket.socket:
    """A listening socket on loopback; port 0 takes any free port."""
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
    """Replace this process by gunicorn on that socket; with DEBUG it reloads code and templates."""
    arguments = ["--bind", f"fd://{listener.fileno()}", "--threads", "8", "--no-control-socket"]
    arguments += ["--log-level", "error", "--access-logfile", "-", "--access-logformat", ACCESS_LOG_FORMAT]
    if settings.DEBUG:
        arguments.append("--reload")
        for template in project_templates():
            arguments += ["--reload-extra-file", str(template)]
    os.set_inheritable(listener.fileno(), True)
    replace_process(scenario, "-m", "gunicorn", *arguments, settings.WSGI_APPLICATION.rpartition(".")[0])


def project_templates() -> list[Path]:
    """The templates of this project's apps."""
    own = [app.path for app in apps.get_app_configs() if "site-packages" not in app.path]
    return [path for folder in own for path in Path(folder, "templates").rglob("*.html")]


def shell(scenario: str) -> NoReturn:
    """Replace this process by psql."""
    replace_process(scenario, MANAGE, "dbshell")


def command(scenario: str, *arguments: str) -> NoReturn:
    """Replace this process by another command of manage.py."""
    replace_process(scenario, MANAGE, *arguments)


def replace_process(scenario: str, *arguments: str) -> NoReturn:
    """Replace this process by Python with these arguments, with SCENARIO set."""
    sys.stdout.flush()
    sys.stderr.flush()
    os.chdir(settings.BASE_DIR)
    environment = os.environ | {"SCENARIO": scenario}
    os.execve(sys.executable, [sys.executable, *arguments], environment)  # noqa: S606 - no shell, no quoting
