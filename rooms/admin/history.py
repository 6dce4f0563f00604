"""The admin's history in the field's words: "price 39 → 45 euros per day"."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType

from rooms.columns import COLUMNS
from rooms.models import Room


def value_in_words(value: Any) -> str:
    """A field's value as people read it."""
    return "unknown" if value in (None, "") else str(value)


def change_in_words(name: str, before: Any, after: Any) -> str:
    """One field's change, as in "price 39 → 45"."""
    return f"{name} {value_in_words(before)} → {value_in_words(after)}"


def values(room: Room) -> dict[str, Any]:
    """The room's own fields by name."""
    return {name: getattr(room, name) for name in COLUMNS}


def changes(before: Room, after: Room) -> str:
    """All that differs between two states of a room."""
    return ", ".join(
        change_in_words(name, old, new)
        for (name, old), new in zip(values(before).items(), values(after).values(), strict=True)
        if old != new
    )


def log(user: Any, flag: int, rooms: Iterable[tuple[Room, str]]) -> list[LogEntry]:
    """Write one line of history per room, with its message, in a few statements. `user` is the request's."""
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


def in_words(room: Room) -> str:
    """What a room is, all of it."""
    return ", ".join(f"{name} {value_in_words(value)}" for name, value in values(room).items())


def moment(time: datetime) -> str:
    """A time as staff read it, the 24 hours of UTC."""
    return f"{time:%-d %b %Y, %H:%M}"


def entry_of(room: Room) -> LogEntry | None:
    """The line of history that belongs to a room's last change; None if it was made elsewhere."""
    return (
        LogEntry.objects.filter(
            content_type=ContentType.objects.get_for_model(Room),
            object_id=str(room.pk),
            # The room's time is the database's clock, the line's is ours.
            action_time__gte=room.updated_at - timedelta(seconds=2),
        )
        .select_related("user")
        .order_by("-action_time")
        .first()
    )
