"""The model of rooms, with its constraints and indexes."""

import uuid
from copy import copy
from typing import Any

from django import forms
from django.conf import settings
from django.contrib.postgres.indexes import GistIndex
from django.db import models
from django.db.models import F, Func, Q
from django.db.models.functions import Cast, Now
from django.urls import reverse
from django.utils.formats import get_format
from django.utils.translation import gettext_lazy as _

from rooms.columns import COLUMNS, round_degrees
from rooms.sampling import CODE_HASH, IN_SAMPLE, SAMPLED

RATE = Cast("price", models.FloatField()) / F("size")
"""The price of a square metre, as api/pagination.py writes it."""


def range_constraint(name: str, low: int, high: int, unit: str) -> models.CheckConstraint:
    """A constraint with both bounds: `CHECK (x >= 0)` alone would let NaN in."""
    return models.CheckConstraint(
        condition=Q(**{f"{name}__gte": low, f"{name}__lte": high}),
        name=f"room_{name}_range",
        violation_error_message=f"{name.capitalize()} must be from {low} to {high} {unit}.",
    )


class DegreesFormField(forms.FloatField):
    """A point is always one of decimals, a comma too where the language writes decimals so; no thousands."""

    def to_python(self, value: Any) -> Any:
        if isinstance(value, str) and get_format("DECIMAL_SEPARATOR") == ",":
            value = value.replace(",", ".")
        degrees = super().to_python(value)
        return degrees if degrees is None else round_degrees(degrees)


class DegreesField(models.FloatField):
    """A coordinate, rounded before it is checked: 180.0000000001 is the antimeridian."""

    def to_python(self, value: Any) -> Any:
        degrees = super().to_python(value)
        return degrees if degrees is None else round_degrees(degrees)

    def formfield(self, *args: Any, **kwargs: Any) -> Any:
        return super().formfield(*args, **{"form_class": DegreesFormField, **kwargs})


class Room(models.Model):
    """
    A room for rent. Triggers round its coordinates, and set `updated_at` and increment `version` on every
    change of a row.
    """

    code = models.UUIDField(
        _("code"), default=uuid.uuid4, unique=True, help_text=_("The room's public name, a UUID.")
    )
    size = models.IntegerField(
        _("size"), null=True, blank=True, help_text=_("m², empty where it is not known.")
    )
    price = models.IntegerField(_("price"), help_text=_("Euros per day."))
    latitude = DegreesField(
        _("latitude"), help_text=_("Degrees north of the equator (WGS 84), south is negative.")
    )
    longitude = DegreesField(
        _("longitude"), help_text=_("Degrees east of Greenwich (WGS 84), west is negative.")
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)
    updated_at = models.DateTimeField(db_default=Now(), editable=False)
    version = models.IntegerField(_("version"), db_default=1, editable=False)

    class Meta:
        db_table = "room"
        verbose_name = _("room")
        verbose_name_plural = _("rooms")
        permissions = [("import_room", "Can import rooms"), ("export_room", "Can export rooms")]
        constraints = [
            range_constraint(column.name, *column.limits, column.unit)
            for column in COLUMNS.values()
            if column.limits
        ]
        # Every order ends with `id`, and so does every index: a page is read from it without a sort.
        indexes = [
            models.Index(fields=["price", "id"], name="room_price"),
            models.Index(fields=["size", "id"], name="room_size"),
            models.Index(RATE, F("id"), name="room_rate"),
            models.Index(fields=["latitude", "id"], name="room_latitude"),
            models.Index(fields=["longitude", "id"], name="room_longitude"),
            models.Index(fields=["updated_at", "id"], name="room_updated_at"),
            GistIndex(Func(F("longitude"), F("latitude"), function="point"), name="room_place"),
            models.Index(CODE_HASH, name="room_sample", include=SAMPLED, condition=IN_SAMPLE),
        ]

    def __str__(self) -> str:
        return str(self.code)

    def __deepcopy__(self, memo: dict[int, Any]) -> "Room":
        """A shallow copy, as all values are immutable: django-import-export copies the room of each row."""
        return copy(self)

    def get_absolute_url(self) -> str:
        return f"/rooms/{self.code}"


class Job(models.Model):
    """
    What somebody did to rooms in the admin at once: a save, a bulk action, an import, an undo.

    Triggers record each room of a job (JobRoom) while `rooms.job` is its key. A change of more rooms than one
    transaction takes is made in batches: its rooms are found by the list's query and the database's snapshot
    of the preview (rooms/admin/actions/large.py).
    """

    class State(models.TextChoices):
        RUNNING = "running", _("Running")
        DONE = "done", _("Done")
        CANCELLED = "cancelled", _("Cancelled")

    title = models.CharField(max_length=200)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    undoes = models.ForeignKey("self", models.CASCADE, null=True, related_name="undone_by")
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)
    state = models.CharField(max_length=10, choices=State, default=State.RUNNING)
    total = models.BigIntegerField(default=0, help_text="Rooms that the preview found to change.")
    changed = models.BigIntegerField(default=0)

    operation = models.CharField(max_length=20, blank=True, help_text="What continues it in batches.")
    parameters = models.JSONField(default=dict, help_text="Of the operation, such as the amount.")
    query = models.TextField(blank=True, help_text="The query string of the list.")
    seen_at = models.DateTimeField(null=True, help_text="When the preview was made.")
    snapshot = models.TextField(blank=True, help_text="pg_current_snapshot() of the preview.")
    last_id = models.BigIntegerField(default=0, help_text="The key of the last room that was changed.")
    batch_size = models.IntegerField(
        null=True, help_text="Rooms of a batch, where the usual ones take too long."
    )

    class Meta:
        db_table = "room_job"
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.title}, {self.changed:,} of {self.total:,} rooms"

    def get_absolute_url(self) -> str:
        return reverse("admin:rooms_room_job", args=[self.pk])

    @property
    def left(self) -> int:
        """Rooms of the preview that are not changed."""
        return max(self.total - self.changed, 0)


class JobRoom(models.Model):
    """A room of a job: what it was, and the version that the job left. Written by triggers (0010_job)."""

    pk = models.CompositePrimaryKey("job_id", "room_id")
    job = models.ForeignKey(Job, models.CASCADE, related_name="rooms", db_constraint=False, db_index=False)
    room_id = models.BigIntegerField()
    code = models.UUIDField()
    was = models.IntegerField(null=True, help_text="The version before; null where the job added the room.")
    version = models.IntegerField(help_text="The version after; the next one where the job deleted the room.")
    gone = models.BooleanField(help_text="Whether the job deleted the room.")
    before = models.JSONField(null=True, help_text="The row before; null where the job added the room.")

    class Meta:
        db_table = "room_job_room"
        default_permissions = ()
        indexes = [models.Index(fields=["room_id", "version"], name="room_job_room_version")]

    def __str__(self) -> str:
        return str(self.code)


class SavedFilter(models.Model):
    """Filters, search and order of the list under a name, for who saved them or for all."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    name = models.CharField(max_length=60)
    query = models.CharField(max_length=500, help_text="The query string of the list.")
    shared = models.BooleanField(default=False)

    class Meta:
        db_table = "room_saved_filter"
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["user", "name"], name="room_saved_filter_name")]

    def __str__(self) -> str:
        return self.name
