"""
Errors on the wire: problem details (RFC 9457) that still carry the `type` and `message` of the book.

`ParametersError` is the client's, `ResourceError` an address where nothing is, `SystemError` a database
that is away, slow, full or not migrated. A message never holds the driver's text, SQL or a setting.
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

from rooms.api.negotiation import preferred

logger = logging.getLogger(__name__)

MEDIA_TYPE = "application/problem+json"
RETRY_AFTER = 2
"""Seconds after which a client may try again when the database did not answer."""

UNKNOWN_FILTER = "unknown filter"

# SQLSTATEs by what they mean for whoever asked.
LOCKED = {"55P03", "40P01", "40001"}  # lock_timeout, a deadlock, a serialization failure
TOO_LONG = {"57014"}  # statement_timeout
PAUSED = {"25P03"}  # idle_in_transaction_session_timeout
FULL = {"53100", "53200"}  # disk, memory
NOT_MIGRATED = {"42P01", "42703", "3D000"}  # a table, a column, a database that are not there (yet)


@dataclass(frozen=True)
class Mistake:
    """What is wrong with one parameter, and what would be right."""

    parameter: str
    message: str
    hint: str = ""
    """A parameter, one with its value, or a sentence about what there is instead: only that has spaces."""

    @property
    def summary(self) -> str:
        """One line; an unknown filter is named in the words of the book."""
        if self.message == UNKNOWN_FILTER:
            return f"filters: Key {self.parameter.removeprefix('filter_')} cannot be used"
        return f"{self.parameter}: {self.message}"


class Problem(Exception):
    """An answer that is no success; views raise it, `answer` writes it."""

    type = "ParametersError"
    title = "Invalid parameters"
    status = 400
    command = ""
    """The management command that helps, if one does."""

    def __init__(self, message: str, **headers: str) -> None:
        super().__init__(message)
        self.message = message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}

    @property
    def on_terminal(self) -> str:
        """The message with the next step, for a command."""
        return f"{self.message} Next: ./manage.py {self.command}" if self.command else self.message

    def body(self, path: str) -> dict[str, Any]:
        return {"type": self.type, "message": self.message, "title": self.title, "status": self.status}

    def response(self, request: HttpRequest) -> HttpResponse:
        """The problem as a page for whoever prefers HTML, else as JSON."""
        body = self.body(request.path)
        accept = request.META.get("HTTP_ACCEPT", "*/*")
        if preferred(accept, [MEDIA_TYPE, "application/json", "text/html"]) == "text/html":
            response = HttpResponse(page(body), status=self.status)
        else:
            response = HttpResponse(json.dumps(body), content_type=MEDIA_TYPE, status=self.status)
        for name, value in {"Cache-Control": "no-store", "Vary": "Accept", **self.headers}.items():
            response.headers[name] = value
        return response


class ParametersError(Problem):
    """All the mistakes of one request, with the query string of one that works."""

    def __init__(self, mistakes: list[Mistake], attempt: str) -> None:
        super().__init__("; ".join(mistake.summary for mistake in mistakes))
        self.mistakes = mistakes
        self.attempt = attempt

    def body(self, path: str) -> dict[str, Any]:
        errors = [
            {key: value for key, value in asdict(mistake).items() if value or key != "hint"}
            for mistake in self.mistakes
        ]
        attempt = f"{path}?{self.attempt}" if self.attempt else path
        return super().body(path) | {"errors": errors, "try": attempt}


class BadRequest(Problem):
    title = "Bad request"


class Forbidden(Problem):
    type, title, status = "AccessError", "Forbidden", 403


class NotFound(Problem):
    type, title, status = "ResourceError", "Not found", 404


class MethodNotAllowed(Problem):
    type, title, status = "MethodError", "Method not allowed", 405


class NotAcceptable(Problem):
    title, status = "Not acceptable", 406


class TooManyExports(Problem):
    type, title, status = "SystemError", "Too many requests", 429

    def __init__(self) -> None:
        super().__init__(
            "As many exports are under way as this server streams at once. "
            "Try again later, or read page by page with limit=1000.",
            Retry_After="10",
        )


class Unavailable(Problem):
    """The database did not do its part; the client may try again."""

    type, title, status = "SystemError", "Service unavailable", 503

    def __init__(self, message: str, command: str = "") -> None:
        super().__init__(message, Retry_After=str(RETRY_AFTER))
        self.command = command


class Locked(Unavailable):
    """Another transaction holds what this one needs; nothing is wrong with the database."""


DEFECT = "Something went wrong on our side. It has been logged."


class Defect(Problem):
    type, title, status = "SystemError", "Internal error", 500


def of_database(error: BaseException | None) -> Problem | None:
    """The problem that an error of the database is for the client; None where it is a defect of ours."""
    sqlstate = getattr(error.__cause__, "pgcode", None) if isinstance(error, DatabaseError) else None
    if isinstance(error, DataError):
        return BadRequest("A value of the request is beyond what the database can hold.")
    if sqlstate in NOT_MIGRATED:
        return Unavailable("The database is not ready: migrations are pending.", "migrate")
    if sqlstate in LOCKED:
        return Locked(
            "Other work holds the rooms that this needs, such as an import or a bulk change. "
            "Try again in a moment."
        )
    if sqlstate in TOO_LONG:
        return Unavailable("This took too long and was stopped. Narrow it with more filters.")
    if sqlstate in PAUSED:
        return Unavailable(
            "This paused for too long in the middle of its work. Nothing was changed. Try again."
        )
    if sqlstate in FULL:
        return Unavailable("The database has no room for more at the moment. Nothing was changed.")
    if isinstance(error, OperationalError | InterfaceError):
        return Unavailable("The database cannot be reached at the moment.", "wait_for_db")
    return None


def page(body: dict[str, Any]) -> str:
    """The problem for people; where the template fails, without it: an error must still be answered."""
    try:
        return render_to_string("rooms/problem.html", body | {"attempt": body.get("try")})
    except Exception:
        logger.exception("The page of an error could not be rendered.")
        return format_html(
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>{0}</title><h1>{0}</h1><p>{1}</p>',
            body["title"],
            body["message"],
        )


# What Django calls where nothing else has answered (urls.py of the site).


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
    Every error that nobody caught, wherever it was raised: also in middleware that saves a session.

    Nobody catches what is raised here: the connection would end without an answer.
    """
    try:
        problem = of_database(sys.exc_info()[1]) or Defect(DEFECT)
        return problem.response(request)
    except Exception:
        logger.exception("The answer to an error could not be made.")
        body = {"type": "SystemError", "message": DEFECT, "title": "Internal error", "status": 500}
        headers = {"Cache-Control": "no-store", "Vary": "Accept"}
        return HttpResponse(json.dumps(body), MEDIA_TYPE, 500, headers=headers)
