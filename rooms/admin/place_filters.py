"""The filters of the list by place, with the API's parameters: an area of the map, what is near a place."""

from collections.abc import Iterator
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import BooleanField, FloatField, QuerySet
from django.db.models.expressions import RawSQL
from django.http import HttpRequest
from django.urls import reverse
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from rooms.admin.list_filters import add_filter_error
from rooms.api.conditions import Condition, conjunction
from rooms.api.geo import Box, Near
from rooms.api.parameters import PARAMETERS as API_PARAMETERS
from rooms.columns import round_degrees
from rooms.counting import MAX_COUNTED, sampled_rows
from rooms.imports.reader import quote
from rooms.models import Room
from rooms.naming import place_name
from rooms.pages.names import metres

NEARBY = 1_000
"""Metres around a room, where nothing else is said."""


def near_url(room: Room) -> str:
    """The list of the rooms around a room."""
    place = f"near={round_degrees(room.longitude)},{round_degrees(room.latitude)}"
    return f"{reverse('admin:rooms_room_changelist')}?{place}&within={NEARBY}"


def has_many(where: Condition) -> bool:
    """Whether more rooms than a count may read are in a place, by the smallest sample; two queries."""
    sql, values = where
    return sampled_rows((f"FROM room WHERE {sql}", values)) > MAX_COUNTED


def in_box(box: Box) -> tuple[Condition, bool]:
    """
    The condition of a box, and whether many rooms are in it; two queries.

    The planner takes every box of the index on the point for a thousandth of the rooms. Few are read by it.
    Many are met soon in any order, whose index the planner walks where it sees plain bounds.
    """
    bounds = conjunction([term.condition for term in box.terms])
    if has_many(bounds):
        return bounds, True
    halves = [half.contains for half in box.halves]
    sql = " OR ".join(sql for sql, _ in halves)
    return (f"({sql})", [value for _, values in halves for value in values]), False


def with_condition(rooms: QuerySet[Room], where: Condition) -> QuerySet[Room]:
    sql, values = where
    return rooms.filter(RawSQL(sql, values, BooleanField()))  # noqa: S611, of our own parts


class PlaceFilter(admin.ListFilter):
    """A filter whose parameters are those of the API. An invalid one is an error, and the list is empty."""

    template = "admin/rooms/place_filter.html"
    names: tuple[str, ...]

    def __init__(self, request: HttpRequest, params: dict[str, Any], *args: Any) -> None:
        super().__init__(request, params, *args)
        self.values: dict[str, Any] = {}
        for name in self.names:
            for text in params.pop(name, []):
                if text:
                    self.used_parameters[name] = text
                    self.parse(name, text)

    def parse(self, name: str, text: str) -> None:
        try:
            self.values[name] = API_PARAMETERS[name].parse(text)
        except ValueError as error:
            message = gettext("%(title)s (%(parameter)s) %(error)s, not %(value)s.")
            named = {"title": capfirst(str(self.title)), "parameter": name}
            add_filter_error(self.request, message % {**named, "error": error, "value": quote(text)})

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [*self.names]

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        """The context of the template: one dictionary."""
        yield {
            "chip": self.chip(),
            "is_area": "bbox" in self.names,
            "clear": changelist.get_query_string(remove=[*self.names]),
            "on_map": changelist.get_query_string({"map": "fit"}),
            "near": self.used_parameters.get("near", ""),
            "within": self.used_parameters.get("within", ""),
            "others": [
                (name, value)
                for name, values in changelist.filter_params.items()
                if name not in self.names
                for value in values
            ],
        }

    def chip(self) -> str:
        raise NotImplementedError


class AreaFilter(PlaceFilter):
    """The rooms in an area of the map."""

    title = _("area")
    names = ("bbox",)

    def chip(self) -> str:
        """As in "area in Gràcia, Barcelona", by its middle; empty where the filter is not active."""
        box: Box | None = self.values.get("bbox")
        if not box:
            return gettext("area") if self.used_parameters else ""
        east = box.east + 360 if box.west > box.east else box.east
        longitude = (box.west + east) / 2
        middle = {
            "latitude": (box.south + box.north) / 2,
            "longitude": longitude - 360 if longitude > 180 else longitude,
        }
        return gettext("area of the map %(place)s") % {"place": place_name(**middle)}

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        box: Box | None = self.values.get("bbox")
        return with_condition(queryset, in_box(box)[0]) if box else queryset


class NearFilter(PlaceFilter):
    """The rooms at most so far from a place, which get a `distance` in metres, the nearest first."""

    title = _("near")
    names = ("near", "within")

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        for name, other in (self.names, self.names[::-1]):
            if name in self.used_parameters and other not in self.used_parameters:
                example = "near=2.15,41.4" if other == "near" else f"within={NEARBY}"
                message = gettext("Near (%(name)s) needs %(other)s, too, such as %(example)s.")
                named = {"name": name, "other": other, "example": example}
                add_filter_error(self.request, message % named)
        self.nearest_first = False
        """Whether the rooms are few enough to be sorted by their distances; known after `queryset`."""

    def chip(self) -> str:
        """As in "within 1 km, in Gràcia, Barcelona"; empty where the filter is not active."""
        near: Near | None = self.values.get("near")
        if not near or "within" not in self.values:
            return gettext("near") if self.used_parameters else ""
        text = gettext("within %(distance)s of a place %(place)s")
        place = place_name(near.latitude, near.longitude)
        return text % {"distance": metres(self.values["within"]), "place": place}

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        if self.values.keys() != {*self.names}:
            return queryset
        near = Near(self.values["near"].longitude, self.values["near"].latitude, self.values["within"])
        where, many = in_box(near.box)
        self.nearest_first = not many
        sql, values = near.distance
        rooms = with_condition(queryset, where)
        return rooms.annotate(distance=RawSQL(sql, values, FloatField())).filter(  # noqa: S611, of our own parts
            distance__lte=near.within
        )


PLACE_FILTERS: tuple[type[PlaceFilter], ...] = (AreaFilter, NearFilter)
