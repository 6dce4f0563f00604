"""The rooms on the wire: each view is the way of one request, from its parameters to its bytes."""

from collections.abc import Callable, Generator, Iterator
from functools import wraps
from hashlib import blake2b
from time import perf_counter
from urllib.parse import urlencode

from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.utils.cache import get_conditional_response
from django.views.decorators.csrf import csrf_exempt

from rooms.api import exports, openapi, queries, statistics
from rooms.api.errors import MethodNotAllowed, NotFound, Problem
from rooms.api.formats import HTML, JSON, Format, choose
from rooms.api.operators import FIELDS
from rooms.api.parameters import WHERE, Search
from rooms.pages.listing import listing

CACHE_CONTROL = "public, max-age=1"
"""A hot address is asked once a second however many ask it; the ETag serves who comes back later."""


def public(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """A view for everybody: GET and HEAD only, errors as problem details, nothing for CSRF to abuse."""

    @wraps(view)
    def answer(request: HttpRequest, *args: str, **kwargs: str) -> HttpResponseBase:
        try:
            if request.method not in {"GET", "HEAD"}:
                raise MethodNotAllowed(
                    f"{request.method} is not possible: rooms are read only.", Allow="GET, HEAD"
                )
            return view(request, *args, **kwargs)
        except Problem as problem:
            return problem.response(request)

    return csrf_exempt(answer)


@public
def room_list(request: HttpRequest, suffix: str = "") -> HttpResponseBase:
    """
    The rooms that match: one page, or all of them where the format streams and no limit is given.

    Costs one query, an exact count one more, an estimated one two at most.
    """
    format = choose(request, suffix)
    if format is HTML and "" in request.GET.values():  # a form sends its empty fields too
        return HttpResponseRedirect(listing.without_empty_fields(request.GET))
    search = Search.parse(request.GET)
    if format.streams and search.limit is None:
        return streamed(request, search, format)

    started = perf_counter()
    page = queries.page(search, format)
    total, precision = queries.count(search) if search.count else (None, "")
    seconds = perf_counter() - started

    first = address(request, search)
    links = {"first": first}
    if page.last:
        links["next"] = f"{first}{'&' if '?' in first else '?'}after={search.cursor(page.last)}"
    text = listing.room_list(request, search, page, links) if format is HTML else page.text
    response = written(request, text, format.content_type, seconds)
    response.headers["Link"] = ", ".join(f'<{link}>; rel="{name}"' for name, link in links.items())
    tell_count(response, total, precision)
    return response


@public
def room_detail(request: HttpRequest, code: str) -> HttpResponseBase:
    """One room by its code; one query."""
    format = choose(request)
    try:
        code = FIELDS["code"].parse(code)
    except ValueError as error:
        raise NotFound(f"No room has this code: it {error}.") from None
    Search.parse(request.GET, allowed=())
    started = perf_counter()
    text = queries.one(code, format)
    seconds = perf_counter() - started
    if text is None:
        raise NotFound(f"No room has the code {code}.")
    if format is HTML:
        text = listing.room_detail(request, text)
    return written(request, text, format.content_type, seconds)


@public
def room_stats(request: HttpRequest) -> HttpResponseBase:
    """Figures of the rooms that match; two queries, on a sample where the rooms are many."""
    search = Search.parse(request.GET, allowed=WHERE)
    started = perf_counter()
    text = statistics.of(search)
    return written(request, text, JSON.content_type, perf_counter() - started)


@public
def openapi_document(request: HttpRequest) -> HttpResponseBase:
    Search.parse(request.GET, allowed=())
    return written(request, openapi.document(), JSON.content_type)


@public
def docs(request: HttpRequest) -> HttpResponseBase:
    Search.parse(request.GET, allowed=())
    return written(request, listing.docs(request), HTML.content_type)


def streamed(request: HttpRequest, search: Search, format: Format) -> HttpResponseBase:
    """All rooms of a search, in chunks as they leave the database."""
    total, precision = queries.count(search) if search.count else (None, "")
    chunks: Iterator[str] = iter(())
    if request.method == "GET":
        stream = exports.bounded(queries.stream(search, format))
        # The first rows are there before the status is sent: a database that fails is a 503, no torn file.
        chunks = resumed(next(stream), stream)
    response = StreamingHttpResponse(chunks, content_type=format.content_type)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Accept"
    response.headers["Content-Disposition"] = f'attachment; filename="rooms.{format.name}"'
    tell_count(response, total, precision)
    response.headers["X-Accel-Buffering"] = "no"  # nginx hands each chunk on, and caches none of them
    return response


def resumed(first: str, rest: Generator[str, None, None]) -> Iterator[str]:
    """`itertools.chain`, but closing it closes the rest: when the client is gone, so is the query."""
    yield first
    yield from rest


def written(request: HttpRequest, text: str, content_type: str, seconds: float | None = None) -> HttpResponse:
    """The answer with what caches need; 304 without a body where the client has it already."""
    body = text.encode()
    response = HttpResponse(body, content_type=content_type)
    etag = f'W/"{blake2b(body, digest_size=12).hexdigest()}"'
    response.headers["ETag"] = etag
    response.headers["Cache-Control"] = CACHE_CONTROL
    response.headers["Vary"] = "Accept"
    if "HTTP_IF_NONE_MATCH" in request.META:
        response = get_conditional_response(request, etag=etag, response=response) or response
    if seconds is not None:
        response.headers["Server-Timing"] = f"db;dur={seconds * 1000:.2f}"
    return response


def tell_count(response: HttpResponseBase, total: int | None, precision: str) -> None:
    """How many rooms match, where the request asked for it."""
    if total is not None:
        response.headers["X-Total-Count"] = str(total)
        response.headers["X-Total-Count-Precision"] = precision


def address(request: HttpRequest, search: Search) -> str:
    """The absolute address of this search from its first page on."""
    query = urlencode({name: text for name, text in search.given.items() if name != "after"}, safe=",:")
    return f"{request.scheme}://{request.get_host()}{request.path}{query and '?'}{query}"
