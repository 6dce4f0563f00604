"""
The gazetteer: 69,000 cities and city districts of GeoNames, to be found by name and by coordinates.

It is a file of the project (see build.py), read into memory at the first look-up: 0.4 s, then 40 MB.
"""

import gzip
import math
import unicodedata
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path

DATA = Path(__file__).parent / "places.tsv.gz"

CELL = 10
"""Cells of the grid per degree: one is 11 km high."""

MAX_CELLS = 9
"""Cells that a search for the nearest place goes outwards: 100 km."""

MAX_BOX_CELLS = 2_000
"""Cells of a box up to which its places are read from the grid; above, from the list by population."""

HERE = 10_000
"""Metres from a place's centre within which a room is said to be in it; beyond, it is near it."""

LETTERS = str.maketrans({"ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "æ": "ae", "œ": "oe", "ı": "i"})
"""Letters that Unicode does not decompose."""


@dataclass(frozen=True, slots=True)
class Place:
    """A city, or a district of the city that `city` names."""

    name: str
    region: str
    country: str
    latitude: float
    longitude: float
    population: int
    city: str

    @property
    def short(self) -> str:
        """As in "Gràcia, Barcelona" or "Barcelona"."""
        return f"{self.name}, {self.city}" if self.city else self.name

    @property
    def full(self) -> str:
        """As in "Gràcia, Barcelona, Spain" or "Springfield, MO, United States"."""
        parts = [self.name, self.city, self.region, self.country]
        return ", ".join(part for part in parts if part)

    @property
    def radius(self) -> int:
        """
        Metres around its centre that hold most of the place, to search within.

        The circle that its people fill at 5,000 to the square kilometre, as in Barcelona, and 500 at least.
        """
        area = self.population / 5_000  # km²
        return max(500, 100 * round(10 * math.sqrt(area / math.pi)))


def normalize(name: str) -> str:
    """A name as it is compared: small letters without accents, words separated by one space."""
    decomposed = unicodedata.normalize("NFKD", name.casefold()).translate(LETTERS)
    letters = (
        letter if letter.isalnum() else " " for letter in decomposed if not unicodedata.combining(letter)
    )
    return " ".join("".join(letters).split())


class Names:
    """Normalized names with the indexes of their places, sorted for binary search."""

    def __init__(self, names: list[tuple[str, int]]) -> None:
        names.sort()
        self.keys = [key for key, _ in names]
        self.indexes = array("I", [index for _, index in names])

    def beginning_with(self, prefix: str) -> set[int]:
        return self.between(prefix, prefix + "\U0010ffff")

    def equal_to(self, key: str) -> set[int]:
        return self.between(key, key + "\0")

    def between(self, first: str, end: str) -> set[int]:
        return set(self.indexes[bisect_left(self.keys, first) : bisect_left(self.keys, end)])


class Gazetteer:
    """Places in the order of their population, the greatest first; found by name or coordinates."""

    def __init__(self, rows: Iterable[str]) -> None:
        self.rows: list[str] = []
        self.latitudes, self.longitudes = array("d"), array("d")
        self.populations = array("I")
        self.grid: dict[tuple[int, int], list[int]] = defaultdict(list)
        names: list[tuple[str, int]] = []
        others: list[tuple[str, int]] = []
        for index, line in enumerate(rows):
            row, keys, other_keys = line.rsplit("\t", 2)
            self.rows.append(row)
            _, _, _, latitude, longitude, population, _ = row.split("\t")
            self.latitudes.append(float(latitude))
            self.longitudes.append(float(longitude))
            self.populations.append(int(population))
            self.grid[cell(self.latitudes[index], self.longitudes[index])].append(index)
            names += [(key, index) for key in keys.split("|") if key]
            others += [(key, index) for key in other_keys.split("|") if key]
        self.names, self.other_names = Names(names), Names(others)

    def place(self, index: int) -> Place:
        name, region, country, latitude, longitude, population, city = self.rows[index].split("\t")
        return Place(
            name=name,
            region=region,
            country=country,
            latitude=float(latitude),
            longitude=float(longitude),
            population=int(population),
            city=self.rows[int(city)].split("\t", 1)[0] if city else "",
        )

    def complete(self, text: str, limit: int = 8) -> list[Place]:
        """
        The places whose name begins with `text`, in any case and without regard to accents: those of exactly
        that name, then the others, then those with such a name in another language; the most populous first.

        After a comma the city, region or country may follow, or its beginning: "barcelona, v".
        """
        prefix, *within = [normalize(part) for part in text.split(",")]
        if not prefix:
            return []
        exact = self.names.equal_to(prefix) | self.other_names.equal_to(prefix)
        first = self.names.beginning_with(prefix) - exact
        then = self.other_names.beginning_with(prefix) - first - exact
        return list(islice(self.places([*sorted(exact), *sorted(first), *sorted(then)], within), limit))

    def named(self, text: str) -> list[Place]:
        """The places of exactly this name, the most populous first; else those whose name begins with it."""
        name, *within = [normalize(part) for part in text.split(",")]
        exact = self.names.equal_to(name) | self.other_names.equal_to(name)
        return list(self.places(sorted(exact), within)) or self.complete(text)

    def places(self, indexes: list[int], within: list[str]) -> Iterator[Place]:
        """The places with these indexes whose city, region or country begins with each of the texts."""
        return (place for place in map(self.place, indexes) if lies_within(place, within))

    def within(
        self, south: float, west: float, north: float, east: float, least: float = 0
    ) -> Iterator[Place]:
        """The places of a box of degrees that have at least so many people, the most populous first."""
        (first_row, first_column), (last_row, last_column) = cell(south, west), cell(north, east)
        indexes: Iterable[int] = range(len(self.rows))
        if (last_row - first_row + 1) * (last_column - first_column + 1) < MAX_BOX_CELLS:
            rows, columns = range(first_row, last_row + 1), range(first_column, last_column + 1)
            indexes = sorted(
                index for row in rows for column in columns for index in self.grid.get((row, column), ())
            )
        for index in indexes:
            if self.populations[index] < least:
                break
            if south <= self.latitudes[index] <= north and west <= self.longitudes[index] <= east:
                yield self.place(index)

    def nearest(self, latitude: float, longitude: float) -> tuple[Place, float] | None:
        """The place whose centre is nearest, and its distance in metres; None where none is within 100 km."""
        south, west = cell(latitude, longitude)
        narrow = math.cos(math.radians(latitude))
        best: tuple[float, int] | None = None
        for ring in range(MAX_CELLS + 1):
            for index in self.around(south, west, ring):
                north = self.latitudes[index] - latitude
                east = (self.longitudes[index] - longitude + 180) % 360 - 180
                square = north**2 + (east * narrow) ** 2
                if best is None or square < best[0]:
                    best = square, index
            # Whatever lies further out is at least `ring` cells away, which are narrower towards the poles.
            if best is not None and best[0] <= (ring * narrow / CELL) ** 2:
                break
        if best is None:
            return None
        return self.place(best[1]), 111_195 * math.sqrt(best[0])

    def around(self, south: int, west: int, ring: int) -> Iterator[int]:
        """The places of the cells that are exactly `ring` cells away."""
        for row in range(south - ring, south + ring + 1):
            edge = abs(row - south) == ring
            step = 1 if edge or ring == 0 else 2 * ring
            for column in range(west - ring, west + ring + 1, step):
                wrapped = (column + 180 * CELL) % (360 * CELL) - 180 * CELL
                yield from self.grid.get((row, wrapped), ())


def cell(latitude: float, longitude: float) -> tuple[int, int]:
    return math.floor(latitude * CELL), math.floor(longitude * CELL)


def lies_within(place: Place, within: list[str]) -> bool:
    """Whether each text begins the place's city, region or country."""
    parts = [normalize(part) for part in (place.city, place.region, place.country)]
    return all(any(part.startswith(text) for part in parts) for text in within)


@cache
def gazetteer() -> Gazetteer:
    """The gazetteer of this process."""
    with gzip.open(DATA, "rt", encoding="utf-8") as file:
        return Gazetteer(line.rstrip("\n") for line in file)


def describe(nearest: tuple[Place, float] | None) -> str:
    """Where a room is, by the place nearest to it: "in Gràcia, Barcelona", "near Ávila"; empty for none."""
    if nearest is None:
        return ""
    place, metres = nearest
    return f"in {place.short}" if metres <= HERE else f"near {place.short}"
