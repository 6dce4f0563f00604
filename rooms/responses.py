"""What the public views' responses have in common: methods, errors, caching, links to other pages."""

from collections.abc import Callable, Generator, Iterator
from functools import wraps
from hashlib import blake2b
from typing import Any
from urllib.parse import urlencode

from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.utils.cache import get_conditional_response

from rooms.api.errors import MethodNotAllowed, Problem
from rooms.api.queries import Ends
from rooms.api.search import Search
from rooms.api.timing import QueryTimer
from rooms.counting import Count
from rooms.database import connection

CACHE_CONTROL = "public, max-age=1"
"""A shared cache requests a URL once a second at most; later requests are validated by ETag."""


def public(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """
    Decorator of public views: GET and HEAD only, errors as problem details, and the time of all queries in
    Server-Timing; an export has only begun when its headers are sent.
    """

    @wraps(view)
    def respond(request: HttpRequest, *args: str, **kwargs: str) -> HttpResponseBase:
        timer = QueryTimer()
        try:
            if request.method not in {"GET", "HEAD"}:
                raise MethodNotAllowed(
                    f"{request.method} is not possible: rooms are read only.", Allow="GET, HEAD"
                )
            with connection.execute_wrapper(timer):
                response = view(request, *args, **kwargs)
        except Problem as problem:
            response = problem.response(request)
        if timer.queries and not response.streaming:
            response.headers["Server-Timing"] = timer.header
        return response

    return respond


def site_url(request: HttpRequest) -> str:
    """The scheme and the host of this site, as in https://rooms.example."""
    return f"{request.scheme}://{request.get_host()}"


def streaming_response(chunks: Iterator[Any], content_type: str) -> StreamingHttpResponse:
    """
    The chunks, text or bytes, as a response that is sent while they are read. The first is read at once, so
    that its error has a status of its own and is no truncated file.
    """
    first = next(chunks, "")
    response = StreamingHttpResponse(chain_closing(first, chunks), content_type=content_type)
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Accel-Buffering"] = "no"  # nginx passes each chunk on without buffering
    return response


def chain_closing(first: Any, rest: Iterator[Any]) -> Generator[Any, None, None]:
    """`itertools.chain` that closes the rest when it is closed, which ends the query."""
    yield first
    yield from rest


def redirect(url: str) -> HttpResponse:
    """A redirect of a page; programs get another response for the same URL."""
    response = HttpResponseRedirect(url)
    response.headers["Vary"] = "Accept"
    return response


def conditional_response(request: HttpRequest, text: str, content_type: str) -> HttpResponse:
    """A response with an ETag and caching headers; 304 where the client's ETag matches."""
    body = text.encode()
    response = HttpResponse(body, content_type=content_type)
    etag = f'W/"{blake2b(body, digest_size=12).hexdigest()}"'
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = CACHE_CONTROL
    response.headers["Vary"] = "Accept"
    if "HTTP_IF_NONE_MATCH" in request.META:
        response = get_conditional_response(request, etag=etag, response=response) or response
    return response


def set_link_header(response: HttpResponseBase, links: dict[str, str]) -> None:
    response.headers["Link"] = ", ".join(f'<{url}>; rel="{relation}"' for relation, url in links.items())


def set_count_headers(response: HttpResponseBase, total: Count | None) -> None:
    """How many rooms match, where the request has `count`."""
    if total is not None:
        response.headers["X-Total-Count"] = str(int(total))
        response.headers["X-Total-Count-Precision"] = total.precision


def page_links(
    request: HttpRequest, search: Search, page: Ends, own: dict[str, str] | None = None
) -> dict[str, str]:
    """
    The absolute URLs of the first page, and of the previous and the next one where there are any; with the
    parameters that are the page's own.
    """
    url = site_url(request) + request.path
    query = urlencode(search.without_cursor() | (own or {}), safe=",:")
    first = f"{url}?{query}" if query else url
    more = f"{first}&" if query else f"{url}?"
    links = {"first": first}
    if page.first:
        links["prev"] = f"{more}before={search.cursor(page.first)}"
    if page.last:
        links["next"] = f"{more}after={search.cursor(page.last)}"
    return links
