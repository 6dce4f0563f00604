"""The site's addresses: the rooms, the admin for staff, the probes for operators."""

from django.contrib import admin
from django.urls import include, path

admin.autodiscover()

urlpatterns = [
    path("", include("rooms.urls")),
    path("admin/", admin.site.urls),
]

handler400 = "rooms.problems.bad_request"
handler403 = "rooms.problems.forbidden"
handler404 = "rooms.problems.not_found"
handler500 = "rooms.problems.server_error"
