"""
Order and keyset pagination: a page begins after the last row of the page before, never at an OFFSET, so
that page 9,000 costs what page 1 costs and no row is met twice while rows come and go.

The cursor (`after`) holds that row's sort values. It is sealed together with the search that it belongs
to, so that one which was cut off, altered or taken from elsewhere is refused.
"""

import hmac
from base64 import urlsafe_b64decode, urlsafe_b64encode
from dataclasses import dataclass
from functools import cache, cached_property
from hmac import compare_digest

from django.conf import settings

from rooms.api.geo import Condition
from rooms.columns import COLUMNS

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000
SEAL_BYTES = 16


@dataclass(frozen=True)
class Key:
    """One sort key: SQL that is never null."""

    name: str
    sql: str
    descending: bool = False


KEYS = {column.name: column.sort_key for column in COLUMNS.values()} | {"distance": "room.distance"}


@dataclass(frozen=True)
class Order:
    """The sort keys of a search. The last is always `id`, which makes the order total."""

    keys: tuple[Key, ...]

    @classmethod
    def parse(cls, text: str, near: bool = False) -> "Order":
        """The order that `price,-size` writes; ValueError says what is wrong with it."""
        keys: dict[str, Key] = {}
        for word in text.split(","):
            name = word.removeprefix("-")
            if name not in KEYS:
                raise ValueError(f"must name fields out of {', '.join(COLUMNS)}; -price is descending")
            if name == "distance" and not near:
                raise ValueError("can name distance only together with near=lon,lat")
            if name in keys:
                raise ValueError(f"names {name} twice")
            keys[name] = Key(name, KEYS[name], word.startswith("-"))
        return cls.completed(*keys.values())

    @classmethod
    def completed(cls, *keys: Key) -> "Order":
        """`id` goes the way of the key before it, so that an index answers the order read backwards too."""
        return cls((*keys, Key("id", "room.id", bool(keys) and keys[-1].descending)))

    @cached_property
    def sql(self) -> str:
        return ", ".join(f"{key.sql} DESC" if key.descending else key.sql for key in self.keys)

    def after(self, values: list[str]) -> Condition:
        """
        The rows behind the one with these sort values.

        Where all keys go one way it is a comparison of rows, which an index answers from where the page
        begins. Where they don't, the first key's bound does that and the others are compared in turn.
        """
        columns = [key.sql for key in self.keys]
        signs = ["<" if key.descending else ">" for key in self.keys]
        if len(set(signs)) == 1:
            places = ", ".join(["%s"] * len(values))
            return f"({', '.join(columns)}) {signs[0]} ({places})", values
        sql, bound = f"{columns[-1]} {signs[-1]} %s", values[-1:]
        for column, sign, value in zip(columns[-2::-1], signs[-2::-1], values[-2::-1], strict=True):
            sql, bound = f"({column} {sign} %s OR ({column} = %s AND {sql}))", [value, value, *bound]
        return f"{columns[0]} {signs[0]}= %s AND {sql}", [values[0], *bound]


FIRST_COME = Order.completed()
NEAREST_FIRST = Order.parse("distance", near=True)


def write_cursor(values: list[str], scope: str, secret: str = "") -> str:
    """The opaque cursor for the page behind the row with these sort values, valid for one search only."""
    text = "\n".join(values).encode()
    return urlsafe_b64encode(seal(text, scope, secret or settings.SECRET_KEY) + text).decode().rstrip("=")


def read_cursor(cursor: str, scope: str) -> list[str]:
    """The sort values in a cursor of this search; ValueError says what is wrong with it."""
    try:
        sealed = urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        sealed = b""
    values = sealed[SEAL_BYTES:].decode(errors="replace").split("\n")
    # Compared as it is written: the decoder skips what is no base64.
    ours = (write_cursor(values, scope, key) for key in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS))
    if not any(compare_digest(cursor.encode(), candidate.encode()) for candidate in ours):
        raise ValueError(
            "is no cursor of this search: it was cut off or altered, or belongs to another filter or order; "
            "follow the Link header from the first page"
        )
    return values


def seal(text: bytes, scope: str, secret: str) -> bytes:
    """What only the secret can write: HMAC-SHA-256, cut to 128 bits (RFC 2104, section 5)."""
    sealed = text + b"\n" + scope.encode()
    return hmac.digest(cursor_key(secret), sealed, "sha256")[:SEAL_BYTES]


@cache
def cursor_key(secret: str) -> bytes:
    """A key for cursors alone: what signs them can sign nothing else."""
    return hmac.digest(secret.encode(), b"rooms.after", "sha256")
