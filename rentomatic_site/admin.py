"""The admin site: its titles, and the tables of packages that staff see."""

from axes.models import AccessFailureLog, AccessLog
from django.contrib import admin
from django.utils.translation import gettext_lazy as _
from django.utils.translation import gettext_noop
from django_otp.plugins.otp_totp.models import TOTPDevice

admin.site.site_header = "Rent-o-matic"
admin.site.site_title = "Rent-o-matic"
admin.site.index_title = _("Rooms for rent")
admin.site.site_url = "/rooms"
admin.site.enable_nav_sidebar = False  # the list of rooms needs the width

# Failed attempts are listed, so that they can be deleted; these two tables stay empty (settings.AXES_…).
admin.site.unregister([AccessLog, AccessFailureLog])

# The keys of people's authenticator apps: their owners see them once.
admin.site.unregister(TOTPDevice)

# Texts of django-axes, which has no Spanish: our catalogs have them.
TEXTS_OF_AXES = (
    gettext_noop("access attempt"),
    gettext_noop("access attempts"),
    gettext_noop("Attempt Time"),
    gettext_noop("Failed Logins"),
    gettext_noop("Form Data"),
    gettext_noop("GET Data"),
    gettext_noop("HTTP Accept"),
    gettext_noop("IP Address"),
    gettext_noop("Meta Data"),
    gettext_noop("Path"),
    gettext_noop("POST Data"),
    gettext_noop("User Agent"),
    gettext_noop("Username"),
)
