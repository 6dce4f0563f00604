"""System checks of the settings; `migrate` runs them, so that a deployment with an error never serves."""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, register


@register()
def check_map_tiles(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """A URL that the Content Security Policy can name, or none."""
    url = urlsplit(settings.MAP_TILES_URL.replace("{s}", "*"))
    if settings.MAP_TILES_URL and not (url.scheme in {"http", "https"} and url.hostname):
        yield checks.Error(
            f"MAP_TILES_URL is no URL of map tiles: {settings.MAP_TILES_URL!r}.",
            hint="MAP_TILES_URL=https://tile.openstreetmap.org/{z}/{x}/{y}.png",
            id="rentomatic_site.E001",
        )


@register()
def check_map_file(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """The name of a file, which nginx serves; it need not be where the site itself runs."""
    if settings.MAP_PMTILES and not re.fullmatch(r"[\w.-]+\.pmtiles", settings.MAP_PMTILES, re.ASCII):
        yield checks.Error(
            f"MAP_PMTILES is no name of a PMTiles file: {settings.MAP_PMTILES!r}.",
            hint="MAP_PMTILES=streets.pmtiles, for the file deploy/maps/streets.pmtiles",
            id="rentomatic_site.E002",
        )


@register()
def check_timeouts(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """PostgreSQL has to cancel a slow statement before the watchdog cuts its connection."""
    if settings.STATEMENT_TIMEOUT >= 1000 * settings.REQUEST_TIMEOUT:
        yield checks.Warning(
            f"STATEMENT_TIMEOUT ({settings.STATEMENT_TIMEOUT} ms) is not shorter than REQUEST_TIMEOUT "
            f"({settings.REQUEST_TIMEOUT} s): slow searches lose their connection instead of being refused.",
            hint=f"STATEMENT_TIMEOUT={1000 * settings.REQUEST_TIMEOUT // 3}",
            id="rentomatic_site.W001",
        )


@register()
def check_second_factor(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> Iterator[CheckMessage]:
    """In production a password that leaked should not be enough to delete rooms."""
    if not settings.DEBUG and settings.SECOND_FACTOR == "optional":
        yield checks.Warning(
            "SECOND_FACTOR is optional: whoever learns the password of an account that may delete rooms or "
            "manage people can do so.",
            hint="SECOND_FACTOR=privileged",
            id="rentomatic_site.W002",
        )
