"""
The rooms in Django's admin: the list (listing, list_filters), the form, the history, actions on selected
rooms (actions/), import and export of spreadsheets (files/). RoomAdmin in `room` combines them.
"""

from rooms.admin.room import RoomAdmin

__all__ = ["RoomAdmin"]
