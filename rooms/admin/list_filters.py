"""
The filters of the list of rooms, generated from rooms.columns, which also parses their values.

An invalid filter is an error, and the list is empty: were it ignored, a bulk action would run on all rooms.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.text import capfirst, format_lazy, get_text_list
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from rooms.admin.numbers import grouped
from rooms.admin.recorded import column_label, lazy_label
from rooms.columns import COLUMNS, WHOLE_NUMBER, Column
from rooms.imports.reader import quote


def filter_errors(request: HttpRequest) -> list[str]:
    """Messages about invalid filters and searches in the list's URL."""
    errors: list[str] = request.__dict__.setdefault("filter_errors", [])
    return errors


def add_filter_error(request: HttpRequest, message: str) -> str:
    """Add a message once: Django instantiates the filters several times in a request."""
    if message not in filter_errors(request):
        filter_errors(request).append(message)
    return message


def selection_time(request: HttpRequest) -> datetime:
    """The time from which filters count, the same for all that a request selects."""
    moment: datetime = request.__dict__.setdefault("selection_time", timezone.now())
    return moment


class RangeFilter(admin.ListFilter):
    """A form with the lower and the upper bound of a column, both inclusive."""

    template = "admin/rooms/range_filter.html"
    field: str
    names: tuple[str, str]
    """The query parameters for both bounds, as in the API."""

    def __init__(self, request: HttpRequest, params: dict[str, Any], *args: Any) -> None:
        super().__init__(request, params, *args)
        self.bounds: dict[str, Any] = {}
        self.error = ""
        for name in self.names:
            for text in params.pop(name, []):
                if text:
                    self.used_parameters[name] = text
                    self.parse_bound(name, text)
        low, high = (self.bounds.get(name) for name in self.names)
        if low is not None and high is not None and low > high:
            error = gettext("is from %(low)s to %(high)s, which no room is: swap the two")
            self.set_error(error % {"low": low, "high": high})

    def parse_bound(self, name: str, text: str) -> None:
        try:
            self.bounds[name] = COLUMNS[self.field].parse(text)
        except ValueError as error:
            message = gettext("%(error)s, not %(value)s")
            self.set_error(message % {"error": error, "value": quote(text)})

    def set_error(self, reason: str) -> None:
        message = gettext("%(column)s %(error)s.")
        named = {"column": capfirst(column_label(self.field)), "error": reason}
        self.error = add_filter_error(self.request, message % named)

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [*self.names]

    def chip(self) -> str:
        """The filter in words, as in "price 60 to 80 € per day"; empty where it is not active."""
        low, high = (str(self.used_parameters.get(name, "")) for name in self.names)
        if not low and not high:
            return ""
        if low and high:
            text = gettext("%(column)s %(low)s to %(high)s %(unit)s")
        elif low:
            text = gettext("%(column)s from %(low)s %(unit)s")
        else:
            text = gettext("%(column)s up to %(high)s %(unit)s")
        unit = gettext(COLUMNS[self.field].symbol)
        return text % {
            "column": column_label(self.field),
            "low": self.show(low),
            "high": self.show(high),
            "unit": unit,
        }

    def show(self, text: str) -> str:
        """A bound with its thousands apart; one that is no value as it was given."""
        return grouped(int(text)) if COLUMNS[self.field].accepts(text) else text

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(**self.bounds)

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        """The context of the template: one dictionary, the form."""
        low, high = COLUMNS[self.field].limits or (None, None)
        yield {
            "name": self.field,
            "inputs": [
                {"name": name, "label": label, "value": self.used_parameters.get(name, "")}
                for name, label in zip(self.names, (gettext("From"), gettext("To")), strict=True)
            ],
            "low": low,
            "high": high,
            "unit": gettext(COLUMNS[self.field].unit),
            "error": self.error,
            "selected": bool(self.used_parameters),
            "clear": changelist.get_query_string(remove=[*self.names]),
            "others": [
                (name, value)
                for name, values in changelist.filter_params.items()
                if name not in self.names
                for value in values
            ],
        }


def range_filter(column: Column) -> type[RangeFilter]:
    class ColumnRangeFilter(RangeFilter):
        title = lazy_label(column.name)
        field = column.name
        names = (f"{column.name}__gte", f"{column.name}__lte")

    return ColumnRangeFilter


class ChoiceFilter(admin.SimpleListFilter):
    """A filter with a few choices; another value is an error."""

    chip_format: Any = "{choice}"
    """The words for a choice over the list."""

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        values = [value for value, _ in self.lookup_choices]
        chosen = self.value()
        if chosen and chosen not in values:
            message = gettext("%(title)s (%(parameter)s) must be %(choices)s, not %(value)s.")
            named = {
                "title": capfirst(str(self.title)),
                "parameter": self.parameter_name,
                "choices": get_text_list(values, gettext("or")),
                "value": quote(chosen),
            }
            add_filter_error(request, message % named)

    def chip(self) -> str:
        """The choice in words; empty where none is made."""
        chosen = self.value()
        return self.chip_format.format(choice=dict(self.lookup_choices).get(chosen, chosen)) if chosen else ""


def known_filter(column: Column) -> type[ChoiceFilter]:
    class KnownFilter(ChoiceFilter):
        title = format_lazy(_("{column} known"), column=lazy_label(column.name))
        parameter_name = f"{column.name}__isnull"

        def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
            label = {"column": capfirst(column_label(column.name))}
            return [
                ("true", gettext("%(column)s missing") % label),
                ("false", gettext("%(column)s known") % label),
            ]

        def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
            if not self.value():
                return queryset
            return queryset.filter(**{self.parameter_name: self.value() == "true"})

    return KnownFilter


class ChangedFilter(ChoiceFilter):
    title = _("last change")
    chip_format = _("changed: {choice}")
    parameter_name = "changed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [
            ("today", gettext("Today")),
            ("24h", gettext("In the last 24 hours")),
            ("7d", gettext("In the last 7 days")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        now = selection_time(request)
        since = {
            "today": timezone.localtime(now).replace(hour=0, minute=0, second=0, microsecond=0),
            "24h": now - timedelta(hours=24),
            "7d": now - timedelta(days=7),
        }
        choice = self.value()
        return queryset.filter(updated_at__gte=since[choice]) if choice in since else queryset


RANGE_FILTERS = [range_filter(column) for column in COLUMNS.values() if column.type is WHOLE_NUMBER]
CHOICE_FILTERS: list[type[ChoiceFilter]] = [
    *(known_filter(column) for column in COLUMNS.values() if column.nullable),
    ChangedFilter,
]
