"""
The operators of the filters. A filter is `filter_<column>__<operator>=value`, as in `filter_price__lt=66`;
there is one for each column with each operator that suits it. The API, the pages, the command line, the
OpenAPI document and /docs read them here.
"""

from dataclasses import dataclass
from typing import Any

from rooms.api.conditions import Term
from rooms.columns import BOOLEAN, COLUMNS, WHOLE_NUMBER, Column, OutOfRange, parse_value

PREFIX = "filter_"

MAX_LIST_VALUES = 100
"""The most values that `in` accepts."""


@dataclass(frozen=True)
class Operator:
    """A way to compare a column with one value."""

    key: str
    label: str
    """For people, between a column's name and a value: "price is less than 66"."""
    sql: str
    """The condition, with `{}` for the column and a placeholder for the value."""
    value_label: str = "the value"
    compares: bool = False
    """Whether it needs values that can be less and greater."""
    beyond: tuple[int, int] = (0, 0)
    """
    How far beyond a whole number's limits a value may be: "greater than 0" is "at least 1", the least size.
    """
    bound: str = ""
    """`>` or `<` where it is a lower or an upper bound."""
    indexed: bool = True
    """Whether an index finds its rooms."""

    def suits(self, column: Column) -> bool:
        return column.type.ordered or not self.compares

    def sql_type(self, column: Column) -> str:
        """The type that the bound value is cast to."""
        return column.type.sql_type

    def schema(self, column: Column) -> dict[str, Any]:
        """JSON Schema of the value."""
        limits = self.limits(column)
        return column.type.schema | ({"minimum": limits[0], "maximum": limits[1]} if limits else {})

    def limits(self, column: Column) -> tuple[int, int] | None:
        """The least and the greatest value, both allowed."""
        if column.limits is None or column.type is not WHOLE_NUMBER:
            return column.limits
        return column.limits[0] + self.beyond[0], column.limits[1] + self.beyond[1]

    def example(self, column: Column) -> str:
        return column.example

    def parse(self, text: str, column: Column) -> Any:
        """The value to bind; ValueError says what is wrong with the text."""
        return parse_value(text, column.type, self.limits(column))

    def term(self, column: Column, value: Any) -> Term:
        """The condition. The value is cast, so that a list of codes is one of UUIDs."""
        sql = self.sql.replace("%s", f"%s::{self.sql_type(column)}").format(column.sql)
        return Term(column.name, (sql, [value]), self.bound, self.indexed)


class ListOperator(Operator):
    """A way to compare a column with several values, separated by commas."""

    def sql_type(self, column: Column) -> str:
        return f"{column.type.sql_type}[]"

    def schema(self, column: Column) -> dict[str, Any]:
        return {"type": "array", "items": column.schema, "minItems": 1, "maxItems": MAX_LIST_VALUES}

    def parse(self, text: str, column: Column) -> Any:
        parts = text.split(",")
        if len(parts) > MAX_LIST_VALUES:
            raise ValueError(f"must list {MAX_LIST_VALUES} values at most")
        try:
            return [column.parse(part) for part in parts]
        except OutOfRange as error:  # the limit of one item is not a value for the list
            raise ValueError(str(error)) from None


class BooleanOperator(Operator):
    """A test of a column whose value is true or false."""

    def suits(self, column: Column) -> bool:
        return column.nullable

    def sql_type(self, column: Column) -> str:
        return BOOLEAN.sql_type

    def schema(self, column: Column) -> dict[str, Any]:
        return BOOLEAN.schema

    def example(self, column: Column) -> str:
        return "true"

    def parse(self, text: str, column: Column) -> Any:
        return parse_value(text, BOOLEAN)

    def term(self, column: Column, value: Any) -> Term:
        return Term(column.name, (f"{column.sql} IS {'NULL' if value else 'NOT NULL'}", []), null=value)


OPERATORS = {
    operator.key: operator
    for operator in (
        Operator("eq", "is", "{} = %s"),
        Operator("ne", "is not", "{} <> %s", indexed=False),
        Operator("lt", "is less than", "{} < %s", compares=True, bound="<", beyond=(0, 1)),
        Operator("lte", "is at most", "{} <= %s", compares=True, bound="<"),
        Operator("gt", "is greater than", "{} > %s", compares=True, bound=">", beyond=(-1, 0)),
        Operator("gte", "is at least", "{} >= %s", compares=True, bound=">"),
        ListOperator("in", "is one of", "{} = ANY(%s)", "the values, separated by commas"),
        BooleanOperator("isnull", "is unknown", "{} IS NULL", "or known: true or false"),
    )
}


@dataclass(frozen=True)
class Filter:
    """One column with one of its operators, such as `filter_price__lt`."""

    column: Column
    operator: Operator

    @property
    def name(self) -> str:
        return f"{PREFIX}{self.column.name}__{self.operator.key}"

    @property
    def label(self) -> str:
        return f"{self.column.name} {self.operator.label}"

    @property
    def example(self) -> str:
        return self.operator.example(self.column)

    def term(self, value: Any) -> Term:
        """The condition on the column."""
        return self.operator.term(self.column, value)

    @property
    def schema(self) -> dict[str, Any]:
        """JSON Schema of the value."""
        return self.operator.schema(self.column)

    def parse(self, text: str) -> Any:
        """The value to bind: one of the column's type, a list of them, or a bool."""
        return self.operator.parse(text, self.column)

    def valid_items(self, text: str) -> list[str]:
        """The valid items of a list, at most MAX_LIST_VALUES."""
        return [part for part in text.split(",") if self.column.accepts(part)][:MAX_LIST_VALUES]


FILTERS = {
    row.name: row
    for row in (
        Filter(column, operator)
        for column in COLUMNS.values()
        for operator in OPERATORS.values()
        if operator.suits(column)
    )
}
"""By parameter name."""
