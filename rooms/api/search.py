"""
A search: the parameters of a request, parsed and validated.

Parsing costs no query. It raises ParametersError with all the errors of the request, the closest known
name for each unknown one, and a query string that works.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import urlencode

from django.http import HttpRequest, QueryDict

from rooms.api.conditions import Condition, Term
from rooms.api.errors import FieldError, ParametersError
from rooms.api.geo import WORLD, Box, Near
from rooms.api.operators import FILTERS
from rooms.api.pagination import DEFAULT_ORDER, NEAREST_FIRST, Order, read_cursor, write_cursor
from rooms.api.parameters import LISTED, PARSERS, WHERE, parse_each, unknown_parameter_error
from rooms.api.suggestions import suggested_query

WITH_CURSOR = re.compile("after=|before=")


@dataclass(frozen=True)
class Search:
    """Which rooms, in which order, how many at a time, from where on."""

    given: dict[str, str]
    """The parameters as text, unparsed; a list that came as repeated names is joined by commas."""
    terms: tuple[Term, ...] = ()
    boxes: tuple[Box, ...] | None = None
    """Boxes that contain all the rooms, none across the antimeridian; None where an axis has no bounds."""
    near: Near | None = None
    order: Order = DEFAULT_ORDER
    limit: int | None = None
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    count: str = ""
    fields: tuple[str, ...] = ()
    """The names of what a response has of each room; empty for all."""

    @classmethod
    def of(cls, request: HttpRequest, allowed: Collection[str] = LISTED) -> "Search":
        """The search of a request. Programs repeat theirs: those without a cursor are parsed once."""
        query = request.META["QUERY_STRING"]
        if query.isascii() and not WITH_CURSOR.search(query):
            return parsed(query, frozenset(allowed))
        return cls.parse(request.GET, allowed)

    @classmethod
    def parse(cls, query: QueryDict | str, allowed: Collection[str] = LISTED) -> "Search":
        """The search of a query string. Raises ParametersError with all its errors."""
        query = QueryDict(query) if isinstance(query, str) else query
        if not query:
            return ALL_ROOMS
        search, errors = cls.parse_with_errors(query, allowed)
        if errors:
            hints = {error.parameter: error.hint for error in errors}
            suggestion = suggested_query(
                query, allowed, hints, lambda other: cls.parse_with_errors(other, allowed)[1]
            )
            raise ParametersError(errors, suggestion)
        return search

    @classmethod
    def parse_with_errors(
        cls, query: QueryDict, allowed: Collection[str]
    ) -> tuple["Search", list[FieldError]]:
        """The search of the valid parameters, and the errors of the others."""
        given, values, errors = parse_each(
            query, PARSERS, allowed, lambda name, hinted: unknown_parameter_error(name, allowed, hinted)
        )
        near: Near | None = values.get("near")
        if near and "within" in values:
            near = replace(near, within=values["within"])
        elif "within" in query and "within" in allowed and "near" not in query:
            errors.append(FieldError("within", "needs a place: near=lon,lat", "near"))
        order: Order = values.get("order", NEAREST_FIRST if near else DEFAULT_ORDER)
        fields: tuple[str, ...] = values.get("fields", ())
        for name, names in (("order", [key.name for key in order.keys]), ("fields", fields)):
            if "distance" in names and "near" not in query:
                errors.append(FieldError(name, "can name distance only together with near=lon,lat"))
        if "after" in values and "before" in values:
            errors.append(FieldError("before", "cannot be combined with after"))

        search = cls(
            given,
            tuple(column_terms(values)),
            bounding_boxes(values, near),
            near,
            order,
            values.get("limit"),
            count=values.get("count", ""),
            fields=fields,
        )
        cursors: dict[str, tuple[str, ...]] = {}
        for name in ("after", "before"):
            if name in values and not errors:
                try:
                    cursors[name] = tuple(read_cursor(values[name], search.scope))
                except ValueError as error:
                    errors.append(FieldError(name, str(error)))
        if cursors:
            search = replace(search, after=cursors.get("after", ()), before=cursors.get("before", ()))
        return search, errors

    @property
    def conditions(self) -> list[Condition]:
        return [term.condition for term in self.terms]

    @property
    def where(self) -> dict[str, str]:
        """The parameters that select rooms, as text."""
        return {name: text for name, text in self.given.items() if name in WHERE}

    @cached_property
    def scope(self) -> str:
        """What a cursor is valid for: the same rooms in the same order."""
        return urlencode(sorted((k, v) for k, v in self.given.items() if k in WHERE or k == "order"))

    @property
    def reading_order(self) -> Order:
        """The order in which a page is read: backwards where it ends before a cursor."""
        return self.order.backwards if self.before else self.order

    @property
    def cursor_values(self) -> tuple[str, ...]:
        """The sort values of the room that the page is read from."""
        return self.after or self.before

    def without_cursor(self) -> dict[str, str]:
        """The parameters as text from the first page on."""
        return {name: text for name, text in self.given.items() if name not in {"after", "before"}}

    def cursor(self, values: list[str]) -> str:
        """The cursor of the room with these sort values, for the rooms behind or before it."""
        return write_cursor(values, self.scope)


@lru_cache(500)
def parsed(query: str, allowed: Collection[str]) -> Search:
    return Search.parse(query, allowed)


ALL_ROOMS = Search({})
"""The search without parameters."""


def column_terms(values: dict[str, Any]) -> Iterator[Term]:
    """The conditions of the filters and the bounding box."""
    for name, value in values.items():
        if name in FILTERS:
            yield FILTERS[name].term(value)
        elif name == "bbox":
            yield from value.terms


def bounding_boxes(values: dict[str, Any], near: Near | None) -> tuple[Box, ...] | None:
    """What `bbox`, `near` and the filters on coordinates have in common; None where an axis has no bound."""
    sides: dict[str, list[tuple[str, float]]] = {"latitude": [], "longitude": []}
    for name, value in values.items():
        if name in FILTERS and FILTERS[name].column.name in sides:
            operator = FILTERS[name].operator
            if operator.bound:
                sides[FILTERS[name].column.name].append((operator.bound, value))
            elif operator.key == "eq":
                sides[FILTERS[name].column.name] += [(">", value), ("<", value)]
    given = [values["bbox"]] if "bbox" in values else []
    if near and near.within:
        given.append(near.box)
    boxes = [WORLD]
    for whole in given:
        boxes = [common for box in boxes for half in whole.halves if (common := box.overlap(half))]
    bounded = bool(given) or all(sides.values())
    if bounded:
        limit = Box(
            max((value for sign, value in sides["longitude"] if sign == ">"), default=WORLD.west),
            max((value for sign, value in sides["latitude"] if sign == ">"), default=WORLD.south),
            min((value for sign, value in sides["longitude"] if sign == "<"), default=WORLD.east),
            min((value for sign, value in sides["latitude"] if sign == "<"), default=WORLD.north),
        )
        boxes = [common for box in boxes if (common := box.overlap(limit))]
    return tuple(boxes) if bounded else None
