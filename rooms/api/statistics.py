"""
The statistics of a search: the distribution of prices and sizes, and the bounding box.

One statement groups the rooms by price, by size and in total; its rows are two distributions, value by value,
from which quartiles and bins follow exactly. Where there are many rooms, a sample is read instead, always the
same one.
"""

from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from math import ceil, log10
from typing import Any

from rooms.api.queries import matching_rooms
from rooms.api.search import Search
from rooms.counting import ENOUGH, Statement, sample_share
from rooms.database import connection
from rooms.sampling import sample

SAMPLE_ROOMS = 20_000
"""The target size of a sample; a quartile is then within 1 % of the ranks, by the binomial distribution."""

BINS = 20
TAIL = 0.98
"""The share of rooms in bins of equal width; one open bin has the outliers beyond."""

Distribution = dict[int, int]
"""How many rooms have each value."""


def compute_statistics(search: Search) -> dict[str, Any]:
    """
    The statistics: `count`, `sampled`, then `price` (euros per day) and `size` (m²), each with
    `min`, `max`, `quartiles` and `histogram`, and `bbox` [west, south, east, north] in degrees.

    Where `sampled` is true, `count` and the bins are projected from the sample, and the extremes are the
    sample's own. Two queries, or three where the sample turns out to have few rooms.
    """
    rows = matching_rooms(search)
    share = sample_share(rows, SAMPLE_ROOMS)
    if share:
        groups = fetch_groups(rows, sample(share))
        if groups.total >= ENOUGH:
            return build_statistics(groups, share)
    return build_statistics(fetch_groups(rows))


@dataclass(frozen=True)
class Groups:
    """Rooms, grouped."""

    total: int
    box: list[float]
    """West, south, east and north in degrees."""
    prices: Distribution
    sizes: Distribution
    unknown: int
    """Rooms without a size."""


def fetch_groups(rows: Statement, prefix: str = "") -> Groups:
    # OFFSET 0: with GROUPING SETS the planner takes a calculated column for free, and would compare each
    # room's distance before its box.
    source, values = rows
    with connection.cursor() as cursor:
        cursor.execute(
            f"{prefix}SELECT grouping(price, size), coalesce(price, size), count(*),"
            " min(longitude), min(latitude), max(longitude), max(latitude)"
            f" FROM (SELECT room.price, room.size, room.longitude, room.latitude {source} OFFSET 0) AS room"
            " GROUP BY GROUPING SETS ((price), (size), ())",
            values,
        )
        groups = cursor.fetchall()
    prices = {value: count for grouping, value, count, *_ in groups if grouping == 1}
    sizes = {value: count for grouping, value, count, *_ in groups if grouping == 2}
    unknown = sizes.pop(None, 0)
    total, box = next((count, box) for grouping, _, count, *box in groups if grouping == 3)
    return Groups(total, box, prices, sizes, unknown)


def build_statistics(groups: Groups, share: float = 1) -> dict[str, Any]:
    """The statistics of all rooms from those of a share of them."""
    sizes = summary(groups.sizes, share) | {"unknown": round(groups.unknown / share)}
    return {
        "count": round(groups.total / share),
        "sampled": share < 1,
        "price": summary(groups.prices, share),
        "size": sizes,
        "bbox": groups.box if groups.total else None,
    }


def summary(distribution: Distribution, share: float) -> dict[str, Any]:
    """Extremes, quartiles and histogram of one distribution; counts are divided by the share."""
    if not distribution:
        return {"min": None, "max": None, "quartiles": None, "histogram": []}
    values = sorted(distribution)
    ranks = list(accumulate(distribution[value] for value in values))
    return {
        "min": values[0],
        "max": values[-1],
        "quartiles": [quantile(values, ranks, share) for share in (0.25, 0.5, 0.75)],
        "histogram": [
            {"from": low, "to": high, "count": round(count / share)}
            for low, high, count in histogram(values, ranks)
        ],
    }


def quantile(values: list[int], ranks: list[int], share: float) -> int:
    """The smallest value that at least this share of the rooms does not exceed (percentile_disc)."""
    return values[bisect_right(ranks, ceil(share * ranks[-1]) - 1)]


def histogram(values: list[int], ranks: list[int]) -> list[tuple[int, int | None, int]]:
    """
    Bins [low, high) of one round width, 1, 2 or 5 times a power of ten, with the number of rooms in each.

    They begin at or below the least value and cover all but the outliers, which are in a last, open bin.
    """
    low, high = values[0], quantile(values, ranks, TAIL)
    width = round_width((high - low + 1) / BINS)
    edges = list(range(low // width * width, high + width + 1, width))
    below = [rank_below(edge, values, ranks) for edge in edges]
    bins: list[tuple[int, int | None, int]] = [
        (edges[i], edges[i + 1], below[i + 1] - below[i]) for i in range(len(edges) - 1)
    ]
    if ranks[-1] > below[-1]:
        bins.append((edges[-1], None, ranks[-1] - below[-1]))
    return bins


def rank_below(edge: int, values: list[int], ranks: list[int]) -> int:
    """How many rooms have a value below the edge."""
    index = bisect_right(values, edge - 1)
    return ranks[index - 1] if index else 0


def round_width(width: float) -> int:
    """The least of 1, 2, 5, 10, 20, 50 … that is no narrower."""
    power = 10 ** max(ceil(log10(width)) - 1, 0) if width > 1 else 1
    return next(power * step for step in (1, 2, 5, 10) if power * step >= width)
