"""What requests do, counted where it happens: the middleware, statements, and signals."""

import threading
from collections.abc import Callable
from functools import cache
from time import perf_counter
from typing import Any
from weakref import finalize

from axes.signals import user_locked_out
from django.conf import settings
from django.contrib.auth.signals import user_logged_in, user_login_failed
from django.db import DatabaseError, InterfaceError, OperationalError, connections, transaction
from django.db.backends.signals import connection_created
from django.db.models.signals import post_save
from django.http import HttpRequest, HttpResponseBase

from rentomatic_site.metrics import measured
from rooms.api.errors import LOCK_CONFLICTS, STATEMENT_TIMEOUT
from rooms.models import Job

METHODS = {"GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE"}
PROBES = {"/livez": "livez", "/readyz": "readyz"}


class Waited(threading.local):
    """Seconds that the current request of this thread has waited for statements."""

    seconds = 0.0


waited = Waited()

# Child metrics are looked up once: `labels()` takes 1 µs.
count = cache(lambda *labels: measured.requests.labels(*labels).inc)
observe = cache(lambda route: measured.latency.labels(route).observe)
add_waited = cache(lambda route: measured.database_seconds.labels(route).inc)
hit = measured.prepared.labels("hit").inc
miss = measured.prepared.labels("miss").inc


def route_of(request: HttpRequest) -> str:
    """The name of the URL pattern: one of some hundred values, whatever is requested."""
    match = request.resolver_match
    if match is not None:
        return match.view_name
    path = request.path_info
    if path.startswith(settings.STATIC_URL):
        return "static"
    return PROBES.get(path, "none")


def middleware(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable:
    """Count each request and its time. The outermost middleware: whoever responds, it is counted."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        began = perf_counter()
        waited.seconds = 0.0
        response = get_response(request)
        route = route_of(request)
        method = request.method if request.method in METHODS else "other"
        count(route, method, response.status_code)()
        observe(route)(perf_counter() - began)
        if response.streaming:  # its statements go on
            response._resource_closers.append(lambda: add_waited(route)(waited.seconds))  # type: ignore[attr-defined]  # Django's own way
        elif waited.seconds:
            add_waited(route)(waited.seconds)
        return response

    return respond


def measure_statement(execute: Callable, sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Wrapper around each statement of a connection (django.db.connection.execute_wrappers)."""
    if isinstance(sql, str):
        if sql.startswith("EXECUTE "):
            hit()
        elif sql.startswith(("PREPARE ", "DEALLOCATE ")):
            miss()
    began = perf_counter()
    try:
        return execute(sql, params, many, context)
    except DatabaseError as error:
        measured.database_errors.labels(kind_of(error)).inc()
        raise
    finally:
        waited.seconds += perf_counter() - began


def kind_of(error: DatabaseError) -> str:
    sqlstate = getattr(error.__cause__, "pgcode", None)
    if sqlstate in STATEMENT_TIMEOUT:
        return "statement_timeout"
    if sqlstate in LOCK_CONFLICTS:
        return "lock"
    if sqlstate is None and isinstance(error, OperationalError | InterfaceError):
        return "connection"
    return "other"


def connected(connection: Any, **kwargs: Any) -> None:
    """Receiver of `connection_created`: once for each connection of a thread to the database."""
    if connections[connection.alias] is not connection:
        return  # the probes' own
    measured.connections_opened.inc()
    measured.connections.inc()
    finalize(connection.connection, measured.connections.dec)
    # First, as `connection.execute_wrapper()` removes the last one at its end.
    if measure_statement not in connection.execute_wrappers:
        connection.execute_wrappers.insert(0, measure_statement)


def count_cut(connection: str) -> None:
    """Called by the watchdog of gunicorn's workers."""
    measured.cuts.labels(connection).inc()


def set_in_flight(number: int) -> None:
    """Called by the watchdog at each check: exact to a second, and nothing for a request."""
    measured.in_flight.set(number)


def job_saved(instance: Job, created: bool, **kwargs: Any) -> None:
    state = Job.State(instance.state)
    if state != Job.State.RUNNING:
        transaction.on_commit(measured.jobs.labels(state.value).inc)
    elif not created:
        transaction.on_commit(measured.batches.inc)


def logged_in(**kwargs: Any) -> None:
    measured.logins.labels("success").inc()


def login_failed(**kwargs: Any) -> None:
    measured.logins.labels("failure").inc()


def locked_out(**kwargs: Any) -> None:
    measured.logins.labels("locked_out").inc()


def connect() -> None:
    """Connect the receivers, once for each process."""
    connection_created.connect(connected)
    post_save.connect(job_saved, sender=Job)
    user_logged_in.connect(logged_in)
    user_login_failed.connect(login_failed)
    user_locked_out.connect(locked_out)
