"""
Clusters for a map: how many rooms match in each cell of a grid, their lowest and median price, their centre.

Few rooms are read, all of them. Of many a sample is read, and of the cells in which the sample has hardly a
room the first rooms themselves, so that a single room far from others is on the map at every zoom.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any
from urllib.parse import urlencode

from rooms.api.conditions import Term
from rooms.api.formats import GEOJSON, JSON, Format
from rooms.api.geo import WORLD, Box
from rooms.api.grid import MAX_ZOOM, Grid
from rooms.api.queries import NAMES, matching_rooms, planner_query
from rooms.api.search import Search
from rooms.columns import DECIMALS, round_degrees
from rooms.counting import estimate_rows, planned_cost
from rooms.database import connection
from rooms.sampling import SAMPLED, sample, share_of

FORMATS = {output.media_type: output for output in (JSON, GEOJSON)}
"""The formats of clusters, by media type."""

SAMPLE_ROOMS = 8_000
"""The target size of a sample, read and grouped in 4 ms."""

MAX_EXACT = 20_000
"""Rooms up to which all of them are read, in 40 ms."""

MAX_COST = 12_000
"""
The planner's cost up to which all of them are read: that of a visit to every page of a table of a million
rooms. More is needed for a few rooms that no index finds.
"""

LOOKED_AT = 20
"""Rooms of a sparse cell that are read, matching or not. A cell that has no more is exact."""


@dataclass(frozen=True)
class Cluster:
    """The matching rooms of a cell."""

    count: int
    min_price: int
    median_price: int
    longitude: float
    latitude: float
    """The mean of the rooms' coordinates."""
    room: dict[str, Any] | None
    """The room itself, where it is the only one."""


Clusters = dict[int, Cluster]
"""By the numbers of their cells."""

Group = tuple[list[int], Cluster]
"""A cluster after the values that it was grouped by."""


@dataclass(frozen=True)
class Map:
    """The clusters of a search, in the cells of a grid."""

    grid: Grid
    clusters: Clusters
    sampled: bool


def compute_map(search: Search, *terms: Term) -> Map:
    """
    The clusters of the cells that the search's box has a part of; up to five queries. Further terms may name
    the columns of the sample.
    """
    box = shown_box(search)
    grid = Grid.covering(box, int(search.given.get("zoom", MAX_ZOOM)))
    cells = grid.cells(box)
    if "bbox" in search.given:
        search = search_in(search, grid.around(box))
    search = replace(search, terms=(*search.terms, *terms))
    share = sample_share(search)
    if share is None:
        clusters = {number: cluster for (number,), cluster in fetch_clusters(search, grid.number_sql)}
    else:
        clusters = fetch_sample(search, grid, cells, share)
    wanted = {number: clusters[number] for number in sorted(cells & clusters.keys())}
    return Map(grid, wanted, share is not None)


def shown_box(search: Search) -> Box:
    """The search's box, else the one around its circle, else the world."""
    if "bbox" in search.given:
        return Box.parse(search.given["bbox"])
    return search.near.box if search.near and search.near.within else WORLD


def search_in(search: Search, box: Box) -> Search:
    """The same search in another box: that of whole cells, whose clusters do not change while one pans."""
    bbox = ",".join(f"{degrees:.8f}" for degrees in box.corners)
    return Search.parse(urlencode(search.given | {"bbox": bbox}), search.given.keys() | {"bbox"})


def sample_share(search: Search) -> float | None:
    """The share of the rooms to be read; None where all that match are."""
    estimate = estimate_rows(matching_rooms(search)) or 1
    if estimate <= MAX_EXACT and planned_cost(planner_query(search)) <= MAX_COST:
        return None
    return share_of(estimate, SAMPLE_ROOMS)


def fetch_sample(search: Search, grid: Grid, cells: set[int], share: float) -> Clusters:
    """The clusters of a sample, with projected counts; those of sparse cells from the rooms themselves."""
    clusters, sparse = {}, set(cells)
    for (number,), cluster in fetch_clusters(search, grid.number_sql, sample(share)):
        clusters[number] = replace(cluster, count=round(cluster.count / share), room=None)
        if cluster.count > most_of_few(share):
            sparse.discard(number)
    for (number, read), cluster in fetch_sparse(search, grid, sparse):
        if read <= LOOKED_AT:
            clusters[number] = cluster
        elif number not in clusters:
            clusters[number] = replace(cluster, room=None)
    return clusters


