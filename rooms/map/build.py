"""
Build the map's data: `make geodata`.

The source is Natural Earth (https://www.naturalearthdata.com, public domain) by way of the npm package
world-atlas: countries at three scales. Each is cut into cells, the tiles of one zoom of the web Mercator
pyramid, so that a tile is drawn from one cell. land.zip has a member for each cell with land, named
`zoom/x/y`: a JSON list of rings [x, y, dx, dy, dx, dy, …] in units of 1/EXTENT of the cell.

    python -m rooms.map.build FOLDER_OF_WORLD_ATLAS
"""

import json
import math
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

from rooms.map.geometry import MAX_LATITUDE, Ring, clip, mercator
from rooms.map.tiles import BUFFER, DATA, EXTENT

SCALES = {0: "110m", 3: "50m", 6: "10m"}
"""Zoom of the cells → scale of Natural Earth, 1 to so many million."""


def main(folder: Path) -> None:
    with zipfile.ZipFile(DATA, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for zoom, scale in SCALES.items():
            topology = json.loads((folder / f"countries-{scale}.json").read_text())
            cells: dict[tuple[int, int], list[list[int]]] = defaultdict(list)
            for ring in rings(topology):
                for x, y, part in cut(ring, zoom):
                    cells[x, y].append(part)
            for (x, y), parts in sorted(cells.items()):
                # With a fixed time: the same source gives the same bytes.
                member = zipfile.ZipInfo(f"{zoom}/{x}/{y}")
                text = json.dumps(parts, separators=(",", ":"))
                archive.writestr(member, text, zipfile.ZIP_DEFLATED, 9)
    sys.stdout.write(f"{len(archive.namelist()):,} cells: {DATA.stat().st_size:,} bytes\n")


def rings(topology: dict[str, Any]) -> Iterator[Ring]:
    """The rings of all countries, in web Mercator from 0 to 1."""
    (x_scale, y_scale), (x_origin, y_origin) = topology["transform"].values()
    arcs = []
    for arc in topology["arcs"]:
        xs, ys = (accumulate(steps) for steps in zip(*arc, strict=True))
        arcs.append([(x * x_scale + x_origin, y * y_scale + y_origin) for x, y in zip(xs, ys, strict=True)])
    for country in topology["objects"]["countries"]["geometries"]:
        polygons = [country["arcs"]] if country["type"] == "Polygon" else country["arcs"]
        for polygon in polygons:
            for indexes in polygon:
                points: Ring = []
                for index in indexes:
                    arc = arcs[index] if index >= 0 else arcs[~index][::-1]
                    points += arc[1:] if points else arc
                yield [mercator(latitude, longitude) for longitude, latitude in unwrap(points)]


def unwrap(ring: Ring) -> Ring:
    """A ring without its jumps of 360° at the antimeridian; Antarctica's edge at the pole is none."""
    shift = 0.0
    unwrapped = ring[:1]
    for (x, _), (next_x, next_y) in pairwise(ring):
        if abs(next_x - x) > 180 and next_y > -MAX_LATITUDE:
            shift += 360 if next_x < x else -360
        unwrapped.append((next_x + shift, next_y))
    return unwrapped


def cut(ring: Ring, zoom: int) -> Iterator[tuple[int, int, list[int]]]:
    """The parts of a ring in the cells of a zoom, each with a margin of BUFFER."""
    size = 2**zoom
    margin = BUFFER / EXTENT
    columns, rows = ([value * size for value in axis] for axis in zip(*ring, strict=True))
    for x in range(math.floor(min(columns) - margin), math.floor(max(columns) + margin) + 1):
        strip = clip([(c, r) for c, r in zip(columns, rows, strict=True)], 0, x - margin, x + 1 + margin)
        for y in range(max(0, int(min(rows) - margin)), min(size, int(max(rows) + margin) + 1)):
            part = clip(strip, 1, y - margin, y + 1 + margin)
            points = [(round((c - x) * EXTENT), round((r - y) * EXTENT)) for c, r in part]
            points = [point for index, point in enumerate(points) if point != points[index - 1]]
            if len(points) > 2:
                yield x % size, y, deltas(points)


def deltas(points: list[tuple[int, int]]) -> list[int]:
    """The first point and the steps from each to the next, as one list."""
    flat = list(points[0])
    for (x, y), (next_x, next_y) in pairwise(points):
        flat += [next_x - x, next_y - y]
    return flat


if __name__ == "__main__":
    main(Path(sys.argv[1]))
