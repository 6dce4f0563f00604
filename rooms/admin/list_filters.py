"""
The filters beside the list of rooms. They read values as every other part does: by rooms.columns.

What is not understood is told, and nothing is listed: a filter that silently did not filter would let a bulk
action run on every room.
"""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from rooms.columns import COLUMNS
from rooms.imports.reader import quote


def complaints(request: HttpRequest) -> list[str]:
    """What of the list's address was not understood, in sentences; the filters and the search add theirs."""
    found: list[str] = request.__dict__.setdefault("list_complaints", [])
    return found


def complain(request: HttpRequest, sentence: str) -> str:
    """Add a sentence, once: Django builds the filters several times in a request."""
    if sentence not in complaints(request):
        complaints(request).append(sentence)
    return sentence


class RangeFilter(admin.ListFilter):
    """From … to … of one field, both included, in a form of its own."""

    template = "admin/rooms/range_filter.html"
    field: str
    names: tuple[str, str]
    """The query parameters for both bounds, as in the API."""

    def __init__(self, request: HttpRequest, params: dict[str, Any], *args: Any) -> None:
        super().__init__(request, params, *args)
        self.bounds: dict[str, Any] = {}
        self.mistake = ""
        for name in self.names:
            for text in params.pop(name, []):
                if text:
                    self.used_parameters[name] = text
                    self.read(name, text)
        low, high = (self.bounds.get(name) for name in self.names)
        if low is not None and high is not None and low > high:
            self.refuse(f"is from {low} to {high}, which no room is: swap the two")

    def read(self, name: str, text: str) -> None:
        try:
            self.bounds[name] = COLUMNS[self.field].parse(text)
        except ValueError as error:
            self.refuse(f"{error}, not {quote(text)}")

    def refuse(self, reason: str) -> None:
        self.mistake = complain(self.request, f"{self.field.capitalize()} {reason}.")

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [*self.names]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(**self.bounds)

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        """What the template shows: one dictionary, the form."""
        low, high = COLUMNS[self.field].limits or (None, None)
        yield {
            "name": self.field,
            "inputs": [
                {"name": name, "label": label, "value": self.used_parameters.get(name, "")}
                for name, label in zip(self.names, ("From", "To"), strict=True)
            ],
            "low": low,
            "high": high,
            "unit": COLUMNS[self.field].unit,
            "mistake": self.mistake,
            "selected": bool(self.used_parameters),
            "clear": changelist.get_query_string(remove=[*self.names]),
            "others": [
                (name, value)
                for name, values in changelist.filter_params.items()
                if name not in self.names
                for value in values
            ],
        }


class PriceFilter(RangeFilter):
    title = field = "price"
    names = ("price__gte", "price__lte")


class SizeFilter(RangeFilter):
    title = field = "size"
    names = ("size__gte", "size__lte")


class ChoiceFilter(admin.SimpleListFilter):
    """One of a few values."""

    def __init__(self, request: HttpRequest, *args: Any) -> None:
        super().__init__(request, *args)
        values = [value for value, _ in self.lookup_choices]
        chosen = self.value()
        if chosen and chosen not in values:
            complain(
                request,
                f"{str(self.title).capitalize()} ({self.parameter_name}) must be {' or '.join(values)}, "
                f"not {quote(chosen)}.",
            )


class SizeKnownFilter(ChoiceFilter):
    title = "size known"
    parameter_name = "size__isnull"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("true", "Size missing"), ("false", "Size known")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(size__isnull=self.value() == "true") if self.value() else queryset


class ChangedFilter(ChoiceFilter):
    title = "last change"
    parameter_name = "changed"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("today", "Today"), ("24h", "In the last 24 hours"), ("7d", "In the last 7 days")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        now = timezone.now()
        since = {
            "today": now.replace(hour=0, minute=0, second=0, microsecond=0),
            "24h": now - timedelta(hours=24),
            "7d": now - timedelta(days=7),
        }
        choice = self.value()
        return queryset.filter(updated_at__gte=since[choice]) if choice in since else queryset


FILTERS: tuple[type[admin.ListFilter], ...] = (PriceFilter, SizeFilter, SizeKnownFilter, ChangedFilter)
PARAMETERS = {
    *PriceFilter.names,
    *SizeFilter.names,
    SizeKnownFilter.parameter_name,
    ChangedFilter.parameter_name,
}
"""The query parameters of the list's filters."""
