"""The form of one room, with optimistic locking: it does not overwrite changes by others."""

from dataclasses import dataclass
from typing import Any, cast
from uuid import uuid4

from django import forms
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import QueryDict
from django.utils.text import capfirst
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from rooms.admin.history import format_time, last_log_entry, person_of
from rooms.admin.numbers import WholeNumberField, grouped
from rooms.admin.recorded import column_label, show_value
from rooms.columns import COLUMNS, WHOLE_NUMBER, Column
from rooms.models import Room


def widget(column: Column) -> forms.Widget:
    """
    The widget of a column, with its limits.

    Browsers change what is typed into a number field, as in 1.000 to 1, without a word. So whole numbers are
    sent as they are typed; coordinates have no thousands, and keep a field that counts.
    """
    if column.limits is None:
        return forms.TextInput(attrs={"size": 38, "spellcheck": "false", "autocomplete": "off"})
    if column.type is WHOLE_NUMBER:
        return forms.TextInput(attrs={"inputmode": "numeric", "size": 10, "autocomplete": "off"})
    low, high = column.limits
    return forms.NumberInput(attrs={"min": low, "max": high, "step": "any"})


@dataclass(frozen=True)
class Conflict:
    """What somebody else changed while the form was open: a title, and the fields' values as text."""

    title: str
    rows: list[dict[str, str]]


class RoomForm(forms.ModelForm):
    """
    A room's fields, its version and its values when the form was opened.

    After a change by another user nothing is saved: untouched fields get the new values, edited fields keep
    what was submitted, and `conflict` has both.
    """

    conflict: "Conflict | None" = None

    loaded_version = forms.IntegerField(label="", widget=forms.HiddenInput, required=False)
    LOCKED_MESSAGE = _(
        "Other work holds this room, such as an import or a bulk change. Nothing of yours is saved yet, and "
        "all of it is below. Save again in a moment."
    )
    locked = False
    """Whether another transaction has locked the room, so that the form is returned instead of saved."""

    class Media:
        css = {"all": ["leaflet/leaflet.css", "rooms/admin/map.css"]}
        js = ["leaflet/leaflet.js", "rooms/admin/map.js", "rooms/admin/form.js"]

    class Meta:
        model = Room
        fields = tuple(COLUMNS)
        widgets = {column.name: widget(column) for column in COLUMNS.values()}
        field_classes = {
            column.name: WholeNumberField for column in COLUMNS.values() if column.type is WHOLE_NUMBER
        }

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for name, field in self.fields.items():
            limits = COLUMNS[name].limits if name in COLUMNS else None
            if limits:
                low, high = map(grouped, limits)
                bounds = {"low": low, "high": high, "unit": gettext(COLUMNS[name].symbol)}
                named = bounds | {"column": capfirst(column_label(name))}
                range_text = gettext("%(low)s to %(high)s %(unit)s.") % bounds
                field.help_text = f"{field.help_text} {range_text}".replace(" °", "°").strip()
                message = gettext("%(column)s is from %(low)s to %(high)s %(unit)s.") % named
                message = message.replace(" °", "°")
                field.validators += [
                    MinValueValidator(limits[0], message),
                    MaxValueValidator(limits[1], message),
                ]
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
                raise ValidationError(
                    gettext("The form came without the room's version. Open the room again.")
                )
            if cleaned["loaded_version"] != self.instance.version:
                self.conflict = self.merge()
                raise ValidationError(self.conflict.title, "conflict")
        if self.locked:
            raise ValidationError(self.LOCKED_MESSAGE, "locked")
        return cleaned

    def merge(self) -> Conflict:
        """Merge the room's current values into the form."""
        entry = last_log_entry(self.instance)
        touched = set(self.changed_data)
        data = cast(QueryDict, self.data).copy()
        rows = []
        for name, field in self.fields.items():
            if name not in COLUMNS:
                continue
            opened = data.get(self.add_initial_prefix(name), "")
            now = field.widget.format_value(self.initial[name]) or ""
            typed = data.get(name, "")
            data[self.add_initial_prefix(name)] = now
            if str(opened) == str(now):
                continue
            if name not in touched:
                data[name] = now
            rows.append(
                {
                    "label": str(field.label),
                    "was": show_value(opened),
                    "theirs": show_value(now),
                    "yours": show_value(typed) if name in touched else "",
                }
            )
        data[self.add_prefix("loaded_version")] = str(self.instance.version)
        self.data = data
        title = gettext("%(who)s changed this room on %(time)s, while you had it open.")
        values = {"who": person_of(entry), "time": format_time(self.instance.updated_at)}
        return Conflict(title % values, rows)
