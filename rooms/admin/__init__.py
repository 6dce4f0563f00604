"""
The rooms in Django's admin, for staff: the list (listing, list_filters), the form, the history, bulk work on
selected rooms (selection, prices), rooms from and to spreadsheets (files, uploads), all joined in `room`.
"""

from rooms.admin.room import RoomAdmin

__all__ = ["RoomAdmin"]
