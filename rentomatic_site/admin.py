"""The admin site: its titles, its login form, and the tables of packages that staff see."""

from typing import Any

from axes.models import AccessFailureLog, AccessLog
from django.contrib import admin
from django.contrib.admin.forms import AdminAuthenticationForm
from django.contrib.auth.models import User
from django.core.validators import MaxLengthValidator


class LoginForm(AdminAuthenticationForm):
    """Refuses a username that is longer than any account's; the table of failed attempts cannot store it."""

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

# Failed attempts are listed, so that they can be deleted; these two tables stay empty (settings.AXES_…).
admin.site.unregister([AccessLog, AccessFailureLog])
