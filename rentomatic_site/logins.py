"""
Guessing of passwords is slowed down, then stopped, and nobody can shut a colleague out with it.

Failures are counted by the pair of name and address and, on a scale ten times as long, by the address alone;
never by the name alone. A browser that the person of that name logged in from before is counted by itself:
others who fail under that name, be it from the same office, do not shut it. django-axes keeps the counts.
"""

import secrets
from collections.abc import Callable
from datetime import datetime, timedelta
from math import ceil
from typing import Any

from axes.handlers.database import AxesDatabaseHandler
from axes.helpers import get_client_username
from axes.models import AccessAttempt
from django.conf import settings
from django.core import signing
from django.db.models import Max, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import render

FREE = 4
"""Failures without a delay; the next ones cost 2, 4, 8, 16 and 32 seconds, then the login is shut."""
ADDRESS_SCALE = 10
"""How many failures of an address weigh as much as one of a pair: an office is many people."""

SALT = "known browser"
KNOWN_FOR = timedelta(days=365)
MOST_NAMES = 5  # in one browser's cookie


def delay(level: int) -> timedelta:
    """How long the next attempt has to wait after the last of so many failures."""
    if level <= FREE:
        return timedelta(0)
    if level >= settings.AXES_FAILURE_LIMIT:
        return settings.AXES_COOLOFF_TIME
    return timedelta(seconds=2 ** (level - FREE))


class Throttle(AxesDatabaseHandler):  # type: ignore[misc]
    """django-axes with delays that grow, a scale for addresses, and browsers that are known."""

    def is_allowed(self, request: Any, credentials: dict[str, Any] | None = None) -> bool:
        # The first that is called for an attempt; under this name its failure will be stored.
        browser = known_browser(request, get_client_username(request, credentials))
        if browser:
            request.axes_user_agent = browser
        return super().is_allowed(request, credentials)  # type: ignore[no-any-return]

    def is_locked(self, request: Any, credentials: dict[str, Any] | None = None) -> bool:
        return self.wait(request, credentials) > timedelta(0)

    def wait(self, request: Any, credentials: dict[str, Any] | None) -> timedelta:
        """The time until the next attempt is heard; not positive where it is heard now."""
        now: datetime = request.axes_attempt_time
        levels = self.levels(request, credentials)
        return max(
            (last + delay(level) - now for level, last in levels if delay(level)), default=timedelta(0)
        )

    def get_failures(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        """The failures of late, on the scale of AXES_FAILURE_LIMIT."""
        return max((level for level, _ in self.levels(request, credentials)), default=0)

    def levels(self, request: Any, credentials: dict[str, Any] | None) -> list[tuple[int, datetime]]:
        """The failures of whatever is counted for this attempt, with the time of the last one."""
        found = []
        counted = self.get_user_attempts(request, credentials)
        for attempts, scale in zip(counted, (1, ADDRESS_SCALE), strict=False):
            sums = attempts.aggregate(failures=Sum("failures_since_start"), last=Max("attempt_time"))
            if sums["failures"]:
                found.append((sums["failures"] // scale, sums["last"]))
        return found

    def filter_user_attempts(
        self, request: Any, credentials: dict[str, Any] | None = None
    ) -> list[QuerySet[AccessAttempt]]:
        """What is counted: a known browser, or the pair of name and address, and the address."""
        username = get_client_username(request, credentials)
        browser = known_browser(request, username)
        if browser:
            return [AccessAttempt.objects.filter(username=username, user_agent=browser)]
        address = AccessAttempt.objects.filter(ip_address=request.axes_ip_address)
        return [address.filter(username=username), address]

    def reset_user_attempts(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        """A login forgives its own failures; those of others at the address go on counting."""
        number, _ = self.filter_user_attempts(request, credentials)[0].delete()
        return number

    def user_logged_in(self, sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
        super().user_logged_in(sender, request, user, **kwargs)
        request.logged_in_name = user.get_username()


def locked_out(request: HttpRequest, response: HttpResponse, credentials: dict[str, Any]) -> HttpResponse:
    """The page (429) for an attempt that is not heard, or that shut the login."""
    seconds = max(1, ceil(Throttle().wait(request, credentials).total_seconds()))
    wait = f"{seconds} seconds" if seconds < 120 else f"{ceil(seconds / 60)} minutes"
    page = render(request, "admin/locked_out.html", {"wait": wait}, status=429)
    page.headers["Retry-After"] = str(seconds)
    return page


# --- The cookie that makes a browser known: for each name that logged in from it a secret of its own


def known_names(request: HttpRequest) -> dict[str, str]:
    """The names that logged in from this browser, with the browser's secret for each."""
    cookie = request.COOKIES.get(settings.KNOWN_BROWSER_COOKIE, "")
    try:
        names: dict[str, str] = signing.loads(cookie, salt=SALT, max_age=KNOWN_FOR)
    except signing.BadSignature:
        return {}
    return names


def known_browser(request: HttpRequest, username: str | None) -> str:
    """This browser's secret for that name; empty where the name never logged in from it."""
    return known_names(request).get(username or "", "")


def remember_browsers(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable:
    """Middleware that gives the cookie to a browser whose login succeeds. The cookie logs nobody in."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        name: str = getattr(request, "logged_in_name", "")
        if name:
            names = known_names(request)
            secret = names.pop(name, "") or f"known browser {secrets.token_urlsafe(16)}"
            latest = [*names.items(), (name, secret)][-MOST_NAMES:]
            response.set_cookie(
                settings.KNOWN_BROWSER_COOKIE,
                signing.dumps(dict(latest), salt=SALT),
                max_age=KNOWN_FOR,
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Lax",
            )
        return response

    return respond
