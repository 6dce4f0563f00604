"""The rooms in Django's admin, for staff."""

from django.contrib import admin

from rooms.models import Room


@admin.register(Room)
class RoomAdmin(admin.ModelAdmin):
    list_display = ("code", "size", "price", "latitude", "longitude")
