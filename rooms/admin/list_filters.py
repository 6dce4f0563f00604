"""The filters beside the list of rooms. They read values as every other part does: by rooms.filters."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.main import ChangeList
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from rooms.filters import FIELDS
from rooms.importing import shown


class RangeFilter(admin.ListFilter):
    """
    From … to … of one field, both included, in a form of its own.

    A value that cannot be read is told and nothing is listed: a filter that silently did not filter
    would let a bulk action run on every room.
    """

    template = "admin/rooms/range_filter.html"
    field: str
    names: tuple[str, str]
    """The query parameters for both bounds, as in the API."""

    def __init__(self, request: HttpRequest, params: dict[str, Any], *args: Any) -> None:
        super().__init__(request, params, *args)
        self.bounds: dict[str, Any] = {}
        self.mistake = ""
        for name in self.names:
            for text in params.pop(name, [])[-1:]:
                if text:
                    self.used_parameters[name] = text
                    self.read(name, text)

    def read(self, name: str, text: str) -> None:
        try:
            self.bounds[name] = FIELDS[self.field].parse(text)
        except ValueError as error:
            self.mistake = f"{self.field.capitalize()} {error}, not {shown(text)}."
            messages.error(self.request, self.mistake)

    def has_output(self) -> bool:
        return True

    def expected_parameters(self) -> list[str | None]:
        return [*self.names]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.none() if self.mistake else queryset.filter(**self.bounds)

    def choices(self, changelist: ChangeList) -> Iterator[dict[str, Any]]:
        """What the template shows: one dictionary, the form."""
        low, high = FIELDS[self.field].limits or (None, None)
        yield {
            "name": self.field,
            "inputs": [
                {"name": name, "label": label, "value": self.used_parameters.get(name, "")}
                for name, label in zip(self.names, ("From", "To"), strict=True)
            ],
            "low": low,
            "high": high,
            "unit": FIELDS[self.field].unit,
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


class SizeKnownFilter(admin.SimpleListFilter):
    title = "size known"
    parameter_name = "size__isnull"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("true", "Size missing"), ("false", "Size known")]

    def queryset(self, request: HttpRequest, queryset: QuerySet) -> QuerySet:
        return queryset.filter(size__isnull=self.value() == "true") if self.value() else queryset


class ChangedFilter(admin.SimpleListFilter):
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
