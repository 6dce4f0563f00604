"""
Bulk actions: a confirmation page shows exactly what will be done, and only that is done.

Rooms may change between the page and its confirmation. The confirmation therefore has a fingerprint of the
rooms and versions that were shown; where it differs, the page is shown again. The changes are computed before
the rooms are locked, so that locks are held for the writing only. Selections of more than MAX_ROOMS are
changed in batches (large.py).
"""

import re
from collections.abc import Callable, Iterable
from functools import wraps
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.core.exceptions import BadRequest
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.utils.text import capfirst
from django.utils.translation import gettext

from rooms.admin.locks import StaleVersionError
from rooms.admin.numbers import grouped, show_column
from rooms.admin.recorded import column_label
from rooms.columns import COLUMNS, Column
from rooms.models import Room

if TYPE_CHECKING:
    from rooms.admin.room import RoomAdmin

MAX_ROOMS = 10_000
"""Rooms that are changed in one transaction, all or none; more are changed in batches (large.py)."""
MAX_SHOWN = 100
"""Rooms that a confirmation page lists."""

KEY = re.compile(r"[0-9]{1,18}", re.ASCII)


def check_keys(request: HttpRequest) -> None:
    """Reject malformed keys (400) before Django passes them to the database."""
    if not all(KEY.fullmatch(key) for key in request.POST.getlist(ACTION_CHECKBOX_NAME)):
        raise BadRequest(gettext("The selection names something that is not a room's key."))


def fingerprint(work: Iterable[tuple[Room, Any]]) -> str:
    """A hash of the rooms, their versions, and what is to be done with each."""
    return sha256(repr([(room.pk, room.version, intent) for room, intent in work]).encode()).hexdigest()


def is_confirmed(request: HttpRequest, current: str) -> bool:
    """Whether the request confirms the current fingerprint; adds a message where it confirms another."""
    if "confirm" not in request.POST:
        return False
    if request.POST.get("fingerprint") == current:
        return True
    warn_of_changes(request)
    return False


def warn_of_changes(request: HttpRequest) -> None:
    messages.warning(
        request, gettext("This is no longer what you were shown. Look again; nothing was done yet.")
    )


def confirmation_page(
    model_admin: "RoomAdmin", request: HttpRequest, template: str, title: str, context: dict[str, Any]
) -> TemplateResponse:
    """The confirmation page of an action; its form posts to the list, with the selected rooms."""
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


def heading(column: Column) -> str:
    """A column's name and its unit, over its values."""
    return f"{capfirst(column_label(column.name))}, {gettext(column.symbol)}"


def room_table(rooms: list[Room]) -> dict[str, Any]:
    """Context of `room_table.html`: rooms with their generated columns."""
    columns = [column for column in COLUMNS.values() if column.distribution]
    rows = [
        {"room": room, "cells": [show_column(column, getattr(room, column.name)) for column in columns]}
        for room in rooms
    ]
    return {"columns": list(map(heading, columns)), "rows": rows}


def takes_whole_list(request: HttpRequest) -> bool:
    """Whether all rooms of the list are selected, as Django reads it, and not those that are ticked."""
    return bool(forms.BooleanField(required=False).to_python(request.POST.get("select_across")))


def bulk_action(
    large: Callable[..., HttpResponse | None],
) -> Callable[[Callable[..., HttpResponse | None]], Any]:
    """
    Decorator: make `work(model_admin, request, rooms)` an admin action on at most MAX_ROOMS rooms, and
    `large(model_admin, request, queryset)` on more.
    """

    def decorate(work: Callable[..., HttpResponse | None]) -> Callable[..., HttpResponse | None]:
        @wraps(work)
        def action(model_admin: "RoomAdmin", request: HttpRequest, queryset: QuerySet[Room]) -> Any:
            rooms = list(queryset.order_by("pk")[: MAX_ROOMS + 1])
            if len(rooms) > MAX_ROOMS:
                if takes_whole_list(request):
                    return large(model_admin, request, queryset)
                messages.error(
                    request,
                    gettext(
                        "More than %(number)s rooms are ticked. Select all rooms of a filtered list instead."
                    )
                    % {"number": grouped(MAX_ROOMS)},
                )
                return None
            try:
                return work(model_admin, request, rooms)
            except StaleVersionError:
                # The rooms that are read now have another fingerprint, so that the page is shown again.
                return work(model_admin, request, list(queryset.order_by("pk")[:MAX_ROOMS]))

        return action

    return decorate
