"""The app `django.contrib.admin`, whose parts in each app are loaded only by what needs them."""

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.contrib.admin import autodiscover
from django.contrib.admin.apps import SimpleAdminConfig
from django.contrib.admin.checks import check_admin_app, check_dependencies
from django.core import checks


class AdminConfig(SimpleAdminConfig):
    """
    The admin, loaded with its addresses (urls.py) and for its system checks.

    Django's own AdminConfig loads it for each command, and with it the libraries of spreadsheets: half
    of a command's start.
    """

    def ready(self) -> None:
        checks.register(check_dependencies, checks.Tags.admin)
        checks.register(check_loaded_admin, checks.Tags.admin)


def check_loaded_admin(
    app_configs: Sequence[AppConfig] | None, **kwargs: Any
) -> Sequence[checks.CheckMessage]:
    """Django's check of what is registered, after everything is."""
    autodiscover()
    return check_admin_app(app_configs, **kwargs)
