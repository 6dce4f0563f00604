"""
Tiles of the background map as SVG, by zoom, x and y of the web Mercator pyramid, 256 px wide.

Land and borders are Natural Earth's, names GeoNames', see build.py and the gazetteer. A tile is drawn in 1 to
15 ms, from the cell of land.zip that it is part of.
"""

import json
import zipfile
from collections.abc import Iterator
from functools import cache, lru_cache
from itertools import accumulate, pairwise
from pathlib import Path

from django.utils.html import escape

from rooms.map.geometry import Ring, clip, degrees, mercator
from rooms.places.gazetteer import Place, gazetteer

DATA = Path(__file__).parent / "land.zip"

EXTENT = 8192
"""Units of a cell's coordinates; at zoom 6 one is 75 m."""

BUFFER = 256
"""Units by which a cell overlaps its neighbours, so that the line of a cut lies outside of every tile."""

CELL_ZOOMS = (6, 3, 0)

Box = tuple[int, int, int, int]
"""Least x and y, greatest x and y."""

MAX_ZOOM = 18
SIZE = 256

PEOPLE = {0: 2e7, 1: 1e7, 2: 8e6, 3: 4e6, 4: 2e6, 5: 1e6, 6: 3e5, 7: 1e5, 8: 5e4, 9: 2e4, 10: 1e4}
"""Zoom → population from which a place is named; it is 5,000 at greater zooms."""

LARGE_CITY = 150_000

DISTRICTS = 11
"""Zoom from which districts of cities are named."""

LARGE = 4
"""A city's name is in the large type where it has so many times the people."""

LETTER, LINE = 7.0, 18.0
"""Pixels of a name's letter and line, at least."""

LIGHT = "svg{background:#dce7e8}path{fill:#f5f6f3;stroke:#c9d1d0;stroke-width:.8}"
DARK = "svg{background:#12191b}path{fill:#1d2628;stroke:#344144}"
LIGHT_NAMES = (
    "text{font:500 11px system-ui,sans-serif;fill:#5b6b6d;text-anchor:middle;paint-order:stroke;"
    "stroke:#f5f6f3;stroke-width:2.5px;stroke-linejoin:round}"
    ".large{font-size:13px;font-weight:650;fill:#3f4f51}"
)
DARK_NAMES = "text{fill:#93a3a5;stroke:#1d2628}.large{fill:#b6c4c5}"
DARK_SCHEME = "@media(prefers-color-scheme:dark){%s}"
LAND_STYLE = LIGHT + DARK_SCHEME % DARK
STYLE = LIGHT + LIGHT_NAMES + DARK_SCHEME % (DARK + DARK_NAMES)
"""Half of a tile's bytes, hence without spaces."""


def tile(zoom: int, x: int, y: int) -> str:
    """The SVG of a tile, 0 ≤ x, y < 2**zoom."""
    drawn = content(zoom, x, y)
    style = STYLE if "<text" in drawn else LAND_STYLE
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {SIZE} {SIZE}"><style>{style}</style>'
    return f"{head}{drawn}</svg>"


def content(zoom: int, x: int, y: int) -> str:
    """The elements of a tile."""
    land = " ".join(paths(zoom, x, y))
    labels = "".join(names(zoom, x, y))
    return f'<path d="{land}"/>{labels}' if land else labels


# --- Land


@cache
def archive() -> zipfile.ZipFile:
    return zipfile.ZipFile(DATA)


@lru_cache(maxsize=64)
def cell(zoom: int, x: int, y: int) -> list[tuple[Ring, Box]]:
    """The rings of one cell in its units, each with the box around it."""
    try:
        parts = json.loads(archive().read(f"{zoom}/{x}/{y}"))
    except KeyError:  # nothing but water
        return []
    rings = []
    for part in parts:
        xs, ys = list(accumulate(part[::2])), list(accumulate(part[1::2]))
        rings.append((list(zip(xs, ys, strict=True)), (min(xs), min(ys), max(xs), max(ys))))
    return rings


def paths(zoom: int, x: int, y: int) -> Iterator[str]:
    """The outlines of the land in a tile, as the commands of an SVG path."""
    cell_zoom = next(step for step in CELL_ZOOMS if step <= zoom)
    across = 2 ** (zoom - cell_zoom)  # tiles side by side in a cell
    unit = EXTENT / across
    left, top = x % across * unit, y % across * unit
    margin = min(BUFFER, unit / 16)
    west, north, east, south = left - margin, top - margin, left + unit + margin, top + unit + margin
    for ring, (min_x, min_y, max_x, max_y) in cell(cell_zoom, x // across, y // across):
        if max_x < west or min_x > east or max_y < north or min_y > south:
            continue
        part = clip(clip(ring, 0, west, east), 1, north, south)
        # Two pixels matter in an outline of the whole world only; elsewhere they are half of the bytes.
        least = 0 if zoom < 3 else 2
        pixels: list[tuple[int, int]] = []
        for column, row in part:
            pixel = round((column - left) / unit * SIZE), round((row - top) / unit * SIZE)
            if not pixels or max(abs(pixel[0] - pixels[-1][0]), abs(pixel[1] - pixels[-1][1])) > least:
                pixels.append(pixel)
        if len(pixels) > 2:
            # Steps are shorter than places: a tile is smaller by a third.
            steps = (f"{b[0] - a[0]} {b[1] - a[1]}" for a, b in pairwise(pixels))
            yield f"M{pixels[0][0]} {pixels[0][1]}l{' '.join(steps)}z".replace(" -", "-")


# --- Names


def names(zoom: int, x: int, y: int) -> Iterator[str]:
    """
    The names of a tile's places. One that crosses an edge is drawn in both tiles: both decide by the places
    of the tiles around them.
    """
    least = PEOPLE.get(zoom, 5_000)
    for column, row, place in visible(zoom, x - 1, y - 1, x + 2, y + 2, least):
        left, top = (column - x) * SIZE, (row - y) * SIZE
        half = width(place.name) / 2
        if -half < left < SIZE + half and -LINE < top < SIZE + LINE:
            large = place.population >= max(LARGE * least, LARGE_CITY) and not place.city
            size = ' class="large"' if large else ""
            yield f'<text{size} x="{left:.0f}" y="{top:.0f}">{escape(place.name)}</text>'


def width(name: str) -> float:
    return len(name) * LETTER


def visible(
    zoom: int, left: int, top: int, right: int, bottom: int, least: float
) -> Iterator[tuple[float, float, Place]]:
    """The places in a rectangle of tiles whose name does not overlap a more populous place's."""
    kept: list[tuple[float, float, Place]] = []
    for place in candidates(zoom, left - 1, top - 1, right + 1, bottom + 1, least):
        across, down = mercator(place.latitude, place.longitude)
        column, row = across * 2**zoom, down * 2**zoom
        apart = (
            abs(column - other[0]) * SIZE > (width(place.name) + width(other[2].name)) / 2
            or abs(row - other[1]) * SIZE > LINE
            for other in kept
        )
        if all(apart):
            kept.append((column, row, place))
    return (one for one in kept if left <= one[0] <= right and top <= one[1] <= bottom)


def candidates(zoom: int, left: int, top: int, right: int, bottom: int, least: float) -> Iterator[Place]:
    """The places of a rectangle of tiles with enough people, the most populous first."""
    size = 2**zoom
    north, west = degrees(left / size, top / size)
    south, east = degrees(right / size, bottom / size)
    for place in gazetteer().within(south, west, north, east, least):
        if zoom >= DISTRICTS or not place.city:
            yield place
