"""
The columns of a room, one row each. The API's filters, order, formats and documents, the pages, the admin's
form, list and filters, imports, exports and scenarios are generated from this table.

Its texts are English. Those marked with `_` are translated where the admin shows them, and errors when they
become text: most are never shown, as that of a value that might have been meant.

A new column is a field in `models.py` with its migration, a row here, and an entry in the admin's fieldsets;
CONTRIBUTING.md has the recipe.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.utils.text import format_lazy
from django.utils.translation import gettext_lazy
from django.utils.translation import gettext_noop as _

from rooms.distributions import Distribution, Skewed

DECIMALS = 8
"""
Decimals of a coordinate (1.1 mm), as in the rooms of the book.

The distance of points that differ in further decimals would underflow.
"""


def round_degrees(degrees: float) -> float:
    """
    The coordinate rounded to DECIMALS, by the same algorithm as the table's trigger; never -0.0.

    Values beyond ±360, NaN and infinity are returned unchanged, and fail the check of the limits.
    """
    if not abs(degrees) <= 360:
        return degrees
    scale = float(10**DECIMALS)
    return round(degrees * scale) / scale


@dataclass(frozen=True)
class FieldType:
    """A type of value: its text form in requests and files, its conversion and display."""

    label: str
    """What a value is, for documents."""
    error: Any
    """The message for other values."""
    pattern: re.Pattern[str]
    convert: Callable[[str], Any]
    display: Callable[[Any], str]
    """Formats a value for pages."""
    sql_type: str
    schema: dict[str, Any]
    """JSON Schema, without limits."""
    ordered: bool = True
    """Whether values can be less and greater."""


# Python's own parsers accept too much: int() takes " 1_000 " and Arabic digits, float() takes "nan".
WHOLE_NUMBER = FieldType(
    label="a whole number",
    error=gettext_lazy("must be a whole number"),
    pattern=re.compile(r"-?[0-9]+", re.ASCII),
    convert=int,
    display="{:,}".format,
    sql_type="integer",
    schema={"type": "integer"},
)
DEGREES = FieldType(
    label="a decimal number",
    error=gettext_lazy("must be a decimal number"),
    pattern=re.compile(r"-?[0-9]+(\.[0-9]+)?([eE][-+]?[0-9]{1,3})?", re.ASCII),
    convert=lambda text: round_degrees(float(text)),
    display="{:.5f}".format,
    sql_type="double precision",
    schema={"type": "number"},
)
CODE = FieldType(
    label="a UUID such as f853578c-fc0f-4e65-81b8-566c5dffa35a",
    error=gettext_lazy("must be a UUID such as f853578c-fc0f-4e65-81b8-566c5dffa35a"),
    pattern=re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE),
    convert=lambda text: str(UUID(text)),
    display=str,
    sql_type="uuid",
    schema={"type": "string", "format": "uuid"},
    ordered=False,
)
BOOLEAN = FieldType(
    label="true or false",
    error=gettext_lazy("must be true or false"),
    pattern=re.compile("true|false"),
    convert=lambda text: text == "true",
    display=str,
    sql_type="boolean",
    schema={"type": "boolean"},
    ordered=False,
)


MAX_CHARACTERS = 50
"""The length of a number; `int` reads some thousand digits in quadratic time, and refuses more."""

LONE_POINT = re.compile(r"-?([0-9]+\.|\.[0-9]+)", re.ASCII)
"""A decimal number without a digit on one side of its point, as many languages write it."""


OUT_OF_RANGE = gettext_lazy("must be from {low} to {high}")
TOO_LONG = gettext_lazy("{error} of {limit} characters at most")
NO_DIGIT = gettext_lazy("must be a decimal number with a digit before and after the point, as in 0.5")


class OutOfRange(ValueError):
    """A valid value beyond the limits."""

    def __init__(self, value: float, limits: tuple[float, float]) -> None:
        super().__init__(format_lazy(OUT_OF_RANGE, low=limits[0], high=limits[1]))
        self.below = value < limits[0]
        self.limit = limits[0] if self.below else limits[1]


def parse_value(text: str, field_type: FieldType, limits: tuple[float, float] | None = None) -> Any:
    """
    The value of `text`, of the type's Python type (int, float, str of a UUID, bool).

    Raises ValueError, with a message for users, for invalid text, and OutOfRange beyond the limits.
    """
    if field_type.ordered and len(text) > MAX_CHARACTERS:
        raise ValueError(format_lazy(TOO_LONG, error=field_type.error, limit=MAX_CHARACTERS))
    if field_type is DEGREES and LONE_POINT.fullmatch(text):
        raise ValueError(NO_DIGIT)
    if not field_type.pattern.fullmatch(text):
        raise ValueError(field_type.error)
    value = field_type.convert(text)
    if limits and not limits[0] <= value <= limits[1]:
        raise OutOfRange(value, limits)
    return value


@dataclass(frozen=True)
class Column:
    """One public column of the table `room`."""

    name: str
    type: FieldType
    description: str
    example: str
    limits: tuple[int, int] | None = None
    """The least and the greatest value, both allowed; a constraint of the table."""
    unit: str = ""
    symbol: str = ""
    """The unit in short form."""
    nullable: bool = False
    distribution: Distribution | None = None
    """The distribution in generated rooms; None where seeding.py has its own rule (code, coordinates)."""
    missing: float = 0
    """The share (0 … 1) of generated rooms without a value."""

    @property
    def label(self) -> str:
        """The heading over its values."""
        return self.name.capitalize()

    @property
    def sql(self) -> str:
        return f"room.{self.name}"

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of a value that is not null."""
        if self.limits is None:
            return self.type.schema
        return self.type.schema | {"minimum": self.limits[0], "maximum": self.limits[1]}

    def parse(self, text: str) -> Any:
        """The value of `text`; raises ValueError with a message for users."""
        return parse_value(text, self.type, self.limits)

    def accepts(self, text: str) -> bool:
        try:
            self.parse(text)
        except ValueError:
            return False
        return True

    def display(self, value: Any) -> str:
        """A value as pages show it, without its unit."""
        return "unknown" if value is None else self.type.display(value)


COLUMNS = {
    column.name: column
    for column in (
        Column("code", CODE, "the room's public identifier", "f853578c-fc0f-4e65-81b8-566c5dffa35a"),
        Column(
            "size",
            WHOLE_NUMBER,
            "the floor area, which may be unknown",
            "50",
            limits=(1, 100_000),
            unit="m²",
            symbol="m²",
            nullable=True,
            distribution=Skewed(30, 0.5),
            missing=0.1,
        ),
        Column(
            "price",
            WHOLE_NUMBER,
            "the rent",
            "66",
            limits=(0, 1_000_000),
            unit=_("euros per day"),
            symbol=_("€ per day"),
            distribution=Skewed(65),
        ),
        Column(
            "latitude",
            DEGREES,
            "degrees north of the equator, WGS 84; south is negative",
            "51.74640997",
            limits=(-90, 90),
            unit=_("degrees"),
            symbol="°",
        ),
        Column(
            "longitude",
            DEGREES,
            "degrees east of Greenwich, WGS 84; west is negative",
            "0.18228006",
            limits=(-180, 180),
            unit=_("degrees"),
            symbol="°",
        ),
    )
}
"""By name, in the order of responses."""
