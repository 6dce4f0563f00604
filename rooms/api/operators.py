"""
The filter vocabulary, written once: which fields there are, which operators they take, how a value is
written. The API, the HTML form, the command line, the admin, the OpenAPI document and /docs read it here.

A filter is `filter_<field>__<operator>=value`, as in `filter_price__lt=66`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from uuid import UUID

from rooms import models

PREFIX = "filter_"

MAX_LISTED = 100
"""Values that `in` takes."""


@dataclass(frozen=True)
class Operator:
    """One way to compare a field with a value."""

    key: str
    words: str
    """For people, between a field's name and a value: "price is less than 66"."""
    sql: str
    """The condition, with `{}` for the column and one placeholder for the value."""


OPERATORS = {
    operator.key: operator
    for operator in (
        Operator("eq", "is", "{} = %s"),
        Operator("ne", "is not", "{} <> %s"),
        Operator("lt", "is less than", "{} < %s"),
        Operator("lte", "is at most", "{} <= %s"),
        Operator("gt", "is greater than", "{} > %s"),
        Operator("gte", "is at least", "{} >= %s"),
        Operator("in", "is one of", "{} = ANY(%s)"),
        Operator("isnull", "is unknown", "({} IS NULL) = %s"),
    )
}


@dataclass(frozen=True)
class Kind:
    """A type of value: how it is written in a request, and what it becomes."""

    words: str
    pattern: re.Pattern[str]
    convert: Callable[[str], Any]
    sql_type: str
    schema: dict[str, Any]
    """The same in JSON Schema, without limits."""


# Python's own parsers are too kind: int() takes " 1_000 " and Arabic digits, float() takes "nan".
WHOLE_NUMBER = Kind(
    "a whole number", re.compile(r"-?[0-9]{1,19}", re.ASCII), int, "integer", {"type": "integer"}
)
DEGREES = Kind(
    "a decimal number",
    re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?", re.ASCII),
    lambda text: models.rounded(float(text)),
    "double precision",
    {"type": "number"},
)
CODE = Kind(
    "a UUID such as f853578c-fc0f-4e65-81b8-566c5dffa35a",
    re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE),
    lambda text: str(UUID(text)),
    "uuid",
    {"type": "string", "format": "uuid"},
)
YES_NO = Kind(
    "true or false", re.compile("true|false"), lambda text: text == "true", "boolean", {"type": "boolean"}
)


class OutOfRange(ValueError):
    """A value that can be read, but lies beyond the limits."""

    def __init__(self, value: float, limits: tuple[float, float]) -> None:
        super().__init__(f"must be from {limits[0]} to {limits[1]}")
        self.below = value < limits[0]
        self.limit = limits[0] if self.below else limits[1]


def parse(text: str, kind: Kind, limits: tuple[float, float] | None = None) -> Any:
    """
    The value that `text` writes, of the kind's Python type (int, float, str of a UUID, bool).

    Raises ValueError, with words for people, for anything but the canonical form and beyond the limits.
    """
    if not kind.pattern.fullmatch(text):
        raise ValueError(f"must be {kind.words}")
    value = kind.convert(text)
    if limits and not limits[0] <= value <= limits[1]:
        raise OutOfRange(value, limits)
    return value


ORDERED = ("eq", "ne", "lt", "lte", "gt", "gte", "in")
UNORDERED = ("eq", "ne", "in")


@dataclass(frozen=True)
class Field:
    """One column of the room that requests may name."""

    name: str
    kind: Kind
    words: str
    example: str
    operators: tuple[str, ...]
    limits: tuple[int, int] | None = None
    unit: str = ""
    order_sql: str = ""
    """What the rooms are sorted by, never null; the column itself where nothing else is said."""

    @property
    def nullable(self) -> bool:
        return "isnull" in self.operators

    @property
    def column(self) -> str:
        return f"room.{self.name}"

    @property
    def sort_key(self) -> str:
        return self.order_sql or self.column

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of a value."""
        low_high = {"minimum": self.limits[0], "maximum": self.limits[1]} if self.limits else {}
        return self.kind.schema | low_high

    def parse(self, text: str) -> Any:
        """The field's value that `text` writes; ValueError says what is wrong with it."""
        return parse(text, self.kind, self.limits)

    def reads(self, text: str) -> bool:
        try:
            self.parse(text)
        except ValueError:
            return False
        return True


FIELDS = {
    field.name: field
    for field in (
        Field("code", CODE, "the room's public name", "f853578c-fc0f-4e65-81b8-566c5dffa35a", UNORDERED),
        Field(
            "size",
            WHOLE_NUMBER,
            "the area, which may be unknown",
            "50",
            (*ORDERED, "isnull"),
            models.SIZE_LIMITS,
            "m²",
            f"coalesce(room.size, {models.UNKNOWN_SIZE})",
        ),
        Field("price", WHOLE_NUMBER, "the rent", "66", ORDERED, models.PRICE_LIMITS, "euros per day"),
        Field(
            "latitude", DEGREES, "how far north", "51.5", ORDERED, models.LATITUDE_LIMITS, "degrees, WGS 84"
        ),
        Field(
            "longitude", DEGREES, "how far east", "-0.1", ORDERED, models.LONGITUDE_LIMITS, "degrees, WGS 84"
        ),
    )
}


@dataclass(frozen=True)
class Filter:
    """One field with one of its operators: what a request may ask, as `filter_price__lt`."""

    field: Field
    operator: Operator

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.field.name}__{self.operator.key}"

    @property
    def words(self) -> str:
        return f"{self.field.name} {self.operator.words}"

    @property
    def example(self) -> str:
        return "true" if self.operator.key == "isnull" else self.field.example

    @cached_property
    def sql(self) -> str:
        """The condition with one placeholder; the value is cast, so that a list of codes is one of UUIDs."""
        many = "[]" if self.operator.key == "in" else ""
        kind = YES_NO if self.operator.key == "isnull" else self.field.kind
        return self.operator.sql.replace("%s", f"%s::{kind.sql_type}{many}").format(self.field.column)

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of a value."""
        if self.operator.key == "isnull":
            return YES_NO.schema
        if self.operator.key == "in":
            return {"type": "array", "items": self.field.schema, "minItems": 1, "maxItems": MAX_LISTED}
        return self.field.schema

    def parse(self, text: str) -> Any:
        """The value to bind: one of the field's type, a list of them for `in`, a bool for `isnull`."""
        if self.operator.key == "isnull":
            return parse(text, YES_NO)
        if self.operator.key == "in":
            parts = text.split(",")
            if len(parts) > MAX_LISTED:
                raise ValueError(f"must list {MAX_LISTED} values at most")
            try:
                return [self.field.parse(part) for part in parts]
            except OutOfRange as error:  # one item's limit is no value for the list
                raise ValueError(str(error)) from None
        return self.field.parse(text)

    def sound(self, text: str) -> list[str]:
        """The items of a list that can be read, as many as `in` takes."""
        return [part for part in text.split(",") if self.field.reads(part)][:MAX_LISTED]


FILTERS = {
    filter.name: filter
    for filter in (Filter(field, OPERATORS[key]) for field in FIELDS.values() for key in field.operators)
}
