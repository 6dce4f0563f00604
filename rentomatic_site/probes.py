"""
The probes: `/livez` says that the process responds, `/readyz` that it can do its work:
its parts load, and the database's schema is the one that this version was written for.

They are handled before the host is checked and before the redirect to TLS, because they come from inside:
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
from django.db import DatabaseError, InterfaceError, connection
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponseBase, JsonResponse
from django.template.loader import get_template

from rentomatic_site.release import identity
from rentomatic_site.sockets import cut_after

logger = logging.getLogger(__name__)


def middleware(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable:
    """Respond to the probes, pass every other request on."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        probe = PROBES.get(request.path_info)
        return probe(request) if probe else get_response(request)

    return respond


def livez(request: HttpRequest) -> JsonResponse:
    return probe_response(200, live=True)


def readyz(request: HttpRequest) -> JsonResponse:
    """
    200 when a request would find what it needs, else 503 with the reason; within 4 seconds.

    Both say which release and which secret key this is, by which hosts are compared (`doctor`).
    """
    if Path(settings.DRAIN_FILE).exists():
        return readiness("draining: this process is about to stop")
    try:
        load_parts()
    except Exception:  # whatever a module, a template or the manifest raises, each request would fail
        logger.exception("not ready")
        return readiness("URLs, templates or static files cannot be loaded; the log says which")
    reason = database.missing()
    if reason == NO_RESPONSE and replicas_serve():
        return probe_response(
            200, ready=True, writes=False, reason=f"{reason}, but replicas do", **identity()
        )
    return readiness(reason)


def readiness(reason: str | None) -> JsonResponse:
    if reason:
        return probe_response(503, ready=False, reason=reason, **identity())
    return probe_response(200, ready=True, **identity())


def replicas_serve() -> bool:
    """Whether reads go on without the primary."""
    if not settings.REPLICAS:
        return False
    from rentomatic_site.replication.replicas import replicas

    return bool(replicas.readable())


class Database:
    """
    What the database lacks, queried at most once a second, whatever the number of probes.

    One thread queries at a time. Concurrent probes wait for its result for a second at most, so that they do
    not occupy all threads while the database is frozen.
    """

    FRESH = 1.0
    """Seconds for which a result is kept."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.forget()

    def forget(self) -> None:
        self.reason: str | None = None
        self.queried = -math.inf

    def missing(self) -> str | None:
        """The reason why requests would fail; None where they would not."""
        if not self.lock.acquire(timeout=self.FRESH):
            return NO_RESPONSE
        try:
            if time.monotonic() - self.queried > self.FRESH:
                self.reason = unready_reason()
                self.queried = time.monotonic()
            return self.reason
        finally:
            self.lock.release()


NO_RESPONSE = "the database does not answer"


def unready_reason() -> str | None:
    """
    What requests would miss in the database; None where it is nothing.

    It connects anew: a kept connection to a frozen database would block without limit. So would one to a
    pooler, which takes connections all the same; it is cut then.
    """
    probe = connection.copy()
    if "options" in probe.settings_dict["OPTIONS"]:  # which a pooler drops
        probe.settings_dict["OPTIONS"]["options"] += " -c statement_timeout=1000"
    try:
        probe.ensure_connection()
        with cut_after(1.5, probe.connection.fileno()):
            return schema_fault(probe)
    except (DatabaseError, InterfaceError) as error:
        logger.warning("not ready: %s", str(error).strip())
        return NO_RESPONSE
    finally:
        probe.close()


def schema_fault(database: BaseDatabaseWrapper) -> str | None:
    """Which migrations a database lacks, or has that are not known here; None where it is nothing."""
    applied: set[tuple[str, str]] = set()
    if MigrationRecorder(database).has_table():
        # Not by the recorder, whose query takes the thread's connection of the same alias.
        with database.cursor() as cursor:
            cursor.execute("SELECT app, name FROM django_migrations")
            applied = set(cursor.fetchall())
    needed, supported = migrations()
    if pending := sorted(needed - applied):
        return f"migrations pending: {names(pending)}"
    # Rows of an app that is not installed any more stay for ever and mean nothing.
    installed = {app.label for app in apps.get_app_configs()}
    if unknown := sorted((app, name) for app, name in applied - supported if app in installed):
        return f"the schema is newer than this version: {names(unknown)}"
    return None


def names(migrations: list[tuple[str, str]]) -> str:
    return ", ".join(f"{app}.{name}" for app, name in migrations)


def probe_response(status: int, **body: object) -> JsonResponse:
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
    """The migrations that this version needs, and all that it has: also what squashed ones replace."""
    loader = MigrationLoader(None)
    replaced = {key for migration in loader.disk_migrations.values() for key in migration.replaces}
    return set(loader.graph.nodes), set(loader.disk_migrations) | replaced


database = Database()
PROBES = {"/livez": livez, "/readyz": readyz}
