"""
The probes: `/livez` says that the process answers, `/readyz` that it can do its work.

They are answered before anything looks at the host or redirects to TLS, because they come from inside:
a container's health check, a load balancer, systemd.
"""

import functools
import logging
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
    """
    200 when a request would find what it needs, else 503 with the reason; within 4 seconds.

    It connects anew: a kept connection to a database that froze would not answer in bounded time.
    """
    if Path(settings.DRAIN_FILE).exists():
        return answer(503, ready=False, reason="draining: this process is about to stop")
    probe = connection.copy()
    probe.settings_dict["OPTIONS"]["options"] += " -c statement_timeout=1000"
    try:
        applied = MigrationRecorder(probe).applied_migrations()
    except DatabaseError as error:
        logger.warning("not ready: %s", str(error).strip())
        return answer(503, ready=False, reason="the database does not answer")
    finally:
        probe.close()
    pending = [f"{app}.{name}" for app, name in last_migrations() if (app, name) not in applied]
    if pending:
        return answer(503, ready=False, reason=f"migrations pending: {', '.join(pending)}")
    return answer(200, ready=True)


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


PROBES = {"/livez": livez, "/readyz": readyz}
