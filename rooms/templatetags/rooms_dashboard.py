"""The statistics on the index page of the admin."""

from typing import Any
from urllib.parse import urlencode

from django import template
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import ngettext

from rooms.counting import count_queryset
from rooms.models import Room

register = template.Library()


@register.inclusion_tag("admin/rooms/dashboard.html", takes_context=True)
def rooms_dashboard(context: dict[str, Any]) -> dict[str, Any]:
    """Statistics with links to the list of their rooms. Three to six queries, all from indexes."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    rooms = Room.objects.all()
    return {
        "perms": context["perms"],
        "statistics": [
            statistic("room", "rooms", rooms),
            statistic(
                "changed today", "changed today", rooms.filter(updated_at__gte=midnight), changed="today"
            ),
            statistic(
                "without a size", "without a size", rooms.filter(size__isnull=True), size__isnull="true"
            ),
        ],
    }


def statistic(one: str, many: str, rooms: QuerySet[Room], **filters: str) -> dict[str, Any]:
    """One number with its label and the URL of its rooms."""
    number = count_queryset(rooms)
    return {
        "number": number,
        "label": ngettext(one, many, number),
        "url": f"{reverse('admin:rooms_room_changelist')}?{urlencode(filters)}",
    }
