"""The app `django.contrib.admin`, whose modules in each app are loaded only where they are needed."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib.admin import autodiscover
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class AdminConfig(SimpleAdminConfig):
    """
    The admin, loaded with its URLs (urls.py) and for its system checks.

    Django's own AdminConfig loads it for every command, and with it the spreadsheet libraries, which takes
    half of a command's start.
    """

    default_site = "rentomatic_site.accounts.site.AdminSite"

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_loaded_admin, checks.Tags.admin)


def check_loaded_admin(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Sequence[checks.CheckMessage]:
    """Django's check of the registered models, after autodiscover."""
    autodiscover()
    return check_admin_app(app_configs, **kwargs)
