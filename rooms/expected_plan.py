"""The value of a line of EXPECT_PLAN (plan_expectations.py)."""

from dataclasses import dataclass


@dataclass(frozen=True)
class ExpectedPlan:
    """The index that a page is read by, and how many rows may be read in vain."""

    index: str
    discarded: int = 0

    def __str__(self) -> str:
        return f"{self.index}, no sort, no sequential scan, at most {self.discarded:,} rows discarded"
