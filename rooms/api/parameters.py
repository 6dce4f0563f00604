"""The parameters of requests: their names, descriptions, schemas and parsers, and the errors of each."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from django.http import QueryDict

from rooms.api import geo
from rooms.api.errors import UNKNOWN_FILTER, FieldError
from rooms.api.geo import Box, Near
from rooms.api.grid import MAX_ZOOM
from rooms.api.hints import hint_for
from rooms.api.operators import FILTERS, PREFIX
from rooms.api.pagination import DEFAULT_LIMIT, FIELDS, KEYS, MAX_LIMIT, RATE, Order
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
    unknown = next((name for name in names if name not in FIELDS), None)
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
            f"come last in both directions. {RATE} is the price divided by the size. The order of entry "
            "breaks ties, in the direction of the last field.",
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
            {"type": "array", "items": {"type": "string", "enum": list(FIELDS)}, "minItems": 1},
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
LISTED = frozenset(PARSERS.keys() - {"zoom"})
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
