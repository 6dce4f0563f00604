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
    re_path(rf"^rooms/(?P<code>{CODE})$", views.room_detail, name="room_by_code"),
    path("", pages.start, name="start"),
    re_path(
        r"^(?P<url>docs|rooms|rooms/stats|rooms/[0-9A-Fa-f-]+)/$",
        public(RedirectView.as_view(url="/%(url)s", query_string=True)),
        name="without_slash",
    ),
    re_path(rf"^rooms\.(?P<suffix>{'|'.join(FORMATS)})$", views.room_list, name="rooms_as_file"),
    path("rooms/stats", views.room_stats, name="statistics"),
    path("rooms/changes", views.room_changes, name="changes"),
    path("rooms/clusters", views.room_clusters, name="clusters"),
    re_path(r"^rooms/clusters\.(?P<suffix>json|geojson)$", views.room_clusters, name="clusters_as_file"),
    path("rooms/map.svg", pages.map_image, name="map"),
    re_path(r"^rooms/(?P<code>[^/.]+)\.(?P<suffix>json|geojson)$", views.room_detail, name="room_as_file"),
    path("rooms/<str:code>", views.room_detail, name="room"),
    path("openapi.json", views.openapi_document, name="openapi"),
    path("docs", views.docs, name="docs"),
    path("ogc", ogc_views.landing_page, name="ogc"),
    path("ogc/conformance", ogc_views.conformance, name="ogc_conformance"),
    path("ogc/collections", ogc_views.collections, name="ogc_collections"),
    path("ogc/collections/rooms", ogc_views.collection, name="ogc_collection"),
    path("ogc/collections/rooms/items", ogc_views.items, name="ogc_items"),
    path("ogc/collections/rooms/items/<str:code>", ogc_views.item, name="ogc_item"),
    path("map/<int:zoom>/<int:x>/<int:y>.svg", pages.map_tile, name="map_tile"),
    re_path(r"^map/(?P<name>[\w.-]+\.pmtiles)$", pages.map_file, name="map_file"),
    path("places", pages.place_list, name="places"),
    path("robots.txt", pages.robots, name="robots"),
    path("sitemap.xml", pages.sitemap, name="sitemap"),
    re_path(r"^sitemap-rooms(?:-(?P<shard>[0-9a-f]{1,2}))?\.xml$", pages.room_sitemap, name="sitemap_rooms"),
]
