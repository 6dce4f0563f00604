"""The page of one room."""

from typing import Any

from django.http import HttpRequest
from django.template.loader import render_to_string

from rooms.columns import COLUMNS

EXCLUDED = {"code", "latitude", "longitude"}
"""Columns that the template renders in another way than as a value with its unit."""


def render_detail(request: HttpRequest, room: dict[str, Any]) -> str:
    """The HTML of a room's page."""
    facts = [
        {"column": column, "known": room[column.name] is not None, "value": column.display(room[column.name])}
        for column in COLUMNS.values()
        if column.name not in EXCLUDED
    ]
    return render_to_string("rooms/room_detail.html", {"room": room, "facts": facts}, request)
