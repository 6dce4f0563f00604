"""
The site's URLs: the rooms, the admin for staff, the probes for operators.

Two groups are answered by a middleware instead of Django's handler, and stand here for `reverse` and for the
reader. `rooms.urls`: middleware.public_pages calls their views before the session, CSRF, login and message
middleware, which saves 60 µs of CPU of 250 for a response without a query. The probes: probes.middleware
answers them before the host is checked and before the redirect to HTTPS.
"""

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
