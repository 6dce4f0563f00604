"""The filter `room_name`: a room as people name it."""

from django import template

from rooms.naming import room_name

register = template.Library()
register.filter("room_name", room_name)
