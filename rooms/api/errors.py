"""
Error responses: problem details (RFC 9457) that also have the `type` and `message` of the book.

`ParametersError` is the client's error, `ResourceError` a URL without a resource, `SystemError` a database
that is unavailable, slow, full or not migrated. Messages never contain the driver's text, SQL or settings.
Those that the admin shows, too, are translated there; everywhere else the language is English.
"""

import json
import logging
import sys
from dataclasses import asdict, dataclass
from typing import Any

from django.core.exceptions import RequestDataTooBig, TooManyFieldsSent
from django.db import DatabaseError, DataError, InterfaceError, OperationalError
from django.http import HttpRequest, HttpResponse
from django.template.loader import render_to_string
from django.utils.html import format_html
from django.utils.translation import gettext, override

from rooms.api.negotiation import preferred_media_type

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 2
"""Seconds after which a client may try again when the database is unavailable."""

UNKNOWN_FILTER = "unknown filter"

# SQLSTATEs, by what they mean for the client.
LOCK_CONFLICTS = {"55P03", "40P01", "40001"}  # lock_timeout, a deadlock, a serialization failure
STATEMENT_TIMEOUT = {"57014"}  # statement_timeout
IDLE_TIMEOUT = {"25P03"}  # idle_in_transaction_session_timeout, where it interrupts a statement
OUT_OF_SPACE = {"53100", "53200"}  # disk, memory
NOT_MIGRATED = {"42P01", "42703", "3D000"}  # undefined table, column, database

LOST_CONNECTION = ("server closed the connection", "SSL connection has been closed", "SSL SYSCALL error")
"""
How libpq's messages begin where the server has ended an open connection; while one is opened, they begin with
"connection to server". The reason is lost, over TCP and over a Unix socket: usually also that of
idle_in_transaction_session_timeout.
"""


def problem_body(error_type: str, message: str, title: str, status: int) -> dict[str, Any]:
    """The members of every problem document; `detail` is what RFC 9457 calls the book's `message`."""
    return {
        "type": error_type,
        "message": message,
        "title": title,
        "status": status,
        "detail": message,
    }


@dataclass(frozen=True)
class FieldError:
    """What is wrong with one parameter, and a hint that corrects it."""

    parameter: str
    message: str
    hint: str = ""
    """A parameter, `name=value`, or a sentence about an alternative; only a sentence has spaces."""

    @property
    def summary(self) -> str:
        """One line; for an unknown filter, the message of the book."""
        if self.message == UNKNOWN_FILTER:
            return f"filters: Key {self.parameter.removeprefix('filter_')} cannot be used"
        return f"{self.parameter}: {self.message}"


def wants_page(request: HttpRequest) -> bool:
    """Whether `Accept` prefers an error as HTML."""
    accept = request.META.get("HTTP_ACCEPT", "*/*")
    return preferred_media_type(accept, [MEDIA_TYPE, "application/json", "text/html"]) == "text/html"


class Problem(Exception):
    """An error response. Views raise it; `response` renders it."""

    error_type = "ParametersError"
    title = "Invalid parameters"
    status = 400
    command = ""
    """The management command that solves it, if there is one."""

    def __init__(self, message: str, **headers: str) -> None:
        super().__init__(message)
        self.message = message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @property
    def terminal_message(self) -> str:
        """The message with the next step, for a command."""
        return f"{self.message} Next: ./manage.py {self.command}" if self.command else self.message

    def body(self, path: str) -> dict[str, Any]:
        return problem_body(self.error_type, self.message, self.title, self.status)

    def response(self, request: HttpRequest) -> HttpResponse:
        """The problem as HTML where `Accept` prefers it, else as JSON."""
        body = self.body(request.path)
        if wants_page(request):
            response = HttpResponse(render_problem(body), status=self.status)
        else:
            response = HttpResponse(json.dumps(body), content_type=MEDIA_TYPE, status=self.status)
        for name, value in {"Cache-Control": "no-store", "Vary": "Accept", **self.headers}.items():
            response.headers[name] = value
        return response


class ParametersError(Problem):
    """All the errors of one request, with a query string that works."""

    def __init__(self, errors: list[FieldError], suggestion: str) -> None:
        super().__init__("; ".join(error.summary for error in errors))
        self.errors = errors
        self.suggestion = suggestion

    def body(self, path: str) -> dict[str, Any]:
        errors = [
            {key: value for key, value in asdict(error).items() if value or key != "hint"}
            for error in self.errors
        ]
        url = f"{path}?{self.suggestion}" if self.suggestion else path
        return super().body(path) | {"errors": errors, "try": url}


class BadRequest(Problem):
    title = "Bad request"


class Forbidden(Problem):
    error_type, title, status = "AccessError", "Forbidden", 403


