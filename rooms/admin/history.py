"""
Log entries of the admin with readable changes, such as "price 39 → 45". They are recorded in English, and
recorded.py shows them in the reader's language.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db.models import QuerySet
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.translation import gettext

from rooms.columns import COLUMNS
from rooms.models import Room


def person(user: Any) -> str:
    """A user's name as people write it: the full name where there is one."""
    return str(user.get_full_name() or user.get_username())


def person_of(entry: LogEntry | None) -> str:
    """Who made the change of a log entry; without one it was not made in the admin."""
    return person(entry.user) if entry else gettext("Somebody (an import or another program)")


def format_value(value: Any) -> str:
    """A field's value as text."""
    return "unknown" if value in (None, "") else str(value)


def format_change(name: str, before: Any, after: Any) -> str:
    """The change of one field, as in "price 39 → 45"."""
    return f"{name} {format_value(before)} → {format_value(after)}"


def values(room: Room) -> dict[str, Any]:
    """The values of the room's columns by name."""
    return {name: getattr(room, name) for name in COLUMNS}


def format_changes(before: Room, after: Room) -> str:
    """The differences between two states of a room, as text."""
    return ", ".join(
        format_change(name, old, new)
        for (name, old), new in zip(values(before).items(), values(after).values(), strict=True)
        if old != new
    )


LOG_INTO = """
INSERT INTO django_admin_log (
    action_time, user_id, content_type_id, object_id, object_repr, action_flag, change_message
)
"""
"""`log_changes` as SQL, before a SELECT of these."""


def room_entries() -> QuerySet[LogEntry]:
    """The log entries of all rooms, deleted ones too."""
    return LogEntry.objects.filter(content_type=ContentType.objects.get_for_model(Room))


def log_changes(user: Any, flag: int, rooms: Iterable[tuple[Room, str]]) -> list[LogEntry]:
    """Create a log entry with a message for each room, in a few statements."""
    room_type = ContentType.objects.get_for_model(Room)
    return LogEntry.objects.bulk_create(
        (
            LogEntry(
                user_id=user.pk,
                content_type=room_type,
                object_id=str(room.pk),
                object_repr=str(room),
                action_flag=flag,
                change_message=message,
            )
            for room, message in rooms
        ),
        batch_size=1000,
    )


def format_room(room: Room) -> str:
    """All columns of a room, as text."""
    return ", ".join(f"{name} {format_value(value)}" for name, value in values(room).items())


ROOM_SQL = ", ".join(f"concat('{name} ', coalesce(room.{name}::text, 'unknown'))" for name in COLUMNS)
"""The parts of `format_room` as SQL."""


def format_time(time: datetime) -> str:
    """A time such as "3 Jan 2026, 14:05 UTC", in the operator's time zone."""
    return date_format(timezone.localtime(time), "DATETIME_FORMAT")


def last_log_entry(room: Room) -> LogEntry | None:
    """The log entry of a room's last change; None if the change was not made in the admin."""
    return (
        room_entries()
        .filter(
            object_id=str(room.pk),
            # updated_at is from the clock of the database, action_time from that of the web server.
            action_time__gte=room.updated_at - timedelta(seconds=2),
        )
        .select_related("user")
        .order_by("-action_time")
        .first()
    )
