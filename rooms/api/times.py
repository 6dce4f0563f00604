"""Times of RFC 3339, section 5.6."""

import re
from datetime import datetime

TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
"""A regular expression, also of JavaScript, for JSON Schema."""


def parse_time(text: str) -> datetime:
    """The time of a text such as 2026-11-21T12:00:00Z, to the microsecond; else ValueError."""
    if not re.fullmatch(TIME, text):
        raise ValueError("must be a time of RFC 3339")
    return datetime.fromisoformat(text.upper())
