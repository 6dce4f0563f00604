"""The rooms on the index page of the admin: their numbers, their prices, and what was done to them lately."""

from typing import Any
from urllib.parse import urlencode

from django import template
from django.contrib.admin.models import LogEntry
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext, ngettext

from rooms.admin.history import room_entries
from rooms.admin.numbers import grouped
from rooms.admin.recorded import column_label
from rooms.api.search import ALL_ROOMS
from rooms.api.statistics import compute_statistics
from rooms.columns import COLUMNS
from rooms.counting import Count, count_queryset
from rooms.models import Room
from rooms.naming import Name, room_names
from rooms.pages import charts

register = template.Library()

RECENT = 8
"""Changes that are listed."""


@register.inclusion_tag("admin/rooms/dashboard.html", takes_context=True)
def rooms_dashboard(context: dict[str, Any]) -> dict[str, Any]:
    """Numbers with links to their rooms. Seven to a dozen queries, none of which reads all of many rooms."""
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    rooms = Room.objects.all()
    number = count_queryset(rooms)
    today = count_queryset(rooms.filter(updated_at__gte=midnight))
    numbers = [
        statistic(ngettext("room", "rooms", number), number),
        statistic(gettext("changed today"), today, changed="today"),
    ]
    for name in (column.name for column in COLUMNS.values() if column.nullable):
        missing = count_queryset(rooms.filter(**{f"{name}__isnull": True}))
        numbers.append(
            statistic(
                gettext("without a %(column)s") % {"column": column_label(name)},
                missing,
                **{f"{name}__isnull": "true"},
            )
        )
    return {
        "perms": context["perms"],
        "statistics": numbers,
        "prices": price_distribution(),
        "entries": recent_changes(),
    }


def statistic(label: str, number: Count, **filters: str) -> dict[str, Any]:
    """One number with its label and the URL of its rooms."""
    return {"number": number, "label": label, "url": list_url(**filters)}


def list_url(**filters: Any) -> str:
    return f"{reverse('admin:rooms_room_changelist')}?{urlencode(filters)}"


def price_distribution() -> dict[str, Any]:
    """The quartiles of the prices, and the bars of their histogram with the URLs of their rooms."""
    found = compute_statistics(ALL_ROOMS)
    bins = found["price"]["histogram"]
    bars = charts.histogram(bins, COLUMNS["price"], found["sampled"])
    for bar, row in zip(bars, bins, strict=True):
        text = gettext("from %(low)s %(unit)s: %(rooms)s")
        if row["to"] is not None:
            text = gettext("%(low)s to under %(high)s %(unit)s: %(rooms)s")
        bar["label"] = text % {
            "low": grouped(row["from"]),
            "high": "" if row["to"] is None else grouped(row["to"]),
            "unit": gettext(COLUMNS["price"].symbol),
            "rooms": Count(row["count"], exact=not found["sampled"]),
        }
        bounds = {"price__gte": bar["from"]} | ({} if bar["to"] is None else {"price__lte": bar["to"]})
        bar["url"] = list_url(**bounds)
    return {"bars": bars, "quartiles": found["price"]["quartiles"], "sampled": found["sampled"]}


def recent_changes() -> list[tuple[LogEntry, Name]]:
    """The newest log entries, each with the name of its room; two queries, three with deleted rooms."""
    newest = list(room_entries().select_related("user").order_by("-action_time", "-pk")[:RECENT])
    names = room_names(str(entry.object_id) for entry in newest)
    return [(entry, names[str(entry.object_id)]) for entry in newest]
