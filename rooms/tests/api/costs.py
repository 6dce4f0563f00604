"""What a request costs PostgreSQL: the rows and index entries that its statements read."""

from dataclasses import dataclass, field
from typing import Any

from django.db import connection
from django.test import Client

from rooms.api.explaining import Explainer
from rooms.api.formats import JSON

OPTIONS = "ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON"


@dataclass
class Cost:
    """The cost of all the statements of a request."""

    status: int
    returned: int
    """Rooms in a JSON response."""
    rows: int
    """Rows that were read from the table, those that a filter discarded included."""
    entries: int
    """Entries that were read of indexes into bitmaps."""
    written: int
    """Blocks of temporary files."""
    milliseconds: float
    """How long PostgreSQL took; it depends on the machine, and nothing asserts it."""
    statements: list[str] = field(default_factory=list)

    @property
    def work(self) -> int:
        """Rows, as ten entries of a bitmap take as long as one."""
        return self.rows + self.entries // 10

    def __str__(self) -> str:
        return (
            f"{self.milliseconds:7.1f} ms  {self.rows:7,} rows  {self.entries:9,} entries  "
            f"{self.returned:5} returned  {self.status}"
        )


def nodes(plan: dict[str, Any]) -> Any:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def rows_of(plan: dict[str, Any]) -> int:
    """Rows that a plan reads from the table, those that a filter discards included."""
    rows = 0
    for node in nodes(plan):
        if "Scan" in node["Node Type"] and "Relation Name" in node:
            discarded = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
            rows += round((node["Actual Rows"] + discarded) * node["Actual Loops"])
    return rows


def cost_of(url: str) -> Cost:
    """The cost of a GET, by EXPLAIN of each statement."""
    explainer = Explainer(OPTIONS)
    with connection.execute_wrapper(explainer):
        response = Client().get(url)
    rows = entries = written = 0
    milliseconds = 0.0
    for _, ((found,),) in explainer.found:
        milliseconds += found["Execution Time"]
        written += found["Plan"].get("Temp Written Blocks", 0)
        rows += rows_of(found["Plan"])
        for node in nodes(found["Plan"]):
            if "Bitmap Index Scan" in node["Node Type"]:
                entries += round(node["Actual Rows"] * node["Actual Loops"])
    is_list = response.status_code == 200 and response.headers["Content-Type"] == JSON.media_type
    returned = len(response.json()) if is_list else 0
    return Cost(
        response.status_code,
        returned,
        rows,
        entries,
        written,
        milliseconds,
        [statement for statement, _ in explainer.found],
    )
