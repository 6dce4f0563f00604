"""
Order and keyset pagination: a page begins after the last row of the previous page, never at an OFFSET. Page
9,000 costs as much as page 1, and no row is returned twice while rows are added and removed.

The cursor (`after`) contains the sort values of that row; the previous page ends before a cursor (`before`)
and is read backwards. A cursor is signed together with the search, so that a truncated or altered one, or one
of another search, is rejected.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass, replace
from functools import cache
from hmac import compare_digest

from django.conf import settings

from rooms.columns import COLUMNS

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
SIGNATURE_BYTES = 16

UNKNOWN = 2_147_483_647
"""The sort value of null, negative in descending orders: the largest integer, beyond all values."""

RATE = "price_per_m2"
"""The price of a square metre, in euros per day; null where the size is. The index `room_rate` has it."""

WITH_RATE = "(SELECT room.*, room.price::float8 / room.size AS price_per_m2 FROM room) AS room"
"""The FROM item of an order by RATE. PostgreSQL merges it into the statement, and finds the index."""


@dataclass(frozen=True)
class Key:
    """One sort key."""

    name: str
    descending: bool = False
    backwards: bool = False
    """Whether null comes first, as at the end of an order that is read from there on."""

    @property
    def column(self) -> str:
        """The bare column, as it is in the indexes."""
        return f"room.{self.name}"

    @property
    def origin(self) -> str:
        """The column whose null is that of the key."""
        return "size" if self.name == RATE else self.name

    @property
    def nullable(self) -> bool:
        return self.origin in COLUMNS and COLUMNS[self.origin].nullable

    @property
    def sql(self) -> str:
        """The sort value: never null, and beyond all others where the column is."""
        return f"coalesce({self.column}, {self.unknown})" if self.nullable else self.column

    @property
    def unknown(self) -> str:
        """The sort value of null, as text."""
        value = UNKNOWN if self.descending == self.backwards else -UNKNOWN
        return str(float(value) if self.name == RATE else value)

    @property
    def sign(self) -> str:
        """How the values behind another one compare with it."""
        return "<" if self.descending else ">"


FIELDS = (*COLUMNS, "distance")
KEYS = (*FIELDS, RATE)
"""What rooms can be sorted by."""


@dataclass(frozen=True)
class Order:
    """The sort keys of a search. The last is always `id`, which makes the order total."""

    keys: tuple[Key, ...]

    @classmethod
    def parse(cls, text: str) -> "Order":
        """
        The order of a text such as `price,-size`; ValueError with a message for the client.

        Only a search with `near` has a `distance` to sort by.
        """
        keys: dict[str, Key] = {}
        for word in text.split(","):
            name = word.removeprefix("-")
            if name not in KEYS:
                raise ValueError(
                    f"must name fields out of {', '.join([*COLUMNS, RATE])}; -price is descending"
                )
            if name in keys:
                raise ValueError(f"names {name} twice")
            keys[name] = Key(name, word.startswith("-"))
        return cls.with_id(*keys.values())

    @classmethod
    def with_id(cls, *keys: Key) -> "Order":
        """The order with `id` appended in the last key's direction: an index serves it both ways."""
        return cls((*keys, Key("id", bool(keys) and keys[-1].descending)))

    @property
    def table(self) -> str:
        """The FROM item whose rooms have all the keys but the distance."""
        return WITH_RATE if any(key.name == RATE for key in self.keys) else "room"

    @property
    def backwards(self) -> "Order":
        """The same order from its end on."""
        return Order(
            tuple(
                replace(key, descending=not key.descending, backwards=not key.backwards) for key in self.keys
            )
        )


DEFAULT_ORDER = Order.with_id()
NEAREST_FIRST = Order.parse("distance")


def write_cursor(values: list[str], scope: str, secret: str = "") -> str:
    """The opaque cursor of the row with these sort values, valid for one search only."""
    text = "\n".join(values).encode()
    return urlsafe_b64encode(sign(text, scope, secret or settings.SECRET_KEY) + text).decode().rstrip("=")


def read_cursor(cursor: str, scope: str) -> list[str]:
    """The sort values in a cursor of this search; ValueError with a message for the client."""
    try:
        signed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        signed = b""
    values = signed[SIGNATURE_BYTES:].decode(errors="replace").split("\n")
    # Compared in encoded form: the decoder skips characters outside of base64.
    expected = (
        write_cursor(values, scope, key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS)
    )
    if not any(compare_digest(cursor.encode(), candidate.encode()) for candidate in expected):
        raise ValueError(
            "is no cursor of this search: it was cut off or altered, or belongs to another filter or order; "
            "follow the Link header from the first page"
        )
    return values


def sign(text: bytes, scope: str, secret: str) -> bytes:
    """HMAC-SHA-256, truncated to 128 bits (RFC 2104, section 5)."""
    message = text + b"\n" + scope.encode()
    return hmac.digest(cursor_key(secret), message, "sha256")[:SIGNATURE_BYTES]


@cache
def cursor_key(secret: str) -> bytes:
    """A key derived from the secret for cursors only."""
    return hmac.digest(secret.encode(), b"rooms.after", "sha256")
