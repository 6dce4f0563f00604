"""
A search: the parameters of a request, parsed and validated.

Parsing costs no query. It raises ParametersError with all the errors of the request, the closest known
name for each unknown one, and a query string that works.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict

from rooms.api import geo
from rooms.api.errors import UNKNOWN_FILTER, FieldError, ParametersError
from rooms.api.geo import Box, Condition, Near
from rooms.api.hints import hint_for, point_from_axes
from rooms.api.operators import FILTERS, PREFIX
from rooms.api.pagination import (
    DEFAULT_LIMIT,
    DEFAULT_ORDER,
    KEYS,
    MAX_LIMIT,
    NEAREST_FIRST,
    Order,
    read_cursor,
    write_cursor,
)
from rooms.columns import COLUMNS, WHOLE_NUMBER, OutOfRange, parse_value


@dataclass(frozen=True)
class Parameter:
    """One parameter beside the filters."""

    name: str
    description: str
    example: str
    schema: dict[str, Any]
    """JSON Schema of the value."""
    parse: Callable[[str], Any]
    needs: str = ""
    """Another parameter that this one requires."""


def tuple_schema(*items: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of a list with just these items."""
    return {"type": "array", "prefixItems": list(items), "minItems": len(items), "maxItems": len(items)}


def choice_parser(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return text

    return parse


LONGITUDE, LATITUDE = COLUMNS["longitude"].schema, COLUMNS["latitude"].schema

PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter(
            "bbox",
            "Rooms in a bounding box: minLon,minLat,maxLon,maxLat in degrees, edges included. "
            "A box with minLon above maxLon crosses the antimeridian.",
            "-0.2,51.4,0.3,51.8",
            tuple_schema(LONGITUDE, LATITUDE, LONGITUDE, LATITUDE),
            Box.parse,
        ),
        Parameter(
            "near",
            "Rooms around a place: lon,lat in degrees. Adds `distance` in metres (great circle) to each room "
            "and orders by it where `order` says nothing else.",
            "-0.1276,51.5072",
            tuple_schema(LONGITUDE, LATITUDE),
            Near.parse,
        ),
        Parameter(
            "within",
            f"How far from `near`, in metres; {geo.DEFAULT_WITHIN} where it is not given.",
            "5000",
            {"type": "integer", "minimum": 1, "maximum": geo.MAX_DISTANCE},
            lambda text: parse_value(text, WHOLE_NUMBER, (1, geo.MAX_DISTANCE)),
            needs="near",
        ),
        Parameter(
            "order",
            "Fields to sort by, the first first, - before a name for descending; rooms without a size "
            "count as the largest. The order of entry breaks ties.",
            "price,-size",
            {
                "type": "array",
                "items": {"enum": [f"{sign}{key}" for key in KEYS for sign in ("", "-")]},
                "minItems": 1,
            },
            str,
        ),
        Parameter(
            "limit",
            f"Rooms on a page; {DEFAULT_LIMIT} where it is not given, all of them in CSV and NDJSON.",
            "10",
            {"type": "integer", "minimum": 1, "maximum": MAX_LIMIT},
            lambda text: parse_value(text, WHOLE_NUMBER, (1, MAX_LIMIT)),
        ),
        Parameter(
            "after",
            "The cursor of the next page, as the Link header gives it; opaque.",
            "",
            {"type": "string"},
            str,
        ),
        Parameter(
            "count",
            "Counts the matching rooms in the header X-Total-Count; X-Total-Count-Precision says how: exact, "
            "or estimated by PostgreSQL's planner (exact where there are few).",
            "estimated",
            {"type": "string", "enum": ["exact", "estimated"]},
            choice_parser("exact", "estimated"),
        ),
    )
}

PARSERS: dict[str, Callable[[str], Any]] = {
    **{name: row.parse for name, row in FILTERS.items()},
    **{name: parameter.parse for name, parameter in PARAMETERS.items()},
}
WHERE = frozenset({*FILTERS, "bbox", "near", "within"})
"""The parameters that select rooms, as opposed to how they are listed."""

MAX_HINTS = 20
"""Unknown names of one request that get a hint; finding one takes up to 0.1 ms."""

MAX_NAME = 64
"""Characters of an unknown name that are repeated to the client; known names are half as long."""


