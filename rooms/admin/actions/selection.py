"""
Bulk work on selected rooms: a page shows exactly what will happen, and only that is done.

Between the page and its confirmation others go on working. So the confirmation carries a fingerprint of the
rooms and versions that were shown; where they are no longer those, the page comes again. All is worked out
before the rooms are locked: others wait for the writing only.
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
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse

from rooms.admin.locks import StaleVersionError, lock
from rooms.columns import COLUMNS
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
            "action": request.POST.get("action", ""),
            "select_across": request.POST.get("select_across", "0"),
            "keys": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "checkbox_name": ACTION_CHECKBOX_NAME,
            **context,
        },
    )


def room_table(rooms: list[Room]) -> dict[str, Any]:
    """Rooms for `room_table.html`: the columns with a value of their own in each row."""
    columns = [column for column in COLUMNS.values() if column.distribution]
    rows = [
        {"room": room, "cells": [column.display(getattr(room, column.name)) for column in columns]}
        for room in rooms
    ]
    return {"columns": columns, "rows": rows}


def bulk(work: Callable[..., HttpResponse | None]) -> Callable[..., HttpResponse | None]:
    """Turn `work(model_admin, request, rooms)` into an admin action on no more than MOST rooms."""

    def action(model_admin: "RoomAdmin", request: HttpRequest, queryset: QuerySet[Room]) -> Any:
        rooms = list(queryset.order_by("pk")[: MOST + 1])
        if len(rooms) > MOST:
            messages.error(
                request,
                f"More than {MOST:,} rooms are selected. Filter them into smaller groups, "
                "or use ./manage.py import_rooms.",
            )
            return None
        try:
            return work(model_admin, request, rooms)
        except StaleVersionError:
            # Read again, they have another fingerprint than the one that was confirmed: the page comes again.
            return work(model_admin, request, list(queryset.order_by("pk")[:MOST]))

    return action


def delete_rooms(model_admin: "RoomAdmin", request: HttpRequest, rooms: list[Room]) -> HttpResponse | None:
    """Delete the rooms, after a page that says how many and which."""
    number = "1 room" if len(rooms) == 1 else f"{len(rooms):,} rooms"
    mark = fingerprint((room, "delete") for room in rooms)
    if not confirmed(request, mark):
        return page(
            model_admin,
            request,
            "admin/rooms/delete_rooms.html",
            f"Delete {number}?",
            {"table": room_table(rooms[:SHOWN]), "number": len(rooms), "fingerprint": mark},
        )
    with transaction.atomic():
        model_admin.log_deletions(request, rooms)
        lock(rooms)
        Room.objects.filter(pk__in=[room.pk for room in rooms]).delete()
    messages.success(request, f"{number} deleted.")
    return None