def most_of_few(share: float) -> float:
    """
    The most of LOOKED_AT rooms that a sample has, with few exceptions. By the Poisson distribution a sample
    has more of them once in 16,000 cells (6e-5) at a share of 1/8, once in 3,200 (3e-4) at 1/64, and at no
    share more often than once in a thousand. Such a cell's count is projected, although it could be exact.
    """
    mean = LOOKED_AT * share
    return mean + 4.5 * sqrt(mean) + 1


def fetch_sparse(search: Search, grid: Grid, cells: set[int]) -> Iterator[Group]:
    """
    The clusters among the first LOOKED_AT + 1 rooms of each cell, by the index on the point. Their second key
    is how many rooms were read, matching or not.
    """
    columns = ", ".join(SAMPLED)
    first_rooms = (
        "WITH room AS (SELECT found.*, cell.number FROM unnest(%s::bigint[]) AS cell(number)"
        f" CROSS JOIN LATERAL (SELECT {columns}, count(*) OVER () AS read FROM (SELECT {columns} FROM room"
        f" WHERE point(longitude, latitude) <@ {grid.box_sql}"
        f" LIMIT {LOOKED_AT + 1}) AS first) AS found) "
    )
    return fetch_clusters(
        search,
        "room.number, room.read",
        first_rooms,
        [list(cells)],
        f"room.number = {grid.number_sql}",  # not on the edge of the next cell
    )


def mean(name: str) -> str:
    """
    SQL of the mean of a coordinate, from an exact sum: a sum of floats depends on the order of the rows, and
    a centre would move while one pans.
    """
    return f"(avg((room.{name} * {10**DECIMALS})::bigint) / {10**DECIMALS})::float8"


def fetch_clusters(
    search: Search, keys: str, prefix: str = "", prefix_values: Sequence[Any] = (), more: str = "TRUE"
) -> Iterator[Group]:
    """The rooms that match in groups by SQL expressions, the first of which is the number of their cell."""
    rows, values = matching_rooms(search, (more, []))
    samples = ", ".join(f"any_value(room.{name})" for name in NAMES)
    with connection.cursor() as cursor:
        cursor.execute(
            f"{prefix}SELECT ARRAY[{keys}], count(*), min(room.price),"
            " percentile_disc(0.5) WITHIN GROUP (ORDER BY room.price),"
            f" {mean('longitude')}, {mean('latitude')}, {samples} {rows} GROUP BY {keys}",
            [*prefix_values, *values],
        )
        for keys_found, count, lowest, median, longitude, latitude, *room in cursor.fetchall():
            yield (
                keys_found,
                Cluster(
                    count,
                    lowest,
                    median,
                    round_degrees(longitude),
                    round_degrees(latitude),
                    dict(zip(NAMES, room, strict=True)) if count == 1 else None,
                ),
            )


# --- The response


def write_map(found: Map, output: Format) -> str:
    """The text of a response in JSON or GeoJSON."""
    grid = found.grid
    about: dict[str, Any] = {
        "cell_size": grid.size,
        "sampled": found.sampled,
        "count": sum(cluster.count for cluster in found.clusters.values()),
    }
    if output is GEOJSON:
        features = [feature(cluster, grid.cell(number)) for number, cluster in found.clusters.items()]
        about = {"type": "FeatureCollection", **about, "features": features}
    else:
        about["cells"] = [cell(cluster, grid.cell(number)) for number, cluster in found.clusters.items()]
    return json.dumps(about, separators=(",", ":"), default=str)


def cell(cluster: Cluster, box: Box) -> dict[str, Any]:
    return properties(cluster) | {
        "longitude": cluster.longitude,
        "latitude": cluster.latitude,
        "bbox": box.corners,
    }


def feature(cluster: Cluster, box: Box) -> dict[str, Any]:
    """A feature of RFC 7946 at the centre of the rooms, with the cell as its bbox."""
    return {
        "type": "Feature",
        "bbox": box.corners,
        "geometry": {"type": "Point", "coordinates": [cluster.longitude, cluster.latitude]},
        "properties": properties(cluster),
    }


def properties(cluster: Cluster) -> dict[str, Any]:
    return {
        "count": cluster.count,
        "min_price": cluster.min_price,
        "median_price": cluster.median_price,
        "room": cluster.room,
    }
