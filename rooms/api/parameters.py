"""
A search: everything that the parameters of a request ask for, read once, checked at once, typed.

Parsing costs no query. It raises ParametersError with every mistake of the request, the nearest known
name for each unknown one, and an address that works where one can be guessed.
"""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from django.http import QueryDict

from rooms.api import geo
from rooms.api.errors import UNKNOWN_FILTER, Mistake, ParametersError
from rooms.api.geo import Box, Condition, Near
from rooms.api.hints import hint_for, place_of
from rooms.api.operators import FILTERS, PREFIX
from rooms.api.pagination import (
    DEFAULT_LIMIT,
    FIRST_COME,
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
    """Another parameter without which it says nothing."""


def tuple_of(*items: dict[str, Any]) -> dict[str, Any]:
    """JSON Schema of a list with just these items."""
    return {"type": "array", "prefixItems": list(items), "minItems": len(items), "maxItems": len(items)}


def one_of(*choices: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"must be {' or '.join(choices)}")
        return text

    return read


LONGITUDE, LATITUDE = COLUMNS["longitude"].schema, COLUMNS["latitude"].schema

PARAMETERS = {
    parameter.name: parameter
    for parameter in (
        Parameter(
            "bbox",
            "Rooms in a bounding box: minLon,minLat,maxLon,maxLat in degrees, edges included. "
            "A box with minLon above maxLon crosses the antimeridian.",
            "-0.2,51.4,0.3,51.8",
            tuple_of(LONGITUDE, LATITUDE, LONGITUDE, LATITUDE),
            Box.parse,
        ),
        Parameter(
            "near",
            "Rooms around a place: lon,lat in degrees. Adds `distance` in metres (great circle) to each room "
            "and orders by it where `order` says nothing else.",
            "-0.1276,51.5072",
            tuple_of(LONGITUDE, LATITUDE),
            Near.parse,
        ),
        Parameter(
            "within",
            f"How far from `near`, in metres; {geo.DEFAULT_WITHIN} where it is not given.",
            "5000",
            {"type": "integer", "minimum": 1, "maximum": geo.FARTHEST},
            lambda text: parse_value(text, WHOLE_NUMBER, (1, geo.FARTHEST)),
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
            one_of("exact", "estimated"),
        ),
    )
}

READERS: dict[str, Callable[[str], Any]] = {
    **{name: row.parse for name, row in FILTERS.items()},
    **{name: parameter.parse for name, parameter in PARAMETERS.items()},
}
WHERE = frozenset({*FILTERS, "bbox", "near", "within"})
"""The parameters that say which rooms, as opposed to how they are listed."""

MAX_HINTS = 20
"""Unknown names of one request that get a hint; to find one takes up to 0.1 ms."""

MAX_NAME = 64
"""Characters of an unknown name that are repeated to the client; known names are half as long."""


@dataclass(frozen=True)
class Search:
    """Which rooms, in which order, how many at a time, from where on."""

    given: dict[str, str]
    """The parameters as they were written."""
    conditions: tuple[Condition, ...] = ()
    near: Near | None = None
    order: Order = FIRST_COME
    limit: int | None = None
    after: tuple[str, ...] = ()
    count: str = ""

    @classmethod
    def parse(cls, query: QueryDict | str, allowed: Collection[str] = READERS.keys()) -> "Search":
        """The search that a query string asks for. Raises ParametersError with all that is wrong with it."""
        query = QueryDict(query) if isinstance(query, str) else query
        search, mistakes = cls.read(query, allowed)
        if mistakes:
            hints = {mistake.parameter: mistake.hint for mistake in mistakes}
            raise ParametersError(mistakes, mended(query, allowed, hints))
        return search

    @classmethod
    def read(cls, query: QueryDict, allowed: Collection[str]) -> tuple["Search", list[Mistake]]:
        """The search that the sound parameters ask for, and what is wrong with the others."""
        values: dict[str, Any] = {}
        mistakes: list[Mistake] = []
        for name, texts in query.lists():
            if name not in READERS:
                mistakes.append(unknown(name, allowed, len(mistakes) < MAX_HINTS))
            elif name not in allowed:
                mistakes.append(Mistake(name, "does not apply to this address"))
            elif len(texts) > 1:
                mistakes.append(Mistake(name, "is given twice"))
            else:
                try:
                    values[name] = READERS[name](texts[0])
                except ValueError as error:
                    mistakes.append(Mistake(name, str(error), in_range(name, error)))

        near: Near | None = values.get("near")
        if near and "within" in values:
            near = replace(near, within=values["within"])
        elif "within" in query and "within" in allowed and "near" not in query:
            mistakes.append(Mistake("within", "needs a place: near=lon,lat", "near"))
        order = NEAREST_FIRST if near else FIRST_COME
        if "order" in values:
            try:
                order = Order.parse(values["order"], "near" in query)
            except ValueError as error:
                mistakes.append(Mistake("order", str(error)))

        search = cls(
            {name: str(query[name]) for name in values},
            tuple(conditions(values)),
            near,
            order,
            values.get("limit"),
            count=values.get("count", ""),
        )
        if "after" in values and not mistakes:
            try:
                search = replace(search, after=tuple(read_cursor(values["after"], search.scope)))
            except ValueError as error:
                mistakes.append(Mistake("after", str(error)))
        return search, mistakes

    @property
    def scope(self) -> str:
        """What a cursor belongs to: which rooms, and in which order."""
        return urlencode(sorted((k, v) for k, v in self.given.items() if k in WHERE or k == "order"))

    def cursor(self, values: list[str]) -> str:
        """The cursor for the rooms behind the one with these sort values."""
        return write_cursor(values, self.scope)


def conditions(values: dict[str, Any]) -> Iterator[Condition]:
    """What these values ask of a room's columns."""
    for name, value in values.items():
        if name in FILTERS:
            yield FILTERS[name].sql, [value]
        elif name == "bbox":
            yield value.condition


def unknown(name: str, allowed: Collection[str], hinted: bool) -> Mistake:
    """The mistake of a name that nobody knows, with a hint where one applies to this address."""
    name = name[:MAX_NAME]
    message = UNKNOWN_FILTER if name.startswith(PREFIX) else "unknown parameter"
    hint = hint_for(name, PARAMETERS) if hinted else ""
    # What there is instead of a parameter is said of lists, which take them all.
    applies = hint in allowed or (hint not in READERS and "limit" in allowed)
    return Mistake(name, message, hint if applies else "")


def in_range(name: str, error: ValueError) -> str:
    """The parameter with the limit that its value was beyond; empty where no limit is a good guess."""
    if not isinstance(error, OutOfRange):
        return ""
    if name in PARAMETERS and error.below:  # nobody means 1 by a limit of 0
        return ""
    return f"{name}={error.limit}"


def mended(query: QueryDict, allowed: Collection[str], hints: dict[str, str]) -> str:
    """
    The query string with its mistakes mended, as far as they can be guessed: the name that was meant for
    an unknown one, the limit or an example for a value that cannot be read, the first of two values.
    """
    guess: dict[str, str] = {}
    for name, texts in query.lists():
        meant = name if name in READERS else hints[name[:MAX_NAME]]
        if meant in allowed and meant not in guess:
            # An example in place of a value that was meant for another name would be a guess on a guess.
            text = readable(meant, texts[0]) or (example(meant) if meant == name else "")
            if text:
                guess[meant] = text
    place = place_of({name: texts[0] for name, texts in query.lists()})
    if place and "near" in allowed and "near" not in guess:
        guess["near"] = place
    # What is left may be wrong together with others: `within` without `near`, a cursor of another search.
    while mistakes := Search.read(QueryDict(urlencode(guess)), allowed)[1]:
        for mistake in mistakes:
            del guess[mistake.parameter]
    return urlencode(guess, safe=",:")


def readable(name: str, text: str) -> str:
    """What the parameter can read of a value: all of it, its sound items, or the limit that it was beyond."""
    try:
        READERS[name](text)
    except ValueError as error:
        if name in FILTERS and FILTERS[name].operator.key == "in":
            return ",".join(FILTERS[name].sound(text))
        return in_range(name, error).rpartition("=")[2]
    return text


def example(name: str) -> str:
    return (FILTERS.get(name) or PARAMETERS[name]).example
