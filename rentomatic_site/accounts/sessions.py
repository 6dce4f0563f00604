"""
Sessions that know whose they are, from which browser and address, and when they were last seen.

The module is settings.SESSION_ENGINE: Django's store in the database, with a model of our own.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.contrib.auth import HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.contrib.sessions.backends import db
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone
from django.utils.translation import gettext

from rentomatic_site.middleware import client_address

SEEN_EVERY = timedelta(minutes=5)
"""How exact "last seen" is: each session writes no more often."""


class SessionStore(db.SessionStore):
    """Django's store in the database, which also fills in the columns of our model."""

    row: Any = None
    """The row that the request's session was loaded from."""
    address = ""
    browser = ""

    @classmethod
    def get_model_class(cls) -> Any:
        from rentomatic_site.accounts.models import Session

        return Session

    def _get_session_from_db(self) -> Any:
        self.row = super()._get_session_from_db()  # type: ignore[misc]  # private
        return self.row

    def create_model_instance(self, data: dict[str, Any]) -> Any:
        row: Any = super().create_model_instance(data)
        row.user_id = data.get(SESSION_KEY)
        row.address, row.browser, row.seen_at = self.address, self.browser, timezone.now()
        return row


def note_browser(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable:
    """Middleware that notes where a session is used from, and when: one UPDATE in five minutes."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        session: Any = request.session
        session.address = client_address(request)[:45]
        session.browser = request.headers.get("User-Agent", "")[:300]
        response = get_response(request)
        row = session.row
        if row and row.user_id and not session.modified and timezone.now() - row.seen_at > SEEN_EVERY:
            rows = session.model.objects.filter(session_key=row.session_key)
            rows.update(address=session.address, browser=session.browser, seen_at=timezone.now())
        return response

    return respond


def sessions_of(user: User) -> list[Any]:
    """The user's sessions that are valid, the last used first; none from before the password was changed."""
    valid = {user.get_session_auth_hash(), *user.get_session_auth_fallback_hash()}
    rows = user.sessions.filter(expire_date__gt=timezone.now()).order_by("-seen_at")
    return [row for row in rows if row.get_decoded().get(HASH_SESSION_KEY) in valid]


def end_sessions(user: User, *, keep: str | None = None) -> int:
    """End all sessions of the user, but the one with the key `keep`; how many that were."""
    number: int = user.sessions.exclude(session_key=keep).delete()[0]
    return number


BROWSERS = {
    "Edge": r"Edg(e|A|iOS)?/",
    "Opera": r"OPR/|Opera",
    "Samsung Internet": r"SamsungBrowser/",
    "Firefox": r"Firefox/|FxiOS/",
    "Chrome": r"Chrome/|CriOS/|Chromium/",
    "Safari": r"Safari/",
}
SYSTEMS = {
    "iPhone": "iPhone",
    "iPad": "iPad",
    "Android": "Android",
    "Windows": "Windows",
    "macOS": "Macintosh|Mac OS X",
    "ChromeOS": "CrOS",
    "Linux": "Linux",
}


def browser_name(agent: str) -> str:
    """Browser and system as people say them, of a User-Agent: "Firefox on Windows"."""
    browser = next((name for name, mark in BROWSERS.items() if re.search(mark, agent)), "")
    system = next((name for name, mark in SYSTEMS.items() if re.search(mark, agent)), "")
    if browser and system:
        return gettext("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or gettext("Another program")
