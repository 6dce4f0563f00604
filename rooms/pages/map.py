"""The map of the page `/rooms`: what it shows, and the same map as an image for browsers without scripts."""

from dataclasses import dataclass, replace
from math import floor, log2
from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.utils.html import escape
from django.utils.translation import gettext_noop as _

from rooms.api.clusters import Cluster, Map
from rooms.api.geo import Box
from rooms.api.search import Search
from rooms.map import tiles
from rooms.map.geometry import MAX_LATITUDE, degrees, mercator
from rooms.pages import names
from rooms.pages.form import MAP, PageQuery

WIDTH, HEIGHT = 640, 640
"""Pixels of the image."""

MAX_FIT = 15
"""The zoom of a single room: streets around it, if there were any."""

HIGHEST = 85.05112
"""Degrees of latitude, rounded inwards."""


@dataclass(frozen=True)
class Viewport:
    """What a map shows: the middle and the zoom of the web Mercator pyramid."""

    zoom: int
    latitude: float
    longitude: float

    @classmethod
    def parse(cls, text: str) -> "Viewport | None":
        """The viewport of `zoom/latitude/longitude`; None for other text."""
        try:
            zoom, latitude, longitude = text.split("/")
            viewport = cls(int(zoom), float(latitude), float(longitude))
        except ValueError:
            return None
        inside = abs(viewport.latitude) <= MAX_LATITUDE and abs(viewport.longitude) <= 180
        return viewport if inside and 0 <= viewport.zoom <= tiles.MAX_ZOOM else None

    @classmethod
    def around(cls, box: Box) -> "Viewport":
        """The greatest zoom at which the box fits, with a margin."""
        east = box.east + 360 if box.west > box.east else box.east
        left, top = mercator(box.north, box.west)
        right, bottom = mercator(box.south, east)
        widest = max((right - left) / WIDTH, (bottom - top) / HEIGHT) * tiles.SIZE * 1.15
        zoom = MAX_FIT if widest <= 0 else max(0, min(MAX_FIT, floor(-log2(widest))))
        latitude, longitude = degrees((left + right) / 2, (top + bottom) / 2)
        return cls(zoom, round_inside(latitude), round((longitude + 180) % 360 - 180, 5))

    @property
    def text(self) -> str:
        return f"{self.zoom}/{names.degrees(self.latitude)}/{names.degrees(self.longitude)}"

    @property
    def corner(self) -> tuple[float, float]:
        """Pixels of the north west corner of the image, counted from that of the world."""
        x, y = mercator(self.latitude, self.longitude)
        size = tiles.SIZE * 2**self.zoom
        return x * size - WIDTH / 2, y * size - HEIGHT / 2

    @property
    def box(self) -> Box:
        """What the image shows, in degrees."""
        size = tiles.SIZE * 2**self.zoom
        left, top = self.corner
        north, west = degrees(left / size, max(top / size, 0))
        south, east = degrees((left + WIDTH) / size, min((top + HEIGHT) / size, 1))
        if east - west >= 360:
            return Box(-180, south, 180, north)
        return Box((west + 180) % 360 - 180, south, (east + 180) % 360 - 180, north)

    def moved(self, right: float, down: float) -> "Viewport":
        """The viewport moved by parts of its width and height."""
        x, y = mercator(self.latitude, self.longitude)
        size = tiles.SIZE * 2**self.zoom
        y = min(max(y + down * HEIGHT / size, 0), 1)
        latitude, longitude = degrees((x + right * WIDTH / size) % 1, y)
        return replace(self, latitude=round_inside(latitude), longitude=round(longitude, 5))

    def zoomed(self, steps: int) -> "Viewport":
        return replace(self, zoom=min(max(self.zoom + steps, 0), tiles.MAX_ZOOM))

    @property
    def moves(self) -> "list[tuple[str, str, Viewport]]":
        """Where links below the image lead: in words (the admin translates them), as a sign, the viewport."""
        return [
            (_("Zoom in"), "+", self.zoomed(1)),
            (_("Zoom out"), "−", self.zoomed(-1)),
            (_("Move west"), "←", self.moved(-0.5, 0)),
            (_("Move north"), "↑", self.moved(0, -0.5)),
            (_("Move south"), "↓", self.moved(0, 0.5)),
            (_("Move east"), "→", self.moved(0.5, 0)),
        ]


def round_inside(latitude: float) -> float:
    """Rounded to about a metre, and still on the map where it is at its edge."""
    return min(max(round(latitude, 5), -HIGHEST), HIGHEST)


def viewport_of(search: Search, shown: str, extent: list[float] | None) -> Viewport:
    """The viewport that the URL says, else of the box, the circle or all rooms of the search."""
    return Viewport.parse(shown) or place_viewport(search) or extent_viewport(extent)


def place_viewport(search: Search) -> Viewport | None:
    """The viewport of the box or the circle of a search."""
    if "bbox" in search.given:
        return Viewport.around(Box.parse(search.given["bbox"]))
    if search.near and "within" in search.given:
        return Viewport.around(search.near.box)
    return None