class NotFound(Problem):
    error_type, title, status = "ResourceError", "Not found", 404


class MethodNotAllowed(Problem):
    error_type, title, status = "MethodError", "Method not allowed", 405


class NotAcceptable(Problem):
    title, status = "Not acceptable", 406


class Gone(Problem):
    """The changes after a cursor or a time are not kept any more: a mirror has to begin again."""

    error_type, title, status = "ResourceError", "Gone", 410

    def __init__(self, message: str) -> None:
        super().__init__(f"{message} Begin again: drop what you have, and read all rooms without `after`.")

    def body(self, path: str) -> dict[str, Any]:
        return super().body(path) | {"try": path}


class TooManyExports(Problem):
    error_type, title, status = "SystemError", "Too many requests", 429

    def __init__(self) -> None:
        super().__init__(
            "As many exports are under way as this server streams at once. "
            "Try again later, or read page by page with limit=1000.",
            Retry_After="10",
        )


class Unavailable(Problem):
    """The database failed or refused; the client may try again."""

    error_type, title, status = "SystemError", "Service unavailable", 503

    def __init__(self, message: str, command: str = "") -> None:
        super().__init__(message, Retry_After=str(RETRY_AFTER))
        self.command = command


class Locked(Unavailable):
    """Another transaction has locked the rows that this one needs."""


INTERNAL_ERROR_MESSAGE = "Something went wrong on our side. It has been logged."


class InternalError(Problem):
    error_type, title, status = "SystemError", "Internal error", 500


def error_from_database(error: BaseException | None) -> Problem | None:
    """The response for a database error; None for an error that only a bug can cause."""
    sqlstate = getattr(error.__cause__, "pgcode", None) if isinstance(error, DatabaseError) else None
    if isinstance(error, DataError):
        return BadRequest(gettext("A value of the request is beyond what the database can hold."))
    if sqlstate in NOT_MIGRATED:
        return Unavailable(gettext("The database is not ready: migrations are pending."), "migrate")
    if sqlstate in LOCK_CONFLICTS:
        return Locked(
            gettext(
                "Other work holds the rooms that this needs, such as an import or a bulk change. "
                "Try again in a moment."
            )
        )
    if sqlstate in STATEMENT_TIMEOUT:
        return Unavailable(gettext("This took too long and was stopped. Narrow it with more filters."))
    if sqlstate in OUT_OF_SPACE:
        return Unavailable(gettext("The database has no room for more at the moment. Nothing was changed."))
    if sqlstate in IDLE_TIMEOUT or str(error).startswith(LOST_CONNECTION):
        return Unavailable(
            gettext(
                "The database has ended the connection in the middle of this: "
                "it paused for too long, or the database was stopped. Try again."
            )
        )
    if isinstance(error, OperationalError | InterfaceError):
        return Unavailable(gettext("The database cannot be reached at the moment."), "wait_for_db")
    return None


def render_problem(body: dict[str, Any]) -> str:
    """The problem as HTML, by the template; plain HTML where rendering the template fails."""
    try:
        return render_to_string("rooms/problem.html", body | {"suggestion": body.get("try")})
    except Exception:
        logger.exception("The page of an error could not be rendered.")
        return format_html(
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>{0}</title><h1>{0}</h1><p>{1}</p>',
            body["title"],
            body["message"],
        )


# The handlers of Django's default errors (`handler400` … `handler500` in the site's urls.py).


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    if isinstance(exception, TooManyFieldsSent):
        return BadRequest("The request has too many parameters.").response(request)
    if isinstance(exception, RequestDataTooBig):
        return BadRequest("The body of the request is too large.").response(request)
    return BadRequest("The request cannot be understood, or names a host that is not ours.").response(request)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    return Forbidden("You may not do this.").response(request)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    return Forbidden(
        "This form was too old, or not ours. Go back, reload the page and send it again."
    ).response(request)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return NotFound(
        "Nothing is at this address. The rooms are at /rooms, how to ask for them at /docs."
    ).response(request)


def server_error(request: HttpRequest) -> HttpResponse:
    """
    The response for an uncaught exception, including those raised in middleware such as sessions.

    An exception raised here would close the connection without a response.
    """
    try:
        with override("en"):  # the page of an error is in English, also where the admin has failed
            problem = error_from_database(sys.exc_info()[1]) or InternalError(INTERNAL_ERROR_MESSAGE)
            return problem.response(request)
    except Exception:
        logger.exception("The response to an error could not be rendered.")
        body = problem_body("SystemError", INTERNAL_ERROR_MESSAGE, "Internal error", 500)
        headers = {"Cache-Control": "no-store", "Vary": "Accept"}
        return HttpResponse(json.dumps(body), MEDIA_TYPE, 500, headers=headers)
