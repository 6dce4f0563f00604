"""The site's addresses: the rooms, the admin for staff, the probes for operators."""

from django.contrib import admin
from django.urls import include, path

admin.autodiscover()

urlpatterns = [
    path("", include("rooms.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "rooms.api.errors.bad_request"
handler403 = "rooms.api.errors.forbidden"
handler404 = "rooms.api.errors.not_found"
handler500 = "rooms.api.errors.server_error"
