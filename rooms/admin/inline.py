"""Editing one value in the list: a request for each, which never overwrites what others saved meanwhile."""

import json
from typing import Any

from django.contrib.admin.models import CHANGE
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.views.decorators.http import require_POST

from rooms.admin import history
from rooms.admin.jobs.record import recorded
from rooms.admin.locks import is_lock_timeout
from rooms.admin.numbers import grouped, plain_number
from rooms.admin.recorded import column_label, show_value
from rooms.columns import COLUMNS, WHOLE_NUMBER
from rooms.imports.reader import parse_cell
from rooms.models import Room

EDITABLE = [column.name for column in COLUMNS.values() if column.type is WHOLE_NUMBER]
"""The columns that are edited in the list."""


def labels() -> str:
    """The columns for list.js: JSON, their labels by name."""
    return json.dumps({name: column_label(name) for name in EDITABLE})


class InlineMixin:
    """The URL of edits in the list, for RoomAdmin."""

    def get_urls(self: Any) -> list[URLPattern]:
        view = self.admin_site.admin_view(require_POST(self.edit_cell_view))
        return [
            path("<int:pk>/cell/", view, name="rooms_room_cell"),
            *super().get_urls(),  # type: ignore[misc]  # of ModelAdmin
        ]

    def edit_cell_view(self: Any, request: HttpRequest, pk: int) -> HttpResponse:
        """
        Set one value of a room of this version. JSON: whether it is saved, the room's value and version, and
        a message, for a value that the column doesn't take, and where somebody has changed the room.
        """
        if not self.has_change_permission(request):
            raise PermissionDenied
        name, text = request.POST.get("name", ""), request.POST.get("value", "").strip()
        version = request.POST.get("version", "")
        room = Room.objects.filter(pk=pk).first() if pk < 2**63 else None
        if room is None or name not in EDITABLE:
            raise Http404
        try:
            value = parse_cell(name, plain_number(text))
        except ValidationError as error:
            return reply(room, name, error.messages[0], invalid=True)
        except ValueError as error:
            message = gettext("%(column)s %(error)s.")
            named = {"column": capfirst(column_label(name)), "error": error}
            return reply(room, name, message % named, invalid=True)
        if str(room.version) != version:
            return conflict(room, name)
        try:
            with recorded(request.user, f"Change a room: {edit(room, name, value)}") as job:
                if not Room.objects.filter(pk=pk, version=room.version).update(**{name: value}):
                    room.refresh_from_db()
                    return conflict(room, name)
                if getattr(room, name) != value:
                    history.log_changes(request.user, CHANGE, [(room, edit(room, name, value))])
        except OperationalError as error:
            if not is_lock_timeout(error):
                raise
            return reply(
                room, name, gettext("Other work holds this room. Try again in a moment."), invalid=True
            )
        room.refresh_from_db()
        return reply(room, name, gettext("Saved."), saved=True, undo=job.get_absolute_url() if job.pk else "")


def edit(room: Room, name: str, value: Any) -> str:
    return history.format_change(name, getattr(room, name), value)


def conflict(room: Room, name: str) -> JsonResponse:
    entry = history.last_log_entry(room)
    message = gettext(
        "%(who)s changed this room meanwhile: its %(column)s is %(value)s. Nothing of yours is saved."
    )
    now = show_value(getattr(room, name))
    return reply(
        room, name, message % {"who": history.person_of(entry), "column": column_label(name), "value": now}
    )


def reply(
    room: Room, name: str, message: str, *, saved: bool = False, invalid: bool = False, undo: str = ""
) -> JsonResponse:
    """Where it is invalid, what was typed is to be corrected, or sent again."""
    value = getattr(room, name)
    return JsonResponse(
        {
            "saved": saved,
            "invalid": invalid,
            "shown": gettext("missing") if value is None else grouped(value),
            "version": room.version,
            "changed": history.format_time(room.updated_at),
            "message": message,
            "undo": undo,
        }
    )
