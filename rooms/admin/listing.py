"""The list of rooms: its pages, its order and its search, each quick with a million rooms."""

import re
from functools import cached_property
from typing import Any
from uuid import UUID

from django.contrib.admin.options import IncorrectLookupParameters
from django.contrib.admin.views.main import SEARCH_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Q, QuerySet
from django.http import HttpRequest

from rooms.admin.list_filters import PARAMETERS, complain, complaints
from rooms.columns import COLUMNS
from rooms.counting import MAX_COUNTED, Count, count_queryset
from rooms.imports.reader import quote
from rooms.models import Room


class RoomPaginator(Paginator):
    """
    Pages of the first MAX_COUNTED rooms: beyond, OFFSET would read all rooms before. Others are found by a
    filter, by a search, or in the opposite order.
    """

    @cached_property
    def count(self) -> Count:
        return count_queryset(self.object_list)  # type: ignore[arg-type]

    @cached_property
    def num_pages(self) -> int:
        return min(super().num_pages, MAX_COUNTED // self.per_page)


class RoomChangeList(ChangeList):
    """Filters that are understood or refused, orders that an index serves, and pages that exist."""

    def get_filters(self, request: HttpRequest) -> Any:
        """A parameter that is unknown, or given twice, is a complaint of ours; Django answers a bare 400."""
        for name, values in self.get_filters_params().items():
            if name not in PARAMETERS:
                del self.filter_params[name]
                known = ", ".join(sorted(PARAMETERS))
                complain(request, f"The list has no filter {quote(name)}; there are {known}.")
            elif len(values) > 1:
                complain(request, f"The filter {name} is given twice.")
        if len(request.GET.getlist(SEARCH_VAR)) > 1:
            complain(request, "Two searches are given at once.")
        return super().get_filters(request)

    def get_queryset(self, request: HttpRequest, *args: Any, **kwargs: Any) -> QuerySet:
        queryset = super().get_queryset(request, *args, **kwargs)
        return queryset.none() if complaints(request) else queryset

    def get_ordering(self, request: HttpRequest, queryset: QuerySet) -> list[Any]:
        """
        The order asked for, completed by the key in the same direction, as the indexes are.

        Django completes an order by the default one and `-pk`: `price, -updated_at, -id` would be sorted,
        `price, id` is read.
        """
        ordering = list(super().get_ordering(request, queryset.order_by()))
        if len(ordering) > 1 and ordering[-1] == "-pk" and not str(ordering[-2]).startswith("-"):
            ordering[-1] = "pk"
        return ordering

    def get_results(self, request: HttpRequest) -> None:
        """A page beyond the last is the last; Django would drop all filters instead."""
        try:
            super().get_results(request)
        except IncorrectLookupParameters:
            self.page_num = self.model_admin.get_paginator(
                request, self.queryset, self.list_per_page
            ).num_pages
            super().get_results(request)


# --- Search

MAX_TERMS = 10
HIGHEST = max(column.limits[1] for column in COLUMNS.values() if column.limits)
"""No price or size is greater: a number that is matches nothing."""

NUMBER = re.compile(r"(?P<number>[0-9]{1,7})(?P<unit>€|m²|m2)?", re.ASCII)
CODE_BEGINNING = re.compile(r"[0-9a-f]{1,32}", re.ASCII | re.IGNORECASE)


def term_condition(term: str) -> Q:
    """
    The rooms that one word of a search means: `66` a price or a size, `66€` a price, `50m²` a size,
    anything else the beginning of a code, with or without its dashes. Raises ValueError for other words.

    Each is a look into an index. A number of up to seven digits is never taken for a code: prices and
    sizes end there.
    """
    number = NUMBER.fullmatch(term)
    if number:
        value = min(int(number["number"]), HIGHEST + 1)
        conditions = {"€": Q(price=value), None: Q(price=value) | Q(size=value)}
        return conditions.get(number["unit"], Q(size=value))
    digits = term.replace("-", "")
    if not CODE_BEGINNING.fullmatch(digits):
        raise ValueError(
            f"“{term}” is neither a number nor the beginning of a code. "
            "Search for a price or size such as 66, 66€ or 50m², or for a code such as f853578c."
        )
    return Q(code__range=(UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))))


def searched(queryset: QuerySet[Room], words: str) -> QuerySet[Room]:
    """The rooms that every word means; ValueError says which word means nothing."""
    terms = words.split()
    if len(terms) > MAX_TERMS:
        raise ValueError(f"A search takes {MAX_TERMS} words at most, not {len(terms):,}.")
    for term in terms:
        queryset = queryset.filter(term_condition(term))
    return queryset
