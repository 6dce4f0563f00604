"""
Rooms that several people work on at once: locked for moments only, and no form is lost to a lock.

Work is read, checked and shown without a lock. Writing locks the rooms, sees that they are still as they were
read, and ends soon after. Whoever meets a lock for longer than `lock_timeout` keeps what they typed.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from django.db import OperationalError
from django.http import HttpRequest
from django.template.response import TemplateResponse

from rooms.api.errors import Locked, error_from_database
from rooms.models import Room


class StaleVersionError(Exception):
    """A room was changed or deleted between reading and writing it."""


def lock(rooms: Sequence[Room]) -> None:
    """
    Lock the rooms to the end of the transaction; StaleVersionError where one is no longer as it was read.

    In the order of their keys, so that no two transactions wait for each other.
    """
    read = {room.pk: room.version for room in rooms}
    locked = Room.objects.filter(pk__in=read).order_by("pk").select_for_update()
    if dict(locked.values_list("pk", "version")) != read:
        raise StaleVersionError


def is_held(error: OperationalError) -> bool:
    """Whether the database gave up because another transaction holds what this one needs."""
    return isinstance(error_from_database(error), Locked)


def send_again(
    request: HttpRequest, site: Any, title: str, reason: str, *, status: int, retry_after: int | None = None
) -> TemplateResponse:
    """A page with all that was sent and a button that sends it again."""
    page = TemplateResponse(
        request,
        "admin/rooms/send_again.html",
        {
            **site.each_context(request),
            "title": title,
            "reason": reason,
            "opts": Room._meta,
            "sent": [
                (name, value)
                for name, values in request.POST.lists()
                for value in values
                if name != "csrfmiddlewaretoken"
            ],
        },
        status=status,
    )
    if retry_after:
        page.headers["Retry-After"] = str(retry_after)
    return page


def keeps_the_form(view: Callable[..., Any]) -> Callable[..., Any]:
    """A view of a ModelAdmin whose form comes back (409) when other work holds the rooms."""

    @wraps(view)
    def answer(model_admin: Any, request: HttpRequest, *args: Any, **kwargs: Any) -> Any:
        try:
            return view(model_admin, request, *args, **kwargs)
        except OperationalError as error:
            problem = error_from_database(error)
            if not isinstance(problem, Locked):
                raise
            if request.method != "POST" or request.FILES:
                return problem.response(request)
            return send_again(
                request,
                model_admin.admin_site,
                "These rooms are being changed",
                f"{problem.message} Nothing was changed yet, and nothing of yours is lost.",
                status=409,
            )

    return answer
