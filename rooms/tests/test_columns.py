"""Each column of rooms/columns.py has a field of the model and a place in the admin's form."""

from django.contrib.admin.utils import flatten_fieldsets

from rooms.columns import COLUMNS
from rooms.models import Room


def test_the_model_has_a_field_for_each_column() -> None:
    missing = set(COLUMNS) - {field.name for field in Room._meta.get_fields()}
    assert not missing, f"rooms/models.py: Room has no field for {missing}; add it, then run makemigrations"


def test_the_admin_fieldsets_have_each_column() -> None:
    # The form of the admin cannot be imported while the model lacks a field.
    from rooms.admin.room import RoomAdmin

    missing = set(COLUMNS) - set(flatten_fieldsets(RoomAdmin.fieldsets))
    assert not missing, f"rooms/admin/room.py: RoomAdmin.fieldsets have no place for {missing}"
