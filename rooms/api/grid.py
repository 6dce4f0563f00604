"""
The grid of the map: square cells in degrees, fixed to the world, so that a cell is the same in every box that
shows it. The grid of a level has 2^level columns and half as many rows; a level has each cell of the one
before in four.
"""

from dataclasses import dataclass
from math import ceil, floor

from rooms.api.geo import Box

MAX_ZOOM = 22
"""The closest zoom of maps on the web."""

LEVELS_PER_ZOOM = 2
"""How much finer the grid is than the map's tiles of 256 pixels: a cell is 64 pixels wide."""

MAX_CELLS = 512
"""The most cells of a response, empty ones included: the whole world at level 5."""


@dataclass(frozen=True)
class Grid:
    level: int
    """From 1 on."""

    @property
    def columns(self) -> int:
        return 1 << self.level

    @property
    def rows(self) -> int:
        return self.columns // 2

    @property
    def size(self) -> float:
        """The side of a cell in degrees; a binary fraction of 45, so that edges are exact."""
        return 360 / self.columns

    @property
    def number_sql(self) -> str:
        """The number of a room's cell. Cells have their west and south edges, the last ones all of them."""
        x = f"least(floor((room.longitude + 180) / {self.size!r}::float8), {self.columns - 1})"
        y = f"least(floor((room.latitude + 90) / {self.size!r}::float8), {self.rows - 1})"
        return f"({x} * {self.rows} + {y})::bigint"

    @property
    def box_sql(self) -> str:
        """The box of the cell that is named `cell` and has a `number`."""
        west = f"cell.number / {self.rows} * {self.size!r}::float8 - 180"
        south = f"mod(cell.number, {self.rows}) * {self.size!r}::float8 - 90"
        return f"box(point({west}, {south}), point({west} + {self.size!r}, {south} + {self.size!r}))"

    @classmethod
    def covering(cls, box: Box, zoom: int = MAX_ZOOM) -> "Grid":
        """
        The grid of a zoom, or the finest coarser one with MAX_CELLS in a box of this width and height,
        wherever it is.
        """
        level = zoom + LEVELS_PER_ZOOM
        while cls(level).most_cells(box) > MAX_CELLS:
            level -= 1
        return cls(level)

    def most_cells(self, box: Box) -> int:
        """
        The most cells that a box of this width and height has a part of, wherever it is. One column more is
        for the meridian of 180°, which is the last of its cells where a box begins there.
        """
        columns = min(ceil(width(box) / self.size) + 2, self.columns)
        return columns * min(ceil((box.north - box.south) / self.size) + 1, self.rows)

    def cells(self, box: Box) -> set[int]:
        """The numbers of the cells that the box has a part of."""
        return {x * self.rows + y for x in self.columns_of(box) for y in self.rows_of(box)}

    def around(self, box: Box) -> Box:
        """The box that the cells of a box make."""
        columns, rows = self.columns_of(box), self.rows_of(box)
        if len(columns) == self.columns:
            columns = list(range(self.columns))
        first = self.cell(columns[0] * self.rows + rows[0])
        last = self.cell(columns[-1] * self.rows + rows[-1])
        return Box(first.west, first.south, last.east, last.north)

    def columns_of(self, box: Box) -> list[int]:
        """From west to east, beyond the antimeridian too, each once."""
        west, east = (
            min(floor((longitude + 180) / self.size), self.columns - 1) for longitude in (box.west, box.east)
        )
        if box.west > box.east:
            east = min(east + self.columns, west + self.columns - 1)
        return [x % self.columns for x in range(west, east + 1)]

    def rows_of(self, box: Box) -> range:
        south, north = ((latitude + 90) / self.size for latitude in (box.south, box.north))
        return range(min(floor(south), self.rows - 1), min(floor(north), self.rows - 1) + 1)

    def cell(self, number: int) -> Box:
        x, y = divmod(number, self.rows)
        west, south = x * self.size - 180, y * self.size - 90
        return Box(west, south, west + self.size, south + self.size)


def width(box: Box) -> float:
    """Degrees from the west to the east edge."""
    return box.east - box.west + (360 if box.west > box.east else 0)
