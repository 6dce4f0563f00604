"""The URLs of rooms."""

from django.urls import path, re_path
from django.views.generic import RedirectView

from rooms import ogc_views, views
from rooms.api.formats import FORMATS

urlpatterns = [
    path("", views.public(RedirectView.as_view(url="/rooms", query_string=True))),
    re_path(
        r"^(?P<url>docs|rooms|rooms/stats|rooms/[0-9A-Fa-f-]+)/$",
        views.public(RedirectView.as_view(url="/%(url)s", query_string=True)),
    ),
    path("rooms", views.room_list, name="rooms"),
    re_path(rf"^rooms\.(?P<suffix>{'|'.join(FORMATS)})$", views.room_list),
    path("rooms/stats", views.room_stats),
    path("rooms/changes", views.room_changes),
    path("rooms/clusters", views.room_clusters),
    re_path(r"^rooms/clusters\.(?P<suffix>json|geojson)$", views.room_clusters),
    path("rooms/<str:code>", views.room_detail, name="room"),
    path("openapi.json", views.openapi_document),
    path("docs", views.docs, name="docs"),
    path("ogc", ogc_views.landing_page),
    path("ogc/conformance", ogc_views.conformance),
    path("ogc/collections", ogc_views.collections),
    path("ogc/collections/rooms", ogc_views.collection),
    path("ogc/collections/rooms/items", ogc_views.items),
    path("ogc/collections/rooms/items/<str:code>", ogc_views.item),
]
