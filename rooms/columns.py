"""
The columns of a room, one row each. All that reads, writes or shows rooms follows this table: the API's
filters, order and formats, its documents, the pages, the admin's form and list, imports, exports, scenarios.

A new column is a field in `models.py` with its migration, a row here, and its place in the admin's
fieldsets; CONTRIBUTING.md has the recipe.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from rooms.distributions import Distribution, Skewed

DECIMALS = 8
"""
Decimals of a coordinate: 1.1 mm, as many as the rooms of the book have.

Finer ones mean nothing, and the difference of two that are almost alike underflows in the distance.
"""

UNKNOWN_SIZE = 2_147_483_647
"""The number by which rooms without a size are ordered: the largest, as PostgreSQL orders nulls."""


def round_degrees(degrees: float) -> float:
    """
    The coordinate with DECIMALS decimals, by the same steps as the table's trigger; never -0.0.

    What is far from any coordinate, NaN and infinity come back as they are: the limits refuse them.
    """
    if not abs(degrees) <= 360:
        return degrees
    scale = float(10**DECIMALS)
    return round(degrees * scale) / scale


@dataclass(frozen=True)
class FieldType:
    """A type of value: how it is written in a request or a file, and what it becomes."""

    label: str
    """For people, after "must be"."""
    pattern: re.Pattern[str]
    convert: Callable[[str], Any]
    display: Callable[[Any], str]
    """A value as pages show it."""
    sql_type: str
    schema: dict[str, Any]
    """JSON Schema, without limits."""
    ordered: bool = True
    """Whether values can be less and greater."""


# Python's own parsers accept too much: int() takes " 1_000 " and Arabic digits, float() takes "nan".
WHOLE_NUMBER = FieldType(
    label="a whole number",
    pattern=re.compile(r"-?[0-9]{1,19}", re.ASCII),
    convert=int,
    display="{:,}".format,
    sql_type="integer",
    schema={"type": "integer"},
)
DEGREES = FieldType(
    label="a decimal number",
    pattern=re.compile(r"-?[0-9]{1,19}(\.[0-9]{1,20})?([eE][-+]?[0-9]{1,3})?", re.ASCII),
    convert=lambda text: round_degrees(float(text)),
    display="{:.5f}".format,
    sql_type="double precision",
    schema={"type": "number"},
)
CODE = FieldType(
    label="a UUID such as f853578c-fc0f-4e65-81b8-566c5dffa35a",
    pattern=re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII | re.IGNORECASE),
    convert=lambda text: str(UUID(text)),
    display=str,
    sql_type="uuid",
    schema={"type": "string", "format": "uuid"},
    ordered=False,
)
BOOLEAN = FieldType(
    label="true or false",
    pattern=re.compile("true|false"),
    convert=lambda text: text == "true",
    display=str,
    sql_type="boolean",
    schema={"type": "boolean"},
    ordered=False,
)


class OutOfRange(ValueError):
    """A value that can be read, but lies beyond the limits."""

    def __init__(self, value: float, limits: tuple[float, float]) -> None:
        super().__init__(f"must be from {limits[0]} to {limits[1]}")
        self.below = value < limits[0]
        self.limit = limits[0] if self.below else limits[1]


def parse_value(text: str, field_type: FieldType, limits: tuple[float, float] | None = None) -> Any:
    """
    The value that `text` writes, of the type's Python type (int, float, str of a UUID, bool).

    Raises ValueError, with words for people, for anything but the canonical form and beyond the limits.
    """
    if not field_type.pattern.fullmatch(text):
        raise ValueError(f"must be {field_type.label}")
    value = field_type.convert(text)
    if limits and not limits[0] <= value <= limits[1]:
        raise OutOfRange(value, limits)
    return value


@dataclass(frozen=True)
class Column:
    """One column of the table `room` that is on the wire."""

    name: str
    type: FieldType
    description: str
    example: str
    limits: tuple[int, int] | None = None
    """The least and the greatest value, both allowed; a constraint of the table."""
    unit: str = ""
    symbol: str = ""
    """The unit where space is short."""
    nullable: bool = False
    distribution: Distribution | None = None
    """How generated rooms have it; None where seeding.py makes it in its own way (code, coordinates)."""
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
    def sort_key(self) -> str:
        """SQL that rooms are sorted by; never null."""
        return f"coalesce({self.sql}, {UNKNOWN_SIZE})" if self.nullable else self.sql

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of a value that is known."""
        if self.limits is None:
            return self.type.schema
        return self.type.schema | {"minimum": self.limits[0], "maximum": self.limits[1]}

    def parse(self, text: str) -> Any:
        """The value that `text` writes; ValueError says what is wrong with it."""
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
            unit="euros per day",
            symbol="€ per day",
            distribution=Skewed(65),
        ),
        Column(
            "latitude",
            DEGREES,
            "degrees north of the equator, WGS 84; south is negative",
            "51.5",
            limits=(-90, 90),
            unit="degrees",
            symbol="°",
        ),
        Column(
            "longitude",
            DEGREES,
            "degrees east of Greenwich, WGS 84; west is negative",
            "-0.1",
            limits=(-180, 180),
            unit="degrees",
            symbol="°",
        ),
    )
}
"""By name, in the order of the wire."""