@dataclass(frozen=True)
class Search:
    """Which rooms, in which order, how many at a time, from where on."""

    given: dict[str, str]
    """The parameters as text, unparsed."""
    conditions: tuple[Condition, ...] = ()
    near: Near | None = None
    order: Order = DEFAULT_ORDER
    limit: int | None = None
    after: tuple[str, ...] = ()
    count: str = ""

    @classmethod
    def parse(cls, query: QueryDict | str, allowed: Collection[str] = PARSERS.keys()) -> "Search":
        """The search of a query string. Raises ParametersError with all its errors."""
        query = QueryDict(query) if isinstance(query, str) else query
        search, errors = cls.parse_with_errors(query, allowed)
        if errors:
            hints = {error.parameter: error.hint for error in errors}
            raise ParametersError(errors, suggested_query(query, allowed, hints))
        return search

    @classmethod
    def parse_with_errors(
        cls, query: QueryDict, allowed: Collection[str]
    ) -> tuple["Search", list[FieldError]]:
        """The search of the valid parameters, and the errors of the others."""
        values: dict[str, Any] = {}
        errors: list[FieldError] = []
        for name, texts in query.lists():
            if name not in PARSERS:
                errors.append(unknown_parameter_error(name, allowed, len(errors) < MAX_HINTS))
            elif name not in allowed:
                errors.append(FieldError(name, "does not apply to this address"))
            elif len(texts) > 1:
                errors.append(FieldError(name, "is given twice"))
            else:
                try:
                    values[name] = PARSERS[name](texts[0])
                except ValueError as error:
                    errors.append(FieldError(name, str(error), limit_hint(name, error)))

        near: Near | None = values.get("near")
        if near and "within" in values:
            near = replace(near, within=values["within"])
        elif "within" in query and "within" in allowed and "near" not in query:
            errors.append(FieldError("within", "needs a place: near=lon,lat", "near"))
        order = NEAREST_FIRST if near else DEFAULT_ORDER
        if "order" in values:
            try:
                order = Order.parse(values["order"], "near" in query)
            except ValueError as error:
                errors.append(FieldError("order", str(error)))

        search = cls(
            {name: str(query[name]) for name in values},
            tuple(column_conditions(values)),
            near,
            order,
            values.get("limit"),
            count=values.get("count", ""),
        )
        if "after" in values and not errors:
            try:
                search = replace(search, after=tuple(read_cursor(values["after"], search.scope)))
            except ValueError as error:
                errors.append(FieldError("after", str(error)))
        return search, errors

    @property
    def scope(self) -> str:
        """What a cursor is valid for: the same rooms in the same order."""
        return urlencode(sorted((k, v) for k, v in self.given.items() if k in WHERE or k == "order"))

    def cursor(self, values: list[str]) -> str:
        """The cursor for the rooms behind the one with these sort values."""
        return write_cursor(values, self.scope)


def column_conditions(values: dict[str, Any]) -> Iterator[Condition]:
    """The SQL conditions of the filters and the bounding box."""
    for name, value in values.items():
        if name in FILTERS:
            yield FILTERS[name].sql, [value]
        elif name == "bbox":
            yield value.condition


def unknown_parameter_error(name: str, allowed: Collection[str], hinted: bool) -> FieldError:
    """The error for an unknown name, with a hint where the hint applies to this URL."""
    name = name[:MAX_NAME]
    message = UNKNOWN_FILTER if name.startswith(PREFIX) else "unknown parameter"
    hint = hint_for(name, PARAMETERS) if hinted else ""
    # A sentence about alternatives applies to lists only, which accept all parameters.
    applies = hint in allowed or (hint not in PARSERS and "limit" in allowed)
    return FieldError(name, message, hint if applies else "")


def limit_hint(name: str, error: ValueError) -> str:
    """`name=limit` for a value out of range; empty where the limit is no useful suggestion."""
    if not isinstance(error, OutOfRange):
        return ""
    if name in PARAMETERS and error.below:  # limit=0 does not mean limit=1
        return ""
    return f"{name}={error.limit}"


def suggested_query(query: QueryDict, allowed: Collection[str], hints: dict[str, str]) -> str:
    """
    The query string with its errors corrected where that can be guessed: the hint for an unknown name, the
    limit or an example for an invalid value, the first of repeated values.
    """
    suggestion: dict[str, str] = {}
    for name, texts in query.lists():
        meant = name if name in PARSERS else hints[name[:MAX_NAME]]
        if meant in allowed and meant not in suggestion:
            # No example for a renamed parameter: its value was written for another name.
            text = repair_value(meant, texts[0]) or (example_value(meant) if meant == name else "")
            if text:
                suggestion[meant] = text
    point = point_from_axes({name: texts[0] for name, texts in query.lists()})
    if point and "near" in allowed and "near" not in suggestion:
        suggestion["near"] = point
    # Parameters can be invalid in combination: `within` without `near`, a cursor of another search.
    while errors := Search.parse_with_errors(QueryDict(urlencode(suggestion)), allowed)[1]:
        for error in errors:
            del suggestion[error.parameter]
    return urlencode(suggestion, safe=",:")


def repair_value(name: str, text: str) -> str:
    """The valid part of a value: all of it, the valid items of a list, or the limit that it exceeds."""
    try:
        PARSERS[name](text)
    except ValueError as error:
        if name in FILTERS and FILTERS[name].operator.key == "in":
            return ",".join(FILTERS[name].valid_items(text))
        return limit_hint(name, error).rpartition("=")[2]
    return text


def example_value(name: str) -> str:
    return (FILTERS.get(name) or PARAMETERS[name]).example
