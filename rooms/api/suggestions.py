"""The query string that works, in the response to one that does not: its values repaired, or left out."""

from collections.abc import Callable, Collection
from urllib.parse import urlencode

from django.http import QueryDict

from rooms.api.errors import FieldError
from rooms.api.hints import point_from_axes
from rooms.api.operators import FILTERS
from rooms.api.pagination import FIELDS, KEYS
from rooms.api.parameters import LISTS, MAX_NAME, PARSERS, limit_hint


def suggested_query(
    query: QueryDict,
    allowed: Collection[str],
    hints: dict[str, str],
    errors_of: Callable[[QueryDict], list[FieldError]],
) -> str:
    """
    The query string with its errors corrected where that can be guessed, else left out. A value that its
    parameter accepts stays as it is; of several for one parameter the one under its own name. `hints` are by
    the names of the errors, and `errors_of` are those of another query.
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
    while errors := errors_of(QueryDict(urlencode(suggestion))):
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
    names = KEYS if parameter == "order" else FIELDS
    first: dict[str, str] = {}
    for word in text.split(","):
        name = word.removeprefix("-") if parameter == "order" else word
        if name in names:
            first.setdefault(name, word)
    return ",".join(first.values())
