"""
Login throttling: failed logins are delayed, then locked, without locking out the real owner of the name.

A wrong code of the second factor is a failed login of its name, too. Besides, the codes of an app have their
own count (accounts/second_factor.py), which another address does not evade.

Failures are counted per pair of username and IP address and, with a limit ten times as high, per IP address;
never per username alone. A browser with an earlier login under that username has its own count: failures of
other browsers, also from the same office, do not lock it. django-axes stores the counts.
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
from django.utils.translation import ngettext

FREE = 4
"""Failures without a delay; the next ones cost 2, 4, 8, 16 and 32 seconds, then the login is locked."""
ADDRESS_SCALE = 10
"""Failures of an IP address that count as much as one of a pair: an office shares one address."""

SALT = "known browser"
KNOWN_FOR = timedelta(days=365)
MOST_NAMES = 5  # in one browser's cookie


def delay(level: int) -> timedelta:
    """The delay before the next attempt, after that many failures."""
    if level <= FREE:
        return timedelta(0)
    if level >= settings.AXES_FAILURE_LIMIT:
        return settings.AXES_COOLOFF_TIME
    return timedelta(seconds=2 ** (level - FREE))


class Throttle(AxesDatabaseHandler):  # type: ignore[misc]  # untyped package
    """django-axes with growing delays, a higher limit for IP addresses, and known browsers."""

    def is_allowed(self, request: Any, credentials: dict[str, Any] | None = None) -> bool:
        # Called first for each attempt; axes stores a failure under this user agent.
        browser = known_browser(request, get_client_username(request, credentials))
        if browser:
            request.axes_user_agent = browser
        return super().is_allowed(request, credentials)  # type: ignore[no-any-return]  # untyped package

    def is_locked(self, request: Any, credentials: dict[str, Any] | None = None) -> bool:
        return self.wait(request, credentials) > timedelta(0)

    def wait(self, request: Any, credentials: dict[str, Any] | None) -> timedelta:
        """The time until the next attempt is allowed; zero or negative where it is allowed now."""
        now: datetime = request.axes_attempt_time
        levels = self.levels(request, credentials)
        return max(
            (last + delay(level) - now for level, last in levels if delay(level)), default=timedelta(0)
        )

    def get_failures(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        """The number of recent failures, to compare with AXES_FAILURE_LIMIT."""
        return max((level for level, _ in self.levels(request, credentials)), default=0)

    def levels(self, request: Any, credentials: dict[str, Any] | None) -> list[tuple[int, datetime]]:
        """For each count that applies to this attempt: the failures, scaled, and the time of the last one."""
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
        """The attempts that count: of a known browser, else of the pair and of the IP address."""
        username = get_client_username(request, credentials)
        browser = known_browser(request, username)
        if browser:
            return [AccessAttempt.objects.filter(username=username, user_agent=browser)]
        address = AccessAttempt.objects.filter(ip_address=request.axes_ip_address)
        return [address.filter(username=username), address]

    def reset_user_attempts(self, request: Any, credentials: dict[str, Any] | None = None) -> int:
        """Delete the failures of this username or browser; those of others at the address stay."""
        number, _ = self.filter_user_attempts(request, credentials)[0].delete()
        return number

    def user_logged_in(self, sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
        super().user_logged_in(sender, request, user, **kwargs)
        request.logged_in_name = user.get_username()
        request.is_staff_now = user.is_staff

    def user_logged_out(self, sender: Any, request: Any, user: Any, **kwargs: Any) -> None:
        super().user_logged_out(sender, request, user, **kwargs)
        request.is_staff_now = False


def locked_out(request: HttpRequest, response: HttpResponse, credentials: dict[str, Any]) -> HttpResponse:
    """The page (429) for an attempt that is not allowed, or that locked the login."""
    return too_many_attempts(request, ceil(Throttle().wait(request, credentials).total_seconds()))


def too_many_attempts(request: HttpRequest, seconds: int) -> HttpResponse:
    """The page (429) that tells how many seconds to wait."""
    seconds = max(1, seconds)
    number = seconds if seconds < 120 else ceil(seconds / 60)
    wait = ngettext("Wait %(number)s minute.", "Wait %(number)s minutes.", number)
    if seconds < 120:
        wait = ngettext("Wait %(number)s second.", "Wait %(number)s seconds.", number)
    page = render(request, "admin/locked_out.html", {"wait": wait % {"number": number}}, status=429)
    page.headers["Retry-After"] = str(seconds)
    return page


# --- The cookie of known browsers: a secret for each username that logged in from the browser


def known_names(request: HttpRequest) -> dict[str, str]:
    """The usernames that logged in from this browser, with the secret for each."""
    cookie = request.COOKIES.get(settings.KNOWN_BROWSER_COOKIE, "")
    try:
        names: dict[str, str] = signing.loads(cookie, salt=SALT, max_age=KNOWN_FOR)
    except signing.BadSignature:
        return {}
    return names


def known_browser(request: HttpRequest, username: str | None) -> str:
    """This browser's secret for the username; "" where it never logged in from it."""
    return known_names(request).get(username or "", "")


def remember_browsers(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable:
    """Middleware that sets the cookie after a login. The cookie itself is no login."""

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


# --- The cookie of staff: public pages, which are the same for everybody, show the link to the admin by it


def mark_staff(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable:
    """
    Middleware that sets a cookie when staff log in, for as long as the session, and removes it when they log
    out. It is no secret and gives no right: scripts of the public pages read it.
    """

    def respond(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        is_staff: bool | None = getattr(request, "is_staff_now", None)
        if is_staff:
            response.set_cookie(
                settings.STAFF_COOKIE,
                "1",
                max_age=settings.SESSION_COOKIE_AGE,
                secure=settings.SESSION_COOKIE_SECURE,
                samesite="Lax",
            )
        elif is_staff is False:
            response.delete_cookie(settings.STAFF_COOKIE, samesite="Lax")
        return response

    return respond
