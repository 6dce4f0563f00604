"""The views of what people and search engines read and programs do not: pages, their map, sitemaps."""

import json
import logging
from dataclasses import replace
from urllib.parse import urlencode

from django.conf import settings
from django.http import FileResponse, HttpRequest, HttpResponse, HttpResponseBase, QueryDict
from whitenoise.responders import StaticFile

from rooms.api import clusters, places, queries
from rooms.api.errors import FieldError, NotFound, ParametersError, wants_page
from rooms.api.formats import HTML, JSON
from rooms.api.parameters import MAPPED, PARSERS, WHERE
from rooms.api.search import Search
from rooms.map import tiles
from rooms.pages import form, listing, sitemaps
from rooms.pages.form import PageQuery, UnknownPlace
from rooms.pages.links import clean_url
from rooms.pages.map import box_text, render_image, viewport_of
from rooms.pages.start import render_start
from rooms.responses import conditional_response, page_links, public, redirect, set_link_header

logger = logging.getLogger(__name__)

DATA_CACHE_CONTROL = "public, max-age=86400"
"""The gazetteer and the map change with releases only."""

SVG = "image/svg+xml"
PMTILES = "application/vnd.pmtiles"


def room_page(request: HttpRequest) -> HttpResponseBase:
    """
    The rooms that match as a page for people: a form, one page of rooms, statistics and a map. Five queries;
    two more for each range that is filtered by.
    """
    try:
        if form.PLACE in request.GET:
            return redirect(f"/rooms?{form.submitted(request.GET)}".removesuffix("?"))
        if url := clean_url(request, form=True):
            return redirect(url)
        query = PageQuery.read(request.GET)
        search = Search.parse(query.search)
    except UnknownPlace as error:
        filled = QueryDict(urlencode([(name, text) for name, text in request.GET.items() if text]))
        _, others = Search.parse_with_errors(PageQuery.read(filled).search, PARSERS.keys())
        return error_page(request, [FieldError(form.PLACE, str(error)), *others], "")
    except ParametersError as error:
        return error_page(request, error.errors, error.suggestion)
    search = replace(search, limit=min(search.limit or listing.ROOMS, listing.MAX_ROOMS))
    page = queries.values_page(replace(search, fields=()))  # cards show more than the table
    links = page_links(request, search, page, {form.VIEW: query.view} if query.view != "cards" else None)
    text = listing.render_list(request, query, search, page, links)
    response = conditional_response(request, text, HTML.content_type)
    set_link_header(response, links)
    return response


def error_page(request: HttpRequest, errors: list[FieldError], suggestion: str) -> HttpResponse:
    """The form as it was sent, with each error beside its field; raises unless the client prefers HTML."""
    if not wants_page(request):
        raise ParametersError(errors, suggestion)
    try:
        text = listing.render_errors(request, errors, suggestion)
    except Exception:
        logger.exception("The page of a search's errors could not be rendered.")
        raise ParametersError(errors, suggestion) from None
    response = HttpResponse(text, status=400)
    response.headers["Cache-Control"] = "no-store"
    response.headers["Vary"] = "Accept"
    return response


@public
def start(request: HttpRequest) -> HttpResponseBase:
    if url := clean_url(request):
        return redirect(url)
    Search.parse(request.GET, allowed=())
    return conditional_response(request, render_start(request), HTML.content_type)


@public
def map_image(request: HttpRequest) -> HttpResponseBase:
    """The map of a search as an image, for browsers without scripts; up to six queries."""
    query = PageQuery.read(request.GET)
    search = Search.parse(query.search, allowed=WHERE)
    viewport = viewport_of(search, query.map, None)
    shown = query.search.copy()
    shown["bbox"], shown["zoom"] = box_text(viewport.box), str(viewport.zoom)
    found = clusters.compute_map(Search.parse(shown, allowed=MAPPED))
    text = render_image(viewport, found, "Map of the rooms")
    return conditional_response(request, text, SVG)


@public
def map_tile(request: HttpRequest, zoom: int, x: int, y: int) -> HttpResponseBase:
    """A tile of the background map, as SVG; no query."""
    if zoom > tiles.MAX_ZOOM or max(x, y) >= 2**zoom:
        raise NotFound(f"No tile is there: zoom goes to {tiles.MAX_ZOOM}, x and y to 2**zoom - 1.")
    Search.parse(request.GET, allowed=())
    response = conditional_response(request, tiles.tile(zoom, x, y), SVG)
    response.headers["Cache-Control"] = DATA_CACHE_CONTROL
    return response


@public
def map_file(request: HttpRequest, name: str) -> HttpResponseBase:
    """The PMTiles file of the setting, or a range of its bytes, where no nginx serves it; no query."""
    Search.parse(request.GET, allowed=())
    path = settings.MAP_FOLDER / name
    if name != settings.MAP_PMTILES or not path.is_file():
        raise NotFound("No file of tiles is there.")
    found = StaticFile(str(path), [("Content-Type", PMTILES)]).get_response(request.method, request.META)
    response = FileResponse(found.file or (), status=found.status)
    for header, value in found.headers:
        response.headers[header] = value
    return response


@public
def place_list(request: HttpRequest) -> HttpResponseBase:
    """The places whose name begins with `q`, eight at most, for completion while typing; no query."""
    response = conditional_response(request, json.dumps(places.complete(request.GET)), JSON.content_type)
    response.headers["Cache-Control"] = DATA_CACHE_CONTROL
    return response


@public
def robots(request: HttpRequest) -> HttpResponseBase:
    return conditional_response(request, sitemaps.robots(request), "text/plain; charset=utf-8")


@public
def sitemap(request: HttpRequest) -> HttpResponseBase:
    """The index of the sitemaps."""
    return conditional_response(request, sitemaps.index(request), "application/xml")


@public
def room_sitemap(request: HttpRequest, shard: str | None = None) -> HttpResponseBase:
    """The pages of the rooms whose code begins with `shard`, or of all."""
    return conditional_response(request, sitemaps.rooms(request, shard or ""), "application/xml")
