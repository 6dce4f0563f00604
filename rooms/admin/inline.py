"""Editing one value in the list: a request for each, which never overwrites what others saved meanwhile."""

import json
from typing import Any

from django.contrib.admin.models import CHANGE
from django.core.exceptions import PermissionDenied
from django.db import OperationalError
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import URLPattern, path
from django.views.decorators.http import require_POST

from rooms.admin import history
from rooms.admin.jobs.record import recorded
from rooms.admin.locks import is_lock_timeout
from rooms.columns import COLUMNS, WHOLE_NUMBER
from rooms.imports.reader import parse_cell
from rooms.models import Room

EDITABLE = {column.name: column.limits for column in COLUMNS.values() if column.type is WHOLE_NUMBER}
"""The columns that are edited in the list, with their limits."""
LIMITS = json.dumps(EDITABLE)
"""For list.js."""


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
            value = parse_cell(name, text)
        except ValueError as error:
            return reply(room, name, f"{COLUMNS[name].label} {error}.", invalid=True)
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
            return reply(room, name, "Other work holds this room. Try again in a moment.", invalid=True)
        room.refresh_from_db()
        return reply(room, name, "Saved.", saved=True, undo=job.get_absolute_url() if job.pk else "")


def edit(room: Room, name: str, value: Any) -> str:
    return history.format_change(name, getattr(room, name), value)


def conflict(room: Room, name: str) -> JsonResponse:
    entry = history.last_log_entry(room)
    who = history.person(entry.user) if entry else "Somebody (an import or another program)"
    now = history.format_value(getattr(room, name))
    message = f"{who} changed this room meanwhile: its {name} is {now}. Nothing of yours is saved."
    return reply(room, name, message)


def reply(
    room: Room, name: str, message: str, *, saved: bool = False, invalid: bool = False, undo: str = ""
) -> JsonResponse:
    """Where it is invalid, what was typed is to be corrected, or sent again."""
    value = getattr(room, name)
    return JsonResponse(
        {
            "saved": saved,
            "invalid": invalid,
            "shown": "missing" if value is None else COLUMNS[name].display(value),
            "version": room.version,
            "changed": history.format_time(room.updated_at),
            "message": message,
            "undo": undo,
        }
    )
