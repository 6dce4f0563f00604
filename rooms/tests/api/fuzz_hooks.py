"""
Hooks of schemathesis for rules outside of /openapi.json: dependent parameters, cursors, lengths of URLs.

JSON Schema says what one value may be. That a box must not be upside down or that `within` needs `near` is
beyond it, so a request that fits the document may be refused for these reasons, and for no other.
"""

from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData

from rooms.api import ogc
from rooms.columns import DEGREES, round_degrees

BEYOND_SCHEMAS = {
    "within": "needs a place",
    "bbox": "is upside down",
    "order": ("names ", "can name distance only"),
    "fields": ("names ", "can name distance only"),
    "after": ("is no cursor of this search", "is no cursor of the changes"),
    "before": ("is no cursor of this search", "cannot be combined with after"),
    "datetime": "names a time that does not exist",
    "since": ("must be a time with its offset", "is in the future", "cannot be given together with `after`"),
}
"""How the messages of those refusals begin, by the parameter that they are about."""


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """An empty object leaves no trace in an address: a request that it should spoil is a right one."""
    return {} not in (case.query or {}).values()


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """
    Without what spoils a right request its other parameters are tried, too: a cursor cannot be guessed, and
    of the two names that OGC API – Features has for a filter one may be given.
    """
    if case.meta and case.meta.generation.mode.is_positive and case.query:
        spoiling = {"after", "before", *(same for name, same in ogc.EQUALS.items() if name in case.query)}
        case.query = {name: value for name, value in case.query.items() if name not in spoiling}
    return case


def is_rounded_into_limits(value: Any) -> bool:
    """Whether a coordinate in the value is beyond its limit by no more than what is rounded off."""
    texts = value if isinstance(value, list) else str(value).split(",")
    numbers = [float(text) for text in map(str, texts) if DEGREES.pattern.fullmatch(text)]
    return any(
        limit < abs(number) and abs(round_degrees(number)) == limit
        for number in numbers
        for limit in (90, 180)
    )


def is_still_right(case: Any, name: str) -> bool:
    """Whether what was spoiled in a parameter is rounded off, or a number of a list as text."""
    value = case.query.get(name)
    texts = value if isinstance(value, list) else str(value).split(",")
    is_place = name in {"bbox", "near"} and all(DEGREES.pattern.fullmatch(str(text)) for text in texts)
    return is_place or is_rounded_into_limits(value)


@schemathesis.hook
def filter_failure(context: Any, failure: Failure, case: Any, response: Any) -> bool:
    """Whether the failure is one."""
    if not isinstance(failure, RejectedPositiveData | AcceptedNegativeData):
        return True
    if response.status_code in {414, 410}:  # refused for its length, or for a time before the history
        return False
    if response.status_code == 200 and isinstance(failure, AcceptedNegativeData):
        data = case.meta.phase.data
        spoiled = {data.parameter, *(mutation.parameter for mutation in data.mutations)} - {None}
        return not spoiled or not all(is_still_right(case, name) for name in spoiled)
    errors = response.json().get("errors", []) if response.status_code == 400 else []
    return not errors or not all(
        error["message"].startswith(BEYOND_SCHEMAS.get(error["parameter"], ())) for error in errors
    )
