"""The next and the previous room of the list that a form was opened from, with its order and filters."""

from copy import copy
from typing import TYPE_CHECKING, Any

from django.contrib import messages
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.urls import URLPattern, path, reverse
from django.utils.translation import gettext

from rooms.admin.list_filters import filter_errors
from rooms.models import Room

if TYPE_CHECKING:
    from rooms.admin.room import RoomAdmin

DIRECTIONS = {"next": True, "previous": False}


class NeighbourMixin:
    """The URLs that lead from a room to its neighbours in the list, for RoomAdmin."""

    def get_urls(self: Any) -> list[URLPattern]:
        view = self.admin_site.admin_view(self.neighbour_view)
        return [
            *(
                path(f"<int:pk>/{name}/", view, {"direction": name}, name=f"rooms_room_{name}")
                for name in DIRECTIONS
            ),
            *super().get_urls(),  # type: ignore[misc]  # of ModelAdmin
        ]

    def neighbour_view(self: Any, request: HttpRequest, pk: int, direction: str) -> HttpResponse:
        room = self.get_object(request, str(pk))
        if room is None or not self.has_view_or_change_permission(request):
            raise Http404
        return go_to(self, request, room, find_neighbour(self, request, room, DIRECTIONS[direction]))

    def note_next(self: Any, request: HttpRequest, pk: int) -> None:
        """Look the next room up before a save moves this one in the list, for `response_change`."""
        room = Room.objects.filter(pk=pk).first()
        found = find_neighbour(self, request, room, forward=True) if room else None
        request.next_room = found  # type: ignore[attr-defined]  # for response_change

    def response_change(self: Any, request: HttpRequest, obj: Room) -> HttpResponse:
        if "_next" not in request.POST:
            page: HttpResponse = super().response_change(request, obj)  # type: ignore[misc]  # of ModelAdmin
            return page
        self.message_user(request, gettext("The room %(room)s was saved.") % {"room": obj}, messages.SUCCESS)
        return go_to(self, request, obj, request.next_room)  # type: ignore[attr-defined]  # by note_next


def go_to(model_admin: "RoomAdmin", request: HttpRequest, room: Room, found: int | None) -> HttpResponse:
    """Redirect to the form of a neighbour, or back where there is none."""
    if found is None:
        messages.info(request, gettext("The list has no further room in this direction."))
    url = reverse("admin:rooms_room_change", args=[found or room.pk])
    preserved: dict[str, Any] = {
        "preserved_filters": model_admin.get_preserved_filters(request),
        "opts": model_admin.opts,
    }
    return HttpResponseRedirect(add_preserved_filters(preserved, url))


def find_neighbour(model_admin: "RoomAdmin", request: HttpRequest, room: Room, forward: bool) -> int | None:
    """The key of the room after (or before) the place where this one is, or would be, in the list."""
    listed = copy(request)
    listed.GET = QueryDict(request.GET.get("_changelist_filters", ""))
    rooms = model_admin.get_export_queryset(listed)
    if filter_errors(listed):
        return None
    order = [str(term) for term in rooms.query.order_by]
    if rooms.query.annotations:  # the distance from the place of the list
        annotated = Room.objects.annotate(**rooms.query.annotations).filter(pk=room.pk).first()
        if annotated is None:  # it was deleted meanwhile
            return None
        room = annotated
    found = rooms.filter(beyond(room, order, forward))
    first: int | None = (found if forward else found.reverse()).values_list("pk", flat=True).first()
    return first


def beyond(room: Room, order: list[str], forward: bool) -> Q:
    """The condition of rooms behind this one. NULL is behind all values, and before them in reverse."""
    condition, equal = Q(pk__in=[]), Q()
    for term in order:
        name, value = term.removeprefix("-"), getattr(room, term.removeprefix("-"))
        if term.startswith("-") == forward:
            further = Q(**{f"{name}__isnull": False}) if value is None else Q(**{f"{name}__lt": value})
        else:
            unknown = Q(**{f"{name}__isnull": True})
            further = Q(pk__in=[]) if value is None else Q(**{f"{name}__gt": value}) | unknown
        condition |= equal & further
        equal &= Q(**{f"{name}__isnull": True}) if value is None else Q(**{name: value})
    return condition
