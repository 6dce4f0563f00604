"""The list of rooms: pagination, order and search, each fast with a million rooms."""

import re
from functools import cached_property
from typing import Any
from uuid import UUID

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import ORDER_VAR, SEARCH_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext

from rooms.admin.filters import PARAMETERS
from rooms.admin.list_filters import add_filter_error, filter_errors
from rooms.admin.map import map_context
from rooms.admin.numbers import grouped
from rooms.admin.place_filters import NearFilter
from rooms.columns import COLUMNS
from rooms.counting import MAX_COUNTED, Count, count_queryset
from rooms.imports.reader import quote
from rooms.models import Room
from rooms.pages.form import MAP

NEAREST_FIRST = ("distance", "pk")
"""The order of the rooms near a place."""


class RoomPaginator(Paginator):
    """
    Pages of the first MAX_COUNTED rooms: beyond, OFFSET would read all rooms before. Others are found by a
    filter, by a search, or in the opposite order.
    """

    @cached_property
    def count(self) -> Count:
        return count_queryset(self.object_list)  # type: ignore[arg-type]  # a query set

    @cached_property
    def num_pages(self) -> int:
        return min(super().num_pages, MAX_COUNTED // self.per_page)


class RoomChangeList(ChangeList):
    """Strict filters, orders that an index serves, and page numbers within the list."""

    def get_filters_params(self, params: dict[str, Any] | None = None) -> dict[str, Any]:
        found: dict[str, Any] = super().get_filters_params(params)
        found.pop(MAP, None)
        return found

    def get_filters(self, request: HttpRequest) -> Any:
        """An unknown or repeated parameter is a message in the list; Django responds with a bare 400."""
        for name, values in self.get_filters_params().items():
            if name not in PARAMETERS:
                del self.filter_params[name]
                known = ", ".join(sorted(PARAMETERS))
                message = gettext("The list has no filter %(name)s; there are %(known)s.")
                add_filter_error(request, message % {"name": quote(name), "known": known})
            elif len(values) > 1:
                add_filter_error(request, gettext("The filter %(name)s is given twice.") % {"name": name})
        if len(request.GET.getlist(SEARCH_VAR)) > 1:
            add_filter_error(request, gettext("Two searches are given at once."))
        return super().get_filters(request)

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet:
        queryset = super().get_queryset(request, *args, **kwargs)
        return queryset.none() if filter_errors(request) else queryset

    @property
    def map(self) -> dict[str, Any]:
        """The context of the map."""
        return map_context(self)

    @property
    def nearest_first(self) -> bool:
        """Whether rooms are in the order of their distance from a place where the URL says no order."""
        specs: list[Any] = self.filter_specs
        return any(isinstance(spec, NearFilter) and spec.nearest_first for spec in specs)

    @property
    def chips(self) -> list[tuple[str, str]]:
        """The search and the active filters in words, each with the URL of the list without it."""
        chips = [(f"“{self.query}”", self.get_query_string(remove=[SEARCH_VAR]))] if self.query else []
        specs: list[Any] = self.filter_specs
        for spec in specs:
            label = spec.chip()
            if label:
                names = [name for name in spec.expected_parameters() if name]
                chips.append((label, self.get_query_string(remove=names)))
        return chips

    def get_ordering(self, request: HttpRequest, queryset: QuerySet) -> list[Any]:
        """
        The requested order, then the primary key in the same direction, as in the indexes.

        Django appends the default order and `-pk`: `price, -updated_at, -id` needs a sort, `price, id` is
        read from the index.
        """
        if self.nearest_first and not self.params.get(ORDER_VAR):
            return [*NEAREST_FIRST]
        ordering = list(super().get_ordering(request, queryset.order_by()))
        if len(ordering) > 1 and ordering[-1] == "-pk" and not str(ordering[-2]).startswith("-"):
            ordering[-1] = "pk"
        return ordering

    def get_ordering_field_columns(self) -> Any:
        if self.nearest_first and not self.params.get(ORDER_VAR):
            return {}  # distance has no column
        return super().get_ordering_field_columns()

    def get_results(self, request: HttpRequest) -> None:
        """Show the last page for a number beyond it; Django would drop all filters instead."""
        try:
            super().get_results(request)
        except IncorrectLookupParameters:
            self.page_num = self.model_admin.get_paginator(
                request, self.queryset, self.list_per_page
            ).num_pages
            super().get_results(request)


# --- Search

MAX_TERMS = 10
MAX_VALUE = max(column.limits[1] for column in COLUMNS.values() if column.limits)
"""The greatest price or size; a greater number matches nothing."""

NUMBER = re.compile(r"(?P<number>[0-9]{1,7})(?P<unit>€|m²|m2)?", re.ASCII)
CODE_BEGINNING = re.compile(r"[0-9a-f]{1,32}", re.ASCII | re.IGNORECASE)


def term_condition(term: str) -> Q:
    """
    The condition of one search term: `66` a price or a size, `66€` a price, `50m²` a size,
    anything else the beginning of a code, with or without its dashes. Raises ValueError for other terms.

    Each is an index lookup. A number of up to seven digits is a price or size, never a code.
    """
    number = NUMBER.fullmatch(term)
    if number:
        value = min(int(number["number"]), MAX_VALUE + 1)
        conditions = {"€": Q(price=value), None: Q(price=value) | Q(size=value)}
        return conditions.get(number["unit"], Q(size=value))
    digits = term.replace("-", "")
    if not CODE_BEGINNING.fullmatch(digits):
        message = gettext(
            "“%(term)s” is neither a number nor the beginning of a code. "
            "Search for a price or size such as 66, 66€ or 50m², or for a code such as f853578c."
        )
        raise ValueError(message % {"term": term})
    return Q(code__range=(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))))


def apply_search(queryset: QuerySet[Room], text: str) -> QuerySet[Room]:
    """The rooms that match every term; ValueError for a term that is neither number nor code."""
    terms = text.split()
    if len(terms) > MAX_TERMS:
        message = gettext("A search takes %(limit)s words at most, not %(number)s.")
        raise ValueError(message % {"limit": MAX_TERMS, "number": grouped(len(terms))})
    for term in terms:
        queryset = queryset.filter(term_condition(term))
    return queryset
