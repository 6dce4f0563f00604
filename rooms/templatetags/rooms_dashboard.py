"""What the admin's first page shows of the rooms."""

from typing import Any
from urllib.parse import urlencode

from django import template
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone

from rooms.counting import count_queryset
from rooms.models import Room

register = template.Library()


@register.inclusion_tag("admin/rooms/dashboard.html", takes_context=True)
def rooms_dashboard(context: dict[str, Any]) -> dict[str, Any]:
    """The numbers that staff work by, each a link to its rooms. Three to six queries, all from indexes."""
    midnight = timezone.now().replace(hour=0, minute=0, second=0, microsecond=0)
    rooms = Room.objects.all()
    return {
        "perms": context["perms"],
        "figures": [
            figure("rooms", rooms),
            figure("changed today", rooms.filter(updated_at__gte=midnight), changed="today"),
            figure("without a size", rooms.filter(size__isnull=True), size__isnull="true"),
        ],
    }


def figure(label: str, rooms: QuerySet[Room], **filters: str) -> dict[str, Any]:
    """One number with its label and the list behind it."""
    return {
        "number": count_queryset(rooms),
        "label": label,
        "address": f"{reverse('admin:rooms_room_changelist')}?{urlencode(filters)}",
    }
