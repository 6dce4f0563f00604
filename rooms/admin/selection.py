"""
Bulk work on selected rooms: a page shows exactly what will happen, and only that is done.

Between the page and its confirmation others go on working. So the confirmation carries a fingerprint of the
rooms and versions that were shown; where they are no longer those, the page comes again.
"""

import re
from collections.abc import Callable, Iterable
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseBase
from django.template.response import TemplateResponse

from rooms.models import Room

if TYPE_CHECKING:
    from rooms.admin.room import RoomAdmin

MOST = 10_000
"""Rooms that one action takes: more is a job for import_rooms, which reports its progress."""
SHOWN = 100
"""Rooms that a confirmation page lists one by one."""

KEY = re.compile(r"[0-9]{1,18}", re.ASCII)


def check_keys(request: HttpRequest) -> None:
    """Refuse selected keys that are none (400), before Django hands them to the database."""
    if not all(KEY.fullmatch(key) for key in request.POST.getlist(ACTION_CHECKBOX_NAME)):
        raise BadRequest("The selection names something that is not a room's key.")


class Selection:
    """The rooms that a person selected, locked where they are about to change."""

    def __init__(self, queryset: QuerySet[Room], *, locked: bool) -> None:
        queryset = queryset.order_by("pk")
        self.rooms = list((queryset.select_for_update() if locked else queryset)[: MOST + 1])

    @property
    def too_many(self) -> bool:
        return len(self.rooms) > MOST


def fingerprint(work: Iterable[tuple[Room, Any]]) -> str:
    """Differs as soon as another room, another version of one or another intent with it is in the work."""
    return sha256(repr([(room.pk, room.version, intent) for room, intent in work]).encode()).hexdigest()


def confirmed(request: HttpRequest, shown: str) -> bool:
    """Whether this request confirms just the work of this fingerprint; tells the person if it doesn't."""
    if "confirm" not in request.POST:
        return False
    if request.POST.get("fingerprint") == shown:
        return True
    messages.warning(request, "This is no longer what you were shown. Look again; nothing was done yet.")
    return False


def page(
    model_admin: "RoomAdmin", request: HttpRequest, template: str, title: str, context: dict[str, Any]
) -> TemplateResponse:
    """A page between choosing an action and confirming it; it posts back to the list with the selection."""
    return TemplateResponse(
        request,
        template,
        {
            **model_admin.admin_site.each_context(request),
            "title": title,
            "opts": model_admin.model._meta,
            "media": model_admin.media,
            "action": request.POST["action"],
            "select_across": request.POST.get("select_across", "0"),
            "keys": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "checkbox_name": ACTION_CHECKBOX_NAME,
            **context,
        },
    )


def bulk(work: Callable[..., HttpResponseBase | None]) -> Callable[..., HttpResponseBase | None]:
    """
    Turn `work(model_admin, request, selection)` into an admin action: in one transaction, on rooms that
    nobody else can change until it ends, and on no more than MOST.
    """

    def action(model_admin: "RoomAdmin", request: HttpRequest, queryset: QuerySet[Room]) -> Any:
        with transaction.atomic():
            selection = Selection(queryset, locked="confirm" in request.POST)
            if selection.too_many:
                messages.error(
                    request,
                    f"More than {MOST:,} rooms are selected. Filter them into smaller groups, "
                    "or use ./manage.py import_rooms.",
                )
                return None
            return work(model_admin, request, selection)

    return action


def delete_rooms(model_admin: "RoomAdmin", request: HttpRequest, selection: Selection) -> HttpResponse | None:
    """Delete the selected rooms, after a page that says how many and which."""
    number = len(selection.rooms)
    rooms = "1 room" if number == 1 else f"{number:,} rooms"
    mark = fingerprint((room, "delete") for room in selection.rooms)
    if not confirmed(request, mark):
        return page(
            model_admin,
            request,
            "admin/rooms/delete_rooms.html",
            f"Delete {rooms}?",
            {"rooms": selection.rooms[:SHOWN], "number": number, "fingerprint": mark},
        )
    model_admin.log_deletions(request, selection.rooms)
    Room.objects.filter(pk__in=[room.pk for room in selection.rooms]).delete()
    messages.success(request, f"{rooms} deleted.")
    return None
