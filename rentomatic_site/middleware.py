"""Middleware for every request; settings.MIDDLEWARE has the order."""

import re
import secrets
from collections.abc import Callable
from ipaddress import IPv6Address
from typing import Any

from corsheaders.middleware import CorsMiddleware
from csp.middleware import CSPMiddleware
from django.conf import settings
from django.http import HttpRequest, HttpResponseBase
from django.urls import Resolver404, resolve, reverse
from django.utils import translation

from rentomatic_site import sqlcommenter
from rentomatic_site.compression import add_vary, compress
from rentomatic_site.logs import request_id
from rooms.api.errors import BadRequest

GetResponse = Callable[[HttpRequest], HttpResponseBase]

SENT_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


def request_ids(get_response: GetResponse) -> GetResponse:
    """
    Set the request's id: nginx's `X-Request-ID` where it is valid, else a new one.

    It is in every log record of the request, in the response's `X-Request-ID` and in `request.id`.
    """

    def respond(request: HttpRequest) -> HttpResponseBase:
        sent = request.META.get("HTTP_X_REQUEST_ID", "")
        own = sent if SENT_ID.fullmatch(sent) else secrets.token_hex(16)
        request.id = own  # type: ignore[attr-defined]  # Django's request has none
        # Not reset at the end: Django logs error responses after the outermost middleware. The thread's next
        # request overwrites it.
        request_id.set(own)
        sqlcommenter.handles(request)
        response = get_response(request)
        response["X-Request-ID"] = own
        return response

    return respond


def refuse_nul(get_response: GetResponse) -> GetResponse:
    """
    Respond with 400 to a NUL character in the path, the query string or a cookie, raw or escaped.

    PostgreSQL's type text cannot store it, and psycopg2 raises ValueError, which would be a 500. Forms
    validate it themselves. In a cookie it is an octal escape, which reaches the query of the session without
    a login.
    """

    def respond(request: HttpRequest) -> HttpResponseBase:
        parts = {"path": request.path_info, "cookies": request.META.get("HTTP_COOKIE", "")}
        if "%00" in request.META["QUERY_STRING"]:
            parts |= {f"parameter {name}": "".join([name, *texts]) for name, texts in request.GET.lists()}
        for part, text in parts.items():
            if "\0" in text or "\\000" in text:
                part = part.replace("\0", "\\0")
                error = BadRequest(f"A NUL character is in the {part}; nothing here can hold one.")
                return error.response(request)
        return get_response(request)

    return respond


def public_pages(get_response: GetResponse) -> GetResponse:
    """
    Call the views of `rooms.urls` here, before the session, login and message middleware.

    These pages are public and have no login, so that the admin's middleware would only cost time. They hold
    no secret either, so that they may be compressed. They only read: where there are replicas, from those.
    """
    if settings.REPLICAS:
        from rentomatic_site.replication.reading import from_replica as read
    else:
        read = call

    def respond(request: HttpRequest) -> HttpResponseBase:
        try:
            match = resolve(request.path_info, "rooms.urls")
        except Resolver404:
            return get_response(request)
        request.resolver_match = match
        return compress(request, read(match.func, request, *match.args, **match.kwargs))

    return respond


def call(
    view: Callable[..., HttpResponseBase], request: HttpRequest, *args: Any, **kwargs: Any
) -> HttpResponseBase:
    return view(request, *args, **kwargs)


def admin_language(get_response: GetResponse) -> GetResponse:
    """
    The admin in the language that the person has chosen, else in the browser's.

    Django's LocaleMiddleware would translate every response, and leave the language in the thread. Here it is
    in use until the admin's response is made; a streamed one, which is a file, is made after that.
    """

    def respond(request: HttpRequest) -> HttpResponseBase:
        if not request.path_info.startswith(reverse("admin:index")):
            return get_response(request)
        language = translation.get_language_from_request(request)
        with translation.override(language, deactivate=True):
            response = get_response(request)
        response.headers.setdefault("Content-Language", language)
        add_vary(response, "accept-language")
        return response

    return respond


def client_address(request: HttpRequest) -> str:
    """
    The client's IP address, by which login attempts are counted.

    Behind the proxy it comes from X-Forwarded-For, which nginx overwrites, so that clients cannot choose it.
    For IPv6 it is the network of 64 bits: a single customer has all addresses in it.
    """
    forwarded: str = request.META.get("HTTP_X_FORWARDED_FOR", "") if settings.BEHIND_PROXY else ""
    address: str = forwarded.rpartition(",")[2].strip() or request.META.get("REMOTE_ADDR", "")
    try:
        number = int(IPv6Address(address))
    except ValueError:  # IPv4
        return address
    return str(IPv6Address(number >> 64 << 64))


class CrossOrigin(CorsMiddleware):
    """CORS for requests of other origins; the others get `Vary` only, which saves two thirds of the time."""

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if "HTTP_ORIGIN" in request.META or request.method == "OPTIONS":
            return super().__call__(request)  # type: ignore[return-value]  # no coroutine under WSGI
        response: HttpResponseBase = self.get_response(request)  # type: ignore[assignment]  # the same
        if re.match(settings.CORS_URLS_REGEX, request.path_info):
            add_vary(response, "origin")
        return response


class PagePolicy(CSPMiddleware):
    """
    The Content-Security-Policy on HTML only: browsers do not apply it to JSON, and it costs 60 µs. It has no
    nonce, for which `process_request` would prepare.
    """

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase = self.get_response(request)  # type: ignore[assignment]  # the same
        if response.headers.get("Content-Type", "").startswith("text/html"):
            response = self.process_response(request, response)
        return response
