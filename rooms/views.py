"""The public views of rooms; OGC API – Features has its own in ogc_views.py, pages in pages/views.py."""

import json
from collections.abc import Generator, Iterator
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from rooms.api import changes, clusters, counts, exports, openapi, queries
from rooms.api.errors import NotAcceptable, NotFound
from rooms.api.formats import HTML, JSON, NDJSON, Format, choose_format
from rooms.api.negotiation import preferred_media_type
from rooms.api.parameters import MAPPED, WHERE
from rooms.api.search import Search
from rooms.api.statistics import compute_statistics
from rooms.columns import COLUMNS
from rooms.pages.detail import render_detail
from rooms.pages.docs import render_docs
from rooms.pages.links import clean_url
from rooms.pages.statistics import render_statistics
from rooms.pages.views import room_page
from rooms.responses import (
    chain_closing,
    conditional_response,
    page_links,
    public,
    redirect,
    set_count_headers,
    set_link_header,
    streaming_response,
)

STATISTICS = [JSON.media_type, HTML.media_type]
"""The media types of the statistics."""


@public
def room_list(request: HttpRequest, suffix: str = "") -> HttpResponseBase:
    """
    The rooms that match: one page, or all of them where the format streams and no limit is given.

    Costs one query, a few more by distance and where filters and order don't go well together; an exact
    count two more, an estimated one up to four.
    """
    output = choose_format(request, suffix)
    if output is HTML:
        return room_page(request)
    search = Search.of(request)
    if output.streams and search.limit is None:
        return stream_response(request, search, output)

    page = queries.page(search, output)
    total = counts.count(search) if search.count else None
    response = conditional_response(request, page.text, output.content_type)
    set_link_header(response, page_links(request, search, page))
    set_count_headers(response, total)
    return response


@public
def room_detail(request: HttpRequest, code: str, suffix: str = "") -> HttpResponseBase:
    """One room by its code; one query."""
    output = choose_format(request, suffix)
    if output is HTML and (url := clean_url(request)):
        return redirect(url)
    try:
        code = COLUMNS["code"].parse(code)
    except ValueError as error:
        raise NotFound(f"No room has this code: it {error}.") from None
    Search.of(request, allowed=())
    found = queries.room_values(code) if output is HTML else queries.room_text(code, output)
    if found is None:
        raise NotFound(f"No room has the code {code}.")
    text = found if isinstance(found, str) else render_detail(request, found)
    return conditional_response(request, text, output.content_type)


@public
def room_stats(request: HttpRequest) -> HttpResponseBase:
    """Statistics of the rooms that match; up to five queries, on a sample where the rooms are many."""
    wants_page = preferred_media_type(request.META.get("HTTP_ACCEPT", "*/*"), STATISTICS) == HTML.media_type
    if wants_page and (url := clean_url(request, form=True)):
        return redirect(url)
    search = Search.of(request, allowed=WHERE)
    statistics = compute_statistics(search)
    if wants_page:
        text, content_type = render_statistics(request, search, statistics), HTML.content_type
    else:
        text, content_type = json.dumps(statistics), JSON.content_type
    return conditional_response(request, text, content_type)


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
            response = streaming_response(stream, NDJSON.content_type)
        else:
            response = HttpResponse(first, content_type=NDJSON.content_type)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Accept"
    return response


@public
def room_clusters(request: HttpRequest, suffix: str = "") -> HttpResponse:
    """The rooms that match as clusters on a map; up to five queries, on a sample where they are many."""
    output = choose_format(request, suffix, clusters.FORMATS)
    search = Search.of(request, allowed=MAPPED)
    text = clusters.write_map(clusters.compute_map(search), output)
    return conditional_response(request, text, output.content_type)


@public
def openapi_document(request: HttpRequest) -> HttpResponseBase:
    Search.of(request, allowed=())
    return conditional_response(request, openapi.document(), JSON.content_type)


@public
def docs(request: HttpRequest) -> HttpResponseBase:
    if url := clean_url(request):
        return redirect(url)
    Search.of(request, allowed=())
    return conditional_response(request, render_docs(request), HTML.content_type)


def stream_response(request: HttpRequest, search: Search, output: Format) -> HttpResponseBase:
    """All rooms of a search, streamed as they are fetched."""
    steps = count_then_stream(search, output)
    if request.method == "GET":
        steps = exports.with_slot(steps)
    total = next(steps)
    chunks: Iterator[str] = steps if request.method == "GET" else iter(())
    response = streaming_response(chunks, output.content_type)
    response.headers["Vary"] = "Accept"
    response.headers["Content-Disposition"] = f'attachment; filename="rooms.{output.name}"'
    set_count_headers(response, total)
    return response


def count_then_stream(search: Search, output: Format) -> Generator[Any, None, None]:
    """First the number of rooms, where `count` is given, else None; then the rooms, in chunks."""
    yield counts.count(search) if search.count else None
    yield from queries.stream(search, output)
