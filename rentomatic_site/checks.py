"""System checks of the settings; `migrate` runs them, so that a deployment with an error never serves."""

import re
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from django.apps import AppConfig
from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Tags, register
from django.db import DEFAULT_DB_ALIAS, Error, connections

from rentomatic_site import postgres
from rentomatic_site.pooling import limits
from rentomatic_site.sockets import cut_after


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


ANSWERS_WITHIN = 5
"""Seconds in which a pooler has to answer; one that is paused, or whose server is frozen, would never."""


@register(Tags.database)
def check_limits(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> Iterator[CheckMessage]:
    """A pooler drops what a connection asks for, such as statement_timeout; the role has to have it."""
    if DEFAULT_DB_ALIAS not in (databases or ()):
        return
    used = connections[DEFAULT_DB_ALIAS].copy()
    if settings.POOLED:
        used.settings_dict.update(settings.POOLED)
    try:
        used.ensure_connection()
        with cut_after(ANSWERS_WITHIN, used.connection.fileno()), used.cursor() as cursor:
            lacking = limits.lacking(cursor) if postgres.is_pooled(cursor) else {}
    except Error as error:
        if settings.POOLED:
            yield checks.Warning(
                f"The pooler of DATABASE_POOLER_URL does not lead to the database: {str(error).strip()}",
                hint="The web processes connect to it: look whether it runs there, and knows this role.",
                id="rentomatic_site.W003",
            )
        return
    finally:
        used.close()
    if lacking:
        role = used.settings_dict["USER"]
        wanted = {name: settings.LIMITS[name] for name in lacking}
        yield checks.Warning(
            "The database is reached through a pooler, which drops the limits of requests: "
            + ", ".join(f"{name} is {value}" for name, value in lacking.items()),
            hint="; ".join(f'ALTER ROLE "{role}" SET {name} = {value}' for name, value in wanted.items())
            + "; as ./manage.py init_postgres does for APPLICATION_USER. Connections that the pooler has "
            "keep theirs until it makes them anew (RECONNECT, server_lifetime).",
            id="rentomatic_site.W004",
        )
