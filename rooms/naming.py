"""The names of rooms in the admin, as people say them: "38 m² in Gràcia, Barcelona"."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.utils.translation import gettext

from rooms.models import JobRoom, Room
from rooms.pages.names import square_metres
from rooms.places.gazetteer import HERE, gazetteer

SAME_PLACE = 0.0001
"""Degrees, about ten metres: rooms no further apart may be the same one."""


def room_name(room: Room) -> str:
    """A room's size and where it is; takes 0.1 ms."""
    kind = square_metres(room.size) if room.size else gettext("Room")
    return f"{kind} {place_name(room.latitude, room.longitude)}"


def place_name(latitude: float, longitude: float) -> str:
    """Where a place is: "in Gràcia, Barcelona"; its coordinates far from every place."""
    nearest = gazetteer().nearest(latitude, longitude)
    if nearest is None:
        return gettext("at %(place)s") % {"place": f"{latitude:.4f}, {longitude:.4f}"}
    place, metres = nearest
    text = gettext("in %(place)s") if metres <= HERE else gettext("near %(place)s")
    return text % {"place": place.short}


@dataclass(frozen=True)
class Name:
    text: str
    """Empty for a room that was deleted without a job, of which only the code is left."""
    deleted: bool


def room_names(keys: Iterable[str]) -> dict[str, Name]:
    """The names of the rooms with these keys, by key. One query, another where some of them are deleted."""
    wanted = {*keys}
    rooms = Room.objects.filter(pk__in=wanted).only("size", "latitude", "longitude")
    names = {str(room.pk): Name(room_name(room), deleted=False) for room in rooms}
    missing = wanted - names.keys()
    if missing:
        names |= dict.fromkeys(missing, Name("", deleted=True))
        for deleted in JobRoom.objects.filter(room_id__in=missing, gone=True).only("room_id", "before"):
            values = deleted.before or {}
            was = Room(**{name: values[name] for name in ("size", "latitude", "longitude")})
            names[str(deleted.room_id)] = Name(room_name(was), deleted=True)
    return names


def find_twin(room: Room) -> Room | None:
    """Another room of the same size and price in about the same place."""
    near = {
        f"{name}__range": (getattr(room, name) - SAME_PLACE, getattr(room, name) + SAME_PLACE)
        for name in ("latitude", "longitude")
    }
    twins = Room.objects.filter(price=room.price, size=room.size, **near).exclude(pk=room.pk)
    return twins.order_by("pk").first()
