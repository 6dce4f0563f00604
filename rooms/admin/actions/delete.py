"""The bulk action that deletes rooms; it replaces Django's `delete_selected`."""

from typing import TYPE_CHECKING

from django.contrib import admin
from django.contrib.admin.models import DELETION
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext, gettext_lazy, ngettext

from rooms.admin import history
from rooms.admin.actions import large
from rooms.admin.actions.bulk import (
    MAX_SHOWN,
    bulk_action,
    confirmation_page,
    fingerprint,
    is_confirmed,
    room_table,
    warn_of_changes,
)
from rooms.admin.jobs.record import recorded, report
from rooms.admin.locks import lock_rooms
from rooms.admin.numbers import grouped
from rooms.admin.recorded import english
from rooms.counting import Count
from rooms.models import Room

if TYPE_CHECKING:
    from rooms.admin.room import RoomAdmin


DELETE = large.Operation(
    permission="delete",
    rooms=lambda rooms, parameters: rooms.values("id"),
    write=f"""
        DELETE FROM room USING batch WHERE room.id = batch.id
        RETURNING room.id, room.code, concat_ws(', ', {history.ROOM_SQL}) AS message
    """,  # noqa: S608, of our own parts
    flag=DELETION,
)


def delete_in_batches(
    model_admin: "RoomAdmin", request: HttpRequest, queryset: QuerySet[Room]
) -> HttpResponse | None:
    """The confirmation page of many rooms, then their deletion in batches."""
    change = large.confirmed(request, "delete", {}, "Delete rooms")
    if change:
        return large.start(change)
    if "confirm" in request.POST:
        warn_of_changes(request)
    snapshot = large.current_snapshot()
    number = queryset.count()
    return confirmation_page(
        model_admin,
        request,
        "admin/rooms/delete_rooms.html",
        gettext("Delete %(rooms)s?") % {"rooms": Count(number)},
        {
            "table": room_table(list(queryset.order_by("pk")[:MAX_SHOWN])),
            "number": number,
            "fingerprint": large.sign(request, "delete", {}, snapshot, number),
            "in_batches": True,
        },
    )


@admin.action(description=gettext_lazy("Delete…"), permissions=["delete"])
@bulk_action(delete_in_batches)
def delete_selected(model_admin: "RoomAdmin", request: HttpRequest, rooms: list[Room]) -> HttpResponse | None:
    """Delete the rooms, after a confirmation page that lists them."""
    number = Count(len(rooms))
    current = fingerprint((room, "delete") for room in rooms)
    if not is_confirmed(request, current):
        return confirmation_page(
            model_admin,
            request,
            "admin/rooms/delete_rooms.html",
            gettext("Delete %(rooms)s?") % {"rooms": number},
            {"table": room_table(rooms[:MAX_SHOWN]), "number": len(rooms), "fingerprint": current},
        )
    with recorded(request.user, f"Delete {english(number)}") as job:
        model_admin.log_deletions(request, rooms)
        lock_rooms(rooms)
        Room.objects.filter(pk__in=[room.pk for room in rooms]).delete()
    deleted = ngettext("%(number)s room deleted.", "%(number)s rooms deleted.", number)
    report(request, job, deleted % {"number": grouped(number)})
    return None
