"""How long the database takes for a request."""

from collections.abc import Callable
from time import perf_counter
from typing import Any


class QueryTimer:
    """Adds up the seconds of all queries while it is an `execute_wrapper` of the connection."""

    def __init__(self) -> None:
        self.queries = 0
        self.seconds = 0.0

    def __call__(
        self, execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]
    ) -> Any:
        started = perf_counter()
        try:
            return execute(sql, params, many, context)
        finally:
            self.queries += 1
            self.seconds += perf_counter() - started

    @property
    def header(self) -> str:
        """The value of the header Server-Timing (W3C), in milliseconds."""
        return f"db;dur={self.seconds * 1000:.2f}"
