"""Conditions in SQL."""

from dataclasses import dataclass
from typing import Any

Condition = tuple[str, list[Any]]
"""SQL with placeholders, and their values."""


@dataclass(frozen=True)
class Term:
    """A condition on one column. All the terms of a search hold together."""

    column: str
    condition: Condition
    bound: str = ""
    """`>` or `<` where it is a lower or an upper bound."""
    indexed: bool = True
    """Whether an index finds its rooms: by all operators but "is not"."""
    null: bool = False
    """Whether the column is null in all its rooms."""


def conjunction(conditions: list[Condition]) -> Condition:
    """All the conditions at once."""
    where = " AND ".join(sql for sql, _ in conditions) or "TRUE"
    return where, [value for _, values in conditions for value in values]
