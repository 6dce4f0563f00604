"""The admin site as a whole: its words, its login, and what of the packages' tables staff need to see."""

from typing import Any

from axes.models import AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.models import User
from django.core.validators import MaxLengthValidator


class LoginForm(AdminAuthenticationForm):
    """Refuses a name that no account can have; the table of failed attempts has no room for it either."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        longest = User._meta.get_field("username").max_length
        self.fields["username"].validators.append(MaxLengthValidator(longest or 0))


admin.site.site_header = "Rent-o-matic"
admin.site.site_title = "Rent-o-matic"
admin.site.index_title = "Rooms for rent"
admin.site.site_url = "/rooms"
admin.site.login_form = LoginForm
admin.site.enable_nav_sidebar = False  # the list of rooms needs the width

# Failed attempts are shown, so that one can be forgiven; these two tables stay empty (settings.AXES_…).
admin.site.unregister([AccessLog, AccessFailureLog])
