"""
The probes: `/livez` says that the process answers, `/readyz` that it can do its work:
its parts load, and the database's schema is the one that this version was written for.

They are answered before anything looks at the host or redirects to TLS, because they come from inside:
a container's health check, a load balancer, systemd.
"""

import functools
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path

from django.apps import apps
from django.conf import settings
from django.contrib.staticfiles import finders
from django.contrib.staticfiles.storage import ManifestFilesMixin, staticfiles_storage
from django.core.checks.urls import check_url_config
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.template.loader import get_template

logger = logging.getLogger(__name__)


def middleware(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable:
    """Answer the probes, pass everything else on."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        probe = PROBES.get(request.path_info)
        return probe(request) if probe else get_response(request)

    return respond


def livez(request: HttpRequest) -> JsonResponse:
    return answer(200, live=True)


def readyz(request: HttpRequest) -> JsonResponse:
    """200 when a request would find what it needs, else 503 with the reason; within 4 seconds."""
    if Path(settings.DRAIN_FILE).exists():
        return answer(503, ready=False, reason="draining: this process is about to stop")
    try:
        load_parts()
    except Exception:  # whatever a module, a template or the manifest raises, nobody could be answered
        logger.exception("not ready")
        return answer(
            503, ready=False, reason="URLs, templates or static files cannot be loaded; the log says which"
        )
    reason = database.missing()
    return answer(503, ready=False, reason=reason) if reason else answer(200, ready=True)


class Database:
    """
    What the database lacks, asked at most once a second, however many ask this process.

    One thread asks at a time. Those who come meanwhile take its answer, and do not wait long for it: while
    the database is frozen, the probes do not take the threads away.
    """

    FRESH = 1.0
    """Seconds for which an answer holds."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self.reason: str | None = None
        self.asked = -math.inf

    def missing(self) -> str | None:
        """The reason why requests cannot be answered; None where they can."""
        if not self.lock.acquire(timeout=self.FRESH):
            return SILENT
        try:
            if time.monotonic() - self.asked > self.FRESH:
                self.reason = lacking()
                self.asked = time.monotonic()
            return self.reason
        finally:
            self.lock.release()


SILENT = "the database does not answer"


def lacking() -> str | None:
    """
    What requests would miss in the database; None where it is nothing.

    It connects anew: a kept connection to a database that froze would not answer in bounded time.
    """
    probe = connection.copy()
    probe.settings_dict["OPTIONS"]["options"] += " -c statement_timeout=1000"
    try:
        applied = set(MigrationRecorder(probe).applied_migrations())
    except DatabaseError as error:
        logger.warning("not ready: %s", str(error).strip())
        return SILENT
    finally:
        probe.close()
    needed, known = migrations()
    if pending := sorted(needed - applied):
        return f"migrations pending: {names(pending)}"
    # Rows of an app that is not installed any more stay for ever and say nothing.
    installed = {app.label for app in apps.get_app_configs()}
    if unknown := sorted((app, name) for app, name in applied - known if app in installed):
        return f"the schema is newer than this version: {names(unknown)}"
    return None


def names(migrations: list[tuple[str, str]]) -> str:
    return ", ".join(f"{app}.{name}" for app, name in migrations)


def answer(status: int, **body: object) -> JsonResponse:
    response = JsonResponse(body, status=status, headers={"Cache-Control": "no-store"})
    response["Content-Length"] = len(response.content)
    if status == 503:
        response["Retry-After"] = "2"
    return response


@functools.cache
def load_parts() -> None:
    """
    Load once what a request needs besides the database, and raise what is wrong with it.

    Django imports URLs, compiles templates and looks static files up at the first request that needs them.
    """
    if errors := check_url_config(None):
        raise RuntimeError(str(errors[0]))
    for app in apps.get_app_configs():
        folder = Path(app.path, "templates")
        if app.name.partition(".")[0] in {"rooms", "rentomatic_site"}:
            for path in folder.rglob("*.html"):
                get_template(str(path.relative_to(folder)))
    if isinstance(staticfiles_storage, ManifestFilesMixin):
        for finder in finders.get_finders():
            for path, _ in finder.list([]):
                if not staticfiles_storage.exists(staticfiles_storage.stored_name(path)):
                    raise RuntimeError(f"{path} is in the manifest of static files, but not in STATIC_ROOT")


@functools.cache
def migrations() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The migrations that this version needs, and all that it knows: also what squashed ones replace."""
    loader = MigrationLoader(None)
    replaced = {key for migration in loader.disk_migrations.values() for key in migration.replaces}
    return set(loader.graph.nodes), set(loader.disk_migrations) | replaced


database = Database()
PROBES = {"/livez": livez, "/readyz": readyz}
