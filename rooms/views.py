"""The public views of rooms."""

import json
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from functools import wraps
from hashlib import blake2b
from typing import Any
from urllib.parse import urlencode

from django.db import connection
from django.http import (
    HttpRequest,
    HttpResponse,
    HttpResponseBase,
    HttpResponseRedirect,
    StreamingHttpResponse,
)
from django.utils.cache import get_conditional_response

from rooms.api import changes, clusters, exports, openapi, queries
from rooms.api.errors import MethodNotAllowed, NotAcceptable, NotFound, Problem
from rooms.api.formats import HTML, JSON, NDJSON, Format, choose_format
from rooms.api.negotiation import preferred_media_type
from rooms.api.parameters import MAPPED, WHERE, Search
from rooms.api.queries import Ends, ValuesPage
from rooms.api.statistics import compute_statistics
from rooms.api.timing import QueryTimer
from rooms.columns import COLUMNS
from rooms.counting import Count
from rooms.pages.detail import render_detail
from rooms.pages.docs import render_docs
from rooms.pages.links import clean_url
from rooms.pages.listing import MAX_ROOMS, render_list

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


@public
def room_list(request: HttpRequest, suffix: str = "") -> HttpResponseBase:
    """
    The rooms that match: one page, or all of them where the format streams and no limit is given.

    Costs one query, a few more by distance and where filters and order don't go well together; an exact
    count one more, an estimated one two at most.
    """
    output = choose_format(request, suffix)
    if output is HTML and (url := clean_url(request, form=True)):
        return redirect(url)
    search = Search.parse(request.GET)
    if output is HTML:
        search = replace(search, limit=min(search.limit or MAX_ROOMS, MAX_ROOMS))
    if output.streams and search.limit is None:
        return stream_response(request, search, output)

    page = queries.values_page(search) if output is HTML else queries.page(search, output)
    total = queries.count(search) if search.count else None
    links = page_links(request, search, page)
    text = render_list(request, search, page, links) if isinstance(page, ValuesPage) else page.text
    response = conditional_response(request, text, output.content_type)
    response.headers["Link"] = ", ".join(f'<{url}>; rel="{relation}"' for relation, url in links.items())
    set_count_headers(response, total)
    return response


@public
def room_detail(request: HttpRequest, code: str) -> HttpResponseBase:
    """One room by its code; one query."""
    output = choose_format(request)
    if output is HTML and (url := clean_url(request)):
        return redirect(url)
    try:
        code = COLUMNS["code"].parse(code)
    except ValueError as error:
        raise NotFound(f"No room has this code: it {error}.") from None
    Search.parse(request.GET, allowed=())
    found = queries.room_values(code) if output is HTML else queries.room_text(code, output)
    if found is None:
        raise NotFound(f"No room has the code {code}.")
    text = found if isinstance(found, str) else render_detail(request, found)
    return conditional_response(request, text, output.content_type)


@public
def room_stats(request: HttpRequest) -> HttpResponseBase:
    """Statistics of the rooms that match; up to five queries, on a sample where the rooms are many."""
    search = Search.parse(request.GET, allowed=WHERE)
    text = json.dumps(compute_statistics(search))
    return conditional_response(request, text, JSON.content_type)


@public
def room_changes(request: HttpRequest) -> HttpResponseBase:
    """
    The changes after a cursor or a time, or all rooms; the last line has the next cursor.

    A response of some thousand lines is streamed like an export; shorter ones need no slot, so that mirrors
    are not kept waiting by exports.
    """
    if preferred_media_type(request.META.get("HTTP_ACCEPT", "*/*"), [NDJSON.media_type]) is None:
        raise NotAcceptable(f"Changes come as {NDJSON.media_type}.")
    lines = changes.read(request.GET)
    response: HttpResponseBase = HttpResponse(content_type=NDJSON.content_type)
    if request.method == "GET":
        first = next(lines)
        second = next(lines, "")
        if second:
            stream = exports.with_slot(chain_closing(first + second, lines))
            response = StreamingHttpResponse(
                chain_closing(next(stream), stream), content_type=NDJSON.content_type
            )
            response.headers["X-Accel-Buffering"] = "no"  # nginx passes each chunk on without buffering
        else:
            response = HttpResponse(first, content_type=NDJSON.content_type)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Accept"
    return response


@public
def room_clusters(request: HttpRequest, suffix: str = "") -> HttpResponse:
    """The rooms that match as clusters on a map; up to five queries, on a sample where they are many."""
    output = choose_format(request, suffix, clusters.FORMATS)
    search = Search.parse(request.GET, allowed=MAPPED)
    text = clusters.write_map(clusters.compute_map(search), output)
    return conditional_response(request, text, output.content_type)


@public
def openapi_document(request: HttpRequest) -> HttpResponseBase:
    Search.parse(request.GET, allowed=())
    return conditional_response(request, openapi.document(), JSON.content_type)


@public
def docs(request: HttpRequest) -> HttpResponseBase:
    if url := clean_url(request):
        return redirect(url)
    Search.parse(request.GET, allowed=())
    return conditional_response(request, render_docs(request), HTML.content_type)


def stream_response(request: HttpRequest, search: Search, output: Format) -> HttpResponseBase:
    """All rooms of a search, streamed as they are fetched."""
    steps = count_then_stream(search, output)
    if request.method == "GET":
        steps = exports.with_slot(steps)
    total = next(steps)
    chunks: Iterator[str] = iter(())
    if request.method == "GET":
        # The first rows are fetched before the status is sent: an error is a 503, not a truncated file.
        chunks = chain_closing(next(steps), steps)
    response = StreamingHttpResponse(chunks, content_type=output.content_type)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Accept"
    response.headers["Content-Disposition"] = f'attachment; filename="rooms.{output.name}"'
    set_count_headers(response, total)
    response.headers["X-Accel-Buffering"] = "no"  # nginx passes each chunk on without buffering
    return response


def count_then_stream(search: Search, output: Format) -> Generator[Any, None, None]:
    """First the number of rooms, where the search asks for it, else None; then the rooms, in chunks."""
    yield queries.count(search) if search.count else None
    yield from queries.stream(search, output)


def chain_closing(first: str, rest: Generator[str, None, None]) -> Generator[str, None, None]:
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


def set_count_headers(response: HttpResponseBase, total: Count | None) -> None:
    """How many rooms match, where the request asked for it."""
    if total is not None:
        response.headers["X-Total-Count"] = str(int(total))
        response.headers["X-Total-Count-Precision"] = total.precision


def page_links(request: HttpRequest, search: Search, page: Ends) -> dict[str, str]:
    """The absolute URLs of the first page, and of the previous and the next one where there are any."""
    cursors: dict[str, dict[str, str]] = {"first": {}}
    if page.first:
        cursors["prev"] = {"before": search.cursor(page.first)}
    if page.last:
        cursors["next"] = {"after": search.cursor(page.last)}
    url = f"{request.scheme}://{request.get_host()}{request.path}"
    given = search.without_cursor()
    texts = {relation: urlencode(given | cursor, safe=",:") for relation, cursor in cursors.items()}
    return {relation: f"{url}?{text}" if text else url for relation, text in texts.items()}