def extent_viewport(extent: list[float] | None) -> Viewport:
    """The viewport of all rooms by their extent in statistics; most of the world where there is none."""
    return Viewport.around(Box(*extent)) if extent else Viewport(2, 30, 10)


def map_context(search: Search, query: PageQuery, extent: list[float] | None) -> dict[str, Any]:
    """The values of the map for the page's template."""
    viewport = viewport_of(search, query.map, extent)
    where, given = search.where, search.without_cursor()

    def link(shown: Viewport) -> str:
        return f"/rooms?{urlencode(given | {MAP: shown.text}, safe=',:/')}#map"

    return {
        "viewport": viewport,
        "clusters": f"/rooms/clusters?{urlencode(where, safe=',:')}",
        "image": f"/rooms/map.svg?{urlencode(where | {MAP: viewport.text}, safe=',:/')}",
        "width": WIDTH,
        "height": HEIGHT,
        "moves": [(label, sign, link(moved)) for label, sign, moved in viewport.moves],
        "area": f"/rooms?{urlencode(drop_place(given) | {'bbox': box_text(viewport.box)}, safe=',:')}#map",
    }


def tiles_context() -> dict[str, str]:
    """The tiles that are drawn over the background, where there are any."""
    return {
        "map_tiles_url": settings.MAP_TILES_URL,
        "map_pmtiles": f"/map/{settings.MAP_PMTILES}" if settings.MAP_PMTILES else "",
        "map_tiles_attribution": settings.MAP_TILES_ATTRIBUTION,
    }


def drop_place(given: dict[str, str]) -> dict[str, str]:
    """The parameters of a search without its place, and without an order by the distance from it."""
    return {
        name: text
        for name, text in given.items()
        if name not in {"near", "within", "bbox"} and not (name == "order" and "distance" in text)
    }


def box_text(box: Box) -> str:
    return ",".join(names.degrees(side) for side in box.corners)


# --- The image

STYLE = """
.pin{fill:#0b6e6e;stroke:#fff;stroke-width:1.5}.count,.from{fill:#fff;stroke:none;font-weight:650}
.from{font-size:9px;font-weight:400}
@media(prefers-color-scheme:dark){.pin{fill:#5cc6c0;stroke:#14191b}.count,.from{fill:#14191b}}
"""


def mark(cluster: Cluster, x: float, y: float, cell: tuple[float, float]) -> str:
    """
    A single room as its price, several as their number and the lowest price; x and y are the middle. Several
    are moved to be between the west and the east side of their cell, so that they cover no others.
    """
    price = names.euros(cluster.min_price)
    if cluster.count == 1:
        texts = [f'<text class="count" x="{x:.0f}" y="{y + 4:.0f}">{price}</text>']
        width, height = 12 + 7 * len(price), 22
    else:
        count = names.number(cluster.count)
        width, height = max(16 + 7 * len(count), 36 + 5 * len(price)), 30
        west, east = cell
        x = min(max(x, west + width / 2), east - width / 2) if east - west > width else (west + east) / 2
        texts = [
            f'<text class="count" x="{x:.0f}" y="{y - 1:.0f}">{count}</text>',
            f'<text class="from" x="{x:.0f}" y="{y + 10:.0f}">from {price}</text>',
        ]
    box = f'x="{x - width / 2:.0f}" y="{y - height / 2:.0f}" width="{width}" height="{height}"'
    return f'<rect class="pin" {box} rx="{height / 2:.0f}"/>{"".join(texts)}'


def render_image(viewport: Viewport, found: Map, label: str) -> str:
    """The map as SVG: land, names, and a mark for each cluster."""
    left, top = viewport.corner
    size = 2**viewport.zoom
    parts = []
    for row in range(floor(top / tiles.SIZE), floor((top + HEIGHT) / tiles.SIZE) + 1):
        for column in range(floor(left / tiles.SIZE), floor((left + WIDTH) / tiles.SIZE) + 1):
            if 0 <= row < size:
                x, y = column * tiles.SIZE - left, row * tiles.SIZE - top
                content = tiles.content(viewport.zoom, column % size, row)
                parts.append(f'<svg x="{x:.0f}" y="{y:.0f}" width="256" height="256">{content}</svg>')
    pixels = size * tiles.SIZE
    for number, cluster in found.clusters.items():
        x, y = mercator(cluster.latitude, cluster.longitude)
        across = (x * pixels - left) % pixels
        box = found.grid.cell(number)
        sides = [across + (side - cluster.longitude) / 360 * pixels for side in (box.west, box.east)]
        parts.append(mark(cluster, across, y * pixels - top, (sides[0], sides[1])))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' height="{HEIGHT}" role="img"><title>{escape(label)}</title><style>{tiles.STYLE}{STYLE}</style>'
        f"{''.join(parts)}</svg>"
    )
