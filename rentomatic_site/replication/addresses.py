"""Entries in DATABASES for other servers than the primary. For settings.py, before Django is set up."""

from typing import Any

from rentomatic_site.env import env


def replica_databases(urls: list[str], primary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """
    Django's databases `replica1`, `replica2` and so on, for URLs such as postgres://HOST:PORT.

    ValueError, which has no password in it, where one is no such URL.
    """
    databases = {}
    for number, url in enumerate(urls, 1):
        try:
            databases[f"replica{number}"] = {**database_at(url, primary), "TEST": {"MIRROR": "default"}}
        except ValueError as error:
            raise ValueError(f"its item {number} {error}") from None
    return databases


def database_at(address: str, primary: dict[str, Any]) -> dict[str, Any]:
    """
    The primary's entry in DATABASES for another URL, such as postgres://HOST:PORT.

    User, password and database are the primary's where the URL has none, as are all options. ValueError,
    whose message has no password in it, where it is no such URL.
    """
    try:
        url = env.db_url_config(address)
    except ValueError:  # such as a port that is no number
        url = {}
    if url.get("ENGINE") != "django.db.backends.postgresql" or not url["HOST"]:
        raise ValueError("is not of the form postgres://USER:PASSWORD@HOST:PORT/DATABASE")
    own = {name: url[name] or primary[name] for name in ("USER", "PASSWORD", "NAME")}
    options = {**primary["OPTIONS"], **url.get("OPTIONS", {})}
    options.pop("target_session_attrs", None)  # it is for finding the primary
    return {**primary, **own, "HOST": url["HOST"], "PORT": url["PORT"] or 5432, "OPTIONS": options}
