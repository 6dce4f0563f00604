"""
A random sample of the rooms, read from an index of its own.

A room belongs to it by the hash of its code, whatever made the codes: random ones, or consecutive ones. The
index `room_sample` has these rooms in the order of the hash, with all columns of a search, so that any
beginning of it is a smaller sample, and none of them reads the table (after VACUUM has seen its pages).
"""

from django.db.models import F, Func, IntegerField, Q
from django.db.models.lookups import LessThan

from rooms.columns import COLUMNS

WHOLE = 1 / 8
"""The share of the rooms in the index. A larger one is more precise, and costs more of each write."""

SAMPLED = ("id", *COLUMNS, "updated_at")
"""The columns in the index: those that the API's filters and the admin's lists and selections name."""

CODE_HASH = Func(F("code"), function="uuid_hash", output_field=IntegerField())
"""PostgreSQL's own hash of a UUID, an integer of 32 bits."""


def hash_bound(share: float) -> int:
    """The hash below which this share (0 … 1) of the rooms is."""
    return round(share * 2**32) - 2**31


IN_SAMPLE = Q(LessThan(CODE_HASH, hash_bound(WHOLE)))
"""The condition of the index."""


def sample(share: float, beyond: float = 0) -> str:
    """
    SQL that puts a share of the rooms, at most WHOLE, in the place of all rooms in the statement behind it;
    without those of the smaller sample `beyond`. They have the columns SAMPLED.

    OFFSET 0 keeps the statement's conditions out, so that no other index can be chosen for them: the planner
    takes any box for a thousand rooms.
    """
    columns = ", ".join(SAMPLED)
    return (
        f"WITH room AS (SELECT {columns} FROM room WHERE uuid_hash(code) < {hash_bound(share)}"
        f" AND uuid_hash(code) >= {hash_bound(beyond)} OFFSET 0) "
    )


def share_of(matching: int, wanted: int) -> float:
    """The share in which, of so many matching rooms, the wanted number is expected; WHOLE at most."""
    return min(WHOLE, wanted / matching)
