"""The form of one room, which never overwrites what somebody else saved meanwhile."""

from typing import Any, cast
from uuid import uuid4

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import QueryDict

from rooms.admin.history import entry_of, moment, value_in_words
from rooms.columns import COLUMNS, WHOLE_NUMBER, Column
from rooms.models import Room


def widget(column: Column) -> forms.Widget:
    """The input of a column; browsers hold a number within the limits, too."""
    if column.limits is None:
        return forms.TextInput(attrs={"size": 38, "spellcheck": "false", "autocomplete": "off"})
    low, high = column.limits
    step = "1" if column.type is WHOLE_NUMBER else "any"
    return forms.NumberInput(attrs={"min": low, "max": high, "step": step})


class RoomForm(forms.ModelForm):
    """
    A room's fields, and the version that was opened.

    Each field carries the value that was opened, too. After a change by somebody else the form takes
    over what the person did not touch, keeps what was typed, says both, and saves nothing.
    """

    loaded_version = forms.IntegerField(widget=forms.HiddenInput, required=False)
    HELD = (
        "Other work holds this room, such as an import or a bulk change. Nothing of yours is saved yet, and "
        "all of it is below. Save again in a moment."
    )
    held = False
    """Whether other work holds the room, so that the form comes back instead of being saved."""

    class Media:
        css = {"all": ["leaflet/leaflet.css", "rooms/admin/map.css"]}
        js = ["leaflet/leaflet.js", "rooms/admin/map.js"]

    class Meta:
        model = Room
        fields = tuple(COLUMNS)
        widgets = {column.name: widget(column) for column in COLUMNS.values()}

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            limits = COLUMNS[name].limits if name in COLUMNS else None
            if limits:
                field.validators += [MinValueValidator(limits[0]), MaxValueValidator(limits[1])]
        if self.instance.pk:
            self.initial["loaded_version"] = self.instance.version
            for name in COLUMNS:
                if name in self.fields:
                    self.fields[name].show_hidden_initial = True

    def clean(self) -> dict[str, Any]:
        cleaned = super().clean() or {}
        if "_saveasnew" in self.data and Room.objects.filter(code=cleaned.get("code", uuid4())).exists():
            cleaned["code"] = uuid4()  # a copy of a room is another room
        if self.instance.pk and "loaded_version" not in self.errors:
            if cleaned.get("loaded_version") is None:
                raise ValidationError("The form came without the room's version. Open the room again.")
            if cleaned["loaded_version"] != self.instance.version:
                raise ValidationError(self.merge())
        if self.held:
            raise ValidationError(self.HELD, "held")
        return cleaned

    def merge(self) -> list[str]:
        """Bring the form up to the room's present state; returns what happened, in sentences."""
        entry = entry_of(self.instance)
        who = entry.user.get_username() if entry else "Somebody (an import or another program)"
        told = [
            f"{who} changed this room on {moment(self.instance.updated_at)} UTC, while you had it open. "
            "Nothing of yours is saved yet."
        ]
        touched = set(self.changed_data)
        data = cast(QueryDict, self.data).copy()
        for name, field in self.fields.items():
            if name not in COLUMNS:
                continue
            opened = data.get(self.add_initial_prefix(name), "")
            now = field.widget.format_value(self.initial[name]) or ""
            data[self.add_initial_prefix(name)] = now
            if str(opened) == str(now):
                continue
            change = f"{field.label}: was {value_in_words(opened)}, is now {value_in_words(now)}"
            if name in touched:
                told.append(f"{change}; you typed {value_in_words(data.get(name))}, which is kept below.")
            else:
                data[name] = now
                told.append(f"{change}, which is taken over below.")
        data[self.add_prefix("loaded_version")] = str(self.instance.version)
        self.data = data
        return [*told, "Look at the fields and save again."]
