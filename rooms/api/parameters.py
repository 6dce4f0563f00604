"""
A search: the parameters of a request, parsed and validated.

Parsing costs no query. It raises ParametersError with all the errors of the request, the closest known
name for each unknown one, and a query string that works.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict

from rooms.api import geo
from rooms.api.conditions import Condition, Term
from rooms.api.errors import UNKNOWN_FILTER, FieldError, ParametersError
from rooms.api.geo import WORLD, Box, Near
from rooms.api.grid import MAX_ZOOM
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
    """JSON Schema of a list with just these items; generators of clients need `items` beside them."""
    return {
        "type": "array",
        "prefixItems": list(items),
        "items": {"type": "number"},
        "minItems": len(items),
        "maxItems": len(items),
    }


def choice_parser(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return text

    return parse


def parse_fields(text: str) -> tuple[str, ...]:
    """The names in `code,price`; ValueError with a message for the client."""
    names = tuple(text.split(","))
    unknown = next((name for name in names if name not in KEYS), None)
    if unknown is not None:
        raise ValueError(f"must name fields out of {', '.join(COLUMNS)}; with near also distance")
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise ValueError(f"names {twice} twice")
    return names


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
            "A place: lon,lat in degrees. Adds `distance` in metres (great circle) to each room and orders "
            "by it, nearest first, where `order` says nothing else. Rooms match however far they are, unless "
            "`within` is given.",
            "-0.1276,51.5072",
            tuple_schema(LONGITUDE, LATITUDE),
            Near.parse,
        ),
        Parameter(
            "within",
            "Rooms at most so far from `near`, in metres.",
            "5000",
            {"type": "integer", "minimum": 1, "maximum": geo.MAX_DISTANCE},
            lambda text: parse_value(text, WHOLE_NUMBER, (1, geo.MAX_DISTANCE)),
            needs="near",
        ),
        Parameter(
            "order",
            "Fields to sort by, the first first, - before a name for descending; rooms without a size "
            "come last in both directions. The order of entry breaks ties, in the direction of the last "
            "field.",
            "price,-size",
            {
                "type": "array",
                "items": {"type": "string", "enum": [f"{sign}{key}" for key in KEYS for sign in ("", "-")]},
                "minItems": 1,
            },
            Order.parse,
        ),
        Parameter(
            "fields",
            "The fields of each room, in this order; all of them where it is not given. A GeoJSON feature "
            "has its id and its point besides.",
            "code,price",
            {"type": "array", "items": {"type": "string", "enum": list(KEYS)}, "minItems": 1},
            parse_fields,
        ),
        Parameter(
            "limit",
            f"Rooms on a page; {DEFAULT_LIMIT} where it is not given, "
            "all of them in CSV, NDJSON and GeoJSON. HTML shows 100 at most.",
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
            "before",
            "The cursor of the previous page, as the Link header gives it; opaque.",
            "",
            {"type": "string"},
            str,
        ),
        Parameter(
            "count",
            "Counts the matching rooms in the header X-Total-Count; X-Total-Count-Precision says how: exact, "
            "or estimated from a sample to within 10 %, where they are more than about 10,000. `exact` is "
            "refused where it would read too many rooms.",
            "estimated",
            {"type": "string", "enum": ["exact", "estimated"]},
            choice_parser("exact", "estimated"),
        ),
        Parameter(
            "zoom",
            "How close the map is, as in maps on the web: a cell is a quarter of a tile wide, 64 pixels. "
            "Cells are larger where there would be more than about 500, and as small as that without it.",
            "11",
            {"type": "integer", "minimum": 0, "maximum": MAX_ZOOM},
            lambda text: parse_value(text, WHOLE_NUMBER, (0, MAX_ZOOM)),
        ),
    )
}

PARSERS: dict[str, Callable[[str], Any]] = {
    **{name: row.parse for name, row in FILTERS.items()},
    **{name: parameter.parse for name, parameter in PARAMETERS.items()},
}
LISTS = frozenset(
    {name for name, row in FILTERS.items() if row.schema["type"] == "array"}
    | {name for name, parameter in PARAMETERS.items() if parameter.schema["type"] == "array"}
)
"""The parameters with several values, separated by commas or each under the name again."""
WHERE = frozenset({*FILTERS, "bbox", "near", "within"})
"""The parameters that select rooms, as opposed to how they are listed."""
MAPPED = WHERE | {"zoom"}
"""The parameters of /rooms/clusters."""
LISTED = PARSERS.keys() - {"zoom"}
"""The parameters of the lists."""

MAX_HINTS = 20
"""Unknown names of one request that get a hint; finding one takes up to 0.1 ms."""

MAX_NAME = 64
"""Characters of an unknown name that are repeated to the client; known names are half as long."""


def parse_each(
    query: QueryDict,
    parsers: Mapping[str, Callable[[str], Any]],
    allowed: Collection[str],
    unknown: Callable[[str, bool], FieldError],
) -> tuple[dict[str, str], dict[str, Any], list[FieldError]]:
    """
    The texts and the values of the valid parameters, and the errors of the others. `unknown` makes the error
    of a name without a parser; its second argument is whether it may look for a hint.
    """
    given: dict[str, str] = {}
    values: dict[str, Any] = {}
    errors: list[FieldError] = []
    for name, texts in query.lists():
        if name not in parsers:
            errors.append(unknown(name[:MAX_NAME], len(errors) < MAX_HINTS))
        elif name not in allowed:
            errors.append(FieldError(name, "does not apply to this address"))
        elif len(texts) > 1 and name not in LISTS:
            errors.append(FieldError(name, "is given twice"))
        else:
            text = ",".join(texts)
            try:
                values[name] = parsers[name](text)
                given[name] = text
            except ValueError as error:
                errors.append(FieldError(name, str(error), limit_hint(name, error)))
    return given, values, errors


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
    def parse(cls, query: QueryDict | str, allowed: Collection[str] = LISTED) -> "Search":
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

    @property
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


def unknown_parameter_error(name: str, allowed: Collection[str], hinted: bool) -> FieldError:
    """The error for an unknown name, with a hint where the hint applies to this URL."""
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
    The query string with its errors corrected where that can be guessed, else left out. A value that its
    parameter accepts stays as it is; of several for one parameter the one under its own name.
    """
    suggestion: dict[str, str] = {}
    for name, texts in query.lists():
        meant = name if name in PARSERS else hints[name[:MAX_NAME]]
        text = repair_values(meant, texts) if meant in allowed else ""
        if text and (name == meant or meant not in suggestion):
            suggestion[meant] = text
    point = point_from_axes({name: texts[0] for name, texts in query.lists()})
    if point and "near" in allowed and "near" not in suggestion:
        suggestion["near"] = point
    # Parameters can be invalid in combination: `within` without `near`, a cursor of another search.
    while errors := Search.parse_with_errors(QueryDict(urlencode(suggestion)), allowed)[1]:
        for error in errors:
            text = suggestion.pop(error.parameter)
            rest = [word for word in text.split(",") if word.removeprefix("-") != "distance"]
            if error.parameter in {"order", "fields"} and rest:
                suggestion[error.parameter] = ",".join(rest)
    return urlencode(suggestion, safe=",:")


def repair_values(name: str, texts: list[str]) -> str:
    """
    What of the texts the parameter accepts: of a list all of them together, else the first whole one; where
    there is none, the valid part of the first that has any.
    """
    if name in LISTS:
        candidates = [",".join(texts), *texts]
    else:
        candidates = sorted(texts, key=lambda text: repair_value(name, text) != text)
    return next(filter(None, (repair_value(name, text) for text in candidates)), "")


def repair_value(name: str, text: str) -> str:
    """The valid part of a value: all of it, the valid items of a list, or the limit that it exceeds."""
    try:
        PARSERS[name](text)
    except ValueError as error:
        if name in FILTERS and FILTERS[name].operator.key == "in":
            return ",".join(FILTERS[name].valid_items(text))
        if name in {"order", "fields"}:
            return valid_names(name, text)
        return limit_hint(name, error).rpartition("=")[2]
    return text


def valid_names(parameter: str, text: str) -> str:
    """The fields in a text of `order` or `fields` that the parameter accepts, each once."""
    first: dict[str, str] = {}
    for word in text.split(","):
        name = word.removeprefix("-") if parameter == "order" else word
        if name in KEYS:
            first.setdefault(name, word)
    return ",".join(first.values())
