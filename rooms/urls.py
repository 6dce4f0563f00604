"""The URLs of rooms: the API and its pages, then what pages alone have."""

from django.urls import path, re_path
from django.views.generic import RedirectView

from rooms import ogc_views, views
from rooms.api.formats import FORMATS
from rooms.pages import views as pages
from rooms.responses import public

CODE = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"

urlpatterns = [
    # What is requested most comes first: each pattern before it takes 2 µs.
    path("rooms", views.room_list, name="rooms"),
    re_path(rf"^rooms/(?P<code>{CODE})$", views.room_detail),
    path("", pages.start, name="start"),
    re_path(
        r"^(?P<url>docs|rooms|rooms/stats|rooms/[0-9A-Fa-f-]+)/$",
        public(RedirectView.as_view(url="/%(url)s", query_string=True)),
    ),
    re_path(rf"^rooms\.(?P<suffix>{'|'.join(FORMATS)})$", views.room_list),
    path("rooms/stats", views.room_stats, name="statistics"),
    path("rooms/changes", views.room_changes),
    path("rooms/clusters", views.room_clusters),
    re_path(r"^rooms/clusters\.(?P<suffix>json|geojson)$", views.room_clusters),
    path("rooms/map.svg", pages.map_image),
    re_path(r"^rooms/(?P<code>[^/.]+)\.(?P<suffix>json|geojson)$", views.room_detail),
    path("rooms/<str:code>", views.room_detail, name="room"),
    path("openapi.json", views.openapi_document),
    path("docs", views.docs, name="docs"),
    path("ogc", ogc_views.landing_page),
    path("ogc/conformance", ogc_views.conformance),
    path("ogc/collections", ogc_views.collections),
    path("ogc/collections/rooms", ogc_views.collection),
    path("ogc/collections/rooms/items", ogc_views.items),
    path("ogc/collections/rooms/items/<str:code>", ogc_views.item),
    path("map/<int:zoom>/<int:x>/<int:y>.svg", pages.map_tile, name="map_tile"),
    re_path(r"^map/(?P<name>[\w.-]+\.pmtiles)$", pages.map_file),
    path("places", pages.place_list),
    path("robots.txt", pages.robots),
    path("sitemap.xml", pages.sitemap),
    re_path(r"^sitemap-rooms(?:-(?P<shard>[0-9a-f]{1,2}))?\.xml$", pages.room_sitemap),
]
