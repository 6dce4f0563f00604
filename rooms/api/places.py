"""Completing the names of places while they are typed."""

import re
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict

from rooms.api.errors import FieldError, ParametersError
from rooms.api.parameters import PARSERS, Parameter, parse_each
from rooms.places.gazetteer import gazetteer

MAX_NAME = 100
"""Characters of a place's name, the longest of which has 58, and of its city, region or country."""


VISIBLE = r"^[^\u0000]*[^\u0000-\u0020\u007f-\u00a0][^\u0000]*$"
"""A text that is not all spaces and control characters: the same for Python and for JSON Schema."""


def parse_beginning(text: str) -> str:
    """The text; ValueError with a message for the client."""
    if not re.search(VISIBLE, text) or len(text) > MAX_NAME:
        raise ValueError(f"must be the beginning of a place's name, 1 to {MAX_NAME} characters")
    return text


QUERY = Parameter(
    "q",
    "The beginning of a place's name, in any case and without regard to accents; after a comma the city, "
    "region or country, or its beginning.",
    "gràcia, barc",
    {"type": "string", "minLength": 1, "maxLength": MAX_NAME, "pattern": VISIBLE},
    parse_beginning,
)


def complete(query: QueryDict) -> list[dict[str, Any]]:
    """The places of a query string, eight at most. Raises ParametersError with all its errors."""
    parsers = PARSERS | {QUERY.name: QUERY.parse}
    _, values, errors = parse_each(query, parsers, {QUERY.name}, unknown_parameter_error)
    if QUERY.name not in query:
        errors.append(FieldError(QUERY.name, "is needed: the beginning of a place's name", "q=gra"))
    if errors:
        given = query.get(QUERY.name, "").strip()[:MAX_NAME]
        raise ParametersError(errors, urlencode({QUERY.name: values.get(QUERY.name, given) or "gra"}))
    return [
        {
            "name": place.full,
            "latitude": place.latitude,
            "longitude": place.longitude,
            "within": place.radius,
            "population": place.population,
        }
        for place in gazetteer().complete(values[QUERY.name])
    ]


def unknown_parameter_error(name: str, hinted: bool) -> FieldError:
    return FieldError(name, "unknown parameter", QUERY.name if hinted else "")
