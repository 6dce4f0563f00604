"""
Row locks and lock timeouts: rooms are locked only while they are written, and no submitted form is lost.

Rooms are read, validated and shown without a lock. Writing locks them, compares their versions with those
that were read, and commits. A form that waits longer than `lock_timeout` is returned with its data.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.db import OperationalError
from django.http import HttpRequest
from django.template.response import TemplateResponse
from django.utils.translation import gettext, override

from rooms.api.errors import Locked, error_from_database
from rooms.models import Room


class StaleVersionError(Exception):
    """A room was changed or deleted between reading and writing it."""


def lock_rooms(rooms: Sequence[Room]) -> None:
    """
    Lock the rooms until the end of the transaction; StaleVersionError where one has another version.

    In the order of their keys, which prevents deadlocks.
    """
    read = {room.pk: room.version for room in rooms}
    locked = Room.objects.filter(pk__in=read).order_by("pk").select_for_update()
    if dict(locked.values_list("pk", "version")) != read:
        raise StaleVersionError


def is_lock_timeout(error: OperationalError) -> bool:
    """Whether the error is a lock conflict with another transaction."""
    return isinstance(error_from_database(error), Locked)


def retry_page(
    request: HttpRequest, site: Any, title: str, reason: str, *, status: int, retry_after: int | None = None
) -> TemplateResponse:
    """A page with the submitted data and a button that submits it again."""
    response = TemplateResponse(
        request,
        "admin/rooms/retry.html",
        {
            **site.each_context(request),
            "title": title,
            "reason": reason,
            "opts": Room._meta,
            "fields": [
                (name, value)
                for name, values in request.POST.lists()
                for value in values
                if name != "csrfmiddlewaretoken"
            ],
        },
        status=status,
    )
    if retry_after:
        response.headers["Retry-After"] = str(retry_after)
    return response


def offer_retry_on_lock_timeout(view: Callable[..., Any]) -> Callable[..., Any]:
    """Decorator for views of a ModelAdmin: a lock timeout returns the submitted form (409)."""

    @wraps(view)
    def respond(model_admin: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return view(model_admin, request, *args, **kwargs)
        except OperationalError as error:
            problem = error_from_database(error)
            if not isinstance(problem, Locked):
                raise
            if request.method != "POST" or request.FILES:
                with override("en"):  # as all pages of errors
                    return error_from_database(error).response(request)  # type: ignore[union-attr]  # Locked
            return retry_page(
                request,
                model_admin.admin_site,
                gettext("These rooms are being changed"),
                f"{problem.message} {gettext('Nothing was changed yet, and nothing of yours is lost.')}",
                status=409,
            )

    return respond
