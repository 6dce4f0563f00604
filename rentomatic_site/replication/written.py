"""
Read your writes: after a write, staff carry how far the primary's WAL was then, in a signed cookie. A replica
that shows less is not read for them.

It is the WAL on the primary's disk (flush), which has the write: staff's transactions have ended, and wait
for the disk. What is only inserted (pg_current_wal_insert_lsn) may be sent to replicas seconds later.
"""

import logging
from collections.abc import Callable

from django.conf import settings
from django.core import signing
from django.db import Error, connection
from django.http import HttpRequest, HttpResponseBase

logger = logging.getLogger(__name__)

SALT = "rentomatic_site.replication"
SAFE_METHODS = {"GET", "HEAD", "OPTIONS"}
PRIMARY_ONLY = 2**64
"""A place that no replica shows."""

MAX_AGE = settings.REPLICA_MAX_LAG + 60
"""Seconds. Before it ends, each replica has replayed the write or is left out."""


def remember_place(get_response: Callable[[HttpRequest], HttpResponseBase]) -> Callable:
    """Middleware of the admin: sets the cookie after what staff may have written."""

    def respond(request: HttpRequest) -> HttpResponseBase:
        response = get_response(request)
        if request.method not in SAFE_METHODS and getattr(request, "user", None) and request.user.is_staff:
            response.set_cookie(
                settings.WRITTEN_COOKIE,
                signing.TimestampSigner(salt=SALT).sign(str(written_place())),
                max_age=MAX_AGE,
                secure=settings.SESSION_COOKIE_SECURE,
                httponly=True,
                samesite="Lax",
            )
        return response

    return respond


def written_place() -> int:
    """How far the primary's WAL is on its disk, in bytes."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_current_wal_flush_lsn() - '0/0'::pg_lsn")
            return int(cursor.fetchone()[0])
    except Error:
        logger.exception("How far the primary has written is not known; this client reads there for a while")
        return PRIMARY_ONLY


def place_to_reach(request: HttpRequest) -> int:
    """What the request's cookie says; 0 without a valid one."""
    if "HTTP_COOKIE" not in request.META:
        return 0
    cookie = request.COOKIES.get(settings.WRITTEN_COOKIE, "")
    try:
        return int(signing.TimestampSigner(salt=SALT).unsign(cookie, max_age=MAX_AGE)) if cookie else 0
    except (signing.BadSignature, ValueError):
        return 0
