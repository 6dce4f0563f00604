"""What every request passes before it meets a view; settings.MIDDLEWARE has the order."""

import re
import uuid
from collections.abc import Callable
from ipaddress import IPv6Address

from csp.middleware import CSPMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.urls import Resolver404, resolve

from rentomatic_site.logs import request_id
from rooms.api.errors import BadRequest

GetResponse = Callable[[HttpRequest], HttpResponseBase]

GIVEN_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def request_ids(get_response: GetResponse) -> GetResponse:
    """
    Give the request its id: nginx's `X-Request-ID`, or one made here.

    It is in every log line of the request, in the response's `X-Request-ID` and at `request.id`.
    """

    def respond(request: HttpRequest) -> HttpResponseBase:
        given = request.META.get("HTTP_X_REQUEST_ID", "")
        request.id = given if GIVEN_ID.fullmatch(given) else uuid.uuid4().hex  # type: ignore[attr-defined]
        # Never reset: Django logs an error response after the last middleware, and a thread's next request
        # sets it anew.
        request_id.set(request.id)  # type: ignore[attr-defined]
        response = get_response(request)
        response["X-Request-ID"] = request.id  # type: ignore[attr-defined]
        return response

    return respond


def refuse_nul(get_response: GetResponse) -> GetResponse:
    """
    Answer 400 to a NUL character in the path, the query string or a cookie, raw or escaped.

    PostgreSQL's text holds none; psycopg2 raises ValueError for it, which would be a 500. Forms refuse it
    by themselves. A cookie writes it as an octal escape, and needs no login to reach the session's query.
    """

    def respond(request: HttpRequest) -> HttpResponseBase:
        places = {"path": request.path_info, "cookies": request.META.get("HTTP_COOKIE", "")}
        if "%00" in request.META["QUERY_STRING"]:
            places |= {f"parameter {name}": "".join([name, *texts]) for name, texts in request.GET.lists()}
        for place, text in places.items():
            if "\0" in text or "\\000" in text:
                where = place.replace("\0", "\\0")
                return BadRequest(f"A NUL character is in the {where}; nothing here can hold one.").response(
                    request
                )
        return get_response(request)

    return respond


def public_pages(get_response: GetResponse) -> GetResponse:
    """
    Answer the rooms' own addresses here, before the session, login and message middleware.

    Everybody may read them, nobody is logged in there; the admin's middleware would only cost time.
    """

    def respond(request: HttpRequest) -> HttpResponseBase:
        try:
            match = resolve(request.path_info, "rooms.urls")
        except Resolver404:
            return get_response(request)
        request.resolver_match = match
        response: HttpResponseBase = match.func(request, *match.args, **match.kwargs)
        return response

    return respond


def client_address(request: HttpRequest) -> str:
    """
    The address that a request came from, as login attempts are counted.

    Behind our proxy it is X-Forwarded-For, which nginx overwrites, so that no client chooses it. Of IPv6 it
    is the network of 64 bits: a single customer has all the addresses in it.
    """
    forwarded: str = request.META.get("HTTP_X_FORWARDED_FOR", "") if settings.BEHIND_PROXY else ""
    address: str = forwarded.rpartition(",")[2].strip() or request.META.get("REMOTE_ADDR", "")
    try:
        number = int(IPv6Address(address))
    except ValueError:  # IPv4
        return address
    return str(IPv6Address(number >> 64 << 64))


class PagePolicy(CSPMiddleware):
    """The Content-Security-Policy on pages only: browsers apply none to JSON, and it costs 60 µs to write."""

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if not response.headers.get("Content-Type", "").startswith("text/html"):
            return response
        answered: HttpResponseBase = super().process_response(request, response)
        return answered
