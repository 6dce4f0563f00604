"""
The probes: `/livez` says that the process answers, `/readyz` that it can do its work.

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

from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.recorder import MigrationRecorder
from django.http import HttpRequest, HttpResponseBase, JsonResponse

logger = logging.getLogger(__name__)


def middleware(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable:
    """Answer the probes, pass everything else on."""

    def answer(request: HttpRequest) -> HttpResponseBase:
        probe = PROBES.get(request.path_info)
        return probe() if probe else get_response(request)

    return answer


def livez() -> JsonResponse:
    return answer(200, live=True)


def readyz() -> JsonResponse:
    """200 when a request would find what it needs, else 503 with the reason; within 4 seconds."""
    if Path(settings.DRAIN_FILE).exists():
        return answer(503, ready=False, reason="draining: this process is about to stop")
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
        applied = MigrationRecorder(probe).applied_migrations()
    except DatabaseError as error:
        logger.warning("not ready: %s", str(error).strip())
        return SILENT
    finally:
        probe.close()
    pending = [f"{app}.{name}" for app, name in last_migrations() if (app, name) not in applied]
    return f"migrations pending: {', '.join(pending)}" if pending else None


def answer(status: int, **body: object) -> JsonResponse:
    response = JsonResponse(body, status=status, headers={"Cache-Control": "no-store"})
    response["Content-Length"] = len(response.content)
    if status == 503:
        response["Retry-After"] = "2"
    return response


@functools.cache
def last_migrations() -> list[tuple[str, str]]:
    """Each app's last migration on disk; where it is applied, so are all before it."""
    return sorted(MigrationLoader(None).graph.leaf_nodes())


database = Database()
PROBES = {"/livez": livez, "/readyz": readyz}
