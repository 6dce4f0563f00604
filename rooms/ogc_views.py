"""The views of OGC API – Features; its parameters and documents are in api/ogc.py."""

import json
from typing import Any

from django.http import HttpRequest, HttpResponse, HttpResponseBase

from rooms.api import counts, ogc, queries
from rooms.api.errors import NotFound
from rooms.api.formats import GEOJSON, JSON
from rooms.api.search import Search
from rooms.columns import COLUMNS
from rooms.responses import conditional_response, page_links, public, set_link_header, site_url


def document(request: HttpRequest, content: dict[str, Any]) -> HttpResponse:
    return conditional_response(request, json.dumps(content), JSON.content_type)


@public
def landing_page(request: HttpRequest) -> HttpResponseBase:
    Search.parse(request.GET, allowed=())
    return document(request, ogc.landing_page(site_url(request)))


@public
def conformance(request: HttpRequest) -> HttpResponseBase:
    Search.parse(request.GET, allowed=())
    return document(request, {"conformsTo": ogc.CONFORMANCE})


@public
def collections(request: HttpRequest) -> HttpResponseBase:
    Search.parse(request.GET, allowed=())
    return document(request, ogc.collections(site_url(request)))


@public
def collection(request: HttpRequest) -> HttpResponseBase:
    Search.parse(request.GET, allowed=())
    return document(request, ogc.collection(site_url(request)))


@public
def items(request: HttpRequest) -> HttpResponseBase:
    """One page of the rooms that match; the query of a list, and one that counts up to MAX_COUNTED rooms."""
    search = ogc.parse(request.GET)
    page = queries.page(search, GEOJSON)
    total = counts.count(search)
    url = site_url(request) + request.path
    given = request.GET.urlencode(safe=",:/")
    self_url = f"{url}?{given}" if given else url
    links = [{"href": self_url, "rel": "self", "type": GEOJSON.media_type, "title": "These rooms"}]
    for relation, href in page_links(request, search, page).items():
        if relation != "first":
            links.append({"href": href, "rel": relation, "type": GEOJSON.media_type, "title": "More rooms"})
    text = ogc.feature_collection(page.text, links, total)
    response = conditional_response(request, text, GEOJSON.content_type)
    set_link_header(response, {link["rel"]: link["href"] for link in links})
    return response


@public
def item(request: HttpRequest, code: str) -> HttpResponseBase:
    """One room by its code; one query."""
    Search.parse(request.GET, allowed=())
    found = queries.room_text(code, GEOJSON) if COLUMNS["code"].accepts(code) else None
    if found is None:
        raise NotFound("No room has this code.")
    return conditional_response(request, ogc.feature(found, site_url(request), code), GEOJSON.content_type)
