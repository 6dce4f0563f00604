"""Content negotiation by the `Accept` header (RFC 9110, section 12.5.1)."""

import re
from collections.abc import Sequence

QUALITY = re.compile(r"\s*q\s*=\s*(0(\.[0-9]{0,3})?|1(\.0{0,3})?)\s*", re.IGNORECASE | re.ASCII)


def preferred_media_type(accept: str, offers: Sequence[str]) -> str | None:
    """
    The offer with the highest quality, the first of equals; None where the client accepts none of them.

    For each offer the most specific range counts. Parameters other than q are ignored: a request for
    `application/json; charset=utf-8` gets JSON, which is always UTF-8.
    """
    qualities = dict(parse_media_range(item) for item in accept.split(",") if item.strip()) or {"*/*": 1.0}

    def quality(offer: str) -> float:
        ranges = (offer, f"{offer.partition('/')[0]}/*", "*/*")
        return next((qualities[name] for name in ranges if name in qualities), 0.0)

    best = max(offers, key=quality)
    return best if quality(best) else None


def parse_media_range(text: str) -> tuple[str, float]:
    """A range such as `text/*` and its quality from 0 to 1; 1 where it has no valid one."""
    name, *parameters = text.split(";")
    qualities = [match[1] for match in map(QUALITY.fullmatch, parameters) if match]
    return name.strip().lower(), float(qualities[0]) if qualities else 1.0
