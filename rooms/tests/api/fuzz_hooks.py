"""
Hooks of schemathesis for rules outside of /openapi.json: dependent parameters, cursors, lengths of URLs.

JSON Schema says what one value may be. That a box must not be upside down or that `within` needs `near` is
beyond it, so a request that fits the document may be refused for these reasons, and for no other.
"""

from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure
from schemathesis.openapi.checks import RejectedPositiveData

BEYOND_SCHEMAS = {
    "within": "needs a place",
    "bbox": "is upside down",
    "order": ("names ", "can name distance only"),
    "fields": ("names ", "can name distance only"),
    "after": ("is no cursor of this search", "is no cursor of the changes"),
    "before": ("is no cursor of this search", "cannot be combined with after"),
    "since": ("must be a time with its offset", "is in the future", "cannot be given together with `after`"),
}
"""How the messages of those refusals begin, by the parameter that they are about."""


@schemathesis.hook
def filter_case(context: Any, case: Any) -> bool:
    """An empty object leaves no trace in an address: a request that it should spoil is a right one."""
    return {} not in (case.query or {}).values()


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """A cursor cannot be guessed: without one the request's other parameters are tried, too."""
    if case.meta and case.meta.generation.mode.is_positive and case.query:
        case.query = {name: value for name, value in case.query.items() if name not in {"after", "before"}}
    return case


@schemathesis.hook
def filter_failure(context: Any, failure: Failure, case: Any, response: Any) -> bool:
    """Whether the failure is one."""
    if not isinstance(failure, RejectedPositiveData | AcceptedNegativeData):
        return True
    if response.status_code in {414, 410}:  # refused for its length, or for a time before the history
        return False
    errors = response.json()["errors"] if response.status_code == 400 else []
    return not errors or not all(
        error["message"].startswith(BEYOND_SCHEMAS.get(error["parameter"], ())) for error in errors
    )
