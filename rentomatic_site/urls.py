"""
The site's URLs: the rooms, the admin for staff, the probes for operators.

Two groups of views are called by a middleware instead of Django's handler; their URLs are here for `reverse`
and for the reader.

- `rooms.urls`: middleware.public_pages calls the views before the session, CSRF, login and message
  middleware, which saves 60 µs of CPU of 250 for a response without a query.
- The probes: probes.middleware calls the views before SecurityMiddleware and CommonMiddleware, because a
  health check sends plain HTTP and an IP address as the host: the redirect to HTTPS would make that a 301,
  the check of the host with 400.
"""

from django.contrib import admin
from django.urls import include, path
from django.views.i18n import set_language

from rentomatic_site import probes
from rentomatic_site.accounts import reset

admin.autodiscover()

urlpatterns = [
    path("livez", probes.livez, name="livez"),
    path("readyz", probes.readyz, name="readyz"),
    path("", include("rooms.urls")),
    path("admin/password_reset/", reset.ResetView.as_view(), name="admin_password_reset"),
    path("admin/password_reset/done/", reset.SentView.as_view(), name="password_reset_done"),
    path(
        "admin/password_reset/<uidb64>/<token>/",
        reset.ConfirmView.as_view(),
        name="password_reset_confirm",
    ),
    path("admin/password_reset/complete/", reset.CompleteView.as_view(), name="password_reset_complete"),
    path("admin/language/", set_language, name="set_language"),
    path("admin/", admin.site.urls),
]

handler400 = "rooms.api.errors.bad_request"
handler403 = "rentomatic_site.errors.forbidden"
handler404 = "rentomatic_site.errors.not_found"
handler500 = "rentomatic_site.errors.server_error"
