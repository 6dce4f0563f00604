"""The bulk action that deletes rooms; it replaces Django's `delete_selected`."""

from typing import TYPE_CHECKING

from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse

from rooms.admin.actions.bulk import (
    MAX_SHOWN,
    bulk_action,
    confirmation_page,
    fingerprint,
    is_confirmed,
    room_table,
)
from rooms.admin.locks import lock_rooms
from rooms.counting import Count
from rooms.models import Room

if TYPE_CHECKING:
    from rooms.admin.room import RoomAdmin


@admin.action(description="Delete…", permissions=["delete"])
@bulk_action
def delete_selected(model_admin: "RoomAdmin", request: HttpRequest, rooms: list[Room]) -> HttpResponse | None:
    """Delete the rooms, after a confirmation page that lists them."""
    number = str(Count(len(rooms)))
    current = fingerprint((room, "delete") for room in rooms)
    if not is_confirmed(request, current):
        return confirmation_page(
            model_admin,
            request,
            "admin/rooms/delete_rooms.html",
            f"Delete {number}?",
            {"table": room_table(rooms[:MAX_SHOWN]), "number": len(rooms), "fingerprint": current},
        )
    with transaction.atomic():
        model_admin.log_deletions(request, rooms)
        lock_rooms(rooms)
        Room.objects.filter(pk__in=[room.pk for room in rooms]).delete()
    messages.success(request, f"{number} deleted.")
    return None
