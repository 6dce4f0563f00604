"""
The map of the list: the rooms that match its filters, as the API's clusters.

With scripts it is the map of the public pages. Without, it is their image, with links that move it and one
that lists what it shows.
"""

from copy import copy
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from django.core.exceptions import FullResultSet, PermissionDenied
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext

from rooms.admin.list_filters import filter_errors
from rooms.admin.place_filters import PLACE_FILTERS
from rooms.api import clusters
from rooms.api.conditions import Term
from rooms.api.errors import FieldError, ParametersError
from rooms.api.formats import JSON
from rooms.api.parameters import MAPPED
from rooms.api.search import Search
from rooms.api.statistics import compute_statistics
from rooms.pages.form import MAP
from rooms.pages.map import (
    HEIGHT,
    WIDTH,
    Viewport,
    box_text,
    extent_viewport,
    place_viewport,
    render_image,
    tiles_context,
)

if TYPE_CHECKING:
    from rooms.admin.listing import RoomChangeList

PLACE = {name for row in PLACE_FILTERS for name in row.names}
"""The list's parameters that the search of a map has itself."""


def map_context(changelist: "RoomChangeList") -> dict[str, Any]:
    """The values for the list's template; no query, unless the URL asks for all rooms that match."""
    shown = changelist.params.get(MAP, "")
    place = {name: text for name, text in changelist.params.items() if name in PLACE and text}
    search = Search.parse(urlencode(place))
    viewport = Viewport.parse(shown) or place_viewport(search)
    if shown and not viewport:
        rooms: Any = changelist.queryset
        viewport = whole_view(replace(search, terms=(condition(rooms),)))
    query = changelist.get_query_string(remove=[MAP])
    context = {
        "clusters": f"{reverse('admin:rooms_room_map')}{query}",
        "open": viewport is not None,
        "outline": search.given.get("bbox", ""),
        "fit": changelist.get_query_string({MAP: "fit"}),
        **tiles_context(),
    }
    if not viewport:
        return context

    def link(moved: Viewport) -> str:
        return changelist.get_query_string({MAP: moved.text})

    return context | {
        "view": viewport.text,
        "width": WIDTH,
        "height": HEIGHT,
        "image": f"{reverse('admin:rooms_room_map_image')}{link(viewport)}",
        "moves": [(gettext(label), sign, link(moved)) for label, sign, moved in viewport.moves],
        "area": changelist.get_query_string({"bbox": box_text(viewport.box)}, remove=["near", "within", MAP]),
    }


class MapMixin:
    """The URLs of the map, for RoomAdmin. Their query is that of the list."""

    def get_urls(self: Any) -> list[URLPattern]:
        return [
            path("map/", self.admin_site.admin_view(self.map_view), name="rooms_room_map"),
            path("map.svg", self.admin_site.admin_view(self.map_image), name="rooms_room_map_image"),
            *super().get_urls(),  # type: ignore[misc]  # of ModelAdmin
        ]

    def map_view(self: Any, request: HttpRequest) -> HttpResponse:
        """With `zoom` the clusters of a box, as of /rooms/clusters; else the view that shows all rooms."""
        try:
            search, listed = read(self, request)
        except ParametersError as error:
            return error.response(request)
        if "zoom" in search.given:
            return HttpResponse(
                clusters.write_map(clusters.compute_map(search, listed), JSON), content_type=JSON.content_type
            )
        view = place_viewport(search) or whole_view(replace(search, terms=(*search.terms, listed)))
        return JsonResponse({"view": view.text})

    def map_image(self: Any, request: HttpRequest) -> HttpResponse:
        try:
            search, listed = read(self, request)
        except ParametersError as error:
            return error.response(request)
        view = Viewport.parse(request.GET.get(MAP, "")) or place_viewport(search) or extent_viewport(None)
        box = {"bbox": box_text(view.box), "zoom": str(view.zoom)}
        shown = Search.parse(urlencode(search.given | box), allowed=MAPPED)
        found = clusters.compute_map(shown, listed)
        image = render_image(view, found, gettext("Map of the rooms of this list"))
        return HttpResponse(image, content_type="image/svg+xml")


def read(model_admin: Any, request: HttpRequest) -> tuple[Search, Term]:
    """The search of a map, and the condition of the list's other filters. Raises ParametersError."""
    if not model_admin.has_view_or_change_permission(request):
        raise PermissionDenied
    own, others = QueryDict(mutable=True), request.GET.copy()
    for name in {*PLACE, "zoom"}:
        own.setlist(name, [text for text in others.pop(name, []) if text])
    search = Search.parse(own.urlencode(), allowed=MAPPED)
    listed = copy(request)
    listed.GET = others  # type: ignore[assignment]  # a QueryDict
    rooms = model_admin.get_export_queryset(listed)
    if filter_errors(listed):
        raise ParametersError([FieldError("filter", text) for text in filter_errors(listed)], "")
    return search, condition(rooms)


def condition(rooms: Any) -> Term:
    """The condition of a query set of rooms."""
    try:
        sql, values = rooms.query.get_compiler(connection=connection).compile(rooms.query.where)
    except FullResultSet:
        sql, values = "TRUE", []
    return Term("", (sql, list(values)), indexed=False)


def whole_view(search: Search) -> Viewport:
    """The viewport that shows all rooms of a search; two queries, or three."""
    return extent_viewport(compute_statistics(search)["bbox"])
